"""Evaluates a run: the tuned model and its base, one after the other, on the rows that neither has seen."""

import gc
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
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
from tunesmith.evaluation import significance, statistics
from tunesmith.evaluation.compare import Scored, metric_reports, row_warnings, size_warnings
from tunesmith.evaluation.domains import domain_reports
from tunesmith.evaluation.earlier import EarlierRun, Tested, earlier_scores, made_by, read_earlier_runs, row_ids
from tunesmith.evaluation.gates import gate_reports
from tunesmith.evaluation.generate import Answers
from tunesmith.evaluation.pairs import longer_answer_accuracy, preferred
from tunesmith.evaluation.policy import Drawn
from tunesmith.evaluation.report import EvaluationReport, MetricReport, ModelReport, write_report
from tunesmith.evaluation.score import (
    ModelScores,
    Progress,
    TestSet,
    compare_answers,
    compare_policies,
    read_test_set,
    score_model,
)
from tunesmith.evaluation.scorers import Scorers
from tunesmith.evaluation.verdict import better_of
from tunesmith.models.load import ModelLocation, load_model, load_tokenizer
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
    metric_modules: Sequence[str] = (),
) -> Outcome:
    """Evaluates the model in a run's folder as spec.evaluation asks, and leaves the figures there.

    Args:
        job: the job, with spec.evaluation.
        folder: the run's folder, held by the caller.
        resolver: finds the test rows and the base model.
        progress: is told of each batch.
        attempt: goes into the outcome.
        metric_modules: that own metrics may come from, each with what is below it.

    Returns:
        With the figures, also where a gate failed; else with the reason. What can be expected to go wrong is never
        raised.
    """
    try:
        report = _evaluate(job, folder, resolver, progress, metric_modules)
    except Exception as error:  # any failure becomes an Outcome; a defect's traceback goes to the log
        return _failure(error, attempt)
    failed = [gate.message for gate in report.gates if not gate.passed]
    return Outcome(
        reason="GateFailed" if failed else "Succeeded",
        message="; ".join(failed or [f"evaluated on {report.rows:,} test rows", *report.remarks]),
        attempt=attempt,
        artifacts=Artifacts(folder=str(folder.root), model=str(folder.model)),
        evaluation=report.to_result(),
    )


def _failure(error: Exception, attempt: int) -> Outcome:
    outcome = outcome_of(error, attempt)
    if outcome.reason == "OutOfMemory":  # a batch of one row was too much: the remedy is not that of training
        message = "the model and a single test row exceed the memory: lower evaluation.maxNewTokens, or give it more"
        return outcome.model_copy(update={"message": message})
    return outcome


def _evaluate(
    job: FineTuneJob, folder: RunFolder, resolver: Resolver, progress: Progress, metric_modules: Sequence[str]
) -> EvaluationReport:
    spec, evaluation = job.spec, job.spec.evaluation
    if evaluation is None or spec.dataset.test is None:
        raise InputError(Problem("is not set: it says what to evaluate", "spec.evaluation"))
    if not folder.model.exists():
        raise InputError(Problem("holds no model yet; run the job to its end first", file=str(folder.root)))
    torch.set_num_threads(_threads(spec))
    scorers = Scorers(evaluation, resolver, metric_modules, progress)
    rows = read_rows(spec.dataset.test, resolver, "spec.dataset.test.source")
    location = ModelLocation(str(folder.model))
    tokenizer = load_tokenizer(location, spec.objective.kind)
    test = read_test_set(rows, spec, evaluation, tokenizer)
    scorers.check(test.references)
    tested = Tested(row_ids(rows, test.texts, spec), test.texts, test.encoded.tokens if test.encoded else None)
    earlier = read_earlier_runs(evaluation.compare_with, resolver, tested)

    score = partial(_measure, tokenizer=tokenizer, test=test, spec=spec, progress=progress)
    tuned = score("tuned", str(folder.model), partial(_tuned_model, location, spec))
    base = None
    if evaluation.compare_with_base:
        address = spec.model.source or f"a new model, seed {spec.training.seed}"
        start = partial(base_model, spec, resolver, tokenizer, "auto")
        base = score("base", address, start, drawn=tuned.scores.drawn)
    models = [tuned.scores, *([base.scores] if base else [])]
    compare_answers(models, test, spec, scorers, resolver, tokenizer, progress)
    if spec.objective.ppo is not None:
        both = tuned.scores, base.scores if base else None
        compare_policies(*both, test, spec, resolver, tokenizer, progress)

    report = _report(job, evaluation, test, tuned, base, tested, earlier, scorers)
    write_report(folder, report, _lines(test, tested.ids, tuned, base, Centring.read(folder.model)))
    return report


def _tuned_model(location: ModelLocation, spec: FineTuneJobSpec) -> PreTrainedModel:
    if spec.objective.reward is not None:
        return load_reward_model(location).model
    return load_model(location, "auto", kind=spec.objective.kind)


@dataclass(frozen=True)
class _Measured:
    scores: ModelScores
    report: ModelReport


