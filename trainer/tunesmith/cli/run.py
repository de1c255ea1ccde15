"""`tunesmith run`: trains and evaluates here what a file describes, one job after the other."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tunesmith.api.job import FineTuneJob
from tunesmith.api.load import InputError, Problem, load_jobs
from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import RunFolder
from tunesmith.cli.evaluate import evaluate_with_progress
from tunesmith.cli.mounts import add_mount_argument
from tunesmith.cli.terminal import EXIT_CODES, quiet_libraries

if TYPE_CHECKING:
    from tunesmith.training.coach import Finding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("-f", "--filename", type=Path, required=True, help="a file with one or more FineTuneJobs")
    parser.add_argument("--output", type=Path, help="the run's folder, for a file with one job (default: runs/NAME)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs' folders are (default: runs)")
    parser.add_argument("--fresh", action="store_true", help="start over; what an earlier run left is moved aside")
    add_mount_argument(parser)
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Runs every job of the file in the order in which they depend on each other; stops at the first that fails."""
    jobs = in_order(load_jobs(arguments.filename))
    if arguments.output is not None and len(jobs) > 1:
        raise InputError(
            Problem(f"goes with one job, but {arguments.filename} holds {len(jobs)}; use --runs", "--output")
        )
    quiet_libraries()
    console = Console(highlight=False)
    for job in jobs:
        folder = RunFolder(arguments.output or arguments.runs / job.metadata.name)
        outcome = run_job(job, folder, arguments, console)
        if outcome.reason != "Succeeded":
            print(f"{job.metadata.name}: {outcome.reason}: {outcome.message}", file=sys.stderr)
            return EXIT_CODES.get(outcome.reason, 1)
    return 0


def in_order(jobs: list[FineTuneJob]) -> list[FineTuneJob]:
    """The jobs of a file, each after the one whose model it starts from.

    Raises:
        InputError: jobs wait for each other.
    """
    names = {job.metadata.name for job in jobs}
    waiting, ordered = list(jobs), list[FineTuneJob]()
    while waiting:
        done = {job.metadata.name for job in ordered}
        ready = next((j for j in waiting if j.spec.model.job not in names or j.spec.model.job in done), None)
        if ready is None:
            listing = ", ".join(job.metadata.name for job in waiting)
            raise InputError(Problem(f"{listing} wait for each other's models", "spec.model.source"))
        waiting.remove(ready)
        ordered.append(ready)
    return ordered


def show_findings(findings: list["Finding"], console: Console) -> None:
    """A paragraph for each: what was seen, and what to try."""
    for finding in findings:
        console.print(f"[yellow]{finding.name}[/]: {finding.seen}", soft_wrap=True)
        console.print("\n".join(f"  {number}. {text}" for number, text in enumerate(finding.remedies, 1)))


def run_job(job: FineTuneJob, folder: RunFolder, arguments: argparse.Namespace, console: Console) -> Outcome:
    """Trains and evaluates one job, or shows what is there already if it has been done."""
    from tunesmith.cli.progress import TrainingProgress
    from tunesmith.cli.trials_table import trials_table
    from tunesmith.launch.folder import open_folder, read_result
    from tunesmith.launch.run import train_here
    from tunesmith.sources import Resolver
    from tunesmith.training.coach import read_findings

    console.rule(f"{job.metadata.name}", align="left")
    ignored = [name for name in ("storage", "runtime") if name in job.spec.model_fields_set]
    if ignored:
        console.print(f"spec.{' and spec.'.join(ignored)}: ignored here; only a cluster uses it", style="dim")
    resolver = Resolver(mounts=dict(arguments.mount), base=arguments.filename.parent, runs=arguments.runs)
    with open_folder(folder, job, arguments.fresh):
        outcome = read_result(folder.result)
        if outcome is not None and outcome.reason == "Succeeded" and folder.model.exists():
            console.print("has been trained already; --fresh starts over")
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
            from tunesmith.evaluation.table import evaluation_table

            evaluated = evaluate_with_progress(job, folder, resolver, console)
            if evaluated.reason != "Succeeded":
                return evaluated
            console.print(evaluation_table(folder))
    if outcome.reason == "Succeeded":
        console.print(f"model: {folder.model}\nfolder: {folder.root}")
    return outcome
