"""The CRD before a real API server: what it refuses and in which words, what it fills in, what it explains."""

import subprocess
from typing import Any

import pytest
import yaml

from tests.tools.build import build
from tests.unit.api.invalid import PIPELINES, SPECS, VALID, VALID_EVALUATION, VALID_PIPELINE, Invalid, changed
from tunesmith.api.job import FineTuneJobSpec

from .controlplane import ControlPlane
from .kube import Kube, KubeError, Object

API = "tunesmith.dev/v1alpha1"
STRICT = {"fieldValidation": "Strict"}
"""As kubectl asks: an unknown field is refused instead of dropped."""


def job(text: str, namespace: str) -> Object:
    # YAML is handed over as JSON, as kubectl does; PyYAML reads 2e-4 as a string, which kubectl does not
    body: Object = yaml.safe_load(text.replace("2e-4", "2.0e-4").replace("1e3", "1.0e+3"))
    body["metadata"]["namespace"] = namespace
    return body


VALID_SPEC = FineTuneJobSpec.model_validate(job(VALID, "default")["spec"])


def create(kube: Kube, body: Object) -> Object:
    path = kube.path(body["apiVersion"], body["kind"], body["metadata"]["namespace"])
    return kube.request("POST", path, body, query=STRICT)


def started(kube: Kube, namespace: str) -> Object:
    """A job that has had its first attempt."""
    create(kube, job(VALID, namespace))
    attempt = {"number": 1, "rayJob": "sums-1", "startTime": "2030-01-01T00:00:00Z"}
    status = {"attempts": [attempt], "startTime": attempt["startTime"]}
    return kube.patch_status(API, "FineTuneJob", "sums", status, namespace)


@pytest.mark.parametrize("case", [*SPECS, *PIPELINES], ids=lambda case: case.story)
def test_the_server_refuses_what_validate_refuses(case: Invalid, kube: Kube, namespace: str) -> None:
    with pytest.raises(KubeError) as refused:
        create(kube, job(case.text, namespace))
    assert refused.value.status in (400, 422)
    assert case.place in refused.value.message
    assert (case.server or case.message) in refused.value.message


def test_defaults_are_filled_in(kube: Kube, namespace: str) -> None:
    spec = create(kube, job(changed({"batchSize: 4": "batchSize:"}), namespace))["spec"]
    assert spec["training"]["batchSize"] == 32, "a field without a value has its default"
    assert spec["training"]["schedule"] == VALID_SPEC.training.schedule.to_dict()
    assert VALID_SPEC.method.lora is not None
    assert spec["method"]["lora"] == VALID_SPEC.method.lora.to_dict()
    assert (spec["scaling"]["workers"], spec["suspend"], spec["backoffLimit"]) == (1, False, 3)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("model", {"source": "hf://acme/other"}),
        ("dataset", {"columns": {"prompt": "q"}}),
        ("objective", {"instruction": {"template": "{prompt} {response}"}}),
        ("method", {"lora": {"rank": 4}}),
        ("training", {"learningRate": 1e-5}),
    ],
)
def test_what_a_run_means_is_fixed_once_it_has_started(field: str, change: Any, kube: Kube, namespace: str) -> None:
    started(kube, namespace)
    with pytest.raises(KubeError) as refused:
        kube.patch(API, "FineTuneJob", "sums", {"spec": {field: change}}, namespace)
    assert f"spec.{field}: " in refused.value.message
    assert "cannot change once the job has started: make a new job" in refused.value.message


def test_an_evaluation_alone_is_fixed_once_it_has_started(kube: Kube, namespace: str) -> None:
    made = create(kube, job(VALID_EVALUATION, namespace))
    assert (made["spec"]["objective"], made["spec"]["method"]) == ({}, {}), "what rules look at is there"
    kube.patch(API, "FineTuneJob", "judged", {"spec": {"training": {"maxLength": 64}}}, namespace)
    kube.patch_status(API, "FineTuneJob", "judged", {"startTime": "2030-01-01T00:00:00Z"}, namespace)
    kube.patch(API, "FineTuneJob", "judged", {"spec": {"suspend": True}}, namespace)
    with pytest.raises(KubeError, match="cannot change once the job has started"):
        kube.patch(API, "FineTuneJob", "judged", {"spec": {"training": {"maxLength": 128}}}, namespace)


