"""A job whose worker is killed and that is suspended goes on from its last checkpoint each time."""

import json
import re

from tests.e2e.cluster import Cluster, Object
from tests.e2e.jobs import variation
from tests.e2e.storage import shell
from tests.integration.kube import eventually

NAME = "interrupted"
EVERY = 50


def test_a_job_survives_a_killed_worker_and_a_suspension(cluster: Cluster) -> None:
    training = {"checkpoint": {"everySteps": EVERY, "keep": 2}, "epochs": 9}
    cluster.apply(variation("addition-ddp.yaml", NAME, training=training, evaluation=None))
    cluster.await_status(NAME, lambda s: _step(s) > EVERY, "a checkpoint")

    victim = cluster.pods_of(NAME, "worker")[0]["metadata"]["name"]
    cluster.kubectl("delete", "pod", victim, "--grace-period=0", "--force")
    resumed = eventually(lambda: _resumed_at(cluster), "the training after the kill", seconds=240)
    assert all(step % EVERY == 0 and step > 0 for step in resumed)
    before = _step(cluster.status(NAME))
    status = cluster.await_status(NAME, lambda s: _step(s) > before + EVERY, "another checkpoint")
    assert len(status["attempts"]) == 1, "Ray Train replaces a lost worker within the attempt"

    cluster.kubectl("patch", "finetunejob", NAME, "--type=merge", "-p", '{"spec": {"suspend": true}}')
    status = cluster.await_status(NAME, lambda s: s["phase"] == "Suspended", "the suspension", seconds=60)
    assert [(a["reason"], a["counted"]) for a in status["attempts"]] == [("Suspended", False)]
    eventually(lambda: not cluster.items("rayjobs,rayclusters"), "the pods to be freed", seconds=120)

    cluster.kubectl("patch", "finetunejob", NAME, "--type=merge", "-p", '{"spec": {"suspend": false}}')
    cluster.kubectl("wait", f"finetunejob/{NAME}", "--for=condition=Complete", "--timeout=400s", seconds=410)
    status = cluster.status(NAME)
    assert [attempt["reason"] for attempt in status["attempts"]] == ["Suspended", "Succeeded"]
    assert len(_resumed_at(cluster)) == len(resumed) + 1
    lines = shell(cluster, status["artifacts"]["folder"], "cat metrics.jsonl").splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, status["progress"]["totalSteps"] + 1))
    cluster.delete("finetunejob", NAME)


def _step(status: Object) -> int:
    step: int = status.get("progress", {}).get("step", 0)
    return step


def _resumed_at(cluster: Cluster) -> list[int]:
    """The steps from which the run went on, as its log tells."""
    log = shell(cluster, cluster.status(NAME)["artifacts"]["folder"], "cat logs/worker-0.log")
    return [int(step) for step in re.findall(r"goes on from step (\d+)", log)]
