"""Evaluates a run: the tuned model and its base, one after the other, on the rows that neither has seen."""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.api.evaluation import EvaluationSpec
from tunesmith.api.job import FineTuneJob, FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.api.outcome import Artifacts, Outcome
from tunesmith.api.pod import RunFolder
from tunesmith.api.quantity import parse_quantity
from tunesmith.data.rows import read_rows
from tunesmith.evaluation import statistics
from tunesmith.evaluation.generate import Answers
from tunesmith.evaluation.harness import Tasks, harness_reports
from tunesmith.evaluation.outputs import Outputs, delete_others
from tunesmith.evaluation.pairs import longer_answer_accuracy, preferred
from tunesmith.evaluation.policy import Drawn
from tunesmith.evaluation.report import Comparison, EvaluationReport, MetricReport, ModelReport, write_report
from tunesmith.evaluation.score import ModelScores, Progress, TestSet, compare_policies, read_test_set, score_model
from tunesmith.evaluation.verdict import better_of, verdict_of
from tunesmith.evaluation.work import Crew, Here, RowsFailedError, Source, describe_model, digest, fingerprint
from tunesmith.models.load import ModelLocation, load_model, load_tokenizer, locate
from tunesmith.models.reward import Centring, load_reward_model
from tunesmith.models.start import base_model
from tunesmith.sources import Resolver
from tunesmith.training.failures import outcome_of

_VERSIONS = ("tunesmith", "torch", "transformers", "tokenizers", "peft", "numpy")


def evaluate_job(
    job: FineTuneJob,
    folder: RunFolder,
    resolver: Resolver,
    progress: Progress = lambda what, done, total: None,
    attempt: int = 1,
    crew: Crew | None = None,
) -> Outcome:
    """Evaluates the model in a run's folder as spec.evaluation asks, and leaves the figures there.

    Args:
        job: the job, with spec.evaluation.
        folder: the run's folder, held by the caller.
        resolver: finds the test rows and the base model.
        progress: is told of each batch.
        attempt: goes into the outcome.
        crew: who computes; by default this process, or as many workers on this machine as spec.evaluation asks for.

    Returns:
        With the figures if it succeeded; else with the reason. What can be expected to go wrong is never raised.
    """
    try:
        with closing(crew or _crew(job)) as somebody:
            report = _evaluate(job, folder, resolver, progress, somebody)
    except Exception as error:  # any failure becomes an Outcome; a defect's traceback goes to the log
        return _failure(error, attempt)
    return Outcome(
        reason="Succeeded",
        message="; ".join([f"evaluated on {report.rows:,} test rows", *report.remarks]),
        attempt=attempt,
        artifacts=Artifacts(folder=str(folder.root), model=str(folder.model)),
        evaluation=report.to_result(),
    )


def _failure(error: Exception, attempt: int) -> Outcome:
    if isinstance(error, RowsFailedError):
        outcome = Outcome(reason=error.reason, message=str(error), attempt=attempt)
    else:
        outcome = outcome_of(error, attempt)
    if outcome.reason == "OutOfMemory":  # a batch of one row was too much: the remedy is not that of training
        message = "the model and a single test row exceed the memory: lower evaluation.maxNewTokens, or give it more"
        return outcome.model_copy(update={"message": message})
    return outcome


def _crew(job: FineTuneJob) -> Crew:
    evaluation = job.spec.evaluation
    if evaluation is None or evaluation.workers == 1:
        return Here()
    from tunesmith.evaluation.workers import Workers

    return Workers.here(job.spec, evaluation.workers)


