"""The operator itself, and life after it."""

import subprocess
from pathlib import Path

from tests.e2e.cluster import Cluster
from tests.e2e.conftest import Release
from tests.e2e.jobs import variation
from tests.integration.kube import eventually


def test_the_operator_was_never_refused_and_never_restarted(release: Release, cluster: Cluster) -> None:
    (pod,) = release.cluster.items("pods", "app.kubernetes.io/name=tunesmith")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    log = release.cluster.kubectl("logs", pod["metadata"]["name"])
    assert "Forbidden" not in log
    assert "Traceback" not in log


def test_the_operator_serves_metrics_that_prometheus_likes(release: Release, cluster: Cluster, promtool: Path) -> None:
    (pod,) = release.cluster.items("pods", "app.kubernetes.io/name=tunesmith")
    metrics = release.cluster.http(pod["metadata"]["name"], 8080, "metrics").stdout
    assert "tunesmith_operator_reconcile_duration_seconds_count" in metrics
    checked = subprocess.run([promtool, "check", "metrics"], input=metrics, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_uninstalling_leaves_the_jobs_which_can_still_be_deleted(release: Release, cluster: Cluster) -> None:
    claim = {"persistentVolumeClaim": {"claimName": "nowhere"}}
    cluster.apply(variation("addition-ddp.yaml", "left-behind", storage=claim))
    eventually(lambda: cluster.condition("left-behind", "Validated"), "the operator")
    release.uninstall()
    assert cluster.find("crd", "finetunejobs.tunesmith.dev"), "crds.keep"
    assert not release.cluster.items("deployments,serviceaccounts", "app.kubernetes.io/instance=tunesmith")
    cluster.delete("finetunejob", "left-behind")
    assert not cluster.items("finetunejobs")
