"""What the evaluated model and its base give: loaded, answered and scored, one after the other."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.evaluation.generate import Answers
from tunesmith.evaluation.harness import Tasks
from tunesmith.evaluation.outputs import Outputs
from tunesmith.evaluation.policy import Drawn
from tunesmith.evaluation.prompts import Variant, answer_variants
from tunesmith.evaluation.report import ModelReport
from tunesmith.evaluation.score import (
    ModelScores,
    Progress,
    TestSet,
    score_model,
)
from tunesmith.evaluation.work import Source, describe_model, digest, fingerprint
from tunesmith.models.load import ModelLocation, load_model, locate
from tunesmith.models.reward import load_reward_model
from tunesmith.models.start import base_model
from tunesmith.sources import Resolver


@dataclass(frozen=True)
class Candidate:
    """A model that is evaluated, and where it is from."""

    source: Source
    address: str


def tuned_candidate(location: ModelLocation, address: str, spec: FineTuneJobSpec) -> Candidate:
    source = Source("tuned", digest(fingerprint(location)), partial(_tuned_model, location, spec))
    return Candidate(source, address)


def base_candidate(
    spec: FineTuneJobSpec, resolver: Resolver, tokenizer: PreTrainedTokenizerBase, tuned: ModelLocation
) -> Candidate:
    """The model that training started from; a new one has the tuned one's tokenizer, whose files tell it apart."""
    if spec.model.config is not None:
        identity = digest(spec.model.config.to_dict(), spec.training.seed, fingerprint(tuned))
    else:
        identity = digest(fingerprint(locate(spec.model, resolver)))
    load = partial(base_model, spec, resolver, tokenizer, "auto")
    return Candidate(Source("base", identity, load), spec.model.source or f"a new model, seed {spec.training.seed}")


def _tuned_model(location: ModelLocation, spec: FineTuneJobSpec) -> PreTrainedModel:
    if spec.objective.reward is not None:
        return load_reward_model(location).model
    return load_model(location, "auto", kind=spec.objective.kind)


@dataclass(frozen=True)
class Measured:
    scores: ModelScores
    report: ModelReport
    variants: list[Answers]
    """Answers to each of the other wordings."""


def measure(
    candidate: Candidate,
    open_outputs: Callable[[Source], Outputs],
    test: TestSet,
    variants: Sequence[Variant],
    tasks: Tasks | None,
    spec: FineTuneJobSpec,
    progress: Progress,
    drawn: Drawn | None = None,
) -> Measured:
    """Scores a model by what it gives, which is computed where it is not there yet."""
    started = time.monotonic()
    outputs = open_outputs(candidate.source)
    name = candidate.source.name
    tell = _telling(progress, f"{name} model")
    scores = score_model(outputs, test, spec, tell, drawn)
    others = answer_variants(outputs, variants, spec, tell)
    if tasks is not None:
        scores = replace(scores, harness=tasks.run(outputs, tell))
    kind = outputs.of(describe_model())[0][0]
    answers = scores.answers
    report = ModelReport.model_validate(
        {
            "address": candidate.address,
            "dtype": kind["dtype"],
            "device": kind["device"],
            "unanswered": answers.texts.count(None) if answers else 0,
            "unfinished": answers.unfinished if answers else 0,
            "batchSize": answers.batch_size if answers else None,
            "seconds": round(time.monotonic() - started, 3),
        }
    )
    return Measured(scores, report, others)


def _telling(progress: Progress, whose: str) -> Progress:
    return lambda what, done, total: progress(f"{what}, {whose}", done, total)
