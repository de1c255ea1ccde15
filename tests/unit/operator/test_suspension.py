"""Suspension, and the time that it does not cost."""

from .world import World


def test_suspending_frees_the_pods_and_does_not_count() -> None:
    world = World().look().trains().later(30).spec(suspend=True).looks()
    assert world.deleted == ["RayJob tune-1"]
    assert world.phase == "Suspended"
    assert (world.status.attempts[0].reason, world.status.attempts[0].counted) == ("Suspended", False)
    world.later(3600).looks()
    assert len(world.status.attempts) == 1
    world.spec(suspend=False).looks()
    assert [attempt.ray_job for attempt in world.status.attempts] == ["tune-1", "tune-2"]
    assert world.condition("Suspended") == ("False", "Resumed")
    assert world.phase == "Starting"


def test_a_job_that_is_suspended_from_the_start_has_no_children() -> None:
    world = World(suspend=True).looks()
    assert world.created == []
    assert world.phase == "Suspended"
    world.spec(suspend=False).looks()
    assert world.phase == "Starting"


def test_a_ray_job_that_no_status_knows_of_goes_when_the_job_is_suspended() -> None:
    world = World().look()
    del world.body["status"]
    world.spec(suspend=True).looks()
    assert world.deleted == ["RayJob tune-1"]


def test_an_outcome_counts_though_the_job_was_suspended_meanwhile() -> None:
    world = World().look().trains().look().tells("Succeeded").spec(suspend=True).looks()
    assert world.condition("Trained") == ("True", "Succeeded")


def test_time_in_the_queue_and_in_suspension_is_free() -> None:
    world = World(activeDeadlineSeconds=100)
    world.body["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "research"}
    world.look().later(1000).looks()
    assert world.phase == "Queued"
    world.objects["RayJob", "tune-1"]["spec"]["suspend"] = False
    world.trains().later(60).looks()
    assert world.phase == "Training"
    world.spec(suspend=True).looks().later(1000).spec(suspend=False).looks()
    world.objects["RayJob", "tune-2"]["spec"]["suspend"] = False
    world.trains().later(39).looks()
    assert world.phase == "Training"
    world.later(1).looks()
    assert world.condition("Failed") == ("True", "DeadlineExceeded")
    assert world.deleted == ["RayJob tune-1", "RayJob tune-2"]
