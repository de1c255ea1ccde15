"""`tunesmith submit` against a real Ray with token authentication."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.job_submission import JobDetails, JobStatus, JobType

from tests.unit.cli.submitter import RUN, RayHead, Submitter, proxy_to, wait_for
from tunesmith.api.outcome import Outcome
from tunesmith.cli.submit import _print_line, outcome_without_result

SUCCESS = Outcome(reason="Succeeded", attempt=RUN.attempt, step=7, metrics={"loss": 1.5})


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayHead]:
    """A head that the first test starts, after its submitter."""
    head = RayHead(tmp_path_factory.mktemp("ray"))
    yield head
    head.stop()


@pytest.mark.model
def test_a_submitter_that_comes_before_the_dashboard_waits_for_it_and_leaves_the_result(
    head: RayHead, tmp_path: Path
) -> None:
    submitter = Submitter(head, tmp_path)
    process = submitter.start()
    submitter.complained(process, "trying again")
    head.start()
    wait_for(lambda: head.starts() == 1, "the training")
    submitter.leave_result(SUCCESS)
    head.end_training(0)
    assert submitter.finish(process) == (0, ["step 1", "step 2"])
    assert submitter.outcome() == SUCCESS


@pytest.mark.model
def test_a_second_submitter_finds_the_job_of_the_first_which_was_killed(head: RayHead, tmp_path: Path) -> None:
    head.start()
    submitter = Submitter(head, tmp_path)
    first = submitter.start()
    submitter.printed(first, "step 1")
    first.kill()
    first.communicate()
    second = submitter.start()
    submitter.printed(second, "step 1")
    submitter.leave_result(SUCCESS)
    head.end_training(0)
    assert submitter.finish(second) == (0, ["step 2"])
    assert (submitter.outcome(), head.starts()) == (SUCCESS, 1)


@pytest.mark.model
def test_an_evaluation_is_submitted_and_its_own_outcome_taken(head: RayHead, tmp_path: Path) -> None:
    head.start()
    submitter = Submitter(head, tmp_path, RUN.model_copy(update={"phase": "evaluate"}))
    process = submitter.start()
    wait_for(lambda: head.starts() == 1, "the evaluation")
    submitter.leave_result(SUCCESS.model_copy(update={"message": "of the training"}))
    submitter.leave_result(SUCCESS, "evaluation/outcome.json")
    head.end_training(0)
    assert submitter.finish(process)[0] == 0
    assert (submitter.outcome(), head.commands()) == (SUCCESS, ["evaluate --ray"])


@pytest.mark.model
def test_a_broken_connection_neither_ends_the_job_nor_repeats_its_log(head: RayHead, tmp_path: Path) -> None:
    head.start()
    submitter = Submitter(head, tmp_path)
    with proxy_to(head.port) as proxy:
        process = submitter.start(port=proxy.port)
        submitter.printed(process, "step 1")
        proxy.cut()
        submitter.complained(process, "trying again")
        proxy.mend()
        submitter.leave_result(SUCCESS)
        head.end_training(0)
        assert submitter.finish(process) == (0, ["step 2"])
    assert (submitter.outcome(), head.starts()) == (SUCCESS, 1)


@pytest.mark.model
def test_a_driver_that_dies_without_a_result_is_told_from_one_that_left_its_reason(
    head: RayHead, tmp_path: Path
) -> None:
    head.start()
    submitter = Submitter(head, tmp_path)
    submitter.leave_result(SUCCESS.model_copy(update={"attempt": 1}))  # of the attempt before
    process = submitter.start()
    wait_for(lambda: head.starts() == 1, "the training")
    log = submitter.run_folder / "logs" / "worker-0.log"
    log.parent.mkdir()
    log.write_text("the last it said\n")
    head.end_training(3)
    assert submitter.finish(process)[0] == 0
    outcome = submitter.outcome()
    assert outcome is not None
    assert (outcome.reason, outcome.attempt) == ("InternalError", 2)
    assert "exit code 3" in outcome.message
    assert outcome.log_tail == "the last it said", "which outlives the pods in the run's folder"


@pytest.mark.model
@pytest.mark.parametrize(
    ("mistake", "said"),
    [({"token": "x" * 40}, "Ray refuses the token"), ({"port": 9, "patience": 1}, "gave up after 1 s")],
    ids=["a wrong token", "a dashboard that never comes"],
)
def test_a_submitter_that_cannot_find_out_fails_and_leaves_nothing(
    head: RayHead, tmp_path: Path, mistake: dict[str, object], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    head.start()
    submitter = Submitter(head, tmp_path)
    code, _ = submitter.finish(submitter.start(**mistake))  # type: ignore[arg-type]  # a table
    assert (code, submitter.outcome(), head.starts()) == (1, None, 0)
    assert said in capfd.readouterr().err


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ('{"message": "loss"}', '{"message": "loss"}'),
        ('(RayTrainWorker pid=12, ip=10.0.0.1) {"message": "loss"}', '{"message": "loss"}'),
        ('\x1b[36m(RayTrainWorker pid=12)\x1b[0m {"message": "loss"}', '{"message": "loss"}'),
        ("(raylet) a pod has little memory", "(raylet) a pod has little memory"),
        ("{not whole", "{not whole"),
        ("", None),
    ],
)
def test_every_line_of_the_ray_job_becomes_a_json_line(
    line: str, printed: str | None, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        _print_line(line)
    seen = [out for out in capsys.readouterr().out.splitlines() if out] + caplog.messages
    assert seen == ([] if printed is None else [printed])


def _job(status: str, error: str | None = None, code: int | None = None) -> JobDetails:
    return JobDetails(
        type=JobType.SUBMISSION,
        entrypoint="tunesmith train",
        status=JobStatus(status),
        error_type=error,
        driver_exit_code=code,
    )


@pytest.mark.parametrize(
    ("job", "reason", "says"),
    [
        pytest.param(None, "WorkerLost", "head was restarted", id="the head has forgotten the job"),
        pytest.param(_job("SUCCEEDED"), "OutcomeUnknown", "pvc://runs/team/job-0a1b2c3d", id="no shared storage"),
        pytest.param(_job("STOPPED"), "OutcomeUnknown", "was stopped", id="somebody stopped it"),
        pytest.param(
            _job("FAILED", "JOB_SUPERVISOR_ACTOR_DIED"), "WorkerLost", "went away", id="the driver's node died"
        ),
        pytest.param(_job("FAILED", "JOB_ENTRYPOINT_COMMAND_ERROR", 1), "InternalError", "exit code 1", id="a crash"),
        pytest.param(_job("FAILED", "JOB_ENTRYPOINT_COMMAND_ERROR", 137), "OutcomeUnknown", "signal 9", id="a kill"),
        pytest.param(_job("FAILED", "JOB_ENTRYPOINT_COMMAND_ERROR", -11), "OutcomeUnknown", "signal 11", id="a fault"),
        pytest.param(
            _job("FAILED", "RUNTIME_ENV_SETUP_FAILURE"),
            "OutcomeUnknown",
            "RUNTIME_ENV_SETUP_FAILURE",
            id="it never started",
        ),
    ],
)
def test_without_a_result_the_outcome_is_what_ray_says(job: JobDetails | None, reason: str, says: str) -> None:
    outcome = outcome_without_result(job, RUN)
    assert (outcome.reason, outcome.attempt) == (reason, RUN.attempt)
    assert says in outcome.message