def _evaluate(
    job: FineTuneJob, folder: RunFolder, resolver: Resolver, progress: Progress, crew: Crew
) -> EvaluationReport:
    spec, evaluation = job.spec, job.spec.evaluation
    if evaluation is None or spec.dataset.test is None:
        raise InputError(Problem("is not set: it says what to evaluate", "spec.evaluation"))
    if not folder.model.exists():
        raise InputError(Problem("holds no model yet; run the job to its end first", file=str(folder.root)))
    torch.set_num_threads(_threads(spec))
    rows = read_rows(spec.dataset.test, resolver, "spec.dataset.test.source")
    location = ModelLocation(str(folder.model))
    tokenizer = load_tokenizer(location, spec.objective.kind)
    test = read_test_set(rows, spec, evaluation, tokenizer)

    resolver = resolver.absolute()  # workers may have another working directory
    used: set[Path] = set()
    open_outputs = partial(Outputs, tokenizer=tokenizer, crew=crew, folder=folder.outputs, used=used)
    tasks = Tasks(spec, resolver) if evaluation.harness is not None else None
    score = partial(_measure, open_outputs=open_outputs, test=test, tasks=tasks, spec=spec, progress=progress)
    tuned = score(_tuned(folder, location, spec))
    base = None
    if evaluation.compare_with_base:
        base = score(_base(spec, resolver, tokenizer, location), drawn=tuned.scores.drawn)
    if spec.objective.ppo is not None:
        both = tuned.scores, base.scores if base else None
        compare_policies(*both, test, spec, resolver, open_outputs, tokenizer, progress)
    crew.release()

    report = _report(job, evaluation, test, tuned, base)
    write_report(folder, report, _lines(test, tuned, base, Centring.read(folder.model)))
    delete_others(folder.outputs, used)
    return report


@dataclass(frozen=True)
class _Candidate:
    """A model that is evaluated, and where it is from."""

    source: Source
    address: str


def _tuned(folder: RunFolder, location: ModelLocation, spec: FineTuneJobSpec) -> _Candidate:
    location = ModelLocation(str(Path(location.name).absolute()))
    source = Source("tuned", digest(fingerprint(location)), partial(_tuned_model, location, spec))
    return _Candidate(source, str(folder.model))


def _tuned_model(location: ModelLocation, spec: FineTuneJobSpec) -> PreTrainedModel:
    if spec.objective.reward is not None:
        return load_reward_model(location).model
    return load_model(location, "auto", kind=spec.objective.kind)


def _base(
    spec: FineTuneJobSpec, resolver: Resolver, tokenizer: PreTrainedTokenizerBase, tuned: ModelLocation
) -> _Candidate:
    """The model that training started from; a new one has the tuned one's tokenizer, whose files tell it apart."""
    if spec.model.config is not None:
        identity = digest(spec.model.config.to_dict(), spec.training.seed, fingerprint(tuned))
    else:
        identity = digest(fingerprint(locate(spec.model, resolver)))
    load = partial(base_model, spec, resolver, tokenizer, "auto")
    return _Candidate(Source("base", identity, load), spec.model.source or f"a new model, seed {spec.training.seed}")


@dataclass(frozen=True)
class _Measured:
    scores: ModelScores
    report: ModelReport


def _measure(
    candidate: _Candidate,
    open_outputs: Callable[[Source], Outputs],
    test: TestSet,
    tasks: Tasks | None,
    spec: FineTuneJobSpec,
    progress: Progress,
    drawn: Drawn | None = None,
) -> _Measured:
    """Scores a model by what it gives, which is computed where it is not there yet."""
    started = time.monotonic()
    outputs = open_outputs(candidate.source)
    name = candidate.source.name

    def tell(what: str, done: int, total: int) -> None:
        progress(f"{what}, {name} model", done, total)

    scores = score_model(outputs, test, spec, tell, drawn)
    if tasks is not None:
        scores.harness.update(tasks.run(outputs, tell))
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
    return _Measured(scores, report)


def _threads(spec: FineTuneJobSpec) -> int:
    """CPU threads: what a worker asks for, else all that this process may use."""
    cpu = spec.scaling.resources.cpu
    available = len(os.sched_getaffinity(0))
    return max(1, min(int(parse_quantity(cpu)), available)) if cpu is not None else available


