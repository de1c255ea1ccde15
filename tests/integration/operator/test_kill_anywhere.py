"""The operator is killed after each of its writes: the next one finishes the story the same way."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from ..kube import Kube, Object, eventually
from .proxy import Proxy
from .ray import (
    JOB,
    RAY,
    Ray,
    children,
    evaluation_alone,
    fine_tune_job,
    lost_once_then_a_failed_gate,
    out_of_memory_first,
    run_config,
    succeeded,
    told,
)
from .receiver import Receiver
from .running import Operator

NAME = "tune"
LONGEST = 40.0
PATIENT = {"outcome_grace_seconds": "20"}
"""After a start the watch of pods may be well behind that of RayJobs."""


def play(kube: Kube, namespace: str, ray: Ray, until: Callable[[Object], object], name: str = NAME) -> Object:
    """Plays Ray until the job is as it should be; returns it."""
    end = time.monotonic() + LONGEST
    while True:
        job = kube.get(*JOB, name, namespace)
        if until(job):
            return job
        assert time.monotonic() < end, f"it stands still at {job.get('status')}"
        ray.step()
        time.sleep(0.03)


def phase(job: Object) -> str:
    return str(job.get("status", {}).get("phase", ""))


def is_over(job: Object) -> bool:
    return phase(job) in ("Succeeded", "Failed")


def is_told(job: Object) -> bool:
    """Whether it is over, and all who are to hear of it have been tried."""
    lines = job.get("status", {}).get("notifications", [])
    return is_over(job) and all(line["state"] != "Pending" for line in lines)


def timeless(value: Any) -> Any:
    """A status without what differs from run to run."""
    times = ("startTime", "endTime", "completionTime", "lastTransitionTime", "lastTryTime", "activeSeconds")
    changing = (*times, "folder", "event")
    if isinstance(value, dict):
        return {name: timeless(each) for name, each in value.items() if name not in changing}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def story(kube: Kube, namespace: str, ray: Ray, second: str = f"{NAME}-2") -> dict[str, Any]:
    """Runs one job to its end; returns all that is left of it.

    Args:
        second: the ConfigMap of the second attempt, or of the second try of the evaluation.
    """
    job = play(kube, namespace, ray, is_told)
    uid = job["metadata"]["uid"]
    left = {
        "status": timeless(job["status"]),
        "children": children(kube, namespace, uid),
        "events": told(kube, namespace, NAME),
        "second attempt": run_config(kube, namespace, second)["overrides"],
    }
    kube.delete(*JOB, NAME, namespace)
    eventually(lambda: not any(children(kube, namespace, uid).values()), "the garbage collector")
    for event in kube.list("v1", "Event", namespace):
        kube.delete("v1", "Event", event["metadata"]["name"], namespace)
    return left


def test_every_write_may_be_the_last(
    kube: Kube, namespace: str, operator: Operator, proxy: Proxy, receiver: Receiver
) -> None:
    """One job: an attempt that runs out of memory, one that succeeds, an evaluation, a message about the end."""
    ray = Ray(kube, namespace, out_of_memory_first)
    (operator.webhooks / "team").write_text(receiver.url)
    told_to = {"notifications": [{"webhook": "team", "format": "cloudEvents"}]}
    operator.start(**PATIENT).wait_until_healthy()
    kube.create(fine_tune_job(NAME, namespace, **told_to))
    undisturbed = story(kube, namespace, ray)
    assert undisturbed["status"]["phase"] == "Succeeded"
    assert [attempt["reason"] for attempt in undisturbed["status"]["attempts"]] == ["OutOfMemory", "Succeeded"]
    assert undisturbed["second attempt"]["microBatchSize"] == 4
    assert [(line["state"], line["tries"]) for line in undisturbed["status"]["notifications"]] == [("Delivered", 1)]

    def again() -> dict[str, Any]:
        receiver.got.clear()
        uid = kube.create(fine_tune_job(NAME, namespace, **told_to))["metadata"]["uid"]
        run_to_its_end(kube, namespace, operator, ray)
        assert len(receiver.got) in (1, 2), "at least once, and once more only where nobody knew of it"
        assert len({event["id"] for event in receiver.bodies()}) == 1
        assert {event["data"]["uid"] for event in receiver.bodies()} == {uid}
        return story(kube, namespace, ray)

    assert writes_survived(operator, proxy, again, undisturbed) > 12, proxy.writes


def test_every_write_of_an_evaluation_alone_may_be_the_last(
    kube: Kube, namespace: str, operator: Operator, proxy: Proxy
) -> None:
    """Two workers that are lost once, and a gate that is not met."""
    ray, second = Ray(kube, namespace, lost_once_then_a_failed_gate), f"{NAME}-evaluation-2"
    operator.start(**PATIENT).wait_until_healthy()

    def again() -> dict[str, Any]:
        kube.create(evaluation_alone(NAME, namespace, workers=2))
        run_to_its_end(kube, namespace, operator, ray)
        return story(kube, namespace, ray, second)

    undisturbed = again()
    status = undisturbed["status"]
    assert (status["phase"], status["evaluationRetries"]) == ("Failed", 1)
    assert "perplexity is 2, but should be at most 1" in status["message"]
    assert status["evaluation"]["metrics"][0]["tuned"]["value"] == 2
    assert undisturbed["events"] == ["EvaluationLost", "EvaluationStarted", "Failed", "GateFailed"]
    assert writes_survived(operator, proxy, again, undisturbed) > 8, proxy.writes


def writes_survived(operator: Operator, proxy: Proxy, again: Callable[[], Any], undisturbed: Any) -> int:
    """Tells the story again and again, each time killing the operator one write later; returns how many there are."""
    for number in itertools.count(1):
        proxy.writes.clear()
        killed = kill_after(number, operator, proxy)
        assert again() == undisturbed, f"killed after write {number}: {proxy.writes}"
        if not killed.is_set():
            break  # the story has fewer writes
    return number


def run_to_its_end(kube: Kube, namespace: str, operator: Operator, ray: Ray) -> None:
    """Plays Ray until the job has ended, starting the operator again whenever it was killed."""
    for _ in revivals(operator):
        if is_told(kube.get(*JOB, NAME, namespace)):
            return
        ray.step()


def kill_after(number: int, operator: Operator, proxy: Proxy) -> threading.Event:
    """Kills the operator once, after so many writes; it does not hear of the last one."""
    killed = threading.Event()

    def on_write(done: int) -> None:
        if done == number and not killed.is_set():
            operator.kill()
            killed.set()

    proxy.on_write = on_write
    return killed


def revivals(operator: Operator) -> Iterator[None]:
    """Starts the operator again whenever it was killed, until the story is over."""
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        if not operator.alive:
            operator.start(**PATIENT)
        yield
        time.sleep(0.03)
    raise AssertionError("it stands still")


def test_a_lost_ray_job_is_a_lost_attempt(kube: Kube, namespace: str, operator: Operator) -> None:
    operator.start(**PATIENT)
    kube.create(fine_tune_job(NAME, namespace))
    play(kube, namespace, Ray(kube, namespace, stops_before="training"), lambda job: phase(job) == "Starting")
    kube.delete(*RAY, f"{NAME}-1", namespace)
    trains = Ray(kube, namespace, stops_before="the outcome")
    play(kube, namespace, trains, lambda job: phase(job) == "Training" and len(job["status"]["attempts"]) == 2)
    kube.delete(*RAY, f"{NAME}-2", namespace)
    job = play(kube, namespace, Ray(kube, namespace), is_over)
    assert phase(job) == "Succeeded"
    reasons = [(attempt["reason"], attempt["counted"]) for attempt in job["status"]["attempts"]]
    assert reasons == [("RayJobDeleted", False), ("RayJobDeleted", False), ("Succeeded", False)]
    assert children(kube, namespace, job["metadata"]["uid"])["RayJob"] == [f"{NAME}-3"]


def test_other_children_are_made_again(kube: Kube, namespace: str, operator: Operator) -> None:
    operator.start(**PATIENT)
    kube.create(fine_tune_job(NAME, namespace))
    trains = Ray(kube, namespace, stops_before="the outcome")
    play(kube, namespace, trains, lambda job: phase(job) == "Training")
    made_again(kube, namespace, "v1", "ConfigMap", f"{NAME}-1")
    trained = Ray(kube, namespace, stops_before="the evaluation")
    play(kube, namespace, trained, lambda job: phase(job) == "Evaluating")
    made_again(kube, namespace, "batch/v1", "Job", f"{NAME}-evaluation")
    job = play(kube, namespace, Ray(kube, namespace), is_over)
    assert phase(job) == "Succeeded"
    assert len(job["status"]["attempts"]) == 1


def made_again(kube: Kube, namespace: str, api: str, kind: str, name: str) -> None:
    """Deletes an object and waits for its successor."""
    before = kube.get(api, kind, name, namespace)["metadata"]["uid"]
    kube.delete(api, kind, name, namespace)

    def successor() -> bool:
        found = kube.find(api, kind, name, namespace)
        return found is not None and found["metadata"]["uid"] != before

    eventually(successor, f"another {name}")


def test_a_job_that_is_made_again_starts_afresh(kube: Kube, namespace: str, operator: Operator) -> None:
    operator.start(**PATIENT)
    former = kube.create(fine_tune_job(NAME, namespace))
    ray = Ray(kube, namespace, out_of_memory_first)
    play(kube, namespace, ray, lambda job: len(job.get("status", {}).get("attempts", [])) == 2)
    kube.delete(*JOB, NAME, namespace)
    job = kube.create(fine_tune_job(NAME, namespace))
    done = play(kube, namespace, Ray(kube, namespace, succeeded), is_over)
    assert [attempt["number"] for attempt in done["status"]["attempts"]] == [1]
    assert done["status"]["artifacts"]["folder"].endswith(f"{NAME}-{job['metadata']['uid'][:8]}")
    assert children(kube, namespace, job["metadata"]["uid"])["RayJob"] == [f"{NAME}-1"]
    eventually(lambda: not any(children(kube, namespace, former["metadata"]["uid"]).values()), "the former's children")