def test_everything_may_change_before_the_start(kube: Kube, namespace: str) -> None:
    create(kube, job(VALID, namespace))
    changed_job = kube.patch(API, "FineTuneJob", "sums", {"spec": {"training": {"batchSize": 8}}}, namespace)
    assert changed_job["spec"]["training"]["batchSize"] == 8


def test_the_life_of_a_job_may_change_while_it_runs(kube: Kube, namespace: str) -> None:
    started(kube, namespace)
    change = {"suspend": True, "activeDeadlineSeconds": 60, "ttlSecondsAfterFinished": 5, "backoffLimit": 0}
    spec = kube.patch(API, "FineTuneJob", "sums", {"spec": change}, namespace)["spec"]
    assert {key: spec[key] for key in change} == change


def test_kubectl_explains_and_prints_columns(control_plane: ControlPlane, kube: Kube, namespace: str) -> None:
    kubectl = [str(build("kubectl")["kubectl"]), f"--kubeconfig={control_plane.kubeconfig}", f"--namespace={namespace}"]

    def run(*arguments: str) -> str:
        return subprocess.run([*kubectl, *arguments], check=True, capture_output=True, text=True).stdout

    explained = run("explain", "ftj.spec.training.microBatchSize")
    assert "<integer>" in explained
    assert "halved by itself after an out-of-memory failure" in " ".join(explained.split())
    started(kube, namespace)
    progress = {"step": 1, "totalSteps": 4, "percentage": 25, "loss": 2.5}
    kube.patch_status(API, "FineTuneJob", "sums", {"phase": "Training", "progress": progress}, namespace)
    header, row = run("get", "tunesmith").splitlines()
    assert header.split() == ["NAME", "PHASE", "PROGRESS", "LOSS", "AGE"]
    assert row.split()[:4] == ["finetunejob.tunesmith.dev/sums", "Training", "25", "2.5"]  # of several kinds


def test_client_side_apply_works(control_plane: ControlPlane, namespace: str) -> None:
    """It keeps the whole object in an annotation of at most 256 KiB."""
    kubectl = [str(build("kubectl")["kubectl"]), f"--kubeconfig={control_plane.kubeconfig}", f"--namespace={namespace}"]
    for _ in range(2):
        subprocess.run([*kubectl, "apply", "-f", "-"], input=VALID, check=True, capture_output=True, text=True)


# Pipelines.

PIPELINE = (API, "RLHFPipeline", "helpful")
CHANGES: dict[str, Object] = {
    "sft": {"sft": {"training": {"seed": 5}}},
    "model": {"model": {"source": "hf://acme/other"}},
    "template": {"template": "{prompt} {response}"},
    "reward": {"reward": {"reward": {"margin": 2.0}}},
    "ppo": {"ppo": {"ppo": {"klCoefficient": 0.1}}},
}
OWN_PART = {"sft": ("sft", "model", "template"), "reward": ("reward",), "ppo": ("ppo",)}


def with_stages(kube: Kube, namespace: str, text: str = VALID_PIPELINE, **phases: str) -> None:
    """A pipeline whose stages have jobs in these phases; of one that is there already the phase begins with =."""
    create(kube, job(text, namespace))
    stages = [
        {"name": stage, "phase": phase.removeprefix("=")} | ({} if phase[0] == "=" else {"job": f"helpful-{stage}"})
        for stage, phase in phases.items()
    ]
    kube.patch_status(*PIPELINE, {"stages": stages}, namespace)


