"""Evaluates a run: the tuned model and its base, one after the other, on the rows that neither has seen; or, where
nothing is trained, a model as it is."""

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from tunesmith.evaluation import significance, statistics
from tunesmith.evaluation.alone import as_if_trained
from tunesmith.evaluation.compare import Scored, metric_reports, row_warnings, size_warnings
from tunesmith.evaluation.domains import domain_reports
from tunesmith.evaluation.earlier import EarlierRun, OwnRows, earlier_scores, made_by, read_earlier_runs, row_ids
from tunesmith.evaluation.failures import find_failures
from tunesmith.evaluation.gates import gate_reports
from tunesmith.evaluation.generate import Answers
from tunesmith.evaluation.harness import Tasks, harness_scores, harness_values
from tunesmith.evaluation.outputs import Outputs, delete_others
from tunesmith.evaluation.pairs import longer_answer_accuracy, preferred
from tunesmith.evaluation.policy import Drawn
from tunesmith.evaluation.prompts import Variant, answer_variants, judge_answers, variants_of
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
from tunesmith.evaluation.statistics import RowScores
from tunesmith.evaluation.verdict import better_of
from tunesmith.evaluation.wordings import Wording, lines_of, prompts_report
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
    metric_modules: Sequence[str] = (),
) -> Outcome:
    """Evaluates the model in a run's folder as spec.evaluation asks, and leaves the figures there.

    Args:
        job: the job, with spec.evaluation.
        folder: the run's folder, held by the caller.
        resolver: finds the test rows and the base model.
        progress: is told of each batch.
        attempt: goes into the outcome.
        crew: who computes; by default this process, or as many workers on this machine as spec.evaluation asks for.
        metric_modules: that own metrics may come from, each with what is below it.

    Returns:
        With the figures, also where a gate failed; else with the reason. What can be expected to go wrong is never
        raised.
    """
    try:
        with closing(crew or _crew(job)) as somebody:
            report = _evaluate(job, folder, resolver, progress, somebody, metric_modules)
    except Exception as error:  # any failure becomes an Outcome; a defect's traceback goes to the log
        return _failure(error, attempt)
    failed = [gate.message for gate in report.gates if not gate.passed]
    return Outcome(
        reason="GateFailed" if failed else "Succeeded",
        message="; ".join(failed or [f"evaluated on {report.rows:,} test rows", *report.remarks]),
        attempt=attempt,
        artifacts=Artifacts(folder=str(folder.root), model=str(folder.model) if job.spec.trains else None),
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
    job: FineTuneJob,
    folder: RunFolder,
    resolver: Resolver,
    progress: Progress,
    crew: Crew,
    metric_modules: Sequence[str],
) -> EvaluationReport:
    spec, evaluation = job.spec, job.spec.evaluation
    if evaluation is None or spec.dataset.test is None:
        raise InputError(Problem("is not set: it says what to evaluate", "spec.evaluation"))
    if spec.trains and not folder.model.exists():
        raise InputError(Problem("holds no model yet; run the job to its end first", file=str(folder.root)))
    torch.set_num_threads(_threads(spec))
    scorers = Scorers(evaluation, resolver, metric_modules, progress)
    rows = read_rows(spec.dataset.test, resolver, "spec.dataset.test.source")
    if spec.trains:
        location, address = ModelLocation(str(folder.model.absolute())), str(folder.model)
    else:
        location, address = locate(spec.model, resolver), str(spec.model.source)
        job = as_if_trained(job, location, rows)
        spec, evaluation = job.spec, job.spec.evaluation or evaluation
    tokenizer = load_tokenizer(location, spec.objective.kind)
    test = read_test_set(rows, spec, evaluation, tokenizer)
    scorers.check(test.references)
    tested = OwnRows(row_ids(rows, test.texts, spec), test.texts, test.encoded.tokens if test.encoded else None)
    earlier = read_earlier_runs(evaluation.compare_with, resolver, tested)

    variants = variants_of(rows, spec, tokenizer)
    resolver = resolver.absolute()  # workers may have another working directory
    used: set[Path] = set()
    open_outputs = partial(Outputs, tokenizer=tokenizer, crew=crew, folder=folder.outputs, used=used)
    tasks = Tasks(spec, resolver) if evaluation.harness is not None else None
    score = partial(
        _measure, open_outputs=open_outputs, test=test, variants=variants, tasks=tasks, spec=spec, progress=progress
    )
    tuned = score(_tuned(location, address, spec))
    base = None
    if evaluation.compare_with_base:
        base = score(_base(spec, resolver, tokenizer, location), drawn=tuned.scores.drawn)
    both = [tuned.scores, *([base.scores] if base else [])]
    compare_answers(both, test, spec, scorers, resolver, open_outputs, tokenizer, progress)
    if spec.objective.ppo is not None:
        beside = base.scores if base else None
        compare_policies(tuned.scores, beside, test, spec, resolver, open_outputs, tokenizer, progress)

    models = {"tuned": tuned, **({"base": base} if base else {})}
    judge = partial(judge_answers, references=test.references, spec=spec, scorers=scorers, resolver=resolver)
    judge = partial(judge, open_outputs=open_outputs, tokenizer=tokenizer, progress=progress)
    own, wordings = _wordings(models, variants, evaluation, judge)
    crew.release()
    failures = find_failures(rows, test, {n: m.scores for n, m in models.items()}, spec, resolver, progress)
    report = _report(job, evaluation, test, tuned, base, tested, earlier, scorers)
    metric = str(evaluation.prompts_metric)
    more = {
        "prompts": prompts_report(metric, [t["prompt"] for t in test.texts], own, variants, wordings) if own else None,
        "failures": failures.report if failures else None,
    }
    report = report.model_copy(update=more)
    kinds = failures.kinds if failures else {}
    lines = _lines(test, tested.ids, tuned, base, Centring.read(Path(location.name)), kinds)
    write_report(folder, report, lines, lines_of(metric, variants, wordings, _answer))
    delete_others(folder.outputs, used)
    return report


