"""Jobs that cannot work say why and what to do, while they wait, and end soon."""

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


@pytest.fixture(scope="module", autouse=True)
def mistakes(cluster: Cluster) -> None:
    """All at once: none of them ever computes anything."""
    cluster.apply(*(variation("addition-ddp.yaml", name, **changes) for name, changes in MISTAKES.items()))


@pytest.mark.parametrize(
    ("job", "reason", "says"),
    [
        ("no-secret", "MissingReference", ['secret "not-there" not found', "spec.runtime.env"]),
        ("no-image", "ImagePullFailed", ["localhost:5000/no-such-image:1", "spec.runtime.image"]),
    ],
)
def test_what_cannot_pass_is_shown_at_once_and_then_fails(
    cluster: Cluster, job: str, reason: str, says: list[str]
) -> None:
    shown = eventually(lambda: _stuck(cluster, job, reason), f"{reason} of {job}", seconds=120)
    assert not [text for text in says if text not in shown["message"]], shown["message"]
    failed = eventually(lambda: cluster.condition(job, "Failed"), f"the end of {job}", seconds=60)
    assert failed["reason"] == reason
    assert not [text for text in says if text not in failed["message"]], failed["message"]
    cluster.delete("finetunejob", job)


def test_a_pod_that_fits_no_node_is_told_and_waits(cluster: Cluster) -> None:
    shown = eventually(lambda: _stuck(cluster, "no-node", "Unschedulable"), "the reason", seconds=120)
    assert "spec.scaling.resources" in shown["message"]
    assert not cluster.condition("no-node", "Failed")
    cluster.delete("finetunejob", "no-node")


def test_a_missing_claim_is_told_before_any_pod_is_made(cluster: Cluster) -> None:
    shown = eventually(lambda: cluster.condition("no-claim", "Validated"), "the reason")
    assert (shown["status"], "nowhere" in shown["message"]) == ("False", True)
    assert not cluster.status("no-claim").get("attempts")
    cluster.delete("finetunejob", "no-claim")


def _stuck(cluster: Cluster, job: str, reason: str) -> Object:
    """The condition Running, once it has this reason."""
    running = cluster.condition(job, "Running")
    return running if running.get("reason") == reason else {}
