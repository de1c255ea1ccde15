"""The chart, rendered by the real Helm and validated by a real API server."""

import dataclasses
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tools.build import build
from tunesmith import __version__
from tunesmith.api.crd import fine_tune_job_crd, rlhf_pipeline_crd
from tunesmith_operator.builders.pods import METRICS_PORT_NAME
from tunesmith_operator.main import parse_settings
from tunesmith_operator.settings import Settings

from .controlplane import ControlPlane
from .kube import APPLY, Kube, KubeError, Object

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "tunesmith"
RAY_PORT_NAME = "metrics"
"""KubeRay's name for the port of Ray's own metrics."""
EVERYTHING = {
    "settings": {
        "namespaces": ["team-a", "team-b"],
        "storageClaim": "runs",
        "notificationHosts": ["hooks.example.com", "*.example.org", "http://events.monitoring.svc:8080"],
    },
    "podMonitors": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRules": {
        "enabled": True,
        "labels": {"release": "prometheus"},
        "thresholds": {"gpuIdleMinutes": 60, "checkpointHours": 1.5},
    },
    "dashboards": {
        "namespace": "monitoring",
        "label": "boards",
        "labelValue": "yes",
        "annotations": {"grafana_folder": "Tunesmith"},
        "gpuHourPrice": "2.5",  # as --set gives it
        "currency": "EUR",
    },
    "docsBase": "https://git.example.com/",
    "evaluation": {"metricModules": ["acme.metrics", "ours"]},
    "notifications": {"webhooksSecret": "webhooks"},
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "control", "operator": "Exists"}],
}


def helm(*arguments: str, values: Object | None = None) -> "subprocess.CompletedProcess[str]":
    command = [str(build("helm")["helm"]), *arguments, "--values", "-"]
    return subprocess.run(command, input=json.dumps(values or {}), capture_output=True, text=True)


def render(values: Object | None = None, namespace: str = "tunesmith-system") -> list[Object]:
    """The objects of a release."""
    done = helm("template", "tunesmith", str(CHART), "--namespace", namespace, values=values)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [each for each in objects if each["kind"] == kind]


def operator_pod(objects: list[Object]) -> Any:
    (deployment,) = of_kind(objects, "Deployment")
    return deployment["spec"]["template"]


def environment(objects: list[Object]) -> dict[str, str]:
    (container,) = operator_pod(objects)["spec"]["containers"]
    return {variable["name"]: variable["value"] for variable in container["env"]}


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_helm_lint_finds_nothing(values: Object) -> None:
    done = helm("lint", "--strict", str(CHART), values=values)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("values", "said"),
    [
        pytest.param({"settings": {"qsp": 5}}, "qsp", id="a typo"),
        pytest.param({"settings": {"burst": "many"}}, "burst", id="a wrong type"),
        pytest.param({"settings": {"namespaces": ["Team A"]}}, "namespaces", id="a name that is none"),
        pytest.param({"podMonitors": {"interval": "often"}}, "interval", id="a time that is none"),
        pytest.param({"prometheusRules": {"thresholds": {"restarts": 0.5}}}, "restarts", id="a number that is none"),
        pytest.param({"docsBase": "x'\"y"}, "docsBase", id="an address that is none"),
        pytest.param({"dashboards": {"gpuHourPrice": "2 USD"}}, "gpuHourPrice", id="a price that is none"),
        pytest.param({"dashboards": {"currency": '"}'}}, "currency", id="a currency that is none"),
        pytest.param({"tracing": {"endpoint": "collector:4317"}}, "endpoint", id="an endpoint that is no URL"),
        pytest.param({"evaluation": {"metricModules": ["a b"]}}, "metricModules", id="a module that is none"),
        pytest.param(
            {"settings": {"notificationHosts": ["https://example.com/path"]}}, "notificationHosts", id="no host"
        ),
    ],
)
def test_wrong_values_are_refused_by_name(values: Object, said: str) -> None:
    done = helm("template", "tunesmith", str(CHART), values=values)
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.parametrize("namespaced", [False, True], ids=["all namespaces", "listed namespaces"])
def test_the_api_server_accepts_every_object(kube: Kube, namespace: str, namespaced: bool) -> None:
    ours = {"settings": {"namespaces": [namespace]}, "dashboards": {"namespace": namespace}}
    values = EVERYTHING | ours if namespaced else {}
    objects = render(values, namespace)
    assert len(objects) >= 7
    for each in objects:
        meta = each["metadata"]
        path = kube.path(each["apiVersion"], each["kind"], meta.get("namespace", namespace), meta["name"])
        options = {"fieldManager": "tests", "force": "true", "dryRun": "All", "fieldValidation": "Strict"}
        kube.request("PATCH", path, each, APPLY, options)