@dataclass(frozen=True)
class _Candidate:
    """A model that is evaluated, and where it is from."""

    source: Source
    address: str


def _tuned(location: ModelLocation, address: str, spec: FineTuneJobSpec) -> _Candidate:
    source = Source("tuned", digest(fingerprint(location)), partial(_tuned_model, location, spec))
    return _Candidate(source, address)


def _wordings(
    models: Mapping[str, "_Measured"],
    variants: Sequence[Variant],
    evaluation: EvaluationSpec,
    judge: Callable[[str, Sequence[Answers], Variant], list[RowScores]],
) -> tuple[Wording | None, list[Wording]]:
    """The answers to the job's own prompts and to the others, judged; nothing where no others are asked for."""
    metric = evaluation.prompts_metric
    if not variants or metric is None:
        return None, []
    answers = {name: model.scores.answers for name, model in models.items() if model.scores.answers is not None}
    own = Wording(answers, {name: models[name].scores.metrics[metric] for name in answers})
    found = []
    for number, variant in enumerate(variants):
        given = {name: models[name].variants[number] for name in answers}
        scores = judge(metric, list(given.values()), variant)
        found.append(Wording(given, dict(zip(given, scores, strict=True))))
    return own, found


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
    variants: list[Answers]
    """Answers to each of the other wordings."""


def _measure(
    candidate: _Candidate,
    open_outputs: Callable[[Source], Outputs],
    test: TestSet,
    variants: Sequence[Variant],
    tasks: Tasks | None,
    spec: FineTuneJobSpec,
    progress: Progress,
    drawn: Drawn | None = None,
) -> _Measured:
    """Scores a model by what it gives, which is computed where it is not there yet."""
    started = time.monotonic()
    outputs = open_outputs(candidate.source)
    name = candidate.source.name
    tell = _telling(progress, f"{name} model")
    scores = score_model(outputs, test, spec, tell, drawn)
    others = answer_variants(outputs, variants, spec, tell)
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
    return _Measured(scores, report, others)


def _telling(progress: Progress, whose: str) -> Progress:
    return lambda what, done, total: progress(f"{what}, {whose}", done, total)


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
    tested: OwnRows,
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
    tasks = tuned.scores.harness, base.scores.harness if base else None
    metrics = [*metric_reports([*scored, *harness_scores(*tasks)]), *harness_values(*tasks)]
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
    tested: OwnRows,
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
    test: TestSet,
    ids: Sequence[str],
    tuned: _Measured,
    base: _Measured | None,
    centring: Centring,
    kinds: Mapping[str, Sequence[str]],
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
            line[name] |= {"kind": kinds[name][row]} if name in kinds else {}
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
