"""`tunesmith evaluate`: a run's model on its test set, for people, and as what the evaluation pod runs."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tunesmith.api.job import FineTuneJob
from tunesmith.api.load import InputError, Problem
from tunesmith.api.log_lines import log_as_json
from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import CONFIG_DIR, MOUNT_ROOT, TERMINATION_LOG, RunFolder
from tunesmith.api.spans import TRAINER, about_run, sending_spans, tracing_of
from tunesmith.cli.mounts import add_mount_argument
from tunesmith.cli.terminal import EXIT_CODES, quiet_libraries
from tunesmith.cli.train import PREDECESSOR_PATIENCE_S, pod_folder, read_config, spans_of_pod, with_addresses
from tunesmith.run_log import log_in_pod
from tunesmith.sources import Resolver


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("folder", nargs="?", type=Path, metavar="RUN_FOLDER", help="the run's folder, such as runs/NAME")
    which.add_argument("--pod", action="store_true", help="evaluate what the operator has mounted, inside its pod")
    which.add_argument("--ray", action="store_true", help="the same with the workers of the pod's Ray cluster")
    parser.add_argument(
        "--relative-to", type=Path, default=Path(), metavar="DIR", help="where relative paths start (default: here)"
    )
    add_mount_argument(parser)
    add_metrics_argument(parser)
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Prints the evaluation as a table; in a pod, leaves it as the termination message."""
    if arguments.pod:
        return evaluate_in_pod()
    if arguments.ray:
        return evaluate_on_ray()
    quiet_libraries()
    from tunesmith.launch.folder import open_folder
    from tunesmith.report.write import leave_report
    from tunesmith.tracking.beside import tracked

    folder = RunFolder(arguments.folder)
    job = job_of(folder)
    resolver = Resolver(mounts=dict(arguments.mount), base=arguments.relative_to, runs=folder.root.absolute().parent)
    console = Console(highlight=False)
    say = partial(console.print, soft_wrap=True, markup=False)
    about = about_run(None, job.metadata.name)
    with (
        open_folder(folder, job),
        sending_spans(tracing_of(os.environ), TRAINER, about),
        tracked(job, folder, say) as track,
    ):
        outcome = evaluate_with_progress(job, folder, resolver, console, arguments.allow_metrics)
        page = leave_report(folder, console.print)
        track(outcome)
    if outcome.evaluation is not None:
        show_evaluation(folder, console)
        console.print(f"rows: {folder.evaluation / 'rows.jsonl'}")
    if page is not None:
        console.print(f"report: {page}", soft_wrap=True)
    if outcome.reason != "Succeeded":
        print(f"{job.metadata.name}: {outcome.told}", file=sys.stderr)
    return EXIT_CODES.get(outcome.reason, 1)


def show_evaluation(folder: RunFolder, console: Console) -> None:
    """Prints the evaluation in a run's folder: a table, and what it says of wordings and failures."""
    from tunesmith.evaluation.highlights import highlights
    from tunesmith.evaluation.report import read_report
    from tunesmith.evaluation.table import evaluation_table

    console.print(evaluation_table(folder))
    for line in highlights(read_report(folder)):
        console.print(line, markup=False, soft_wrap=True)


def job_of(folder: RunFolder) -> FineTuneJob:
    """The job that a run's folder belongs to.

    Raises:
        InputError: it is not a run's folder.
    """
    try:
        return FineTuneJob.model_validate(json.loads(folder.config.read_text(encoding="utf-8"))["job"])
    except OSError:
        raise InputError(Problem("is not a run's folder: it holds no config.json", file=str(folder.root))) from None
    except (ValueError, KeyError, TypeError):
        raise InputError(Problem("is damaged; run the job again", file=str(folder.config))) from None


def add_metrics_argument(parser: argparse.ArgumentParser) -> None:
    """Declares --allow-metrics, which may be given several times."""
    parser.add_argument(
        "--allow-metrics",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module that evaluation.own may name functions of, with what is below it; its code runs here",
    )