def test_the_operator_pod_passes_the_restricted_security_standard(kube: Kube, namespace: str) -> None:
    enforced = {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    kube.patch("v1", "Namespace", namespace, {"metadata": enforced})
    template = operator_pod(render(EVERYTHING))
    template["spec"]["serviceAccountName"] = "default"
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator", "labels": {}}, "spec": template["spec"]}
    kube.request("POST", kube.path("v1", "Pod", namespace), pod, query={"dryRun": "All", "fieldValidation": "Strict"})
    (container,) = template["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    del container["securityContext"]["allowPrivilegeEscalation"]
    with pytest.raises(KubeError, match="allowPrivilegeEscalation"):  # the standard is really enforced here
        kube.request("POST", kube.path("v1", "Pod", namespace), pod, query={"dryRun": "All"})


def test_the_chart_carries_the_generated_crds_and_keeps_them() -> None:
    crds = of_kind(render(), "CustomResourceDefinition")
    assert [crd["spec"] for crd in crds] == [
        fine_tune_job_crd()["spec"],
        rlhf_pipeline_crd()["spec"],
    ], "run `make generate`"
    assert all(crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"} for crd in crds)
    for crd in of_kind(render({"crds": {"keep": False}}), "CustomResourceDefinition"):
        assert "annotations" not in crd["metadata"]
    assert not of_kind(render({"crds": {"enabled": False}}), "CustomResourceDefinition")


def test_with_listed_namespaces_nothing_is_granted_outside_them() -> None:
    objects = render(EVERYTHING | {"userRoles": {"enabled": False}})
    assert {role["metadata"]["namespace"] for role in of_kind(objects, "Role")} == {"team-a", "team-b"}
    assert not of_kind(objects, "ClusterRole") + of_kind(objects, "ClusterRoleBinding")
    assert environment(objects)["TUNESMITH_NAMESPACES"] == "team-a,team-b"


def test_the_operator_may_not_read_secrets_or_enter_pods(
    control_plane: ControlPlane, kube: Kube, namespace: str
) -> None:
    for each in render({"settings": {"namespaces": [namespace]}}, namespace):
        if each["kind"] in ("ServiceAccount", "Role", "RoleBinding"):
            each["metadata"]["namespace"] = namespace
            kube.create(each)
    operator = Kube(control_plane.kubeconfig_for("tunesmith", namespace))

    reviews = kube.path("authorization.k8s.io/v1", "SelfSubjectAccessReview")

    def may(verb: str, group: str, resource: str) -> bool:
        resource, _, part = resource.partition("/")
        asked = {"verb": verb, "group": group, "resource": resource, "subresource": part, "namespace": namespace}
        review = operator.request("POST", reviews, {"spec": {"resourceAttributes": asked}})
        return bool(review["status"]["allowed"])

    assert may("patch", "tunesmith.dev", "finetunejobs/status")
    assert may("create", "ray.io", "rayjobs")
    for verb in ("get", "list", "watch"):
        assert not may(verb, "", "secrets")
    for verb, resource in (("create", "pods/exec"), ("create", "pods"), ("update", "configmaps"), ("get", "pods/log")):
        assert not may(verb, "", resource)
    assert may("patch", "tunesmith.dev", "finetunejobs"), "a pipeline suspends the job of its stage"
    assert not may("patch", "tunesmith.dev", "rlhfpipelines")
    assert not may("patch", "ray.io", "rayjobs")


def test_the_operator_reads_its_own_defaults_from_the_chart() -> None:
    variables = environment(render())
    assert set(variables) == {f"TUNESMITH_{setting.name.upper()}" for setting in dataclasses.fields(Settings)}
    image = f"localhost:5000/tunesmith-trainer:{__version__}"
    assert parse_settings([], variables) == Settings(image=image)


def test_webhooks_are_a_mounted_secret_that_may_be_missing() -> None:
    objects = render(EVERYTHING)
    (container,) = (pod := operator_pod(objects)["spec"])["containers"]
    settings = parse_settings([], environment(objects))
    (mount,) = (each for each in container["volumeMounts"] if each["name"] == "webhooks")
    assert (mount["mountPath"], mount["readOnly"]) == (settings.webhooks_folder, True)
    (volume,) = (each for each in pod["volumes"] if each["name"] == "webhooks")
    assert volume["secret"] == {"secretName": "webhooks", "optional": True}
    assert settings.notification_hosts == ("hooks.example.com", "*.example.org", "http://events.monitoring.svc:8080")


def test_the_operator_gets_the_endpoint_of_the_traces() -> None:
    variables = environment(render({"tracing": {"endpoint": "http://collector:4318"}}))
    assert parse_settings([], variables).tracing_endpoint == "http://collector:4318"


def test_large_numbers_stay_whole() -> None:
    assert environment(render({"settings": {"burst": 2_000_000}}))["TUNESMITH_BURST"] == "2000000"


def test_versions_agree() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    pinned = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned is not None
    assert environment(render())["TUNESMITH_RAY_VERSION"] == pinned[1]


def test_pod_monitors_select_what_serves_metrics() -> None:
    objects = render(EVERYTHING)
    operator, trainer = of_kind(objects, "PodMonitor")
    pod = operator_pod(objects)
    assert operator["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    assert {end["port"] for end in operator["spec"]["podMetricsEndpoints"]} <= ports
    assert trainer["spec"]["namespaceSelector"] == {"matchNames": ["team-a", "team-b"]}
    assert {end["port"] for end in trainer["spec"]["podMetricsEndpoints"]} == {METRICS_PORT_NAME, RAY_PORT_NAME}
    assert not of_kind(render(), "PodMonitor")


def test_rules_keep_what_prometheus_replaces_and_get_what_the_chart_sets() -> None:
    (rule,) = of_kind(render(EVERYTHING), "PrometheusRule")
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    rules = {each["alert"]: each for group in rule["spec"]["groups"] for each in group["rules"] if "alert" in each}
    idle, stale, down = (rules[f"Tunesmith{name}"] for name in ("GpuIdle", "OperatorStale", "OperatorDown"))
    assert idle["annotations"]["summary"].startswith("{{ $labels.kind }} {{ $labels.namespace }}/{{ $labels.name }} ")
    assert "[60m]) < 0.05" in idle["expr"]
    assert idle["annotations"]["runbook_url"] == "https://git.example.com/docs/runbooks/TunesmithGpuIdle.md"
    assert "3600 * 1.5" in rules["TunesmithCheckpointOld"]["expr"]
    assert "2 * 300" in stale["expr"]
    assert down["labels"]["namespace"] == "tunesmith-system"
    (plain,) = of_kind(render({"prometheusRules": {"enabled": True}}), "PrometheusRule")
    first = next(each for group in plain["spec"]["groups"] for each in group["rules"] if "alert" in each)
    assert first["annotations"]["runbook_url"] == "docs/runbooks/TunesmithGpuIdle.md"
    assert not of_kind(render(), "PrometheusRule")


def boards(values: Object | None = None) -> dict[str, Object]:
    """The dashboards in the ConfigMaps of a release, by uid."""
    found = [json.loads(text) for each in of_kind(render(values), "ConfigMap") for text in each["data"].values()]
    return {board["uid"]: board for board in found}


def test_dashboards_are_found_by_the_sidecar() -> None:
    maps = of_kind(render(), "ConfigMap")
    assert [each["metadata"]["name"] for each in maps] == [
        f"tunesmith-board-{name}" for name in ("fleet", "job", "operator", "rlhf")
    ]
    assert {each["metadata"]["labels"]["grafana_dashboard"] for each in maps} == {"1"}
    assert {each["metadata"]["namespace"] for each in maps} == {"tunesmith-system"}
    for each in of_kind(render(EVERYTHING), "ConfigMap"):
        assert each["metadata"]["namespace"] == "monitoring"
        assert each["metadata"]["labels"]["boards"] == "yes"
        assert each["metadata"]["annotations"] == {"grafana_folder": "Tunesmith"}
    assert not of_kind(render({"dashboards": {"enabled": False}}), "ConfigMap")


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_dashboards_keep_what_grafana_replaces_and_get_what_the_chart_sets(values: Object) -> None:
    given = values.get("dashboards", {"gpuHourPrice": 0, "currency": "USD"})
    fleet = boards(values)["tunesmith-fleet"]
    (price,) = (each for each in fleet["templating"]["list"] if each["type"] == "constant")
    assert float(price["query"]) == float(given["gpuHourPrice"])
    (cost,) = (panel for panel in fleet["panels"] if panel["title"] == "Cost")
    assert cost["fieldConfig"]["defaults"]["unit"] == f"currency{given['currency']}"
    (held,) = (panel for panel in fleet["panels"] if panel["title"] == "GPUs held, by namespace")
    assert held["targets"][0]["legendFormat"] == "{{namespace}}"
    pages = [link["url"] for link in fleet["links"] if link["type"] == "link"]
    assert pages[:1] == (["https://git.example.com/docs/boards.md"] if values else [])
    assert not re.search("@[a-zA-Z]+@", json.dumps(boards(values)))
