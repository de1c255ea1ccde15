"""The objects that an attempt and an evaluation are made of."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tunesmith.api.load import check
from tunesmith.api.outcome import Overrides
from tunesmith.api.pod import RunConfig
from tunesmith_operator.builders.config import config_map
from tunesmith_operator.builders.evaluation import evaluation_job
from tunesmith_operator.builders.rayjob import ray_job
from tunesmith_operator.job import Job, Run
from tunesmith_operator.names import child_name, label_value
from tunesmith_operator.observed import Model
from tunesmith_operator.settings import PodResources, Settings

from .world import SETTINGS, UID, job

RUNTIME = {
    "imagePullSecrets": [{"name": "registry"}],
    "serviceAccountName": "trainer",
    "nodeSelector": {"gpu": "yes"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "env": [
        {"name": "SAID", "value": "$(HOME), $$(HOME) and pa$$word$"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
        {"name": "HOME", "value": "/elsewhere"},
    ],
    "sharedMemory": "8Gi",
}


def run(
    models: Mapping[str, Model] | None = None, attempt: int = 1, overrides: Overrides | None = None, **spec: Any
) -> Run:
    return Run(
        job=Job.parse(job(**spec)),
        attempt=attempt,
        overrides=overrides or Overrides(),
        folder="pvc://runs/team/tune-01234567",
        models=models or {"hf://org/model": Model("hf://org/model")},
        image="trainer:1",
    )


def templates(made: Run, settings: Settings = SETTINGS) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod template of a run, by component."""
    spec = ray_job(made, settings)["spec"]
    cluster = spec["rayClusterSpec"]
    found = [cluster["headGroupSpec"]["template"], spec["submitterPodTemplate"]]
    found += [group["template"] for group in cluster["workerGroupSpecs"]]
    found.append(evaluation_job(made, settings)["spec"]["template"])
    for template in found:
        yield template["metadata"]["labels"]["tunesmith.dev/component"], template


