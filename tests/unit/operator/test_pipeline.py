"""What a pipeline does with its stages: in order, again after a failure, under the user's hand."""

from collections.abc import Callable
from typing import Any

import pytest

from tunesmith_operator.names import stage_job_name
from tunesmith_operator.observed import Refusal

from .pipeline_world import SPEC, PipelineWorld

Happens = Callable[[PipelineWorld], object]


def test_the_stages_run_one_after_the_other() -> None:
    world = PipelineWorld().looks()
    assert world.created == ["helpful-sft"]
    assert world.phase == "Supervised"
    world.succeeds("helpful-sft").looks()
    assert world.created == ["helpful-sft", "helpful-reward"]
    assert world.phase == "Reward"
    world.succeeds("helpful-reward").looks()
    assert world.created == ["helpful-sft", "helpful-reward", "helpful-ppo"]
    assert world.phase == "PPO"
    world.trains("helpful-ppo").looks()
    assert world.condition("Running") == ("True", "Training")
    evaluation = {"rows": 5, "metrics": [{"name": "winRate", "tuned": {"value": 0.6, "low": 0.5, "high": 0.7}}]}
    world.jobs["helpful-ppo"]["status"]["phase"] = "Evaluating"
    assert world.looks().phase == "Evaluating"
    world.succeeds("helpful-ppo", evaluation=evaluation).looks()
    assert world.phase == "Succeeded"
    assert world.condition("Complete") == ("True", "Succeeded")
    assert world.status.artifacts is not None
    assert world.status.artifacts.model == "pvc://runs/team/helpful-ppo/model"
    assert world.status.evaluation is not None
    assert world.status.evaluation.metrics[0].name == "winRate"
    told = ["StageStarted"] + ["StageSucceeded", "StageStarted"] * 2 + ["StageSucceeded", "Complete"]
    assert world.told == told


def test_each_stage_starts_from_what_the_others_have_left() -> None:
    world = PipelineWorld(template="Q: {prompt} A: {response}").runs_to("ppo")
    sft, reward, ppo = (world.jobs[f"helpful-{stage}"]["spec"] for stage in ("sft", "reward", "ppo"))
    assert sft["model"]["source"] == "hf://org/model"
    assert reward["model"]["source"] == ppo["model"]["source"] == "job://helpful-sft"
    assert ppo["objective"]["ppo"]["reward"][0]["model"]["source"] == "job://helpful-reward"
    templates = [sft["objective"]["instruction"], reward["objective"]["reward"], ppo["objective"]["ppo"]]
    assert {part["template"] for part in templates} == {"Q: {prompt} A: {response}"}


