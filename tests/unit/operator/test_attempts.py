"""How attempts end, and what follows."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tunesmith.api.status import Progress

from .world import START, World, text

Story = Callable[[World], object]
"""What happens to an attempt that runs."""


def killed_for_memory(world: World, component: str = "head") -> World:
    return world.container(component, state={}, lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}})


ENDINGS: dict[str, tuple[Story, str, str]] = {
    "bad input fails at once": (lambda w: w.tells("InvalidInput"), "InvalidInput", ""),
    "a full disk fails at once": (lambda w: w.tells("StorageFull"), "StorageFull", ""),
    "out of GPU memory halves the micro-batch": (lambda w: w.tells("OutOfMemory"), "OutOfMemory", "counted"),
    "a pod killed for memory halves the micro-batch": (killed_for_memory, "OutOfMemory", "counted"),
    "a lost worker that was killed for memory is out of memory": (
        lambda w: killed_for_memory(w).tells("WorkerLost"),
        "OutOfMemory",
        "counted",
    ),
    "a diverged loss is tried with a lower rate": (lambda w: w.tells("LossDiverged"), "LossDiverged", "counted"),
    "a lost worker does not count": (lambda w: w.tells("WorkerLost"), "WorkerLost", "free"),
    "an interruption does not count": (lambda w: w.tells("Interrupted"), "Interrupted", "free"),
    "a defect counts": (lambda w: w.tells("InternalError"), "InternalError", "counted"),
    "a RayJob that somebody deleted is a lost attempt": (
        lambda w: w.loses("RayJob", "tune-1"),
        "RayJobDeleted",
        "free",
    ),
    "a RayJob that fails without an outcome is tried again": (
        lambda w: w.ray(jobDeploymentStatus="Failed", reason="SubmissionFailed", endTime=text(START)).later(60),
        "OutcomeUnknown",
        "counted",
    ),
    "an evicted pod explains a missing outcome": (
        lambda w: (
            w.pod("head", conditions=[{"type": "DisruptionTarget", "status": "True", "message": "evicted"}])
            .ray(jobDeploymentStatus="Failed", endTime=text(START))
            .later(60)
        ),
        "WorkerLost",
        "free",
    ),
    "a message that is no outcome is no outcome": (
        lambda w: (
            w.container("submitter", state={"terminated": {"exitCode": 0, "message": "Killed"}})
            .ray(jobDeploymentStatus="Complete", endTime=text(START))
            .later(60)
        ),
        "OutcomeUnknown",
        "counted",
    ),
    "a RayJob that KubeRay refuses fails at once": (
        lambda w: w.ray(jobDeploymentStatus="ValidationFailed", message="no"),
        "RayJobRejected",
        "",
    ),
    "an image that cannot be pulled fails after its grace": (
        lambda w: w.waits("head", "ImagePullBackOff", "not found").later(301),
        "ImagePullFailed",
        "",
    ),
    "an image name that is none fails at once": (lambda w: w.waits("head", "InvalidImageName"), "InvalidImageName", ""),
    "a Secret that is missing fails after its grace": (
        lambda w: w.waits("worker", "CreateContainerConfigError", 'secret "s" not found').later(301),
        "MissingReference",
        "",
    ),
    "a job that runs too long fails": (
        lambda w: w.spec(activeDeadlineSeconds=100).later(101),
        "DeadlineExceeded",
        "",
    ),
}


@pytest.mark.parametrize("case", ENDINGS)
def test_endings(case: str) -> None:
    happens, reason, follows = ENDINGS[case]
    world = World().look().trains().look()
    happens(world)
    world.looks()
    first = world.status.attempts[0]
    assert first.reason == reason
    assert first.end_time
    assert first.counted == (follows != "free")
    assert "AttemptFailed" in world.told
    if follows:
        assert world.phase != "Failed"
        world.releases().later(600).looks()
        assert [attempt.ray_job for attempt in world.status.attempts] == ["tune-1", "tune-2"]
        assert world.status.attempts[1].end_time is None
    else:
        assert world.condition("Failed") == ("True", reason)
        assert world.status.completion_time
        world.releases().later(600).looks()
        assert len(world.status.attempts) == 1


WAITS: dict[str, tuple[Story, str, str]] = {
    "an image that cannot be pulled is shown at once": (
        lambda w: w.waits("head", "ErrImagePull", "not found"),
        "ImagePullFailed",
        "spec.runtime.image",
    ),
    "a missing Secret is shown at once": (
        lambda w: w.waits("worker", "CreateContainerConfigError", 'secret "s" not found'),
        "MissingReference",
        'secret "s" not found. Create what is missing',
    ),
    "a pod that no node takes is shown, however long it takes": (
        lambda w: w.pod(
            "worker",
            phase="Pending",
            conditions=[
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes fit."}
            ],
        ).later(86400),
        "Unschedulable",
        "0/1 nodes fit. Ask for less",
    ),
    "a pod that KubeRay cannot make is shown": (
        lambda w: w.ray(
            rayClusterStatus={
                "conditions": [{"type": "ReplicaFailure", "status": "True", "message": "no service account"}]
            }
        ),
        "PodsRefused",
        "no service account",
    ),
    "a RayJob that ended without an outcome is given a moment": (
        lambda w: w.ray(jobDeploymentStatus="Failed", endTime=text(START)).later(5),
        "Ending",
        "waits for the outcome",
    ),
}


@pytest.mark.parametrize("case", WAITS)
def test_waits(case: str) -> None:
    happens, reason, message = WAITS[case]
    world = World().look()
    happens(world)
    world.looks()
    assert world.condition("Running") == ("False", reason)
    assert message in world.message("Running")
    assert world.phase == "Starting"
    assert world.status.attempts[0].end_time is None


def test_a_pod_that_goes_is_no_trouble() -> None:
    world = World().look().waits("head", "ErrImagePull", "not found")
    world.objects["Pod", "head-1"]["metadata"]["deletionTimestamp"] = text(world.now)
    assert world.looks().condition("Running") == ("False", "Starting")


def test_an_eviction_is_remembered_when_the_pod_is_gone() -> None:
    world = World().look().trains()
    world.pod("head", conditions=[{"type": "DisruptionTarget", "status": "True", "message": "evicted"}]).looks()
    assert "PodDisrupted" in world.told
    world.releases().looks()
    world.ray(jobDeploymentStatus="Failed", endTime=text(world.now)).later(60).looks()
    assert world.status.attempts[0].reason == "WorkerLost"


def test_the_same_trouble_in_other_words_is_not_written_again() -> None:
    world = World().look().waits("head", "ErrImagePull", "not found").looks()
    told = len(world.events)
    world.waits("head", "ImagePullBackOff", "Back-off pulling image").look()
    assert world.idle
    assert len(world.events) == told


def test_the_micro_batch_is_halved_until_it_is_one() -> None:
    world = World(training={"microBatchSize": 4, "batchSize": 8}).look()
    sizes = []
    while world.phase != "Failed":
        sizes.append(world.status.attempts[-1].overrides.micro_batch_size)
        world.trains().tells("OutOfMemory").looks()
    assert sizes == [None, 2, 1]
    third = json.loads(world.objects["ConfigMap", "tune-3"]["data"]["run.json"])
    assert third["overrides"]["microBatchSize"] == 1
    assert [(past["number"], past["reason"]) for past in third["past"]] == [(1, "OutOfMemory"), (2, "OutOfMemory")]
    assert third["past"][1]["overrides"]["microBatchSize"] == 2
    assert "raise scaling.resources" in world.message("Failed")


def test_a_loss_that_diverges_again_fails() -> None:
    world = World().look().tells("LossDiverged").looks()
    assert world.status.attempts[1].overrides.learning_rate_scale == 0.5
    world.tells("LossDiverged").looks()
    assert world.condition("Failed") == ("True", "LossDiverged")


@pytest.mark.parametrize("limit", [0, 2])
def test_counted_failures_are_limited(limit: int) -> None:
    world = World(backoffLimit=limit).look()
    for _ in range(limit + 1):
        world.tells("InternalError").looks().later(600).looks()
    assert len(world.status.attempts) == limit + 1
    assert world.condition("Failed") == ("True", "BackoffLimitExceeded")


def test_interruptions_are_limited_too() -> None:
    world = World(backoffLimit=0).look()
    for _ in range(30):
        if world.phase != "Failed":
            world.tells("WorkerLost").looks().later(600).looks()
    assert len(world.status.attempts) == 21
    assert world.condition("Failed") == ("True", "TooManyInterruptions")


def test_an_attempt_that_changes_nothing_waits_longer_each_time() -> None:
    world = World(backoffLimit=10).look()
    delays = []
    for _ in range(7):
        world.tells("InternalError").looks()
        assert world.condition("Running") == ("False", "Retrying")
        delays.append(world.plan.look_again)
        world.later(delays[-1] or 0).looks()
    assert delays == [10, 20, 40, 80, 160, 300, 300]


def test_the_next_attempt_waits_until_the_pods_of_the_last_are_gone() -> None:
    world = World().look().pod("worker").trains().tells("OutOfMemory").looks()
    assert world.condition("Running") == ("False", "Releasing")
    assert "pod worker-1" in world.message("Running")
    assert len(world.status.attempts) == 1
    world.loses("Pod", "worker-1").looks()
    assert len(world.status.attempts) == 2


def test_a_pod_on_a_lost_node_does_not_hold_up_the_next_attempt() -> None:
    world = World().look().pod("worker").trains().tells("OutOfMemory").looks()
    world.objects["Pod", "worker-1"]["metadata"]["deletionTimestamp"] = text(world.now)
    world.later(61).looks()
    assert len(world.status.attempts) == 2


def test_a_ray_job_in_deletion_is_lost_but_its_end_is_waited_for() -> None:
    world = World().look().trains().look()
    world.objects["RayJob", "tune-1"]["metadata"]["deletionTimestamp"] = text(world.now)
    world.looks().later(60).looks()
    assert world.status.attempts[0].reason == "RayJobDeleted"
    assert len(world.status.attempts) == 1
    world.loses("RayJob", "tune-1").looks()
    assert len(world.status.attempts) == 2


def test_a_running_attempt_that_failed_for_memory_is_ended() -> None:
    world = World().look().trains().look()
    killed_for_memory(world).looks()
    assert world.deleted == ["RayJob tune-1"]


def test_a_ray_job_whose_submitter_knows_the_end_is_left_to_kuberay() -> None:
    world = World().look().trains().look()
    world.tells("OutOfMemory").ray(jobDeploymentStatus="Running").looks()
    assert world.status.attempts[0].reason == "OutOfMemory"
    assert world.deleted == []
    assert world.condition("Running") == ("False", "Releasing")


def test_a_lost_config_map_of_a_running_attempt_is_made_again() -> None:
    world = World().look().trains().look()
    made = world.objects["ConfigMap", "tune-1"]["data"]
    world.loses("ConfigMap", "tune-1").looks()
    assert world.objects["ConfigMap", "tune-1"]["data"] == made


def test_progress_is_shown_and_kept() -> None:
    world = World().look().trains().pod("head").look()
    assert world.plan.poll == ("10.0.0.1",)
    world.progress = Progress(step=5, total_steps=10, percentage=50, loss=1.5)
    world.look()
    assert world.status.progress == world.progress
    metrics = {"loss": 1.0, "validation/loss": 2.0, "tokens_per_second": 3.0}
    world.tells("Succeeded", step=10, totalSteps=10, metrics=metrics).looks()
    last = world.status.progress
    assert last is not None
    assert (last.step, last.percentage, last.loss, last.validation_loss) == (10, 100, 1.0, 2.0)


def test_a_spec_that_changed_under_a_running_attempt_is_reported() -> None:
    world = World().look().trains().spec(training={"learningRate": 0.1}).looks()
    assert world.condition("Validated") == ("False", "SpecChanged")
    assert "spec.training changed after the start" in world.message("Validated")
    world.tells("WorkerLost").looks()
    assert world.condition("Failed") == ("True", "SpecChanged")


def test_a_default_that_is_written_out_is_no_change() -> None:
    world = World().look().trains()
    world.spec(training={"learningRate": 2e-4, "seed": 0}).looks()
    assert world.condition("Validated") == ("True", "Valid")


def test_of_many_attempts_suspended_ones_are_forgotten_first() -> None:
    world = World().look().tells("WorkerLost").looks().later(60).looks()
    for _ in range(105):
        world.spec(suspend=True).looks().spec(suspend=False).looks()
    kept = world.status.attempts
    assert len(kept) == 100
    assert kept[0].reason == "WorkerLost"
    assert kept[-1].number == 107


@pytest.mark.parametrize(("workers", "component"), [(1, "head"), (2, "worker")])
def test_progress_is_asked_of_the_pods_that_train(workers: int, component: str) -> None:
    world = World(scaling={"workers": workers}).look().trains()
    world.pod("head", podIP="10.0.0.1").pod("worker", podIP="10.0.0.2").look()
    assert world.plan.poll == (world.objects["Pod", f"{component}-1"]["status"]["podIP"],)


def test_the_plan_is_the_same_for_the_same_observation() -> None:
    def plan(**spec: Any) -> object:
        return World(**spec).look().trains().look().tells("OutOfMemory").look().plan

    assert plan() == plan()


def test_a_spec_that_a_new_release_refuses_does_not_end_what_runs() -> None:
    world = World().look().trains().looks().spec(training={"epochs": 1, "maxSteps": 5}).looks()
    assert world.condition("Validated") == ("False", "InvalidSpec")
    assert world.phase == "Training"
    assert world.deleted == []


def test_a_failed_attempt_keeps_the_end_of_its_log() -> None:
    world = World(backoffLimit=9).looks()
    for number in range(5):
        world.trains().looks().tells("InternalError", log_tail=f"line {number}").releases().looks().later(600).looks()
    kept = [attempt.log_tail for attempt in world.status.attempts]
    assert kept == [None, None, "line 2", "line 3", "line 4", None], "a status has room for the last few"
    world.trains().looks().tells("InternalError", log_tail=f"{'x' * 3000}end").looks()
    assert world.status.attempts[5].log_tail == f"{'x' * 1021}end", "somebody's own image left more"