def _measure(
    name: str,
    address: str,
    load: Callable[[], PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    test: TestSet,
    spec: FineTuneJobSpec,
    progress: Progress,
    drawn: Drawn | None = None,
) -> _Measured:
    """Loads a model, scores it, and lets it go: there is never more than one in memory."""
    started = time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load().eval()
    model.to(device)
    scores = score_model(model, tokenizer, test, spec, lambda what, *n: progress(f"{what}, {name} model", *n), drawn)
    answers = scores.answers
    report = ModelReport.model_validate(
        {
            "address": address,
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "unanswered": answers.texts.count(None) if answers else 0,
            "unfinished": answers.unfinished if answers else 0,
            "batchSize": answers.batch_size if answers else None,
            "seconds": round(time.monotonic() - started, 3),
        }
    )
    del model
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return _Measured(scores, report)


def _threads(spec: FineTuneJobSpec) -> int:
    """CPU threads: what a worker asks for, else all that this process may use."""
    cpu = spec.scaling.resources.cpu
    available = len(os.sched_getaffinity(0))
    return max(1, min(int(parse_quantity(cpu)), available)) if cpu is not None else available


def _report(
    job: FineTuneJob,
    evaluation: EvaluationSpec,
    test: TestSet,
    tuned: _Measured,
    base: _Measured | None,
    tested: Tested,
    earlier: Sequence[EarlierRun],
    scorers: Scorers,
) -> EvaluationReport:
    pairs = test.pairs
    settings: dict[str, int | float | str] = {
        "decoding": "greedy",
        "maxNewTokens": evaluation.max_new_tokens,
        "batchSize": evaluation.batch_size,
        "maxLength": job.spec.training.max_length,
        "interval": f"percentile bootstrap over {'prompts' if pairs else 'rows'}",
        "confidence": statistics.CONFIDENCE,
        "resamples": statistics.RESAMPLES,
        "test": "paired randomisation, two-sided, with Holm's correction",
        "randomisations": significance.RANDOMISATIONS,
        "seed": statistics.SEED,
        **_drawing(job.spec),
        **made_by(job.spec),
        **scorers.settings,
    }
    scored, warnings = _scored(evaluation, tuned, base, tested, earlier, settings, scorers)
    metrics = metric_reports(scored)
    domains, empty = _domains(test, tuned, base)
    return EvaluationReport(
        job=job.metadata.name,
        rows=test.rows,
        truncated=test.encoded.pieces.truncated if test.encoded else pairs.truncated if pairs else 0,
        dropped=test.encoded.pieces.dropped if test.encoded else len(pairs.pairs) - len(pairs.texts) if pairs else 0,
        longer=longer_answer_accuracy(pairs) if pairs else None,
        metrics=metrics,
        domains=domains,
        gates=gate_reports(evaluation.gates, metrics),
        warnings=[
            *warnings,
            *scorers.warnings,
            *empty,
            *row_warnings(scored),
            *size_warnings(evaluation.detect, metrics),
        ],
        tuned=tuned.report,
        base=base.report if base else None,
        settings=settings,
        versions={name: version(name) for name in _VERSIONS},
    )


def _domains(
    test: TestSet, tuned: _Measured, base: _Measured | None
) -> tuple[dict[str, list[MetricReport]], list[str]]:
    losses = tuned.scores.losses
    if not test.domains or losses is None or test.encoded is None:
        return {}, []
    return domain_reports(test.domains, test.encoded.tokens, losses, base.scores.losses if base else None)


def _scored(
    evaluation: EvaluationSpec,
    tuned: _Measured,
    base: _Measured | None,
    tested: Tested,
    earlier: Sequence[EarlierRun],
    settings: Mapping[str, object],
    scorers: Scorers,
) -> tuple[list[Scored], list[str]]:
    """Each metric of all models, and what cannot be compared."""
    names = evaluation.metrics
    others: dict[str, Mapping[str, statistics.RowScores]] = {}
    if base is not None:
        others["base"] = {str(name): scores for name, scores in base.scores.metrics.items()}
    warnings = []
    for run in earlier:
        others[run.address], missing = earlier_scores(run, list(tuned.scores.metrics), tested, settings, scorers.rows)
        warnings += missing
    better = {metric.name: metric.better for metric in evaluation.own}
    scored = []
    for name in sorted(tuned.scores.metrics, key=lambda name: names.index(name) if name in names else len(names)):
        beside = {to: scores[name] for to, scores in others.items() if name in scores}
        scored.append(Scored(name, better.get(name, better_of(name)), tuned.scores.metrics[name], beside))
    return scored, warnings


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


def _lines(
    test: TestSet, ids: Sequence[str], tuned: _Measured, base: _Measured | None, centring: Centring
) -> Iterator[dict[str, Any]]:
    """The lines of rows.jsonl: what a row is known by, its texts, and each model's answer and scores."""
    models = {"tuned": (tuned.scores, centring), **({"base": (base.scores, Centring())} if base else {})}
    values = {name: {m: s.of_rows() for m, s in scores.metrics.items()} for name, (scores, _) in models.items()}
    tokens = test.encoded.tokens if test.encoded is not None else None
    for row, text in zip(itertools.count(), test.texts, strict=False):
        line: dict[str, Any] = {"row": row + 1, "id": ids[row], **text}
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
