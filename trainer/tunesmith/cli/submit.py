"""`tunesmith submit`: what the submitter pod of a RayJob runs.

It submits the training, or the evaluation, once, whoever asks and however often, prints its log, and leaves how it
ended as the pod's termination message: results come back without any permission for the training pods.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from tunesmith.api.load import InputError
from tunesmith.api.log_lines import log_as_json, without_rays_words
from tunesmith.api.outcome import Outcome, Reason
from tunesmith.api.pod import (
    CONFIG_DIR,
    EVALUATE_ON_RAY_COMMAND,
    MOUNT_ROOT,
    RUN_FILE,
    TERMINATION_LOG,
    TRAIN_COMMAND,
    RunConfig,
    RunFolder,
    run_of,
)
from tunesmith.cli.train import pod_folder
from tunesmith.launch.folder import read_result
from tunesmith.run_log import last_tail

log = logging.getLogger(__name__)
ray_log = logging.getLogger("tunesmith.ray_job")
"""Says what the Ray job prints that is no line of ours; Ray has its own ideas of a logger called ray."""

POLL_S = 2.0
"""Between two looks at the Ray job."""
REQUEST_TIMEOUT_S = 30.0
"""For one answer of the dashboard."""
PATIENCE_S = 300.0
"""How long the dashboard may stay out of reach before this submitter gives up; its Job then starts another."""
RESULT_PATIENCE_S = 10.0
"""How long a result may take from the driver's node to this one: shared file systems cache what is not there."""
LOG_PATIENCE_S = 10.0
"""How long the last lines of the log may take once the job is over."""


class _Dashboard(JobSubmissionClient):
    """Ray's client, with the time limit that it lacks: a node that vanishes leaves its connections open for ever."""

    def _do_request(self, method: str, endpoint: str, **arguments: Any) -> Any:
        return super()._do_request(method, endpoint, timeout=REQUEST_TIMEOUT_S, **arguments)

    def find(self, submission_id: str) -> JobDetails | None:
        """The job of this id, or None where the cluster knows no such job."""
        jobs: list[JobDetails] = self.list_jobs()
        return next((job for job in jobs if job.submission_id == submission_id), None)


class _Log:
    """Prints a job's log as JSON lines, each line once, over however many connections that takes.

    Lines of ours are JSON already, behind Ray's prefix; what Ray and others print becomes a message.
    """

    def __init__(self) -> None:
        self._taken, self._line = 0, ""

    async def follow(self, client: _Dashboard, submission_id: str) -> None:
        position = 0
        # a broken connection is mended by the next call
        with contextlib.suppress(OSError, RuntimeError, aiohttp.ClientError):
            async for text in client.tail_job_logs(submission_id):
                self._line += text[max(0, self._taken - position) :]
                position += len(text)
                self._taken = max(self._taken, position)
                *whole, self._line = self._line.split("\n")
                for line in whole:
                    _print_line(line)

    def finish(self) -> None:
        """Prints what has come of a line that has no end."""
        _print_line(self._line)
        self._line = ""


def _print_line(line: str) -> None:
    bare = without_rays_words(line).rstrip()
    if bare.startswith("{") and bare.endswith("}"):
        print(bare, flush=True)
    elif bare:
        ray_log.info("%s", bare)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--config-dir", type=Path, default=Path(CONFIG_DIR), help="the attempt's ConfigMap")
    parser.add_argument("--mount-root", type=Path, default=Path(MOUNT_ROOT), help="where claims are mounted")
    parser.add_argument("--termination-log", type=Path, default=Path(TERMINATION_LOG), help="where the outcome is left")
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Submits what KubeRay's variables name."""
    try:
        address, submission_id = os.environ["RAY_DASHBOARD_ADDRESS"], os.environ["RAY_JOB_SUBMISSION_ID"]
    except KeyError as error:
        raise InputError(f"{error} is not set; KubeRay sets it in a RayJob's submitter pod") from None
    run = RunConfig.model_validate_json((arguments.config_dir / RUN_FILE).read_bytes())
    namespace, job = run_of(run.folder)
    log_as_json({"namespace": namespace, "job": job, "attempt": run.attempt}, sys.stdout)
    rays_own = logging.getLogger("ray")
    rays_own.handlers.clear()  # it writes text
    rays_own.propagate = True
    outcome = submit(address, submission_id, run, pod_folder(run, arguments.mount_root))
    if outcome is None:
        return 1
    arguments.termination_log.write_text(outcome.to_termination_message(), encoding="utf-8")
    return 0


