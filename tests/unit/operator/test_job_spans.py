"""The trace of a job: what the operator tells of attempts and jobs, and what it gives the pods to go on with."""

import json
from dataclasses import replace
from typing import Any

from tunesmith.api.outcome import EvaluationResult, Outcome
from tunesmith.api.pipeline_status import PipelineStatus
from tunesmith.api.spans import Finished
from tunesmith_operator.job_spans import ended
from tunesmith_operator.trace_ids import attempt_span, owner_span

from .world import START, World, job, text

UID, PIPELINE_UID = "0af76519-16cd-43dd-8448-eb211c80319c", "11111111-2222-3333-4444-555555555555"
TRACE = UID.replace("-", "")
OWNER = {"apiVersion": "v1", "kind": "RLHFPipeline", "name": "p", "uid": PIPELINE_UID, "controller": True}
EVALUATION = {"metrics": ["perplexity"]}


class Traced:
    """A job, and the spans that its statuses tell."""

    def __init__(self, **spec: Any) -> None:
        self.world = World(uid=UID, **spec)
        self.world.settings = replace(self.world.settings, tracing_endpoint="http://collector:4318")
        self.world.body["metadata"]["creationTimestamp"] = text(START)
        self.spans: list[Finished] = []

    def looks(self) -> None:
        for _ in range(10):
            before = self.world.status.to_dict()
            self.world.look()
            if self.world.plan.status is not None:
                self.spans += ended(self.world.body, before, self.world.plan.status)
            if self.world.idle:
                return
        raise AssertionError("it never comes to rest")

    def traceparent(self, config_map: str) -> str:
        run = json.loads(self.world.objects["ConfigMap", config_map]["data"]["run.json"])
        assert run["tracing"]["endpoint"] == "http://collector:4318"
        return str(run["tracing"]["traceparent"])


def test_a_trace_ties_attempts_and_evaluation_together() -> None:
    job = Traced(evaluation=EVALUATION)
    job.looks()
    first = job.traceparent("tune-1")
    job.world.trains().later(100).tells("OutOfMemory")
    job.looks()
    job.world.releases()
    job.looks()
    second = job.traceparent("tune-2")
    job.world.later(5).trains().later(50).tells("Succeeded")
    job.looks()
    evaluation = job.traceparent("tune-evaluation")
    result = EvaluationResult(rows=1, metrics=[])
    job.world.later(7).ends("evaluation", Outcome(reason="Succeeded", evaluation=result), attempt=3)
    job.looks()

    names = [(span.name, span.attributes.get("tunesmith.attempt"), span.error) for span in job.spans]
    assert names == [("attempt", 1, "OutOfMemory"), ("attempt", 2, None), ("job", None, None)]
    failed, done, whole = job.spans
    assert (failed.traceparent, done.traceparent) == (first, second)
    assert len({first, second, whole.traceparent}) == 3
    assert {span[3:35] for span in (first, second, whole.traceparent)} == {TRACE}
    assert failed.parent == done.parent == whole.traceparent == evaluation
    assert whole.parent is None
    assert (failed.start, failed.end) == (START.timestamp(), START.timestamp() + 100)
    assert (whole.start, whole.end) == (START.timestamp(), START.timestamp() + 162)
    assert whole.attributes["tunesmith.job"] == "tune"


def test_a_failed_job_says_why() -> None:
    job = Traced()
    job.looks()
    job.world.trains().tells("InvalidInput")
    job.looks()
    assert [(span.name, span.error) for span in job.spans] == [("attempt", "InvalidInput"), ("job", "InvalidInput")]


def test_a_suspended_attempt_is_no_error() -> None:
    job = Traced()
    job.looks()
    job.world.trains().spec(suspend=True)
    job.looks()
    assert [(span.name, span.error) for span in job.spans] == [("attempt", None)]


def test_the_jobs_of_a_pipeline_are_in_its_trace() -> None:
    body = job(uid=UID)
    body["metadata"]["ownerReferences"] = [OWNER]
    pipeline = {
        "kind": "RLHFPipeline",
        "metadata": {"uid": PIPELINE_UID, "name": "p", "namespace": "team", "creationTimestamp": text(START)},
    }
    assert owner_span(body)[3:35] == attempt_span(body, 1)[3:35] == PIPELINE_UID.replace("-", "")
    after = PipelineStatus(phase="Succeeded", completion_time=text(START))
    (whole,) = ended(pipeline, {}, after)
    assert (whole.name, whole.traceparent, whole.parent) == ("pipeline", owner_span(pipeline), None)
    assert list(ended(pipeline, after.to_dict(), after)) == []
    traced = Traced()
    traced.world.body["metadata"]["ownerReferences"] = [OWNER]
    traced.looks()
    traced.world.trains().tells("InvalidInput")
    traced.looks()
    assert traced.spans[-1].parent == owner_span(pipeline)


def test_without_an_endpoint_pods_know_of_none() -> None:
    world = World().looks()
    assert "tracing" not in json.loads(world.objects["ConfigMap", "tune-1"]["data"]["run.json"])
