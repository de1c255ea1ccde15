"""What a collector of OpenTelemetry's gets of the operator, which is killed in the middle of a job."""

import json

from tests.collector import collecting

from ..kube import Kube, eventually
from .ray import JOB, RAY, Ray, fine_tune_job, out_of_memory_first
from .running import Operator


def test_a_job_is_one_trace_whoever_looks_after_it(kube: Kube, namespace: str, operator: Operator) -> None:
    with collecting() as collector:
        operator.start(tracing_endpoint=collector.endpoint)
        job = kube.create(fine_tune_job("tune", namespace))
        ray = Ray(kube, namespace, out_of_memory_first)

        def begins(name: str) -> bool:
            ray.step()
            return kube.find(*RAY, name, namespace) is not None

        eventually(lambda: begins("tune-2"), "the second attempt")
        collector.await_that(lambda all_: bool(all_.named("attempt")))
        operator.kill()
        operator.start(tracing_endpoint=collector.endpoint)

        def done() -> bool:
            ray.step()
            return bool(kube.get(*JOB, "tune", namespace)["status"]["phase"] == "Succeeded")

        eventually(done, "the end of the job")
        collector.await_that(lambda all_: bool(all_.named("job")))
        operator.stop()

    first, second = collector.named("attempt")
    whole = collector.one("job")
    assert (first.error, second.error, whole.error) == ("OutOfMemory", None, None)
    assert {first.trace, second.trace, whole.trace} == {job["metadata"]["uid"].replace("-", "")}
    assert (first.parent, second.parent, whole.parent) == (whole.id, whole.id, "")
    given = json.loads(kube.get("v1", "ConfigMap", "tune-2", namespace)["data"]["run.json"])["tracing"]
    assert given == {"endpoint": collector.endpoint, "traceparent": f"00-{second.trace}-{second.id}-01"}

    looks = {span.id: span for span in collector.named("reconcile")}
    about = {"k8s.namespace.name": namespace, "tunesmith.job": "tune", "tunesmith.kind": "FineTuneJob"}
    assert looks
    assert all(span.attributes.items() >= about.items() for span in looks.values())
    assert all(span.parent == "" and span.links == [(whole.trace, whole.id)] for span in looks.values())
    makes = [span for span in collector.named("API create") if "/rayjobs" in span.attributes["url.path"]]
    assert len(makes) == 2
    assert all(span.parent in looks and span.attributes["http.response.status_code"] == 201 for span in makes)
    known = {*looks, *(span.id for span in collector.named("resync"))}
    assert {span.parent for span in collector.spans if span.name.startswith("API ")} <= known
