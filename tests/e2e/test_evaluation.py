"""Evaluations without a training: of several workers, beside an earlier job, and with a gate that is not met."""

from collections.abc import Iterator

import pytest

from tests.e2e.cluster import Cluster, Object
from tests.e2e.jobs import evaluation_sample
from tests.e2e.storage import shell

WORKERS = 2
TRAINED, JUDGED, SHARED = "adds-a-little", "judged", "shared"


def conditions(job: Object) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in job["status"]["conditions"]}


def ended(cluster: Cluster, name: str, condition: str) -> Object:
    cluster.kubectl("wait", f"finetunejob/{name}", f"--for=condition={condition}", "--timeout=300s", seconds=310)
    job = cluster.find("finetunejob", name)
    assert job is not None
    return job


@pytest.fixture(scope="module", autouse=True)
def trained(cluster: Cluster) -> Iterator[Object]:
    """A job whose model the others evaluate."""
    cluster.apply(evaluation_sample(TRAINED))
    yield ended(cluster, TRAINED, "Complete")
    cluster.delete("finetunejob", TRAINED)


def test_a_gate_that_is_not_met_fails_the_job_with_the_figures(cluster: Cluster, trained: Object) -> None:
    gates = [{"metric": "perplexity", "atMost": 20}, {"metric": "exactMatch", "atLeast": 0.9}]
    cluster.apply(evaluation_sample(JUDGED, gates=gates))
    job = ended(cluster, JUDGED, "Failed")
    assert conditions(job)["Evaluated"] == ("False", "GateFailed")
    assert "Trained" not in conditions(job), "nothing was"
    assert "exactMatch is" in job["status"]["message"]
    assert "should be at least 0.9" in job["status"]["message"]
    assert "attempts" not in job["status"] or not job["status"]["attempts"]
    assert {metric["name"] for metric in job["status"]["evaluation"]["metrics"]} == {"exactMatch", "perplexity"}
    assert not [each for each in cluster.items("rayjobs") if each["metadata"]["name"].startswith(JUDGED)]
    report = shell(cluster, job["status"]["artifacts"]["folder"], "cat evaluation/result.json")
    assert f"job://{TRAINED}" in report, "it was compared with the job that it was read from"
    assert "no difference shown" in report, "the model is the same"
    told = [e["reason"] for e in cluster.items("events") if e["involvedObject"].get("uid") == job["metadata"]["uid"]]
    assert {"EvaluationStarted", "GateFailed", "Failed"} <= set(told)
    cluster.delete("finetunejob", JUDGED)


def test_workers_that_share_the_rows_find_what_one_finds(cluster: Cluster, trained: Object) -> None:
    cluster.apply(evaluation_sample(JUDGED, name=SHARED, workers=WORKERS))
    cluster.await_status(SHARED, lambda s: s.get("phase") in ("Evaluating", "Succeeded"), "the evaluation")
    pods = cluster.items("rayjobs", f"tunesmith.dev/job={SHARED}")
    assert [each["metadata"]["name"] for each in pods] == [f"{SHARED}-evaluation"]
    job = ended(cluster, SHARED, "Complete")
    assert conditions(job)["Evaluated"] == ("True", "Succeeded")

    def figures(of: Object) -> dict[str, float]:
        return {metric["name"]: metric["tuned"]["value"] for metric in of["status"]["evaluation"]["metrics"]}

    assert figures(job) == pytest.approx(figures(trained), rel=1e-5)
    cluster.delete("finetunejob", SHARED)