def test_every_pod_keeps_to_the_restricted_standard() -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    seen = set()
    for component, template in templates(run(scaling={"workers": 2}, runtime=RUNTIME)):
        seen.add(component)
        spec = template["spec"]
        (container,) = spec["containers"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        allowed = {"configMap", "emptyDir", "persistentVolumeClaim"}
        assert all(set(volume) - {"name"} <= allowed for volume in spec["volumes"])
    assert seen == {"head", "worker", "submitter", "evaluation"}


def test_runtime_holds_for_every_pod_alike() -> None:
    for component, template in templates(run(scaling={"workers": 2}, runtime=RUNTIME, priorityClassName="high")):
        spec = template["spec"]
        (container,) = spec["containers"]
        assert spec["nodeSelector"] == RUNTIME["nodeSelector"], component
        assert spec["tolerations"] == RUNTIME["tolerations"]
        assert spec["imagePullSecrets"] == RUNTIME["imagePullSecrets"]
        assert spec["serviceAccountName"] == "trainer"
        assert spec["priorityClassName"] == "high"
        environment = {variable["name"]: variable for variable in container["env"]}
        assert expanded(environment["SAID"]["value"]) == "$(HOME), $$(HOME) and pa$$word$"
        assert environment["TOKEN"]["valueFrom"] == {"secretKeyRef": {"name": "hub", "key": "token"}}
        assert environment["HOME"]["value"] == "/elsewhere"
        assert len(container["env"]) == len(environment), "a name stands once"
        (shared,) = [volume for volume in spec["volumes"] if volume["name"] == "shared-memory"]
        assert shared["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}


TRACKING = {
    "mlflow": {
        "trackingUri": "https://mlflow.acme.org",
        "usernameSecret": {"name": "mlflow", "key": "user"},
        "passwordSecret": {"name": "mlflow", "key": "password"},
    },
    "wandb": {"project": "sums", "apiKeySecret": {"name": "wandb", "key": "api-key"}},
}


@pytest.mark.parametrize("workers", [1, 2])
def test_keys_of_trackers_reach_only_the_pods_that_track(workers: int) -> None:
    made = run(scaling={"workers": workers}, tracking=TRACKING)
    found = {}
    for component, template in templates(made):
        variables = {variable["name"]: variable for variable in template["spec"]["containers"][0]["env"]}
        found[component] = {
            name: variable["valueFrom"]["secretKeyRef"]
            for name, variable in variables.items()
            if "valueFrom" in variable
        }
    keys = {
        "MLFLOW_TRACKING_USERNAME": {"name": "mlflow", "key": "user"},
        "MLFLOW_TRACKING_PASSWORD": {"name": "mlflow", "key": "password"},
        "WANDB_API_KEY": {"name": "wandb", "key": "api-key"},
    }
    assert found == {"head": keys, "evaluation": keys, "submitter": {}} | ({"worker": {}} if workers > 1 else {})


def test_a_token_of_a_tracker_and_a_variable_of_the_users_own() -> None:
    mlflow = {"trackingUri": "https://mlflow.acme.org", "tokenSecret": {"name": "mlflow", "key": "token"}}
    runtime = {"env": [{"name": "MLFLOW_TRACKING_TOKEN", "value": "mine"}]}
    heads = [
        dict(templates(run(tracking={"mlflow": mlflow}, runtime=part)))["head"]["spec"]["containers"][0]["env"]
        for part in ({}, runtime)
    ]
    name = {"name": "MLFLOW_TRACKING_TOKEN"}
    assert name | {"valueFrom": {"secretKeyRef": mlflow["tokenSecret"]}} in heads[0]
    assert name | {"value": "mine"} in heads[1]


def expanded(value: str) -> str:
    """As the kubelet reads a value (k8s.io/kubernetes/third_party/forked/golang/expansion)."""
    return re.sub(r"\$(\$|\([^)]*\))", lambda match: "$" if match[1] == "$" else "EXPANDED", value)


def test_nothing_of_the_users_reaches_a_command_line() -> None:
    made = run(runtime=RUNTIME, dataset={"train": {"source": "pvc://data/$(rm)"}})
    spec = ray_job(made, SETTINGS)["spec"]
    assert spec["entrypoint"] == "tunesmith train"
    for component, template in templates(made):
        command = template["spec"]["containers"][0].get("command")
        expected = {"submitter": ["tunesmith", "submit"], "evaluation": ["tunesmith", "evaluate", "--pod"]}
        assert command == expected.get(component)
        assert "args" not in template["spec"]["containers"][0]


def test_claims_are_mounted_where_their_addresses_say_and_only_the_storage_to_write() -> None:
    hub = "pvc://hub/llama"
    made = run({hub: Model(hub)}, model={"source": hub}, dataset={"train": {"source": "pvc://data/rows.jsonl"}})
    for _, template in templates(made):
        mounts = {m["mountPath"]: m for m in template["spec"]["containers"][0]["volumeMounts"]}
        assert mounts["/mnt/tunesmith/pvc/data"]["readOnly"] is True
        assert mounts["/mnt/tunesmith/pvc/hub"]["readOnly"] is True
        assert "readOnly" not in mounts["/mnt/tunesmith/pvc/runs"]
        assert mounts["/etc/tunesmith"]["readOnly"] is True
        assert {"/tmp", "/dev/shm", "/home/tunesmith"} <= mounts.keys()
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        assert {mount["name"] for mount in mounts.values()} == volumes


def test_every_set_of_a_mixture_and_what_is_held_out_is_mounted_and_waited_for() -> None:
    mixture = [
        {"source": f"{address}/rows.jsonl", "weight": 1} for address in ("pvc://one", "configmap://two", "pvc://one")
    ]
    dataset = {
        "train": {"mixture": mixture},
        "validation": {"source": "pvc://three/v"},
        "test": {"source": "configmap://four/t"},
    }
    made = run(dataset=dataset)
    assert made.claims == {"one": True, "three": True, "runs": False}
    assert made.config_maps == ["four", "two"]
    for _, template in templates(made):
        mounts = {mount["mountPath"] for mount in template["spec"]["containers"][0]["volumeMounts"]}
        paths = ("pvc/one", "configmap/two", "pvc/three", "configmap/four", "pvc/runs")
        assert {f"/mnt/tunesmith/{path}" for path in paths} <= mounts


def test_data_on_the_storage_claim_does_not_make_it_read_only() -> None:
    made = run(dataset={"train": {"source": "pvc://runs/rows.jsonl"}})
    assert made.claims == {"runs": False}


SHAPES = {
    "one worker is the head": (1, {"cpu": "2500m", "memory": "8Gi", "nvidia.com/gpu": 1}, {"num-cpus": "3"}, 0),
    "several workers leave the head nothing to run": (2, {"cpu": "4"}, {"num-cpus": "0", "num-gpus": "0"}, 2),
    "a worker that asks for nothing has one CPU": (1, {}, {"num-cpus": "1", "num-gpus": "0"}, 0),
}


@pytest.mark.parametrize("case", SHAPES)
def test_shapes(case: str) -> None:
    workers, resources, head_params, replicas = SHAPES[case]
    made = run(scaling={"workers": workers, "resources": resources})
    cluster = ray_job(made, SETTINGS)["spec"]["rayClusterSpec"]
    head = cluster["headGroupSpec"]
    assert head_params.items() <= head["rayStartParams"].items()
    assert [g["replicas"] for g in cluster["workerGroupSpecs"]] == [replicas] * bool(replicas)
    trains = cluster["workerGroupSpecs"][0] if replicas else head
    container = trains["template"]["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    # KubeRay adds Ray's ports itself only where a head names none
    assert ports == {"tunesmith": 9095} | ({} if replicas else {"gcs-server": 6379, "dashboard": 8265})
    assert "cpu" not in container["resources"]["limits"]
    evaluation = evaluation_job(made, SETTINGS)["spec"]["template"]["spec"]["containers"][0]
    assert without_memory(evaluation["resources"]) == without_memory(container["resources"])


def without_memory(resources: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    return {part: {name: value for name, value in of.items() if name != "memory"} for part, of in resources.items()}


def test_memory_and_gpus_are_request_and_limit() -> None:
    made = run(scaling={"workers": 2, "resources": {"cpu": "2", "memory": "8Gi", "nvidia.com/gpu": 1}})
    (group,) = ray_job(made, SETTINGS)["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    limits = {"memory": "8Gi", "nvidia.com/gpu": "1"}
    assert container["resources"] == {"requests": limits | {"cpu": "2"}, "limits": limits}
    assert group["rayStartParams"]["num-gpus"] == "1"


@pytest.mark.parametrize(("asked", "given"), [("8Gi", "11264Mi"), ("3G", "5934Mi"), (None, None)])
def test_one_worker_has_the_memory_of_the_head_beside_its_own(asked: str | None, given: str | None) -> None:
    made = run(scaling={"workers": 1, "resources": {"memory": asked} if asked else {}})
    settings = Settings(head=PodResources("1", "3Gi"))
    head = ray_job(made, settings)["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (container,) = head["containers"]
    assert [container["resources"][part].get("memory") for part in ("requests", "limits")] == [given, given]
    (alone,) = evaluation_job(made, settings)["spec"]["template"]["spec"]["containers"]
    assert alone["resources"]["limits"].get("memory") == asked, "no Ray runs there"


def test_the_head_of_several_workers_has_the_resources_of_the_settings() -> None:
    settings = Settings(head=PodResources("3", "7Gi"))
    spec = ray_job(run(scaling={"workers": 2}), settings)["spec"]
    (container,) = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    assert container["resources"] == {"requests": {"cpu": "3", "memory": "7Gi"}, "limits": {"memory": "7Gi"}}


def test_the_ray_job_is_tried_once_and_cleans_up() -> None:
    spec = ray_job(run(attempt=3), SETTINGS)["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["submitterConfig"]["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["submissionMode"] == "K8sJobMode"
    assert spec["jobId"] == "tune-3"
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert "suspend" not in spec


def test_the_config_map_holds_what_the_trainer_reads() -> None:
    made = run(
        {"job://base": Model("pvc://old/team/base-99999999/model", ("old",))},
        attempt=2,
        overrides=Overrides(micro_batch_size=4),
        runtime=RUNTIME,
        notifications=[{"url": "https://hooks.example/x", "format": "slack"}],
        model={"source": "job://base"},
    )
    body = config_map(made)
    assert body["immutable"] is True
    resource = json.loads(body["data"]["job.json"])
    assert check(resource, "cluster") == []
    assert resource["metadata"] == {"name": "tune", "namespace": "team"}
    assert resource["spec"]["model"]["source"] == "pvc://old/team/base-99999999/model"
    assert "runtime" not in resource["spec"], "an environment may hold what is nobody's business"
    assert "notifications" not in resource["spec"], "so may a URL"
    config = RunConfig.model_validate_json(body["data"]["run.json"])
    assert config == RunConfig(
        attempt=2, folder="pvc://runs/team/tune-01234567", overrides=Overrides(micro_batch_size=4)
    )


def test_all_pods_carry_the_labels_that_find_them() -> None:
    for component, template in templates(run(attempt=2, scaling={"workers": 2})):
        assert template["metadata"]["labels"] == {
            "tunesmith.dev/job": "tune",
            "tunesmith.dev/job-uid": UID,
            "tunesmith.dev/attempt": "2",
            "tunesmith.dev/component": component,
        }


@pytest.mark.parametrize("name", ["a", "a" * 45, "a" * 46, "a" * 253, "0day", "my.model.v1", "0." + "x" * 60])
def test_child_names_are_what_kuberay_takes(name: str) -> None:
    made = child_name(name, "1")
    assert len(made) <= 47
    assert made[0].isalpha()
    assert "." not in made
    assert made.endswith("-1")
    assert made != child_name(name, "2")
    assert len(label_value(name)) <= 63


def test_names_that_are_cut_alike_stay_apart() -> None:
    assert child_name("x" * 60 + "a", "1") != child_name("x" * 60 + "b", "1")
    assert child_name("my.model", "1") != child_name("my-model", "1")
    assert label_value("x" * 70 + "a") != label_value("x" * 70 + "b")
