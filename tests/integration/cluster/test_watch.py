"""`tunesmith watch`: with the real operator, whose words it tells."""

import re

import pytest

from ..kube import Kube, eventually
from ..operator.ray import JOB, Ray, fine_tune_job, no_rows, out_of_memory_first
from ..operator.running import Operator
from .conftest import Start
from .gateway import Gateway
from .statuses import make_job, make_pipeline, progress, set_status

NAME = "tune"


def story(out: str) -> list[str]:
    """The lines without their times."""
    return [line.split("  ", 1)[1] for line in out.splitlines() if re.match(r"\d\d:\d\d:\d\d  ", line)]


def test_a_job_is_followed_to_its_good_end(
    kube: Kube, namespace: str, operator: Operator, start: Start, gateway: Gateway
) -> None:
    operator.start().wait_until_healthy()
    kube.create(fine_tune_job(NAME, namespace))
    watch = start("watch", NAME)
    watch.shows("attempt 1 runs as RayJob tune-1")
    gateway.cut()
    ray = Ray(kube, namespace, out_of_memory_first)

    def over() -> bool:
        ray.step()
        return bool(kube.get(*JOB, NAME, namespace)["status"].get("completionTime"))

    eventually(over, "the end", 60)
    assert watch.end() == 0
    told = story(watch.out)
    assert len(told) == len(set(told)), "nothing is told twice"
    expected = [
        "AttemptStarted  attempt 1 runs as RayJob tune-1",
        "AttemptFailed  attempt 1 ended with OutOfMemory: no room",
        "AttemptStarted  attempt 2 runs as RayJob tune-2, with microBatchSize 4",
        "Trained  attempt 2 trained the model",
        "Evaluated  on 10 rows",
        "Complete  the model is ready",
    ]
    assert [line for line in told if line in expected] == expected
    assert "perplexity" in watch.out
    assert "2.000 [1.500, 2.500]" in watch.out
    assert watch.err == ""


def test_a_job_that_fails_says_why(kube: Kube, namespace: str, operator: Operator, start: Start) -> None:
    operator.start().wait_until_healthy()
    kube.create(fine_tune_job(NAME, namespace))
    watch = start("watch", NAME)
    ray = Ray(kube, namespace, no_rows)

    def over() -> bool:
        ray.step()
        return bool(kube.get(*JOB, NAME, namespace).get("status", {}).get("completionTime"))

    eventually(over, "the end", 60)
    assert watch.end() == 1
    told = story(watch.out)
    assert len([line for line in told if "there are no rows" in line]) == 2, "the attempt's end, and the job's"
    assert watch.err.startswith("tune: InvalidInput: spec.dataset.train: there are no rows\n")
    assert f"its log: tunesmith logs tune -n {namespace}" in watch.err


@pytest.mark.parametrize("terminal", [False, True])
def test_progress(terminal: bool, kube: Kube, namespace: str, start: Start) -> None:
    make_job(kube, namespace, NAME, "Training", progress=progress(10, loss=0.9))
    watch = start("watch", NAME, terminal=terminal)
    watch.shows("step 10 of 1,000, loss 0.9000")
    set_status(kube, namespace, NAME, progress=progress(500, loss=0.5, tokensPerSecond=1234.5, remainingSeconds=90))
    watch.shows("step 500 of 1,000, loss 0.5000, 1,234 tokens/s, 1m30s left")
    kube.delete(*JOB, NAME, namespace)
    assert watch.end() == 1
    assert "tune: was deleted" in (watch.out if terminal else watch.err)


def test_a_pipeline_has_stages(kube: Kube, namespace: str, start: Start) -> None:
    stages = [
        {"name": "sft", "job": "adds-sft", "phase": "Succeeded", "message": "the model is ready"},
        {"name": "reward", "job": "adds-reward", "phase": "Training", "progress": progress(300, loss=0.6)},
    ]
    make_pipeline(kube, namespace, "adds", phase="Reward", stages=stages)
    watch = start("watch", "adds")
    watch.shows("reward 30%  step 300 of 1,000, loss 0.6000")
    assert "Stage sft  adds-sft Succeeded: the model is ready" in story(watch.out)
