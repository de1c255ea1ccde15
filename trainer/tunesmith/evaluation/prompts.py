"""The test rows in other words: named templates, and small changes of each prompt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from transformers import PreTrainedTokenizerBase

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.api.reward import RESPONSE
from tunesmith.data.encode import encode_prompts, fill, prompt_of
from tunesmith.data.rows import Row
from tunesmith.evaluation import judge, policy
from tunesmith.evaluation.generate import Answers
from tunesmith.evaluation.outputs import Outputs
from tunesmith.evaluation.perturb import changed
from tunesmith.evaluation.policy import Progress
from tunesmith.evaluation.questions import with_question
from tunesmith.evaluation.scorers import Scorers
from tunesmith.evaluation.statistics import RowScores
from tunesmith.sources import Resolver

PLACE = "spec.evaluation.prompts"


@dataclass(frozen=True)
class Variant:
    """The test rows in other words."""

    name: str
    kind: Literal["template", "change"]
    template: str | None
    texts: list[str]
    """As the model sees them."""
    prompts: list[list[int]]
    """Their tokens."""


def variants_of(rows: Sequence[Row], spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase) -> list[Variant]:
    """The test rows in each wording that the spec asks for.

    Raises:
        InputError: a template names a column that a row does not have.
    """
    prompts = spec.evaluation.prompts if spec.evaluation is not None else None
    if prompts is None:
        return []
    variants = []
    for name, template in prompts.templates.items():
        start, place = template.removesuffix(RESPONSE), f"{PLACE}.templates.{name}"
        texts = [fill(start, row, spec.dataset.columns, place) for row in rows]
        ids = encode_prompts(texts, _with_template(spec, template), tokenizer)
        variants.append(Variant(name, "template", template, texts, ids))
    for change in prompts.changes:
        other = partial(changed, change=change, typo_rate=prompts.typo_rate)
        texts = [prompt_of(with_question(row, spec, other), spec, tokenizer) for row in rows]
        variants.append(Variant(change, "change", None, texts, encode_prompts(texts, spec, tokenizer)))
    return variants


def _with_template(spec: FineTuneJobSpec, template: str) -> FineTuneJobSpec:
    chosen = next(name for name, part in spec.objective if part is not None)
    part = getattr(spec.objective, chosen).model_copy(update={"template": template})
    return spec.model_copy(update={"objective": spec.objective.model_copy(update={chosen: part})})


def answer_variants(
    outputs: Outputs, variants: Sequence[Variant], spec: FineTuneJobSpec, progress: Progress
) -> list[Answers]:
    """A model's answers to each wording, made as those to the job's own."""
    assert spec.evaluation is not None
    size, limit = spec.evaluation.batch_size, spec.evaluation.max_new_tokens
    found = []
    for variant in variants:
        tell = _teller(progress, f"answers, {variant.name}", len(variant.prompts))
        found.append(outputs.answers(variant.prompts, limit, size, tell))
        size = found[-1].batch_size
    return found


def _teller(progress: Progress, what: str, total: int) -> Callable[[int], None]:
    return lambda done: progress(what, done, total)


def judge_answers(
    metric: str,
    models: Sequence[Answers],
    variant: Variant,
    own_texts: Sequence[str],
    references: Sequence[str],
    spec: FineTuneJobSpec,
    scorers: Scorers,
    resolver: Resolver,
    open_outputs: policy.OpenOutputs,
    tokenizer: PreTrainedTokenizerBase,
    progress: Progress,
) -> list[RowScores]:
    """What answers to other wordings are worth, by the metric that judges those to the job's own.

    Args:
        metric: evaluation.prompts.metric.
        models: the answers of each model.
        variant: the wording.
        own_texts: the job's own prompts: a judge reads them instead, whose scores would else tell of the wording.
        references: the right answers.
        spec, scorers, resolver, open_outputs, tokenizer, progress: as for the evaluation.

    Raises:
        InputError: the metric is none for this, or a reward model cannot be loaded.
    """
    if metric == "reward":
        return policy.rewards(models, variant.prompts, references, spec, resolver, open_outputs, tokenizer, progress)
    if metric == "judge":
        return judge.judge_answers(models, own_texts, spec, resolver, open_outputs, tokenizer, progress)
    found = [scorers.rows(metric, answers.texts, references) for answers in models]
    scores = [score for score in found if score is not None]
    if len(scores) < len(found):
        raise InputError(Problem(f"{metric} does not judge other wordings yet; choose another", f"{PLACE}.metric"))
    return scores
