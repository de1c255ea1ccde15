"""Evaluations: alone, of several workers, beside other jobs, by own metrics, and with conditions that fail the job."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tunesmith.api.outcome import EvaluationResult, Interval, MetricResult, Outcome
from tunesmith_operator.metrics import Evaluations
from tunesmith_operator.settings import Settings
from tunesmith_operator.store import Key

from .world import SETTINGS, World, job, text

RESULT = EvaluationResult(
    rows=50, metrics=[MetricResult(name="exactMatch", tuned=Interval(value=0.4, low=0.3, high=0.5))]
)
GATE = "exactMatch is 0.4 [0.3, 0.5], but should be at least 0.6"


def alone(**spec: Any) -> World:
    """A job that only evaluates."""
    world = World(dataset={"test": {"source": "configmap://tests/rows.jsonl"}}, **spec)
    del world.body["spec"]["objective"], world.body["spec"]["method"]
    world.body["spec"].setdefault("evaluation", {"metrics": ["exactMatch"]})
    return world


def sharded(**spec: Any) -> World:
    return alone(evaluation={"metrics": ["exactMatch"], "workers": 3}, **spec)


def outcome(
    reason: str = "Succeeded", result: EvaluationResult | None = RESULT, message: str = "it says why"
) -> Outcome:
    return Outcome.model_validate({"reason": reason, "message": message}).model_copy(update={"evaluation": result})


def lost(world: World, number: int, reason: str = "WorkerLost") -> World:
    """A try ends without a result, and KubeRay ends its RayJob."""
    world.ends("submitter", outcome(reason, None), attempt=number)
    return world.ray(jobDeploymentStatus="Complete", jobStatus="FAILED", endTime=text(world.now))


def finished(status: dict[str, Any], name: str = "other") -> dict[str, Any]:
    artifacts = {"folder": f"pvc://elsewhere/team/{name}-1"}
    return job(name, uid="other", status={"artifacts": artifacts} | status)


def is_true(kind: str) -> dict[str, Any]:
    return {"type": kind, "status": "True", "reason": "It", "lastTransitionTime": "2026-01-01T00:00:00Z"}


def run_file(world: World, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(world.objects["ConfigMap", name]["data"]["run.json"])
    return found


def test_an_evaluation_alone_trains_nothing() -> None:
    world = alone().looks()
    assert world.created == ["ConfigMap tune-evaluation", "Job tune-evaluation"]
    assert world.phase == "Evaluating"
    assert world.condition("Validated") == ("True", "Valid")
    assert world.status.start_time, "from here on the spec is fixed"
    volumes = world.objects["Job", "tune-evaluation"]["spec"]["template"]["spec"]["volumes"]
    assert {"name": "config", "configMap": {"name": "tune-evaluation"}} in volumes
    world.ends("evaluation", outcome(), attempt=1).looks()
    assert world.phase == "Succeeded"
    assert world.status.evaluation == RESULT
    assert world.condition("Trained") == ("", ""), "nothing was"
    assert world.message("Complete") == "the model is evaluated"
    assert world.told == ["EvaluationStarted", "Evaluated", "Complete"]
    assert world.status.artifacts is not None and world.status.artifacts.folder == "pvc://runs/team/tune-01234567"


def test_an_evaluation_alone_waits_for_what_is_missing() -> None:
    world = alone()
    world.missing.add("tests")
    world.looks()
    assert (world.phase, world.created) == ("Pending", [])
    assert "no ConfigMap tests" in world.message("Validated")
    world.missing.clear()
    assert world.looks().phase == "Evaluating"


def test_an_evaluation_alone_of_a_job_waits_for_its_model() -> None:
    world = alone(model={"source": "job://other"}).looks()
    assert (world.phase, world.created) == ("Pending", [])
    world.others["other"] = finished({"conditions": [is_true("Complete")]})
    world.looks()
    whole = json.loads(world.objects["ConfigMap", "tune-evaluation"]["data"]["job.json"])
    assert whole["spec"]["model"]["source"] == "pvc://elsewhere/team/other-1/model"


def test_an_evaluation_alone_is_suspended_and_goes_on() -> None:
    world = alone().looks().spec(suspend=True).looks()
    assert world.phase == "Suspended"
    assert world.deleted == ["Job tune-evaluation"]
    assert world.spec(suspend=False).looks().phase == "Evaluating"
    assert world.created.count("Job tune-evaluation") == 2


def test_an_evaluation_alone_ends_at_its_deadline_and_goes_with_its_ttl() -> None:
    world = alone(activeDeadlineSeconds=60, ttlSecondsAfterFinished=5).looks().later(61).looks()
    assert world.condition("Failed") == ("True", "DeadlineExceeded")
    assert world.deleted == ["Job tune-evaluation"]
    assert world.message("Failed") == "the job has run for spec.activeDeadlineSeconds (60)"
    assert world.later(6).look().plan.delete_itself


def test_what_changes_after_a_failed_evaluation_mends_nothing() -> None:
    """It had begun; a spec that never started may be mended."""
    world = alone(activeDeadlineSeconds=60).looks().later(61).looks()
    assert world.spec(activeDeadlineSeconds=600).looks().phase == "Failed"
    assert world.created.count("Job tune-evaluation") == 1


GATED: dict[str, Callable[[], World]] = {
    "after a training": lambda: (
        World(evaluation={"metrics": ["exactMatch"]}).look().trains().tells("Succeeded").looks()
    ),
    "alone": lambda: alone().looks(),
}


@pytest.mark.parametrize("case", GATED)
def test_a_gate_that_is_not_met_fails_the_job_and_shows_the_figures(case: str) -> None:
    world = GATED[case]()
    world.ends("evaluation", outcome("GateFailed", message=GATE), attempt=2).looks()
    assert world.condition("Evaluated") == ("False", "GateFailed")
    assert world.message("Evaluated") == GATE
    assert world.condition("Failed") == ("True", "GateFailed")
    assert world.message("Failed") == f"the model does not meet evaluation.gates: {GATE}"
    assert world.status.evaluation == RESULT
    assert world.told[-2:] == ["GateFailed", "Failed"]
    assert world.created.count("Job tune-evaluation") == 1, "another try would measure the same"


def test_several_workers_evaluate_in_a_ray_job() -> None:
    world = sharded().looks()
    assert world.created == ["ConfigMap tune-evaluation", "RayJob tune-evaluation"]
    spec = world.objects["RayJob", "tune-evaluation"]["spec"]
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert (spec["entrypoint"], group["replicas"]) == ("tunesmith evaluate --ray", 3)
    assert spec["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert run_file(world, "tune-evaluation")["phase"] == "evaluate"
    world.trains().ends("submitter", outcome(), attempt=1).looks()
    assert world.phase == "Succeeded"
    assert world.status.evaluation == RESULT


def test_after_a_training_its_tries_are_counted_on() -> None:
    """So the outcome of an attempt, or of an earlier try, is never taken for that of this one."""
    world = World(evaluation={"metrics": ["exactMatch"], "workers": 2}).look().trains().tells("Succeeded").looks()
    assert world.created[-2:] == ["ConfigMap tune-evaluation", "RayJob tune-evaluation"]
    assert run_file(world, "tune-evaluation")["attempt"] == 2
    assert world.phase == "Evaluating"


def test_lost_workers_are_tried_again_from_what_they_left() -> None:
    world = sharded().looks()
    lost(world.trains(), 1).looks()
    assert world.created[-2:] == ["ConfigMap tune-evaluation-2", "RayJob tune-evaluation-2"]
    assert world.status.evaluation_retries == 1
    assert world.told.count("EvaluationLost") == 1
    assert run_file(world, "tune-evaluation-2")["attempt"] == 2
    world.trains().ends("submitter", outcome(), attempt=2).looks()
    assert world.phase == "Succeeded"


def test_the_next_try_waits_until_the_last_one_has_left() -> None:
    world = sharded().looks().trains().pod("worker", attempt=1)
    lost(world, 1).looks()
    assert world.condition("Evaluated") == ("False", "Releasing")
    assert "RayJob tune-evaluation-2" not in world.created
    world.releases().looks()
    assert world.created[-1] == "RayJob tune-evaluation-2"


@pytest.mark.parametrize(("reason", "tries"), [("OutcomeUnknown", 3), ("WorkerLost", 21), ("InternalError", 1)])
def test_an_evaluation_is_not_tried_for_ever(reason: str, tries: int) -> None:
    world = sharded().looks()
    for number in range(1, tries + 1):
        assert not world.status.completion_time
        lost(world.trains(), number, reason).looks()
    assert world.condition("Failed") == ("True", reason)
    assert world.created.count("RayJob tune-evaluation-2") == (tries > 1)


def test_too_little_memory_is_no_reason_to_try_again() -> None:
    world = sharded().looks().trains()
    world.container("worker", 1, state={"terminated": {"exitCode": 137, "reason": "OOMKilled"}}).looks()
    assert world.condition("Failed") == ("True", "OutOfMemory")
    assert "lower evaluation.batchSize" in world.message("Failed")
    assert world.deleted == ["RayJob tune-evaluation"]


def test_suspension_frees_the_workers() -> None:
    world = sharded().looks().trains().spec(suspend=True).looks()
    assert (world.phase, world.deleted) == ("Suspended", ["RayJob tune-evaluation"])
    assert world.spec(suspend=False).looks().phase == "Evaluating"
    assert world.status.evaluation_retries is None


def test_a_queue_lets_the_workers_in() -> None:
    world = sharded()
    world.body["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "night"}
    world.looks()
    made = world.objects["RayJob", "tune-evaluation"]
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "night"
    assert made["spec"]["suspend"] is True
    assert world.looks().phase == "Queued"
    made["spec"]["suspend"] = False
    assert world.trains().looks().phase == "Evaluating"


COMPARED: dict[str, tuple[dict[str, Any] | None, tuple[str, str], str]] = {
    "a job that is not there": (None, ("Unknown", "WaitingForJob"), "waits for FineTuneJob other, which is not there"),
    "a job that still runs": (
        finished({"conditions": [is_true("Running")]}),
        ("Unknown", "WaitingForJob"),
        "waits until FineTuneJob other (spec.evaluation.compareWith[0]) is evaluated",
    ),
    "a job that failed": (
        finished({"conditions": [is_true("Failed")]}),
        ("False", "ComparedJobFailed"),
        "has failed before it was evaluated",
    ),
    "a job that was not evaluated": (
        finished({"conditions": [is_true("Complete")]}),
        ("False", "ComparedJobNotEvaluated"),
        "has no evaluation",
    ),
}


@pytest.mark.parametrize("case", COMPARED)
def test_what_is_compared_with_must_be_evaluated(case: str) -> None:
    other, condition, message = COMPARED[case]
    world = alone(evaluation={"metrics": ["exactMatch"], "compareWith": ["job://other"]})
    world.others = {"other": other} if other else {}
    world.looks()
    assert world.condition("Validated") == condition
    assert message in world.message("Validated")
    assert world.created == []


@pytest.mark.parametrize("ended", ["Complete", "Failed"])
def test_an_evaluated_job_is_mounted_to_be_compared_with(ended: str) -> None:
    """One that failed at its gates was evaluated too."""
    world = alone(evaluation={"metrics": ["exactMatch"], "compareWith": ["job://other"]})
    world.others = {"other": finished({"conditions": [is_true(ended)], "evaluation": RESULT.to_dict()})}
    world.looks()
    assert run_file(world, "tune-evaluation")["runs"] == {"other": "pvc://elsewhere/team/other-1"}
    mounts = world.objects["Job", "tune-evaluation"]["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    (mount,) = [mount for mount in mounts if mount["mountPath"].endswith("pvc/elsewhere")]
    assert mount["readOnly"] is True
    world.others = {}
    world.objects.pop(("Job", "tune-evaluation"))
    assert world.looks().created.count("Job tune-evaluation") == 2, "what was resolved once stays so"


def test_the_models_that_judge_are_resolved_and_mounted() -> None:
    evaluation = {
        "metrics": ["bertScore", "judge"],
        "bertScore": {"source": "pvc://encoders/mini"},
        "judge": {"source": "job://other"},
        "failures": {"encoder": {"source": "pvc://encoders/mini"}},
        "harness": {"tasks": ["sums"], "folder": "configmap://tasks/sums"},
    }
    world = alone(evaluation=evaluation)
    world.others = {"other": finished({"conditions": [is_true("Complete")]})}
    world.looks()
    spec = json.loads(world.objects["ConfigMap", "tune-evaluation"]["data"]["job.json"])["spec"]["evaluation"]
    assert spec["judge"]["source"] == "pvc://elsewhere/team/other-1/model"
    assert spec["failures"]["encoder"]["source"] == "pvc://encoders/mini"
    mounts = world.objects["Job", "tune-evaluation"]["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    paths = {mount["mountPath"].rsplit("tunesmith/", 1)[-1] for mount in mounts}
    assert {"pvc/encoders", "pvc/elsewhere", "pvc/runs", "configmap/tasks", "configmap/tests"} <= paths


MODULES: list[tuple[str, tuple[str, ...], bool]] = [
    ("acme.metrics:score", ("acme.metrics",), True),
    ("acme.metrics.text:score", ("acme",), True),
    ("acme.metrics:score", (), False),
    ("acmeevil.metrics:score", ("acme",), False),
    ("acme:score", ("acme.metrics",), False),
    ("os:system", ("acme", "numpy"), False),
]


@pytest.mark.parametrize(("function", "allowed", "runs"), MODULES)
def test_own_metrics_come_from_allowed_modules(function: str, allowed: tuple[str, ...], runs: bool) -> None:
    world = World(evaluation={"metrics": ["perplexity"], "own": [{"name": "ours", "function": function}]})
    world.settings = Settings(**{**vars(SETTINGS), "metric_modules": allowed})
    world.looks()
    if runs:
        assert run_file(world, "tune-1")["metricModules"] == list(allowed)
        return
    assert world.condition("Failed") == ("True", "MetricNotAllowed")
    assert "spec.evaluation.own[0].function" in world.message("Failed")
    assert world.created == [], "nothing is started, not even the training"


def test_prometheus_gets_the_final_figures() -> None:
    many = [{"name": f"m{i}", "tuned": {"value": i, "low": 0, "high": 1}} for i in range(40)]
    many[0]["base"] = {"value": -1.0, "low": 0, "high": 1}
    (family,) = Evaluations(lambda: [(Key("team", "tune"), {"rows": 5, "metrics": many})]).collect()
    assert family.name == "tunesmith_evaluation"
    first, base, *others = family.samples
    assert first.labels == {
        "namespace": "team",
        "name": "tune",
        "kind": "FineTuneJob",
        "metric": "m0",
        "model": "tuned",
    }
    assert (first.value, base.labels["model"], base.value) == (0, "base", -1.0)
    assert len(others) == 31, "however many a job has"
