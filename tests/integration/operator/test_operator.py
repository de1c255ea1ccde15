"""The operator as a user meets it: conditions that say what to do, suspending, deleting, what it serves and writes."""

import http.server
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.tools.build import build
from tunesmith import __version__
from tunesmith.api.pod import METRICS_PORT

from ..kube import Kube, Object, eventually
from .proxy import Proxy
from .ray import JOB, RAY, Ray, children, claim, fine_tune_job, told
from .running import Operator

NAME = "tune"


def condition(kube: Kube, namespace: str, kind: str, name: str = NAME) -> Object:
    conditions = kube.get(*JOB, name, namespace).get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind), {})


def reason(kube: Kube, namespace: str, kind: str, name: str = NAME) -> str:
    return str(condition(kube, namespace, kind, name).get("reason"))


def phase(kube: Kube, namespace: str, name: str = NAME) -> str:
    return str(kube.get(*JOB, name, namespace).get("status", {}).get("phase"))


def is_running(kube: Kube, namespace: str, name: str) -> bool:
    return kube.find(*RAY, name, namespace) is not None


def test_a_missing_claim_is_named_and_waited_for(kube: Kube, namespace: str, operator: Operator) -> None:
    operator.start()
    storage = {"persistentVolumeClaim": {"claimName": "later"}}
    kube.create(fine_tune_job(NAME, namespace, storage=storage))
    eventually(lambda: reason(kube, namespace, "Validated") == "MissingPersistentVolumeClaim", "the condition")
    assert "create it" in condition(kube, namespace, "Validated")["message"]
    kube.create(claim(namespace, "later"))
    eventually(lambda: is_running(kube, namespace, "tune-1"), "the RayJob")


def test_a_job_waits_for_the_job_whose_model_it_starts_from(kube: Kube, namespace: str, operator: Operator) -> None:
    operator.start()
    kube.create(fine_tune_job("second", namespace, model={"source": "job://first"}))
    eventually(lambda: reason(kube, namespace, "Validated", "second") == "WaitingForJob", "the condition")
    assert "not there" in condition(kube, namespace, "Validated", "second")["message"]
    first = kube.create(fine_tune_job("first", namespace))
    ray = Ray(kube, namespace)

    def started() -> bool:
        ray.step()
        return is_running(kube, namespace, "second-1")

    eventually(started, "the second job's RayJob")
    assert phase(kube, namespace, "first") == "Succeeded"
    job = json.loads(kube.get("v1", "ConfigMap", "second-1", namespace)["data"]["job.json"])
    assert job["spec"]["model"]["source"] == f"pvc://runs/{namespace}/first-{first['metadata']['uid'][:8]}/model"


@pytest.mark.parametrize("kind", ["ConfigMap", "RayJob"])
def test_somebody_elses_object_is_left_alone(kind: str, kube: Kube, namespace: str, operator: Operator) -> None:
    head = {"spec": {"containers": [{"name": "ray", "image": "example.test/ray:1"}]}}
    spec = {"entrypoint": "true", "rayClusterSpec": {"headGroupSpec": {"rayStartParams": {}, "template": head}}}
    meta = {"name": "tune-1", "namespace": namespace}
    others = {
        "ConfigMap": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"mine": "yes"}},
        "RayJob": {"apiVersion": RAY[0], "kind": RAY[1], "metadata": meta, "spec": spec},
    }
    theirs = kube.create(others[kind])
    operator.start()
    kube.create(fine_tune_job(NAME, namespace))
    eventually(lambda: reason(kube, namespace, "Running") == "ChildConflict", "the condition")
    assert f"{kind} tune-1 is there already" in condition(kube, namespace, "Running")["message"]
    assert kube.get(theirs["apiVersion"], kind, "tune-1", namespace) == theirs
    kube.delete(theirs["apiVersion"], kind, "tune-1", namespace)
    eventually(lambda: phase(kube, namespace) == "Starting", "the start, once the name is free")


