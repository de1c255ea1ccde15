"""What is said of an attempt that Ray Train gave up."""

from ray.exceptions import OutOfMemoryError
from ray.train import ControllerError

from tunesmith.launch.workers import why_given_up


def test_a_pod_that_ran_out_of_memory() -> None:
    """Ray Train's own message is one line that says nothing."""
    said = "2 worker(s) were killed due to the node running low on memory."
    cause = OutOfMemoryError(said)  # type: ignore[no-untyped-call]
    outcome = why_given_up(ControllerError(cause), 2)
    assert (outcome.reason, outcome.attempt) == ("OutOfMemory", 2)
    assert "raise scaling.resources.memory" in outcome.message


def test_anything_else_is_a_lost_worker() -> None:
    outcome = why_given_up(ControllerError(RuntimeError("the node went away")), 1)
    assert outcome.reason == "WorkerLost"