def _report(
    job: FineTuneJob, evaluation: EvaluationSpec, test: TestSet, tuned: _Measured, base: _Measured | None
) -> EvaluationReport:
    metrics = []
    for name in evaluation.metrics:
        scores = tuned.scores.metrics[name]
        estimate = statistics.estimate(scores, base.scores.metrics.get(name) if base else None)
        metrics.append(metric_report(name, int(scores.used.sum()), estimate))
    metrics += harness_reports(tuned.scores.harness, base.scores.harness if base else None)
    pairs = test.pairs
    return EvaluationReport(
        job=job.metadata.name,
        rows=test.rows,
        truncated=test.encoded.pieces.truncated if test.encoded else pairs.truncated if pairs else 0,
        dropped=test.encoded.pieces.dropped if test.encoded else len(pairs.pairs) - len(pairs.texts) if pairs else 0,
        longer=longer_answer_accuracy(pairs) if pairs else None,
        metrics=metrics,
        tuned=tuned.report,
        base=base.report if base else None,
        settings={
            "decoding": "greedy",
            "maxNewTokens": evaluation.max_new_tokens,
            "batchSize": evaluation.batch_size,
            "maxLength": job.spec.training.max_length,
            "interval": f"percentile bootstrap over {'prompts' if pairs else 'rows'}",
            "confidence": statistics.CONFIDENCE,
            "resamples": statistics.RESAMPLES,
            "seed": statistics.SEED,
            **_drawing(job.spec),
        },
        versions={name: version(name) for name in _VERSIONS},
    )


def metric_report(name: str, rows: int, estimate: statistics.Estimate) -> MetricReport:
    """The figures of a metric of ours, with what they show."""
    better = better_of(name)
    comparisons = []
    if estimate.base is not None and estimate.difference is not None:
        verdict = verdict_of(name, better, rows, estimate.difference)
        comparisons.append(Comparison(to="base", value=estimate.base, difference=estimate.difference, verdict=verdict))
    own = verdict_of(name, better, rows, estimate.tuned, equal=0.5) if name == "winRate" else ""
    return MetricReport.model_validate(
        {
            "name": name,
            "better": better,
            "rows": rows,
            "tuned": estimate.tuned,
            "comparisons": comparisons,
            "verdict": own,
        }
    )


def _drawing(spec: FineTuneJobSpec) -> dict[str, int | float | str]:
    """How the answers were drawn that a divergence is measured on."""
    ppo, evaluation = spec.objective.ppo, spec.evaluation
    if ppo is None or evaluation is None or "divergence" not in evaluation.metrics:
        return {}
    return {
        "divergence": "one sampled answer to each prompt",
        "temperature": ppo.temperature,
        "sampledTokens": ppo.max_new_tokens,
        "sampleSeed": spec.training.seed,
    }


def _lines(test: TestSet, tuned: _Measured, base: _Measured | None, centring: Centring) -> Iterator[dict[str, Any]]:
    """The lines of rows.jsonl: a row's texts, and each model's answer and scores."""
    models = {"tuned": (tuned.scores, centring), **({"base": (base.scores, Centring())} if base else {})}
    values = {name: {m: s.of_rows() for m, s in scores.metrics.items()} for name, (scores, _) in models.items()}
    tokens = test.encoded.tokens if test.encoded is not None else None
    for row, text in zip(itertools.count(), test.texts, strict=False):
        line: dict[str, Any] = {"row": row + 1, **text}
        for name, (scores, how) in models.items():
            if scores.pairs is not None:
                line[name] = _pair(scores.pairs[row], how)
                continue
            line[name] = _answer(scores.answers, row) if scores.answers is not None else {}
            if scores.losses is not None and tokens is not None:
                line[name] |= {"negativeLogLikelihood": float(scores.losses[row]), "tokens": int(tokens[row])}
            line[name] |= {m: float(of[row]) for m, of in values[name].items() if not np.isnan(of[row])}
        yield line


def _answer(answers: Answers, row: int) -> dict[str, Any]:
    """An answer, whether it came to its end within the limit, and its length."""
    if answers.texts[row] is None:
        return {"answer": None}
    finished = answers.ends[row] is not None
    return {"answer": answers.texts[row], "finished": finished, "answerTokens": len(answers.written(row))}


def _pair(scores: NDArray[np.float64], centring: Centring) -> dict[str, Any]:
    """Of both answers of a pair, centred; none where it was left out."""
    if np.isnan(scores).any():
        return {}
    chosen, rejected = centring.of(scores).tolist()
    return {"chosen": chosen, "rejected": rejected, "pairAccuracy": float(preferred(scores[None])[0])}