@pytest.mark.parametrize("phase", ["Pending", "Training", "Suspended", "Succeeded"])
@pytest.mark.parametrize("stage", OWN_PART)
def test_a_part_is_fixed_while_its_stage_runs_and_afterwards(
    stage: str, phase: str, kube: Kube, namespace: str
) -> None:
    with_stages(kube, namespace, **{stage: phase})
    for part, change in CHANGES.items():
        if part not in OWN_PART[stage]:
            kube.patch(*PIPELINE, {"spec": change}, namespace)
            continue
        with pytest.raises(KubeError) as refused:
            kube.patch(*PIPELINE, {"spec": change}, namespace)
        assert f"spec.{part}: " in refused.value.message
        assert f"cannot change while stage {stage} runs" in refused.value.message


@pytest.mark.parametrize("phases", [{}, {"sft": "Failed", "reward": "Failed", "ppo": "Failed"}])
def test_a_part_may_change_before_its_stage_and_after_it_has_failed(
    phases: dict[str, str], kube: Kube, namespace: str
) -> None:
    with_stages(kube, namespace, **phases)
    for change in CHANGES.values():
        kube.patch(*PIPELINE, {"spec": change}, namespace)


REPLACED = {
    "  model: {source: hf://acme/tiny}\n": "",
    "    dataset:\n      train: {source: hf://acme/answers}\n": "    source: hf://acme/tuned\n",
    "    method: {lora: {rank: 8}}\n": "",
}


@pytest.mark.parametrize(("reward", "fixed"), [("Training", True), ("Succeeded", True), ("Failed", False)])
def test_what_replaces_a_stage_is_fixed_while_another_builds_on_it(
    reward: str, fixed: bool, kube: Kube, namespace: str
) -> None:
    with_stages(kube, namespace, changed(REPLACED, VALID_PIPELINE), sft="=Succeeded", reward=reward)
    change = {"spec": {"sft": {"source": "hf://acme/better"}}}
    if fixed:
        with pytest.raises(KubeError, match=r"spec\.sft: .*cannot change while stage sft runs"):
            kube.patch(*PIPELINE, change, namespace)
    else:
        kube.patch(*PIPELINE, change, namespace)


def test_the_life_of_a_pipeline_may_change_while_it_runs(kube: Kube, namespace: str) -> None:
    with_stages(kube, namespace, sft="Succeeded", reward="Succeeded", ppo="Training")
    change = {"suspend": True, "activeDeadlineSeconds": 60, "backoffLimit": 0, "scaling": {"workers": 3}}
    spec = kube.patch(*PIPELINE, {"spec": change}, namespace)["spec"]
    assert (spec["suspend"], spec["backoffLimit"], spec["scaling"]["workers"]) == (True, 0, 3)


def test_a_pipeline_is_applied_by_client_and_server(control_plane: ControlPlane, kube: Kube, namespace: str) -> None:
    kubectl = [str(build("kubectl")["kubectl"]), f"--kubeconfig={control_plane.kubeconfig}", f"--namespace={namespace}"]

    def run(*arguments: str) -> str:
        done = subprocess.run([*kubectl, *arguments], input=VALID_PIPELINE, check=True, capture_output=True, text=True)
        return done.stdout

    for _ in range(2):
        run("apply", "-f", "-")
    for _ in range(2):
        run("apply", "--server-side", "--force-conflicts", "-f", "-")
    kube.patch_status(*PIPELINE, {"phase": "PPO", "percentage": 70, "message": "helpful-ppo: Training"}, namespace)
    header, row = run("get", "rlhf", "-o", "wide").splitlines()
    assert header.split() == ["NAME", "PHASE", "PROGRESS", "AGE", "MESSAGE"]
    assert row.split()[:3] == ["helpful", "PPO", "70"]
    assert "<Object>" in run("explain", "rlhf.spec.reward")
    assert "kubectl explain finetunejob.spec.training" in " ".join(run("explain", "rlhf.spec.sft.training").split())
