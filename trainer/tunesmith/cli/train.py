"""`tunesmith train`: the entrypoint of a RayJob; everything it needs stands in the attempt's ConfigMap."""

import argparse
import json
import logging
import os
from contextlib import AbstractContextManager
from pathlib import Path

from tunesmith.api.job import FineTuneJob
from tunesmith.api.load import InputError, Problem
from tunesmith.api.outcome import Artifacts, Outcome
from tunesmith.api.pod import CONFIG_DIR, JOB_FILE, METRICS_PORT, MOUNT_ROOT, RUN_FILE, RunConfig, RunFolder
from tunesmith.api.source import Location
from tunesmith.api.spans import TRAINER, about_run, sending_spans, tracing_of
from tunesmith.run_log import log_in_pod

PREDECESSOR_PATIENCE_S = 120.0
"""How long an attempt waits for the pods of the one before it, which may still be ending."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "--config-dir", type=Path, default=Path(CONFIG_DIR), help="where the attempt's ConfigMap is mounted"
    )
    parser.add_argument("--mount-root", type=Path, default=Path(MOUNT_ROOT), help="where claims are mounted")
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Trains on the Ray cluster that this process runs in, and leaves the outcome in the run's folder."""
    from tunesmith.launch.folder import FolderInUseError, end_attempt, open_folder, write_result
    from tunesmith.launch.run import in_thread, stop_on_signals
    from tunesmith.launch.search import run_search
    from tunesmith.launch.workers import Placement, run_attempt
    from tunesmith.report.write import leave_report, with_report
    from tunesmith.sources import Resolver
    from tunesmith.tracking.beside import tracked
    from tunesmith.training.assignment import Assignment
    from tunesmith.training.failures import outcome_of

    job, run = read_config(arguments.config_dir)
    log_in_pod(job.metadata.namespace, job.metadata.name, run.attempt)
    folder = pod_folder(run, arguments.mount_root)
    resolver = Resolver(in_pod=True, mount_root=arguments.mount_root)
    assignment = Assignment(job, folder, resolver, run.attempt, run.overrides, METRICS_PORT, json_logs=True)
    try:
        with (
            open_folder(folder, job, patience_s=PREDECESSOR_PATIENCE_S),
            spans_of_pod(job, run),
            stop_on_signals(folder),
            tracked(job, folder, logging.info) as track,
        ):
            placement = Placement(own_process=False, address="auto")
            if job.spec.search is not None:
                outcome = in_thread(lambda: run_search(assignment, placement, logging.info))
            else:
                outcome = in_thread(lambda: run_attempt(assignment, placement))
            end_attempt(folder, run.past, outcome, run.overrides)
            outcome = with_report(outcome, leave_report(folder))
            track(outcome)
    except FolderInUseError as error:  # its folder is not this run's to write to
        logging.error("%s", error)
        return 1
    except (InputError, OSError) as error:
        outcome = outcome_of(error, run.attempt)
    outcome = with_addresses(outcome, run, folder)
    write_result(folder, outcome)
    logging.info("%s", outcome.told)
    return 0 if outcome.reason == "Succeeded" else 1


def read_config(folder: Path) -> tuple[FineTuneJob, RunConfig]:
    """The job and the run's settings from the attempt's ConfigMap.

    Raises:
        InputError: a file is missing or is not what the operator writes.
    """
    try:
        job = FineTuneJob.model_validate(json.loads((folder / JOB_FILE).read_text(encoding="utf-8")))
        run = RunConfig.model_validate(json.loads((folder / RUN_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(Problem(f"is not what the operator mounts: {error}", file=str(folder))) from None
    return job, run


def spans_of_pod(job: FineTuneJob, run: RunConfig) -> AbstractContextManager[None]:
    """Where the operator says, else the pod's environment."""
    about = about_run(job.metadata.namespace, job.metadata.name, run.attempt)
    return sending_spans(run.tracing or tracing_of(os.environ), TRAINER, about)


def pod_folder(run: RunConfig, mount_root: Path) -> RunFolder:
    """The run's folder as a pod sees it."""
    location = Location.parse(run.folder)
    return RunFolder(mount_root / "pvc" / location.name / location.path)


def with_addresses(outcome: Outcome, run: RunConfig, folder: RunFolder) -> Outcome:
    """The outcome with its artifacts as addresses that mean the same outside the pod."""
    paths = {name: path.replace(str(folder.root), run.folder, 1) for name, path in outcome.artifacts.to_dict().items()}
    return outcome.model_copy(update={"artifacts": Artifacts.model_validate(paths)})