def test_a_quota_is_told(kube: Kube, namespace: str, operator: Operator) -> None:
    meta = {"name": "none", "namespace": namespace}
    hard = {"count/rayjobs.ray.io": "0"}
    kube.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard}})
    eventually(lambda: kube.get("v1", "ResourceQuota", "none", namespace).get("status"), "the quota")
    operator.start()
    kube.create(fine_tune_job(NAME, namespace))
    eventually(lambda: reason(kube, namespace, "Running") == "QuotaExceeded", "the condition")
    assert "count/rayjobs.ray.io" in condition(kube, namespace, "Running")["message"]


def test_a_pod_that_waits_is_shown_while_it_waits(kube: Kube, namespace: str, operator: Operator, ray: Ray) -> None:
    operator.start()
    kube.create(fine_tune_job(NAME, namespace))
    eventually(lambda: is_running(kube, namespace, "tune-1"), "the RayJob")
    head = ray.pod(kube.get(*RAY, "tune-1", namespace), "head")
    waiting = {"reason": "CreateContainerConfigError", "message": 'secret "hub" not found'}
    ray.show(head, {"waiting": waiting})
    eventually(lambda: reason(kube, namespace, "Running") == "MissingReference", "the condition")
    assert 'secret "hub" not found' in condition(kube, namespace, "Running")["message"]
    ray.show(head, {"running": {}}, phase="Running")
    eventually(lambda: reason(kube, namespace, "Running") == "Starting", "the start")
    assert "MissingReference" in told(kube, namespace, NAME)


def test_suspending_frees_everything_and_resuming_goes_on(
    kube: Kube, namespace: str, operator: Operator, ray: Ray
) -> None:
    operator.start()
    kube.create(fine_tune_job(NAME, namespace))
    eventually(lambda: is_running(kube, namespace, "tune-1"), "the RayJob")
    ray.step()
    kube.patch(*JOB, NAME, {"spec": {"suspend": True}}, namespace)
    eventually(lambda: phase(kube, namespace) == "Suspended", "the phase")
    eventually(lambda: not is_running(kube, namespace, "tune-1"), "the end of the RayJob")
    kube.patch(*JOB, NAME, {"spec": {"suspend": False}}, namespace)
    eventually(lambda: is_running(kube, namespace, "tune-2"), "the next RayJob")
    first = kube.get(*JOB, NAME, namespace)["status"]["attempts"][0]
    assert (first["reason"], first["counted"]) == ("Suspended", False)


def test_a_job_goes_when_its_time_is_over_and_takes_its_children_along(
    kube: Kube, namespace: str, operator: Operator, ray: Ray
) -> None:
    operator.start()
    job = kube.create(fine_tune_job(NAME, namespace, ttlSecondsAfterFinished=1))

    def gone() -> bool:
        ray.step()
        return kube.find(*JOB, NAME, namespace) is None

    eventually(gone, "the end of the job")
    assert "Complete" in told(kube, namespace, NAME)
    eventually(lambda: not any(children(kube, namespace, job["metadata"]["uid"]).values()), "the garbage collector")


def test_deleting_works_without_the_operator(kube: Kube, namespace: str, operator: Operator) -> None:
    operator.start()
    job = kube.create(fine_tune_job(NAME, namespace))
    eventually(lambda: phase(kube, namespace) == "Starting", "the start")
    operator.stop()
    kube.delete(*JOB, NAME, namespace)
    eventually(lambda: kube.find(*JOB, NAME, namespace) is None, "the end of the job")
    eventually(lambda: not any(children(kube, namespace, job["metadata"]["uid"]).values()), "the garbage collector")


