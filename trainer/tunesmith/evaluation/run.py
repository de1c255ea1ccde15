"""Evaluates a run: the tuned model and its base, one after the other, on the rows that neither has seen; or, where
nothing is trained, a model as it is."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import torch

from tunesmith.api.evaluation import EvaluationSpec
from tunesmith.api.job import FineTuneJob, FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.api.outcome import Artifacts, Outcome
from tunesmith.api.pod import RunFolder
from tunesmith.api.quantity import parse_quantity
from tunesmith.api.spans import span
from tunesmith.data.rows import read_rows
from tunesmith.evaluation.alone import as_if_trained
from tunesmith.evaluation.assemble import make_report
from tunesmith.evaluation.earlier import OwnRows, read_earlier_runs, row_ids
from tunesmith.evaluation.failures import find_failures
from tunesmith.evaluation.generate import Answers
from tunesmith.evaluation.harness import Tasks, harness_lines
from tunesmith.evaluation.measure import Measured, base_candidate, measure, tuned_candidate
from tunesmith.evaluation.outputs import Outputs, delete_others
from tunesmith.evaluation.prompts import Variant, judge_answers, variants_of
from tunesmith.evaluation.report import EvaluationReport, write_report
from tunesmith.evaluation.row_lines import answer_line, row_lines
from tunesmith.evaluation.score import (
    Progress,
    compare_answers,
    compare_policies,
    read_test_set,
)
from tunesmith.evaluation.scorers import Scorers
from tunesmith.evaluation.statistics import RowScores
from tunesmith.evaluation.verdict import better_of
from tunesmith.evaluation.wordings import Wording, lines_of, prompts_report
from tunesmith.evaluation.work import Crew, Here, RowsFailedError
from tunesmith.models.load import ModelLocation, load_tokenizer, locate
from tunesmith.models.reward import Centring
from tunesmith.run_log import evaluation_log, log_to_file
from tunesmith.sources import Resolver
from tunesmith.training.failures import outcome_of


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
        log_to_file(evaluation_log(folder))
        with span("evaluation"), closing(crew or _crew(job)) as somebody:
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
        measure, open_outputs=open_outputs, test=test, variants=variants, tasks=tasks, spec=spec, progress=progress
    )
    with span("model evaluation", {"tunesmith.model": "tuned"}):
        tuned = score(tuned_candidate(location, address, spec))
    base = None
    if evaluation.compare_with_base:
        with span("model evaluation", {"tunesmith.model": "base"}):
            base = score(base_candidate(spec, resolver, tokenizer, location), drawn=tuned.scores.drawn)
    crew.release()  # what judges answers needs the memory
    both = [tuned.scores, *([base.scores] if base else [])]
    compare_answers(both, test, spec, scorers, resolver, open_outputs, tokenizer, progress)
    if spec.objective.ppo is not None:
        beside = base.scores if base else None
        compare_policies(tuned.scores, beside, test, spec, resolver, open_outputs, tokenizer, progress)

    models = {"tuned": tuned, **({"base": base} if base else {})}
    asked = [text.get("prompt", "") for text in test.texts]
    judge = partial(
        judge_answers, own_texts=asked, references=test.references, spec=spec, scorers=scorers, resolver=resolver
    )
    judge = partial(judge, open_outputs=open_outputs, tokenizer=tokenizer, progress=progress)
    own, wordings = _wordings(models, variants, evaluation, judge)
    crew.release()
    failures = find_failures(rows, test, {n: m.scores for n, m in models.items()}, spec, resolver, progress)
    report = make_report(job, evaluation, test, tuned, base, tested, earlier, scorers)
    metric = str(evaluation.prompts_metric)
    better = better_of(metric, evaluation.own)
    more = {
        "prompts": prompts_report(metric, better, asked, own, variants, wordings) if own else None,
        "failures": failures.report if failures else None,
    }
    report = report.model_copy(update=more)
    kinds = failures.kinds if failures else {}
    lines = row_lines(test, tested.ids, tuned, base, Centring.read(Path(location.name)), kinds)
    asked_of_tasks = harness_lines(tuned.scores.harness, base.scores.harness if base else None)
    write_report(folder, report, lines, lines_of(metric, variants, wordings, answer_line), asked_of_tasks)
    delete_others(folder.outputs, used)
    return report


def _wordings(
    models: Mapping[str, Measured],
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


def _threads(spec: FineTuneJobSpec) -> int:
    """CPU threads: what a worker asks for, else all that this process may use."""
    cpu = spec.scaling.resources.cpu
    available = len(os.sched_getaffinity(0))
    return max(1, min(int(parse_quantity(cpu)), available)) if cpu is not None else available