def evaluate_with_progress(
    job: FineTuneJob, folder: RunFolder, resolver: Resolver, console: Console, metric_modules: Sequence[str]
) -> Outcome:
    """Evaluates behind a progress bar that goes when it is done.

    Args:
        job: the job.
        folder: its run's folder, held by the caller.
        resolver: finds models and data.
        console: shows the bar.
        metric_modules: that own metrics may come from.
    """
    from tunesmith.evaluation.run import evaluate_job

    columns = (TextColumn("Evaluating: {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("loading", total=None)
        shown = ""

        def show(what: str, done: int, total: int) -> None:
            nonlocal shown
            if what != shown:
                bar.reset(task, total=total, description=what)
                shown = what
            bar.update(task, completed=done)

        return evaluate_job(job, folder, resolver, show, metric_modules=metric_modules)


def evaluate_in_pod(
    config: Path = Path(CONFIG_DIR), mount_root: Path = Path(MOUNT_ROOT), termination_log: Path = Path(TERMINATION_LOG)
) -> int:
    """Evaluates what the attempt's ConfigMap says, and leaves the Outcome as the pod's termination message.

    Returns:
        0 once the outcome is known, well or not: it stands in the message. 1 where another run would not leave the
        folder, so that another pod should try.
    """
    log_as_json()  # until it is known of which job
    quiet_libraries()
    from tunesmith.evaluation.progress import log_tenths
    from tunesmith.evaluation.run import evaluate_job
    from tunesmith.evaluation.work import Here
    from tunesmith.launch.folder import FolderInUseError, open_folder, write_attempts
    from tunesmith.report.write import leave_report, with_report
    from tunesmith.tracking.beside import tracked
    from tunesmith.training.failures import outcome_of

    attempt = 1
    try:
        job, run = read_config(config)
        log_in_pod(job.metadata.namespace, job.metadata.name, run.attempt)
        attempt, folder = run.attempt, pod_folder(run, mount_root)
        resolver = Resolver(folders=run.runs, in_pod=True, mount_root=mount_root)
        with (
            open_folder(folder, job, patience_s=PREDECESSOR_PATIENCE_S),
            spans_of_pod(job, run),
            tracked(job, folder, logging.info) as track,
        ):
            write_attempts(folder, run.past)
            outcome = evaluate_job(job, folder, resolver, log_tenths(), attempt, Here(), run.metric_modules)
            outcome = with_report(outcome, leave_report(folder))
            track(outcome)
        outcome = with_addresses(outcome, run, folder)
    except FolderInUseError as error:  # says nothing of the model
        logging.error("%s", error)
        return 1
    except (InputError, OSError) as error:
        outcome = outcome_of(error, attempt)
    termination_log.write_text(outcome.to_termination_message(), encoding="utf-8")
    logging.info("%s", outcome.told)
    return 0


def evaluate_on_ray(config: Path = Path(CONFIG_DIR), mount_root: Path = Path(MOUNT_ROOT)) -> int:
    """The driver on a Ray cluster: evaluates what the attempt's ConfigMap says with the cluster's workers, and leaves
    the Outcome in the run's folder.

    Returns:
        0 where the evaluation succeeded.
    """
    job, run = read_config(config)
    log_in_pod(job.metadata.namespace, job.metadata.name, run.attempt)
    quiet_libraries()
    from tunesmith.evaluation.workers import evaluate_on_cluster
    from tunesmith.launch.folder import FolderInUseError, open_folder, write_attempts, write_outcome
    from tunesmith.report.write import leave_report, with_report
    from tunesmith.tracking.beside import tracked
    from tunesmith.training.failures import outcome_of

    folder = pod_folder(run, mount_root)
    resolver = Resolver(folders=run.runs, in_pod=True, mount_root=mount_root)
    try:
        with (
            open_folder(folder, job, patience_s=PREDECESSOR_PATIENCE_S),
            spans_of_pod(job, run),
            tracked(job, folder, logging.info) as track,
        ):
            folder.evaluation_outcome.unlink(missing_ok=True)
            write_attempts(folder, run.past)
            outcome = evaluate_on_cluster(job, folder, resolver, run.attempt, run.metric_modules)
            outcome = with_report(outcome, leave_report(folder))
            track(outcome)
    except FolderInUseError as error:  # its folder is not this run's to write to
        logging.error("%s", error)
        return 1
    except (InputError, OSError) as error:
        outcome = outcome_of(error, run.attempt)
    outcome = with_addresses(outcome, run, folder)
    write_outcome(folder.evaluation_outcome, outcome)
    logging.info("%s", outcome.told)
    return 0 if outcome.reason == "Succeeded" else 1