@contextmanager
def progress_at(address: str, progress: dict[str, Any]) -> Iterator[None]:
    """A trainer that serves its progress."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(progress).encode()
            self.send_response(200 if self.path == "/progress" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer((address, METRICS_PORT), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield
        server.shutdown()
        thread.join()


def is_quiet(proxy: Proxy, seconds: float) -> bool:
    """Whether nothing is written for so long."""
    before = len(proxy.writes)
    time.sleep(seconds)
    return len(proxy.writes) == before


def test_progress_is_read_from_the_pod(kube: Kube, namespace: str, operator: Operator, ray: Ray, proxy: Proxy) -> None:
    operator.start()
    kube.create(fine_tune_job(NAME, namespace))
    eventually(lambda: is_running(kube, namespace, "tune-1"), "the RayJob")
    job, address = kube.get(*RAY, "tune-1", namespace), "127.0.83.1"
    progress = {"step": 3, "totalSteps": 10, "percentage": 30, "loss": 1.25}
    with progress_at(address, progress):
        ray.train(job)
        ray.show(ray.pod(job, "head"), {"running": {}}, phase="Running", podIP=address, podIPs=[{"ip": address}])
        eventually(lambda: kube.get(*JOB, NAME, namespace)["status"].get("progress") == progress, "the progress")
        eventually(lambda: is_quiet(proxy, 1), "the events that go with it")
        assert is_quiet(proxy, 1.5), "progress that stands still is not written"
        progress["step"] = 4
        eventually(lambda: kube.get(*JOB, NAME, namespace)["status"]["progress"]["step"] == 4, "more progress")


def test_at_rest_and_after_a_restart_nothing_is_written(
    kube: Kube, namespace: str, operator: Operator, proxy: Proxy, ray: Ray
) -> None:
    operator.start()
    for name in ("done", "starts", "waits"):
        more = {"model": {"source": "job://nobody"}} if name == "waits" else {}
        kube.create(fine_tune_job(name, namespace, **more))

    def done() -> bool:
        ray.step()
        return phase(kube, namespace, "done") == "Succeeded" and phase(kube, namespace, "starts") == "Succeeded"

    eventually(done, "two jobs to be done")
    kube.create(fine_tune_job("later", namespace))
    eventually(lambda: phase(kube, namespace, "later") == "Starting", "the start")

    eventually(lambda: is_quiet(proxy, 1), "all that there is to say of the start")
    proxy.writes.clear()
    time.sleep(2)
    operator.start(resync_seconds="1").wait_until_healthy()
    time.sleep(4)
    assert proxy.writes == []
    assert operator.health() == (200, "ok")
    assert 'tunesmith_operator_jobs{kind="FineTuneJob",phase="Succeeded"} 2.0' in operator.metrics()


def test_a_stalled_watch_is_noticed_and_mended(kube: Kube, namespace: str, operator: Operator, proxy: Proxy) -> None:
    operator.start(resync_seconds="0.5").wait_until_healthy()
    kube.create(fine_tune_job("before", namespace))
    eventually(lambda: phase(kube, namespace, "before") == "Starting", "the start")
    proxy.freezes_watches = True
    kube.create(fine_tune_job("unseen", namespace))
    eventually(lambda: phase(kube, namespace, "unseen") == "Starting", "the resync to find the job")
    kube.delete(*JOB, "before", namespace)
    eventually(lambda: operator.health()[0] == 503, "the operator to call itself unhealthy")
    assert "watches have missed" in operator.health()[1]


def test_the_metrics_are_as_prometheus_wants_them(kube: Kube, namespace: str, operator: Operator, ray: Ray) -> None:
    operator.start()
    kube.create(fine_tune_job(NAME, namespace))

    def done() -> bool:
        ray.step()
        return phase(kube, namespace) == "Succeeded"

    eventually(done, "the job to be done")
    text = operator.metrics()
    checked = subprocess.run(
        [build("promtool")["promtool"], "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    for series in (
        'tunesmith_operator_attempt_duration_seconds_count{reason="Succeeded"} 1.0',
        'tunesmith_operator_job_duration_seconds_count{phase="Succeeded"} 1.0',
        'tunesmith_operator_api_requests_total{code="201",verb="create"}',
        f'tunesmith_operator_info{{version="{__version__}"}} 1.0',
        "tunesmith_operator_queue_depth 0.0",
        'tunesmith_operator_reconciles_total{kind="FineTuneJob",result="done"}',
        f'tunesmith_job_phase{{kind="FineTuneJob",name="{NAME}",namespace="{namespace}",phase="Succeeded"}} 1.0',
        f'tunesmith_job_attempts{{kind="FineTuneJob",name="{NAME}",namespace="{namespace}"}} 1.0',
        f'tunesmith_job_gpu_seconds_total{{kind="FineTuneJob",name="{NAME}",namespace="{namespace}"}} ',
        'tunesmith_operator_watch_last_event_timestamp_seconds{kind="RayJob"} ',
        "tunesmith_operator_resync_timestamp_seconds ",
    ):
        assert series in text