def test_a_job_belongs_to_its_pipeline_and_its_queue() -> None:
    world = PipelineWorld()
    world.body["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "research"}
    meta = world.look().jobs["helpful-sft"]["metadata"]
    (owner,) = meta["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("RLHFPipeline", "helpful", True)
    assert meta["labels"] == {
        "tunesmith.dev/pipeline": "helpful",
        "tunesmith.dev/stage": "sft",
        "tunesmith.dev/stage-number": "1",
        "kueue.x-k8s.io/queue-name": "research",
    }


@pytest.mark.parametrize(
    ("spec", "created", "reward_model"),
    [
        ({"sft": {"source": "pvc://models/tuned"}, "model": None}, ["helpful-reward"], None),
        ({"reward": {"source": "job://judge"}}, ["helpful-sft", "helpful-ppo"], "job://judge"),
        (
            {"reward": None, "ppo": SPEC["ppo"] | {"ppo": {"reward": [{"exactMatch": {}}]}}},
            ["helpful-sft", "helpful-ppo"],
            None,
        ),
    ],
)
def test_a_stage_may_be_there_already(spec: dict[str, Any], created: list[str], reward_model: str | None) -> None:
    world = PipelineWorld(**spec).looks()
    for name in created:
        assert world.created[-1] == name
        world.succeeds(name).looks()
    if reward_model is not None:
        term = world.jobs["helpful-ppo"]["spec"]["objective"]["ppo"]["reward"][0]
        assert term["model"]["source"] == reward_model
        assert (world.line("reward").job, world.line("reward").message) == (None, "is job://judge")
    if "model" in spec:
        assert world.jobs["helpful-ppo"]["spec"]["model"]["source"] == "pvc://models/tuned"


def test_progress_is_that_of_all_stages() -> None:
    world = PipelineWorld().looks().trains("helpful-sft", 50).looks()
    assert world.status.percentage == 16
    world.succeeds("helpful-sft").looks()
    assert world.status.percentage == 33
    world.trains("helpful-reward", 100).looks()
    assert world.status.percentage == 66
    world.succeeds("helpful-reward").looks().succeeds("helpful-ppo").looks()
    assert world.status.percentage == 100


def test_a_failed_stage_ends_the_pipeline_and_says_what_to_do() -> None:
    world = PipelineWorld().runs_to("ppo").fails("helpful-ppo", "LossDiverged", "the loss is NaN").looks()
    assert world.phase == "Failed"
    assert world.condition("Failed") == ("True", "LossDiverged")
    assert world.message == (
        "stage ppo failed: the loss is NaN; change spec.ppo to run it again as helpful-ppo-2, "
        "or delete FineTuneJob helpful-ppo to run it again as it is"
    )
    assert world.told[-2:] == ["StageFailed", "Failed"]
    assert world.status.completion_time


def test_a_failed_stage_is_begun_again_when_its_part_changes() -> None:
    world = PipelineWorld().runs_to("ppo").fails("helpful-ppo").looks()
    world.spec(ppo=SPEC["ppo"] | {"training": {"learningRate": 1e-5}}).looks()
    assert world.created == ["helpful-sft", "helpful-reward", "helpful-ppo", "helpful-ppo-2"]
    assert world.phase == "PPO"
    assert world.condition("Failed") == ("", "")
    assert world.status.completion_time is None
    assert (world.line("ppo").job, world.line("ppo").number) == ("helpful-ppo-2", 2)
    world.fails("helpful-ppo-2").looks()
    assert world.phase == "Failed"
    world.spec(ppo=SPEC["ppo"]).looks()
    assert world.created[-1] == "helpful-ppo-3", "it is what the first was, but that is not the last"
    assert world.succeeds("helpful-ppo-3").looks().phase == "Succeeded"


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"scaling": {"workers": 2}}, True),
        ({"runtime": {"image": "trainer:2"}}, True),
        ({"evaluation": {"metrics": ["reward"]}}, False),  # has no test rows: refused
        ({"backoffLimit": 7}, False),
        ({"suspend": False}, False),
        ({"ttlSecondsAfterFinished": 1000}, False),
        ({"sft": SPEC["sft"] | {"training": {"seed": 5}}}, False),  # the API server refuses it
    ],
)
def test_what_makes_a_failed_stage_worth_another_try(change: dict[str, Any], again: bool) -> None:
    world = PipelineWorld().runs_to("ppo").fails("helpful-ppo").looks().spec(**change).looks()
    assert (world.created[-1] == "helpful-ppo-2") is again
    assert (world.phase == "Failed") is not again


def test_the_reward_stage_may_be_tried_again_and_ppo_takes_the_second() -> None:
    world = PipelineWorld().runs_to("reward").fails("helpful-reward").looks()
    world.spec(reward=SPEC["reward"] | {"reward": {"margin": 1.0}}).looks().succeeds("helpful-reward-2").looks()
    term = world.jobs["helpful-ppo"]["spec"]["objective"]["ppo"]["reward"][0]
    assert term["model"]["source"] == "job://helpful-reward-2"


def test_a_failed_job_that_is_deleted_is_run_again_as_it_is() -> None:
    world = PipelineWorld().runs_to("ppo").fails("helpful-ppo").looks().loses("helpful-ppo").looks()
    assert world.created[-2:] == ["helpful-ppo", "helpful-ppo"]
    assert world.phase == "PPO"


