"""What a job needs before its first attempt, and what that attempt is made of."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tunesmith.api.base import API_VERSION
from tunesmith_operator.observed import Refusal

from .world import SETTINGS, UID, World, job

MODEL_JOB = {"model": {"source": "job://base"}}
COMPLETE = {
    "conditions": [{"type": "Complete", "status": "True"}],
    "artifacts": {"folder": "pvc://old/team/base-99999999"},
}
FAILED = {"conditions": [{"type": "Failed", "status": "True"}]}


def test_a_new_job_costs_four_writes() -> None:
    world = World().look()
    assert world.created == ["ConfigMap tune-1", "RayJob tune-1"]
    assert world.told == ["AttemptStarted"]
    assert world.phase == "Starting"
    assert world.condition("Validated") == ("True", "Valid")
    assert world.condition("Running") == ("False", "Starting")
    assert world.status.artifacts is not None
    assert world.status.artifacts.folder == "pvc://runs/team/tune-01234567"


def test_nothing_is_done_while_nothing_happens() -> None:
    world = World().look().later(3600).look()
    assert world.idle


def test_children_belong_to_the_job_and_do_not_block_its_deletion() -> None:
    world = World().look()
    for body in world.objects.values():
        (owner,) = body["metadata"]["ownerReferences"]
        assert owner["uid"] == UID
        assert owner["apiVersion"] == API_VERSION
        assert owner["controller"] is True
        assert owner["blockOwnerDeletion"] is False


OBSTACLES: dict[str, tuple[dict[str, Any], Callable[[World], object], tuple[str, str], str, str]] = {
    "a claim that is not there is waited for": (
        {},
        lambda w: w.missing.add("runs"),
        ("False", "MissingPersistentVolumeClaim"),
        "Pending",
        "there is no PersistentVolumeClaim runs in namespace team: create it",
    ),
    "a ConfigMap with data that is not there is waited for": (
        {},
        lambda w: w.missing.add("tests"),
        ("False", "MissingConfigMap"),
        "Pending",
        "there is no ConfigMap tests",
    ),
    "without an image and a default for it the job says so": (
        {},
        lambda w: setattr(w, "settings", replace(SETTINGS, image="")),
        ("False", "MissingImage"),
        "Pending",
        "set spec.runtime.image",
    ),
    "without storage and a default for it the job says so": (
        {},
        lambda w: setattr(w, "settings", replace(SETTINGS, storage_claim="")),
        ("False", "MissingStorage"),
        "Pending",
        "set spec.storage",
    ),
    "a job whose model comes from one that does not exist waits": (
        MODEL_JOB,
        lambda w: None,
        ("Unknown", "WaitingForJob"),
        "Pending",
        "waits for FineTuneJob base, which is not there",
    ),
    "a job whose model is still trained waits": (
        MODEL_JOB,
        lambda w: w.others.update(base=job("base", "99999999aaaa")),
        ("Unknown", "WaitingForJob"),
        "Pending",
        "waits until FineTuneJob base is complete",
    ),
    "a job whose model failed to train fails": (
        MODEL_JOB,
        lambda w: w.others.update(base=job("base", "99999999aaaa", status=FAILED)),
        ("False", "ModelJobFailed"),
        "Failed",
        "FineTuneJob base, whose model is needed (spec.model.source), has failed",
    ),
    "a spec that the CRD could not refuse fails": (
        {"training": {"epochs": 1, "maxSteps": 5}},
        lambda w: None,
        ("False", "InvalidSpec"),
        "Failed",
        "spec.training: set epochs or maxSteps, not both",
    ),
}


@pytest.mark.parametrize("case", OBSTACLES)
def test_obstacles(case: str) -> None:
    spec, happens, validated, phase, message = OBSTACLES[case]
    world = World(**spec)
    happens(world)
    world.looks()
    assert world.created == []
    assert world.condition("Validated") == validated
    assert world.phase == phase
    assert message in (world.status.message or "")
    assert world.plan.look_again is not None or phase == "Failed"


def test_a_job_starts_once_what_it_waited_for_is_there() -> None:
    world = World()
    world.missing.add("runs")
    world.looks()
    assert world.told == ["MissingPersistentVolumeClaim"]
    world.missing.clear()
    world.look()
    assert world.created == ["ConfigMap tune-1", "RayJob tune-1"]


def test_an_invalid_spec_that_is_mended_before_the_start_runs() -> None:
    world = World(training={"epochs": 1, "maxSteps": 5}).looks()
    assert world.status.completion_time
    world.spec(training={"epochs": 1}).look()
    assert world.phase == "Starting"
    assert world.condition("Failed") == ("", "")
    assert world.status.completion_time is None


def test_a_model_of_another_job_is_read_from_its_claim() -> None:
    world = World(**MODEL_JOB)
    older = job("older", "8888", model={"source": "pvc://hub/llama"})
    base = job("base", "99999999aaaa", status=COMPLETE, model={"source": "job://older"})
    world.others |= {"base": base, "older": older}
    world.look()
    config = world.objects["ConfigMap", "tune-1"]
    assert '"source": "pvc://old/team/base-99999999/model"' in config["data"]["job.json"]
    head = world.objects["RayJob", "tune-1"]["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    read_only = {m["mountPath"]: m.get("readOnly", False) for m in head["containers"][0]["volumeMounts"]}
    assert read_only["/mnt/tunesmith/pvc/old"] is True
    assert read_only["/mnt/tunesmith/pvc/hub"] is True, "an adapter may point to the base that it was trained on"
    assert read_only["/mnt/tunesmith/pvc/runs"] is False


def test_a_later_attempt_needs_the_model_job_no_more() -> None:
    world = World(**MODEL_JOB)
    world.others["base"] = job("base", "99999999aaaa", status=COMPLETE)
    world.look().trains()
    world.others.clear()
    world.tells("WorkerLost").looks().later(60).looks()
    assert "pvc://old/team/base-99999999/model" in world.objects["ConfigMap", "tune-2"]["data"]["job.json"]


def test_a_child_of_somebody_else_is_reported_and_left_alone() -> None:
    world = World()
    world.refusal = Refusal("ChildConflict", "RayJob tune-1 belongs to Ghost x: delete it")
    world.look()
    assert world.condition("Running") == ("False", "ChildConflict")
    assert world.status.attempts == []
    assert world.told == ["ChildConflict"]
    assert world.plan.look_again == SETTINGS.recheck_seconds


@pytest.mark.parametrize("written", ["ConfigMap", "RayJob"])
def test_a_start_that_was_cut_off_is_finished(written: str) -> None:
    done, world = World().look(), World()
    kinds = ["ConfigMap", "RayJob"][: ["ConfigMap", "RayJob"].index(written) + 1]
    world.objects = {(kind, "tune-1"): done.objects[kind, "tune-1"] for kind in kinds}
    world.looks()
    assert world.objects.keys() == done.objects.keys()
    assert [attempt.number for attempt in world.status.attempts] == [1]


def test_a_spec_that_changed_before_the_ray_job_was_made_gets_a_new_config_map() -> None:
    world = World().look()
    world.loses("RayJob", "tune-1")
    del world.body["status"]
    world.spec(training={"learningRate": 0.1}).look()
    assert world.deleted == ["ConfigMap tune-1"]
    world.look()
    assert '"learningRate": 0.1' in world.objects["ConfigMap", "tune-1"]["data"]["job.json"]


@pytest.mark.parametrize("manager", ["example.com/other", "kueue.x-k8s.io/multikueue"])
def test_a_job_of_another_controller_is_left_alone(manager: str) -> None:
    assert World(managedBy=manager).look().idle


def test_our_own_name_as_the_manager_changes_nothing() -> None:
    assert World(managedBy="tunesmith.dev/operator").look().created


def test_a_job_that_is_being_deleted_is_left_to_the_garbage_collector() -> None:
    world = World()
    world.body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert world.look().idle


def test_under_a_queue_the_ray_job_is_made_suspended() -> None:
    world = World()
    world.body["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "research"}
    world.look()
    ray_job = world.objects["RayJob", "tune-1"]
    assert ray_job["spec"]["suspend"] is True
    assert ray_job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    assert world.phase == "Queued"
    ray_job["spec"]["suspend"] = False  # Kueue lets it in
    world.trains().look()
    assert world.phase == "Training"


PPO = {
    "model": {"source": "job://tuned"},
    "objective": {"ppo": {"reward": [{"model": {"source": "job://judge"}}, {"model": {"source": "pvc://hub/judge"}}]}},
}


def test_the_models_that_reward_are_waited_for_and_read_like_the_one_to_start_from() -> None:
    world = World(**PPO)
    world.others["tuned"] = job("tuned", "11111111aaaa", status=COMPLETE)
    world.looks()
    assert world.created == []
    place = "spec.objective.ppo.reward[0].model.source"
    assert (
        world.message("Validated") == f"waits for FineTuneJob judge, which is not there: create it, or correct {place}"
    )
    world.others["judge"] = job("judge", "22222222bbbb")
    assert world.looks().message("Validated") == "waits until FineTuneJob judge is complete"
    world.others["judge"] = job("judge", "22222222bbbb", status=COMPLETE)
    world.looks().trains()
    spec = json.loads(world.objects["ConfigMap", "tune-1"]["data"]["job.json"])["spec"]
    assert spec["model"]["source"] == "pvc://old/team/base-99999999/model"
    sources = [term["model"]["source"] for term in spec["objective"]["ppo"]["reward"]]
    assert sources == ["pvc://old/team/base-99999999/model", "pvc://hub/judge"]
    head = world.objects["RayJob", "tune-1"]["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    read_only = {m["mountPath"]: m.get("readOnly", False) for m in head["containers"][0]["volumeMounts"]}
    assert read_only["/mnt/tunesmith/pvc/hub"] is True
    world.others.clear()
    world.tells("WorkerLost").looks().later(60).looks()
    assert world.created[-1] == "RayJob tune-2", "a later attempt needs neither job"


def test_a_reward_model_of_a_job_that_failed_ends_the_job_though_another_is_waited_for() -> None:
    world = World(**PPO)
    failed = {"conditions": [{"type": "Failed", "status": "True", "reason": "x", "lastTransitionTime": "x"}]}
    world.others["judge"] = job("judge", "22222222bbbb", status=failed)
    world.looks()
    assert world.condition("Failed") == ("True", "ModelJobFailed")
    assert "FineTuneJob judge" in (world.status.message or "")
