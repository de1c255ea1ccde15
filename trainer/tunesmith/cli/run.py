"""`tunesmith run`: trains and evaluates here what a file describes, one job after the other."""

import argparse
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tunesmith.api.job import FineTuneJob
from tunesmith.api.load import InputError, Problem, Resource, jobs_of, load_resources
from tunesmith.api.outcome import Outcome
from tunesmith.api.pipeline import RLHFPipeline
from tunesmith.api.pod import RunFolder
from tunesmith.api.spans import TRAINER, about_run, sending_spans, span, tracing_of
from tunesmith.cli.evaluate import add_metrics_argument, evaluate_with_progress, show_evaluation
from tunesmith.cli.mounts import add_mount_argument
from tunesmith.cli.terminal import EXIT_CODES, quiet_libraries

if TYPE_CHECKING:
    from tunesmith.training.coach import Finding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("-f", "--filename", type=Path, required=True, help="a file with FineTuneJobs and RLHFPipelines")
    parser.add_argument("--output", type=Path, help="the run's folder, for a file with one job (default: runs/NAME)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs' folders are (default: runs)")
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="start over; what an earlier run left is moved aside. A pipeline's stages that have succeeded stay unless "
        "they, or what they build on, are others by now",
    )
    add_mount_argument(parser)
    add_metrics_argument(parser)
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Runs every job of the file in the order in which they depend on each other; stops at the first that fails."""
    resources = load_resources(arguments.filename)
    jobs = in_order([job for resource in resources for job in jobs_of(resource)])
    stages = {job.metadata.name for each in resources if isinstance(each, RLHFPipeline) for job in jobs_of(each)}
    if arguments.output is not None and len(jobs) > 1:
        raise InputError(
            Problem(f"goes with one job, but {arguments.filename} holds {len(jobs)}; use --runs", "--output")
        )
    quiet_libraries()
    console = Console(highlight=False)
    folders = {job.metadata.name: RunFolder(arguments.output or arguments.runs / job.metadata.name) for job in jobs}
    kept = done_stages([job for job in jobs if job.metadata.name in stages], folders)
    pipelines = [each for each in resources if isinstance(each, RLHFPipeline)]
    for pipeline in pipelines:
        show_ignored(pipeline, ("notifications",), console)  # its stages say the rest
    tracing = tracing_of(os.environ)
    for job in jobs:
        name = job.metadata.name
        with sending_spans(tracing, TRAINER, about_run(None, name)), span("job", {"tunesmith.job": name}) as note:
            outcome = run_job(job, folders[name], arguments, console, name in kept)
            note({"tunesmith.reason": outcome.reason})
        for pipeline in pipelines:
            if name in (stage.metadata.name for stage in jobs_of(pipeline)):
                report_pipeline(pipeline, folders, arguments.runs, console)
        if outcome.reason != "Succeeded":
            print(f"{name}: {outcome.told}", file=sys.stderr)
            return EXIT_CODES.get(outcome.reason, 1)
    return 0


def report_pipeline(pipeline: RLHFPipeline, folders: Mapping[str, RunFolder], runs: Path, console: Console) -> None:
    """Leaves the page of a pipeline beside its stages' folders, as far as it has come."""
    from tunesmith.report.write import leave_pipeline_report

    stages = [folders[job.metadata.name] for job in jobs_of(pipeline)]
    page = leave_pipeline_report(pipeline.metadata.name, stages, runs, console.print)
    if page is not None:
        console.print(f"report of {pipeline.metadata.name}: {page}", soft_wrap=True)


def done_stages(stages: list[FineTuneJob], folders: Mapping[str, RunFolder]) -> set[str]:
    """The names of the stages that have succeeded as they stand in the file now, on models that are none of those that
    will be made anew.

    Args:
        stages: of pipelines, each after those whose models it reads.
        folders: where the runs are, by name.
    """
    from tunesmith.launch.folder import has_succeeded

    anew = set[str]()
    for job in stages:
        name = job.metadata.name
        if not anew.isdisjoint(job.spec.model_jobs.values()) or not has_succeeded(folders[name], job):
            anew.add(name)
    return {job.metadata.name for job in stages} - anew


