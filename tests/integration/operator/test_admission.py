"""What the operator makes is taken by the real API server, by KubeRay, and under the restricted pod security."""

from typing import Any

import pytest

from tunesmith.api.outcome import Overrides
from tunesmith_operator.builders.config import config_map
from tunesmith_operator.builders.evaluation import evaluation_job
from tunesmith_operator.builders.rayjob import ray_job
from tunesmith_operator.job import Job, Run
from tunesmith_operator.observed import Model
from tunesmith_operator.settings import Settings

from ..kube import Kube, Object, eventually
from .ray import JOB, RAY, fine_tune_job

SETTINGS = Settings(ray_version="2.60.0")
SPECS: dict[str, dict[str, Any]] = {
    "the least": {},
    "several workers": {"scaling": {"workers": 3, "resources": {"cpu": 2, "memory": "1Gi", "nvidia.com/gpu": 1}}},
    "every field of runtime": {
        "runtime": {
            "imagePullSecrets": [{"name": "registry"}],
            "serviceAccountName": "default",
            "nodeSelector": {"gpu": "yes"},
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
            "env": [
                {"name": "PLAIN", "value": "$(HOME)"},
                {"name": "HOME", "value": "/elsewhere"},
                {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
                {"name": "CONFIG", "valueFrom": {"configMapKeyRef": {"name": "hub", "key": "url"}}},
            ],
            "sharedMemory": "1Gi",
        },
    },
    "data everywhere": {
        "model": {"source": "pvc://hub/llama"},
        "dataset": {
            "train": {"source": "pvc://runs/rows.jsonl"},
            "validation": {"source": "configmap://rows/validation.jsonl"},
            "test": {"source": "pvc://tests.v1/rows.jsonl"},
        },
    },
    "a queue": {"queue": "research"},
}


def run(kube: Kube, namespace: str, **spec: Any) -> Run:
    """A run of a job that the API server has taken and completed with its defaults."""
    body = fine_tune_job("tune", namespace, **{name: value for name, value in spec.items() if name != "queue"})
    if "queue" in spec:
        body["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": spec["queue"]}
    job = Job.parse(kube.create(body))
    overrides = Overrides(micro_batch_size=4, learning_rate_scale=0.5)
    folder = f"pvc://runs/{namespace}/tune-{job.uid[:8]}"
    models = {address: Model(address) for address in job.spec.model_sources.values()}
    return Run(job, 2, overrides, folder, models, "example.test/trainer:1")


def create_strictly(kube: Kube, body: Object) -> Object:
    path = kube.path(body["apiVersion"], body["kind"], body["metadata"]["namespace"])
    return kube.request("POST", path, body, query={"fieldValidation": "Strict"})


@pytest.mark.parametrize("case", SPECS)
def test_the_api_server_knows_every_field(case: str, kube: Kube, namespace: str) -> None:
    made = run(kube, namespace, **SPECS[case])
    for body in (config_map(made), ray_job(made, SETTINGS), evaluation_job(made, SETTINGS)):
        taken = create_strictly(kube, body)
        assert taken["metadata"]["ownerReferences"][0]["uid"] == made.job.uid
    kube.delete(*JOB, "tune", namespace)
    eventually(lambda: not kube.list(*RAY, namespace), "the garbage collector")


@pytest.mark.usefixtures("kuberay")
@pytest.mark.parametrize("workers", [1, 2])
def test_kuberay_makes_restricted_pods_of_it(workers: int, kube: Kube, namespace: str) -> None:
    enforced = {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    kube.patch("v1", "Namespace", namespace, {"metadata": enforced})
    made = run(kube, namespace, scaling={"workers": workers, "resources": {"cpu": "500m", "memory": "1Gi"}})
    create_strictly(kube, config_map(made))
    create_strictly(kube, ray_job(made, SETTINGS))
    create_strictly(kube, evaluation_job(made, SETTINGS))

    def pods() -> list[Object]:
        return kube.list("v1", "Pod", namespace, f"tunesmith.dev/job-uid={made.job.uid}")

    expected = {"head": 1, "worker": workers if workers > 1 else 0, "evaluation": 1}
    eventually(lambda: len(pods()) == sum(expected.values()), "the pods")
    found = dict.fromkeys(expected, 0)
    for pod in pods():
        labels = pod["metadata"]["labels"]
        component = labels["tunesmith.dev/component"]
        found[component] += 1
        assert labels["tunesmith.dev/attempt"] == "2"
        assert pod["spec"]["automountServiceAccountToken"] is False
        if component != "evaluation":
            (container,) = pod["spec"]["containers"]
            start = " ".join(container["args"])
            trains = component == "worker" or workers == 1
            assert f"--num-cpus={'1' if trains else '0'}" in start
            assert "--num-gpus=0" in start
            ports = {port["name"] for port in container["ports"]}
            assert {"metrics", *(["tunesmith"] if trains else [])} <= ports, "the PodMonitor asks for both by name"
            assert {variable["name"]: variable for variable in container["env"]}["RAY_AUTH_MODE"]["value"] == "token"
    assert found == expected
    assert kube.get(*RAY, "tune-2", namespace)["status"]["jobDeploymentStatus"] == "Initializing"
