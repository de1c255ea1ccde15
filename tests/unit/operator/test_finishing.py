"""After the training: the evaluation, the end, and what is left of it."""

from collections.abc import Callable
from typing import Any

import pytest

from tunesmith.api.outcome import EvaluationResult, Interval, MetricResult, Outcome

from .world import World, text

RESULT = EvaluationResult(
    rows=50, metrics=[MetricResult(name="exactMatch", tuned=Interval(value=0.9, low=0.8, high=1.0))]
)


def trained(**spec: Any) -> World:
    """A job that has trained and is being evaluated."""
    return World(evaluation={"metrics": ["exactMatch"]}, **spec).look().trains().tells("Succeeded").looks()


def evaluated(world: World, reason: str = "Succeeded", exit_code: int = 0) -> World:
    result = RESULT if reason == "Succeeded" else None
    outcome = Outcome.model_validate({"reason": reason, "message": "it says why"}).model_copy(
        update={"evaluation": result}
    )
    return world.ends("evaluation", outcome, exit_code)


def job_ends(world: World, condition: str) -> World:
    world.objects["Job", "tune-evaluation"]["status"] = {
        "conditions": [{"type": condition, "status": "True", "message": "so it is"}]
    }
    return world


def test_without_an_evaluation_a_trained_job_is_complete() -> None:
    artifacts = {"model": "pvc://runs/team/tune-01234567/model"}
    world = World().look().trains().look().tells("Succeeded", artifacts=artifacts).looks()
    assert world.condition("Complete") == ("True", "Succeeded")
    assert world.phase == "Succeeded"
    assert world.status.completion_time
    assert world.told == ["AttemptStarted", "Trained", "Complete"]
    assert world.status.artifacts is not None
    assert world.status.artifacts.to_dict() == artifacts | {"folder": "pvc://runs/team/tune-01234567"}


def test_what_the_curves_show_is_an_event_of_the_job() -> None:
    findings = ["Overfitting: the validation loss rose", "LossSpikes: the loss of 3 steps leapt"]
    world = World().look().trains().look().tells("Succeeded", findings=findings).looks()
    assert world.told == ["AttemptStarted", "Trained", "CurveShows", "CurveShows", "Complete"]
    assert world.phase == "Succeeded"


def test_the_evaluation_follows_and_completes_the_job() -> None:
    world = trained()
    assert world.created[-1] == "Job tune-evaluation"
    assert world.phase == "Evaluating"
    evaluated(world).looks()
    assert world.status.evaluation == RESULT
    assert world.phase == "Succeeded"
    assert world.told == ["AttemptStarted", "Trained", "Evaluated", "Complete"]


FAILURES: dict[str, tuple[Callable[[World], object], str, str]] = {
    "bad test data fails at once": (lambda w: evaluated(w, "InvalidInput"), "InvalidInput", "it says why"),
    "an evaluation that left nothing fails with its Job": (
        lambda w: job_ends(w, "Failed"),
        "EvaluationFailed",
        "kubectl logs job/tune-evaluation",
    ),
    "a Job that ended well without a result fails": (
        lambda w: job_ends(w, "Complete"),
        "EvaluationFailed",
        "left no result",
    ),
    "an evaluation that was killed for memory says what to do": (
        lambda w: job_ends(
            w.container("evaluation", state={"terminated": {"reason": "OOMKilled", "exitCode": 137}}), "Failed"
        ),
        "OutOfMemory",
        "lower evaluation.batchSize",
    ),
    "an image that cannot be pulled fails after its grace": (
        lambda w: w.waits("evaluation", "ImagePullBackOff", "gone").later(301),
        "ImagePullFailed",
        "gone",
    ),
    "the deadline holds for the evaluation too": (
        lambda w: w.spec(activeDeadlineSeconds=60).later(61),
        "DeadlineExceeded",
        "the trained model is kept",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_failures_of_the_evaluation(case: str) -> None:
    happens, reason, message = FAILURES[case]
    world = trained()
    happens(world)
    world.looks()
    assert world.condition("Failed") == ("True", reason)
    assert world.condition("Trained") == ("True", "Succeeded")
    assert message in world.message("Failed")
    assert "training succeeded" in world.message("Failed")
    still_there = ("Job", "tune-evaluation") in world.objects
    assert still_there == bool(reason in ("EvaluationFailed", "OutOfMemory")), "what still ran is freed, logs are kept"


def test_a_job_whose_evaluation_has_just_ended_is_left_alone() -> None:
    world = evaluated(trained()).looks().later(60).looks()
    assert world.deleted == [], "its logs may be wanted"


def test_a_failed_try_of_the_evaluation_is_left_to_its_job() -> None:
    world = evaluated(trained(), "InternalError", exit_code=1).looks()
    assert world.phase == "Evaluating"


def test_a_success_after_a_failed_try_counts() -> None:
    world = evaluated(trained(), "InternalError", exit_code=1).looks()
    world.objects["Pod", "evaluation-first"] = world.objects.pop(("Pod", "evaluation-1"))
    world.objects["Pod", "evaluation-first"]["metadata"]["name"] = "evaluation-first"
    evaluated(world).looks()
    assert world.phase == "Succeeded"


def test_an_evaluation_that_somebody_deleted_is_made_again() -> None:
    world = trained().loses("Job", "tune-evaluation").looks()
    assert world.created[-2:] == ["Job tune-evaluation", "Job tune-evaluation"]


def test_suspending_stops_the_evaluation_and_resuming_starts_it_again() -> None:
    world = trained().spec(suspend=True).looks()
    assert world.deleted == ["Job tune-evaluation"]
    assert world.phase == "Suspended"
    world.spec(suspend=False).looks()
    assert world.phase == "Evaluating"
    assert len(world.status.attempts) == 1


def test_a_pod_of_the_evaluation_that_waits_is_shown() -> None:
    world = trained().waits("evaluation", "ErrImagePull", "not found").looks()
    assert world.condition("Evaluated") == ("False", "ImagePullFailed")
    assert world.phase == "Evaluating"
    assert "not found" in (world.status.message or "")


@pytest.mark.parametrize("ends", ["Succeeded", "InvalidInput"])
def test_a_job_is_deleted_when_its_time_is_over(ends: str) -> None:
    world = World(ttlSecondsAfterFinished=60).look().tells(ends).looks().later(59).look()
    assert not world.plan.delete_itself
    assert world.plan.look_again == 1
    assert world.later(1).look().plan.delete_itself


def test_a_finished_job_is_left_in_peace() -> None:
    world = World().look().tells("Succeeded").looks()
    world.loses("RayJob", "tune-1").loses("ConfigMap", "tune-1").later(10_000)
    assert world.look().idle


def test_a_finished_job_stays_finished_whatever_is_edited() -> None:
    world = World().look().tells("InvalidInput").looks().spec(backoffLimit=7).looks()
    assert world.phase == "Failed"
    assert len(world.status.attempts) == 1


def test_what_still_runs_after_the_end_is_freed() -> None:
    world = World().look().trains().look()
    ray_job = dict(world.objects["RayJob", "tune-1"])
    world.ray(jobDeploymentStatus="ValidationFailed").looks()
    ray_job["status"] = {"jobDeploymentStatus": "Running", "startTime": text(world.now)}
    world.objects["RayJob", "tune-1"] = ray_job
    assert world.look().deleted == ["RayJob tune-1"]
