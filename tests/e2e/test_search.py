"""A search runs all its trials, each on two workers, within one RayJob, and keeps the best one's model."""

import json

from tests.e2e.cluster import Cluster
from tests.e2e.jobs import variation
from tests.e2e.storage import shell

NAME = "searched"


def test_a_search_of_trials_with_two_workers(cluster: Cluster) -> None:
    training = {"maxSteps": 10, "checkpoint": {"everySteps": 5}}
    rate = {"field": "training.learningRate", "numbers": [1e-7, 5e-3]}
    job = variation("addition-ddp.yaml", NAME, training=training, search={"algorithm": "grid", "parameters": [rate]})
    del job["spec"]["dataset"]["test"], job["spec"]["evaluation"], job["spec"]["training"]["epochs"]
    cluster.apply(job)
    with cluster.watching("rayjobs", "-o", "name") as names:
        cluster.kubectl("wait", f"finetunejob/{NAME}", "--for=condition=Complete", "--timeout=300s", seconds=310)
    status = cluster.status(NAME)
    assert status["attempts"][0]["message"].startswith("trial 2 of 2 is the best: learningRate 0.005"), status
    assert len(status["attempts"]) == 1
    assert len({name for (name,) in names if NAME in name}) == 1, names

    folder = status["artifacts"]["folder"]
    low, high = json.loads(shell(cluster, folder, "cat trials.json"))
    assert (low["ended"], high["ended"]) == ("Succeeded", "Succeeded")
    assert high["loss"] < low["loss"]
    shell(cluster, folder, "test -s model/model.safetensors && test -s trials.png")
    for number in (1, 2):
        assert " 2 workers, " in shell(cluster, folder, f"cat trials/{number:03d}/logs/worker-0.log")
    cluster.delete("finetunejob", NAME)