def submit(dashboard_address: str, submission_id: str, run: RunConfig, folder: RunFolder) -> Outcome | None:
    """Runs TRAIN_COMMAND, or EVALUATE_ON_RAY_COMMAND, as a Ray job to its end, or finds the one that is running.

    Ray's client takes the cluster's token from RAY_AUTH_MODE and RAY_AUTH_TOKEN.

    Args:
        dashboard_address: HOST:PORT of Ray's dashboard.
        submission_id: the Ray job's id.
        run: the attempt.
        folder: where the trainer leaves its result.

    Returns:
        How the job ended, well or not; None when that could not be found out, so that another submitter should try.
    """
    address = dashboard_address if "://" in dashboard_address else f"http://{dashboard_address}"
    try:
        job = asyncio.run(_run_to_its_end(address, submission_id, _entrypoint(run)))
    except AuthenticationError as error:
        log.error("Ray refuses the token: %s", error)
        return None
    except TimeoutError as error:
        log.error("%s", error)
        return None
    left = folder.evaluation_outcome if run.phase == "evaluate" else folder.result
    outcome = _await_result(left, run.attempt)
    if outcome is None:
        tail = last_tail(folder) if run.phase == "train" else None
        outcome = outcome_without_result(job, run).model_copy(update={"log_tail": tail})
    return outcome


def _entrypoint(run: RunConfig) -> str:
    return EVALUATE_ON_RAY_COMMAND if run.phase == "evaluate" else TRAIN_COMMAND


async def _run_to_its_end(address: str, submission_id: str, entrypoint: str) -> JobDetails | None:
    """Submits the job unless it is there, and waits until it is over.

    Returns:
        The job as Ray knows it at its end; None where Ray has forgotten a job that was there.

    Raises:
        TimeoutError: the dashboard was out of reach for too long.
        AuthenticationError: the token is wrong.
    """
    printed = _Log()
    following: asyncio.Task[None] | None = None
    last_answer = time.monotonic()
    while True:
        try:
            client = await asyncio.to_thread(_Dashboard, address)
            job = await asyncio.to_thread(client.find, submission_id)
            over = job.status.is_terminal() if job else following is not None
            if job and (following is None or following.done()):
                following = asyncio.create_task(printed.follow(client, submission_id))
            if over:
                break
            if job is None:
                await asyncio.to_thread(client.submit_job, entrypoint=entrypoint, submission_id=submission_id)
            last_answer = time.monotonic()
        except (OSError, RuntimeError) as error:
            if time.monotonic() - last_answer > PATIENCE_S:
                raise TimeoutError(f"gave up after {PATIENCE_S:.0f} s: {error}") from None
            log.warning("%s; trying again", error)
        await asyncio.sleep(POLL_S)
    if following:
        await asyncio.wait({following}, timeout=LOG_PATIENCE_S)
        following.cancel()
    printed.finish()
    return job


def _await_result(path: Path, attempt: int) -> Outcome | None:
    """What the driver left in the run's folder, unless that is an earlier attempt's, or cannot be read."""
    deadline = time.monotonic() + RESULT_PATIENCE_S
    while True:
        outcome = read_result(path)
        if outcome is not None and outcome.attempt == attempt:
            return outcome
        if time.monotonic() > deadline:
            return None
        time.sleep(POLL_S / 4)


def outcome_without_result(job: JobDetails | None, run: RunConfig) -> Outcome:
    """What can be said of an attempt that left no result, from the end that Ray gives it.

    Args:
        job: the Ray job at its end; None where Ray has forgotten it.
        run: the attempt.
    """
    reason: Reason = "OutcomeUnknown"
    what = "evaluation" if run.phase == "evaluate" else "training"
    if job is None:
        reason, message = "WorkerLost", "the Ray head was restarted and has forgotten the job"
    elif job.error_type == "JOB_SUPERVISOR_ACTOR_DIED":
        reason, message = "WorkerLost", f"the node or the pod that ran the {what}'s driver went away"
    elif job.status == JobStatus.STOPPED:
        message = "the Ray job was stopped before it left a result"
    elif job.status == JobStatus.SUCCEEDED:
        message = f"the {what} ended well but left no result in {run.folder}; do all pods mount the same storage?"
    elif job.error_type == "JOB_ENTRYPOINT_COMMAND_ERROR":
        reason, message = _driver_end(job.driver_exit_code, _entrypoint(run))
    else:
        message = f"Ray could not start the {what}: {job.error_type or job.message or 'no reason given'}"
    return Outcome(reason=reason, message=message, attempt=run.attempt)


def _driver_end(code: int | None, entrypoint: str) -> tuple[Reason, str]:
    """Reason and message for a driver that failed with this exit code and left no result."""
    if code is not None and (code < 0 or code > 128):
        killer = -code if code < 0 else code - 128
        return "OutcomeUnknown", f"the driver was killed by signal {killer}; 9 is mostly the head pod's memory limit"
    return "InternalError", f"{entrypoint} ended with exit code {code} and no result; the head pod's log says more"
