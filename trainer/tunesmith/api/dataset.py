"""`spec.dataset`: the rows to learn from, to validate on and to be tested with."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from tunesmith.api.base import Rule, Schema, exactly_one
from tunesmith.api.source import DATA_SCHEMES, Uri, check_uri, cluster_rule

ColumnName = Annotated[str, Field(min_length=1, max_length=256)]


def hub_rule(optional: bool = False) -> Rule:
    """The rule that config and split belong to a data set of the Hub."""
    hub = "self.source.startsWith('hf://')"
    return Rule(
        cel=(f"(has(self.source) && {hub})" if optional else hub) + " || (!has(self.config) && !has(self.split))",
        message="config and split go with hf:// only",
        holds=lambda d: (d.source or "").startswith("hf://") or (d.config is None and d.split is None),
    )


class DataSource(Schema):
    """Rows: a file or folder of JSONL, Parquet or text, or a data set of the Hugging Face Hub."""

    source: Annotated[Uri, AfterValidator(check_uri(*DATA_SCHEMES))]
    """hf://OWNER/NAME[@REVISION], pvc://CLAIM/PATH or configmap://NAME/KEY; a folder stands for all its files."""
    format: Literal["jsonl", "parquet", "text"] | None = None
    """The files' format; by default it is read off the extension (.jsonl, .json, .parquet, .txt)."""
    config: Annotated[str, Field(max_length=256)] | None = None
    """The configuration of a data set of the Hub."""
    split: Annotated[str, Field(max_length=256)] | None = None
    """The split of a data set of the Hub; its default is train."""

    rules: ClassVar[tuple[Rule, ...]] = (cluster_rule("source"), hub_rule())


class WeightedSource(DataSource):
    """One set of a mixture."""

    weight: Annotated[float, Field(gt=0)]
    """This set's share of the rows of an epoch, in proportion to the other sets' weights."""


class TrainSource(DataSource):
    """The rows to learn from: one source, or a mixture of several."""

    source: Annotated[Uri, AfterValidator(check_uri(*DATA_SCHEMES))] | None = None  # type: ignore[assignment]  # optional here
    """hf://OWNER/NAME[@REVISION], pvc://CLAIM/PATH or configmap://NAME/KEY; a folder stands for all its files."""
    mixture: Annotated[list[WeightedSource], Field(min_length=1, max_length=32)] | None = None
    """Several sets at once. An epoch has as many rows as all sets together; a small set with a large weight is repeated
    in it, a large one with a small weight goes on in the next epoch where it stopped."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one("source", "mixture"),
        cluster_rule("source", optional=True),
        hub_rule(optional=True),
        Rule(
            cel="!has(self.mixture) || !has(self.format)",
            message="goes with source; each set of a mixture has its own",
            holds=lambda t: t.mixture is None or t.format is None,
            field="format",
        ),
    )


class Validation(DataSource):
    """Rows that are never trained on: a share of the training rows, or a source of their own."""

    source: Annotated[Uri, AfterValidator(check_uri(*DATA_SCHEMES))] | None = None  # type: ignore[assignment]  # optional here
    """As for dataset.train."""
    fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The share of the training rows that is set aside, drawn with training.seed."""
    group_by: ColumnName | None = None
    """Rows with the same value in this column stay on one side of the split, such as all answers to one prompt."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one("source", "fraction"),
        cluster_rule("source", optional=True),
        hub_rule(optional=True),
        Rule(
            cel="!has(self.groupBy) || has(self.fraction)",
            message="goes with fraction",
            holds=lambda v: v.group_by is None or v.fraction is not None,
            field="groupBy",
        ),
    )


class Columns(Schema):
    """Which columns of the data set play which part; a template may name other columns as they are."""

    text: ColumnName = "text"
    """The text, for causalLM, maskedLM and seq2seq.spanCorruption."""
    prompt: ColumnName = "prompt"
    """The instruction, for instruction, seq2seq, reward and ppo."""
    response: ColumnName = "response"
    """The answer, for instruction and seq2seq; for ppo only where the reward or a metric compares with it, and for
    reward with rating."""
    messages: ColumnName | None = None
    """The conversation, for instruction with the tokenizer's chat template: a list of objects with role (system, user,
    assistant, tool) and content. Where it is set, prompt and response play no part."""
    chosen: ColumnName = "chosen"
    """The preferred answer of a pair, for reward."""
    rejected: ColumnName = "rejected"
    """The other answer of a pair, for reward."""
    margin: ColumnName | None = None
    """By how much it is preferred, for reward: a number; 1 without it."""
    ranking: ColumnName | None = None
    """For reward: a list of answers, the best first, of which every two make a pair; chosen and rejected then play no
    part."""
    rating: ColumnName | None = None
    """For reward: what people gave the answer in the row's response, as a number. Answers to a prompt that are rated
    differently make pairs; several ratings of one answer count as their mean."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.ranking) || !has(self.rating)",
            message="set ranking or rating, not both",
            holds=lambda c: c.ranking is None or c.rating is None,
        ),
        Rule(
            cel="!has(self.margin) || (!has(self.ranking) && !has(self.rating))",
            message="goes with chosen and rejected; of ratings it is their difference",
            holds=lambda c: c.margin is None or (c.ranking is None and c.rating is None),
            field="margin",
        ),
    )


class DatasetSpec(Schema):
    """The data."""

    train: TrainSource | None = None
    """The rows to learn from; not for an evaluation alone."""
    validation: Validation | None = None
    """Rows to watch the loss on during training."""
    test: DataSource | None = None
    """Rows for the evaluation; never seen before it."""
    columns: Columns = Columns()
    """Which columns play which part."""
    deduplicate: bool = True
    """Whether training rows that stand in the validation or test rows too are left out, with a warning; they would
    flatter both."""

    @property
    def train_sources(self) -> dict[str, DataSource]:
        """The sets to learn from, by their field: one, or those of a mixture."""
        if self.train is None:
            return {}
        if self.train.mixture is None:
            return {"spec.dataset.train": self.train}
        return {f"spec.dataset.train.mixture[{i}]": part for i, part in enumerate(self.train.mixture)}

    @property
    def train_weights(self) -> tuple[float, ...]:
        """The weight of each of them."""
        mixture = self.train.mixture if self.train is not None else None
        return tuple(part.weight for part in mixture) if mixture is not None else (1.0,)

    @property
    def sources(self) -> dict[str, DataSource]:
        """Everything that is read, by its field."""
        held_out = {"spec.dataset.validation": self.validation, "spec.dataset.test": self.test}
        read = {place: part for place, part in held_out.items() if part is not None and part.source is not None}
        return {**self.train_sources, **read}