def test_a_job_that_is_deleted_while_it_runs_is_made_again() -> None:
    world = PipelineWorld().looks().trains("helpful-sft").looks()
    world.jobs["helpful-sft"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world.looks()
    assert world.created == ["helpful-sft"]
    assert world.line("sft").message == "is being deleted"
    world.loses("helpful-sft").looks()
    assert world.created == ["helpful-sft", "helpful-sft"]
    assert world.line("sft").number == 1


def test_a_second_try_that_is_deleted_keeps_its_number() -> None:
    world = PipelineWorld().runs_to("ppo").fails("helpful-ppo").looks()
    world.spec(ppo=SPEC["ppo"] | {"training": {"seed": 1}}).looks()
    world.loses("helpful-ppo-2").loses("helpful-ppo").looks()
    assert world.created[-1] == "helpful-ppo-2"


def test_a_stage_that_succeeded_is_not_run_again_though_its_job_is_gone() -> None:
    world = PipelineWorld().runs_to("reward").loses("helpful-sft").looks()
    assert world.created == ["helpful-sft", "helpful-reward"]
    assert world.line("sft").phase == "Succeeded"
    world.succeeds("helpful-reward").looks()
    assert world.jobs["helpful-ppo"]["spec"]["model"]["source"] == "pvc://runs/team/helpful-sft/model"


def test_suspending_reaches_the_running_job_alone() -> None:
    world = PipelineWorld().runs_to("reward").trains("helpful-reward").spec(suspend=True).looks()
    assert world.changed == [("helpful-reward", {"suspend": True})]
    assert world.phase == "Reward", "until its job has let go"
    world.jobs["helpful-reward"]["status"]["phase"] = "Suspended"
    world.looks()
    assert world.phase == "Suspended"
    assert world.condition("Suspended") == ("True", "Suspended")
    world.spec(suspend=False).looks()
    assert world.changed[-1] == ("helpful-reward", {"suspend": False})
    assert world.condition("Suspended") == ("False", "Resumed")
    assert world.told.count("Suspended") == 1


def test_between_two_stages_suspension_keeps_the_next_from_being_begun() -> None:
    world = PipelineWorld().looks().spec(suspend=True).looks().succeeds("helpful-sft").looks()
    assert world.created == ["helpful-sft"]
    assert world.phase == "Suspended"
    assert world.spec(suspend=False).looks().created[-1] == "helpful-reward"


def test_a_pipeline_that_is_suspended_from_the_start_has_no_jobs() -> None:
    world = PipelineWorld(suspend=True).looks()
    assert (world.created, world.phase) == ([], "Suspended")
    assert world.spec(suspend=False).looks().created == ["helpful-sft"]


@pytest.mark.parametrize(
    ("change", "patch"),
    [
        ({"backoffLimit": 9}, {"backoffLimit": 9}),
        ({"activeDeadlineSeconds": 100}, {"activeDeadlineSeconds": 100}),
        ({"scaling": {"workers": 2}}, {"scaling": {"workers": 2}}),
        ({"runtime": {"image": "trainer:2"}}, {"runtime": {"image": "trainer:2"}}),
        ({"priorityClassName": "high"}, {"priorityClassName": "high"}),
    ],
)
def test_what_may_change_is_passed_on_to_the_running_job(change: dict[str, Any], patch: dict[str, Any]) -> None:
    world = PipelineWorld().looks().trains("helpful-sft").looks().spec(**change).looks()
    assert world.changed == [("helpful-sft", patch)]


def test_what_is_taken_back_is_taken_back_from_the_job() -> None:
    world = PipelineWorld(scaling={"workers": 2, "deepspeed": {}}, priorityClassName="high").looks()
    world.spec(scaling={"workers": 2}, priorityClassName=None).looks()
    assert world.changed == [("helpful-sft", {"scaling": {"deepspeed": None}, "priorityClassName": None})]


def test_the_deadline_is_that_of_all_stages_together() -> None:
    world = PipelineWorld(activeDeadlineSeconds=100).looks()
    assert world.jobs["helpful-sft"]["spec"]["activeDeadlineSeconds"] == 100
    world.succeeds("helpful-sft", seconds=30).looks()
    assert world.jobs["helpful-reward"]["spec"]["activeDeadlineSeconds"] == 70
    world.succeeds("helpful-reward", seconds=70).looks()
    assert "helpful-ppo" not in world.created
    assert world.condition("Failed") == ("True", "DeadlineExceeded")
    world.spec(activeDeadlineSeconds=110).looks()
    assert world.jobs["helpful-ppo"]["spec"]["activeDeadlineSeconds"] == 10
    assert world.condition("Failed") == ("", "")


@pytest.mark.parametrize("end", ["Succeeded", "Failed"])
def test_a_pipeline_goes_when_its_time_is_over(end: str) -> None:
    world = PipelineWorld(ttlSecondsAfterFinished=60).runs_to("ppo")
    if end == "Succeeded":
        world.succeeds("helpful-ppo")
    else:
        world.fails("helpful-ppo")
    world.looks().later(59).look()
    assert (world.phase, world.plan.delete_itself, world.plan.look_again) == (end, False, 1)
    assert world.later(1).look().plan.delete_itself


def test_a_job_of_somebody_else_is_reported_and_left_alone() -> None:
    world = PipelineWorld()
    world.refusal = Refusal("ChildConflict", "FineTuneJob helpful-sft is there already: delete it")
    world.looks()
    assert (world.created, world.phase) == ([], "Pending")
    assert world.condition("Running") == ("False", "ChildConflict")
    assert world.message == "FineTuneJob helpful-sft is there already: delete it"
    assert world.told == ["ChildConflict"]
    assert world.plan.look_again is not None
    world.refusal = None
    assert world.looks().created == ["helpful-sft"]


INVALID = {"dataset": {"train": {"source": "hf://org/answers"}}, "method": {"lora": {}}, "evaluation": {}}


def test_an_invalid_stage_is_told_at_the_pipelines_own_field_before_anything_starts() -> None:
    world = PipelineWorld(sft=INVALID).looks()
    assert (world.created, world.phase) == ([], "Failed")
    assert world.condition("Validated") == ("False", "InvalidSpec")
    assert world.message == "spec.sft: evaluation needs dataset.test"
    assert world.spec(sft=SPEC["sft"]).looks().created == ["helpful-sft"]
    assert world.condition("Failed") == ("", "")


def test_a_spec_that_becomes_invalid_does_not_disturb_the_stage_that_runs() -> None:
    world = PipelineWorld().looks().trains("helpful-sft").spec(evaluation={"metrics": ["reward"]}).looks()
    assert world.condition("Validated") == ("False", "InvalidSpec")
    assert world.phase == "Supervised"
    world.succeeds("helpful-sft").looks()
    assert world.created == ["helpful-sft"], "nothing new is begun"
    assert world.condition("Failed") == ("True", "InvalidSpec")
    world.spec(evaluation=None).looks()
    assert world.created == ["helpful-sft", "helpful-reward"]


def test_a_start_that_was_cut_off_is_finished() -> None:
    done, world = PipelineWorld().look(), PipelineWorld()
    world.jobs = dict(done.jobs)
    world.looks()
    assert world.created == []
    assert world.told == ["StageStarted"]
    assert world.status.stages == done.status.stages


def test_a_part_that_changed_before_the_status_knew_its_job_gets_a_new_job() -> None:
    done, world = PipelineWorld().look(), PipelineWorld()
    world.jobs = dict(done.jobs)
    world.spec(sft=SPEC["sft"] | {"training": {"seed": 7}}).looks()
    assert world.deleted == ["helpful-sft"]
    assert world.created == ["helpful-sft"]
    assert world.jobs["helpful-sft"]["spec"]["training"]["seed"] == 7


def test_a_pipeline_that_is_done_stays_so_whatever_becomes_of_its_jobs() -> None:
    world = PipelineWorld().runs_to("ppo").succeeds("helpful-ppo").looks()
    world.jobs.clear()
    before = world.status
    world.spec(scaling={"workers": 5}).looks()
    assert world.created == ["helpful-sft", "helpful-reward", "helpful-ppo"]
    assert world.status == before.model_copy(update={"observed_generation": 2})


@pytest.mark.parametrize(
    "happens",
    [
        lambda w: w.body["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"),
        lambda w: w.spec(managedBy="example.com/other"),
    ],
)
def test_a_pipeline_that_is_not_ours_is_left_alone(happens: Happens) -> None:
    world = PipelineWorld()
    happens(world)
    assert world.looks().created == []


@pytest.mark.parametrize("name", ["a", "a" * 32, "a" * 33, "a" * 253, "0day", "my.model.v1"])
def test_a_stages_name_leaves_room_for_its_jobs_children(name: str) -> None:
    made = [stage_job_name(name, stage, number) for stage in ("sft", "reward", "ppo") for number in (1, 2, 100)]
    assert len(set(made)) == 9
    assert all(len(f"{each}-evaluation") <= 47 for each in made)
