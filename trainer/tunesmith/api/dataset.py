"""`spec.dataset`: the rows to learn from, to validate on and to be tested with."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from tunesmith.api.base import Rule, Schema, exactly_one
from tunesmith.api.source import DATA_SCHEMES, Uri, check_uri, cluster_rule

ColumnName = Annotated[str, Field(min_length=1, max_length=256)]


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

    rules: ClassVar[tuple[Rule, ...]] = (
        cluster_rule("source"),
        Rule(
            cel="self.source.startsWith('hf://') || (!has(self.config) && !has(self.split))",
            message="config and split go with hf:// only",
            holds=lambda d: d.source.startswith("hf://") or (d.config is None and d.split is None),
        ),
    )


class Validation(DataSource):
    """Rows that are never trained on: a share of the training rows, or a source of their own."""

    source: Annotated[Uri, AfterValidator(check_uri(*DATA_SCHEMES))] | None = None  # type: ignore[assignment]  # optional here
    """As for dataset.train."""
    fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The share of the training rows that is set aside, drawn with training.seed."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one("source", "fraction"),
        cluster_rule("source", optional=True),
        Rule(
            cel="(has(self.source) && self.source.startsWith('hf://')) || (!has(self.config) && !has(self.split))",
            message="config and split go with hf:// only",
            holds=lambda v: (v.source or "").startswith("hf://") or (v.config is None and v.split is None),
        ),
    )


class Columns(Schema):
    """Which columns of the data set play which part; a template may name other columns as they are."""

    text: ColumnName = "text"
    """The text, for causalLM."""
    prompt: ColumnName = "prompt"
    """The instruction, for instruction."""
    response: ColumnName = "response"
    """The answer, for instruction."""


class DatasetSpec(Schema):
    """The data."""

    train: DataSource
    """The rows to learn from."""
    validation: Validation | None = None
    """Rows to watch the loss on during training."""
    test: DataSource | None = None
    """Rows for the evaluation after training; never seen before it."""
    columns: Columns = Columns()
    """Which columns play which part."""