def in_order(jobs: list[FineTuneJob]) -> list[FineTuneJob]:
    """The jobs of a file, each after those whose models it reads, and those that it is compared with.

    Raises:
        InputError: jobs wait for each other.
    """
    waiting, ordered = list(jobs), list[FineTuneJob]()
    while waiting:
        missing = {job.metadata.name for job in waiting}
        ready = next((job for job in waiting if missing.isdisjoint(_jobs_before(job))), None)
        if ready is None:
            listing = ", ".join(job.metadata.name for job in waiting)
            raise InputError(Problem(f"{listing} wait for each other's models", "spec.model.source"))
        waiting.remove(ready)
        ordered.append(ready)
    return ordered


def _jobs_before(job: FineTuneJob) -> set[str]:
    compared = job.spec.evaluation.compared_jobs - {job.metadata.name} if job.spec.evaluation is not None else set()
    return {*job.spec.model_jobs.values(), *compared}


def show_ignored(resource: Resource, fields: tuple[str, ...], console: Console) -> None:
    """Names those of the fields that are set, and that mean nothing here."""
    ignored = [name for name in fields if name in resource.spec.model_fields_set]
    if ignored:
        console.print(f"spec.{' and spec.'.join(ignored)}: ignored here; only a cluster uses it", style="dim")


def show_findings(findings: list["Finding"], console: Console) -> None:
    """A paragraph for each: what was seen, and what to try."""
    for finding in findings:
        console.print(f"[yellow]{finding.name}[/]: {finding.seen}", soft_wrap=True)
        console.print("\n".join(f"  {number}. {text}" for number, text in enumerate(finding.remedies, 1)))


def run_job(
    job: FineTuneJob, folder: RunFolder, arguments: argparse.Namespace, console: Console, kept: bool
) -> Outcome:
    """Trains and evaluates one job, as far as it asks for either, or shows what is there already if it has been done.

    Args:
        job: what to run.
        folder: its run's folder.
        arguments: of the command line.
        console: shows what happens.
        kept: it is a pipeline's stage that is done, and stays so whatever the command line says.
    """
    from tunesmith.cli.progress import TrainingProgress
    from tunesmith.cli.trials_table import trials_table
    from tunesmith.evaluation.ahead import check_scorers
    from tunesmith.launch.folder import open_folder, read_result
    from tunesmith.launch.run import train_here
    from tunesmith.report.write import leave_report
    from tunesmith.sources import Resolver
    from tunesmith.tracking.beside import tracked
    from tunesmith.training.coach import read_findings

    console.rule(f"{job.metadata.name}", align="left")
    show_ignored(job, ("storage", "runtime", "notifications"), console)
    if job.spec.tracking is not None and job.spec.tracking.secrets:
        variables = ", ".join(job.spec.tracking.secrets)
        console.print(f"Secrets of spec.tracking: ignored here; set {variables} yourself", style="dim", soft_wrap=True)
    resolver = Resolver(mounts=dict(arguments.mount), base=arguments.filename.parent, runs=arguments.runs)
    if job.spec.evaluation is not None:
        check_scorers(job.spec.evaluation, resolver, arguments.allow_metrics)
    say = partial(console.print, soft_wrap=True, markup=False)
    with open_folder(folder, job, arguments.fresh and not kept), tracked(job, folder, say) as track:
        outcome = read_result(folder.result)
        if not job.spec.trains:
            outcome = Outcome(reason="Succeeded")  # there is nothing to be done before the evaluation
        elif outcome is not None and outcome.reason == "Succeeded" and folder.model.exists():
            again = f"delete {folder.root} to run it again" if kept else "--fresh starts over"
            console.print(f"has been trained already; {again}", soft_wrap=True)
        elif job.spec.search is not None:
            from tunesmith.launch.search import search_here

            outcome = search_here(job, folder, resolver, console.print)
        else:
            with TrainingProgress(folder, console):
                outcome = train_here(job, folder, resolver, console.print)
        if job.spec.search is not None:
            console.print(trials_table(folder))
        show_findings(read_findings(folder.findings), console)
        if outcome.reason == "Succeeded" and job.spec.evaluation is not None:
            evaluated = evaluate_with_progress(job, folder, resolver, console, arguments.allow_metrics)
            if evaluated.evaluation is not None:
                show_evaluation(folder, console)
            if evaluated.reason != "Succeeded":
                leave_report(folder, console.print)
                track(evaluated)
                return evaluated
        page = leave_report(folder, console.print)
        track(outcome)
    if page is not None:
        console.print(f"report: {page}", soft_wrap=True)
    if outcome.reason == "Succeeded":
        console.print(f"model: {folder.model if job.spec.trains else job.spec.model.source}\nfolder: {folder.root}")
    return outcome
