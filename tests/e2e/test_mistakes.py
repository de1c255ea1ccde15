"""Jobs that cannot work say why and what to do, while they wait, and end soon."""

from collections.abc import Iterator
from functools import partial

import pytest

from tests.e2e.cluster import Cluster, Object
from tests.e2e.jobs import variation
from tests.integration.kube import eventually

SECRET = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "not-there", "key": "token"}}}
MISTAKES: dict[str, Object] = {
    "no-secret": {"runtime": {"env": [SECRET]}},
    "no-image": {"runtime": {"image": "localhost:5000/no-such-image:1"}},
    "no-claim": {"storage": {"persistentVolumeClaim": {"claimName": "nowhere"}}},
    "no-node": {"scaling": {"resources": {"cpu": "900", "memory": "1Gi"}}},
}
FATAL = {
    "no-secret": ("MissingReference", ('secret "not-there" not found', "spec.runtime.env")),
    "no-image": ("ImagePullFailed", ("localhost:5000/no-such-image:1", "spec.runtime.image")),
}


@pytest.fixture(scope="module", autouse=True)
def mistakes(cluster: Cluster) -> Iterator[None]:
    """All at once: none of them ever computes anything."""
    cluster.apply(*(variation("addition-ddp.yaml", name, **changes) for name, changes in MISTAKES.items()))
    yield
    cluster.kubectl("delete", "finetunejobs", *MISTAKES, "--timeout=90s", seconds=100)


def test_what_cannot_pass_is_shown_at_once_and_then_fails(cluster: Cluster) -> None:
    shown: Object = {}

    def all_shown() -> bool:
        for job, (reason, _) in FATAL.items():
            if message := _stuck(cluster, job, reason):
                shown.setdefault(job, message)
        return shown.keys() == FATAL.keys()

    eventually(all_shown, "the reasons of both", seconds=120)
    for job, (reason, says) in FATAL.items():
        failed = eventually(partial(cluster.condition, job, "Failed"), f"the end of {job}", seconds=120)
        assert failed["reason"] == reason
        for message in (shown[job], failed["message"]):
            assert all(text in message for text in says), message


def test_a_pod_that_fits_no_node_is_told_and_waits(cluster: Cluster) -> None:
    message = eventually(lambda: _stuck(cluster, "no-node", "Unschedulable"), "the reason", seconds=120)
    assert "spec.scaling.resources" in message
    assert not cluster.condition("no-node", "Failed")


def test_a_missing_claim_is_told_before_any_pod_is_made(cluster: Cluster) -> None:
    shown = eventually(lambda: cluster.condition("no-claim", "Validated"), "the reason")
    assert (shown["status"], "nowhere" in shown["message"]) == ("False", True)
    assert not cluster.status("no-claim").get("attempts")


def _stuck(cluster: Cluster, job: str, reason: str) -> str:
    """What the condition Running says, once it has this reason."""
    running = cluster.condition(job, "Running")
    return str(running["message"]) if running.get("reason") == reason else ""
