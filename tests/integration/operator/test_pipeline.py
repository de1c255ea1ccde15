"""A pipeline on the real API server: its stages, one that fails, the user's hand, and an operator that is killed."""

import itertools
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from ..kube import Kube, Object, eventually
from .proxy import Proxy
from .ray import GATE_FAILED, JOB, PIPELINE, RAY, Ray, fine_tune_job, rlhf_pipeline, run_config, told
from .receiver import Receiver
from .running import Operator
from .test_kill_anywhere import PATIENT, phase, timeless

NAME = "helpful"
STAGES = ("sft", "reward", "ppo")
LONGEST = 90.0
OTHER_PPO = {"spec": {"ppo": {"training": {"seed": 5}}}}


def get(kube: Kube, namespace: str) -> Object:
    return kube.get(*PIPELINE, NAME, namespace)


def line(pipeline: Object, stage: str) -> Object:
    """What the status says of a stage."""
    stages = pipeline.get("status", {}).get("stages", [])
    return next((each for each in stages if each["name"] == stage), {})


def play(
    kube: Kube, namespace: str, ray: Ray, until: Callable[[Object], object], operator: Operator | None = None
) -> Object:
    """Plays Ray until the pipeline is as it should be, and starts the operator when it was killed; returns the
    pipeline.
    """
    end = time.monotonic() + LONGEST
    while True:
        if operator is not None and not operator.alive:
            operator.start(**PATIENT)
        pipeline = get(kube, namespace)
        if until(pipeline):
            return pipeline
        assert time.monotonic() < end, f"it stands still at {pipeline.get('status')}"
        ray.step()
        time.sleep(0.03)


def is_over(pipeline: Object) -> bool:
    return phase(pipeline) in ("Succeeded", "Failed")


def is_later_over(stage: str) -> Callable[[Object], bool]:
    """Whether the pipeline is over since a later stage has begun."""
    return lambda pipeline: is_over(pipeline) and bool(line(pipeline, stage).get("job"))


def jobs(kube: Kube, namespace: str) -> list[str]:
    return sorted(job["metadata"]["name"] for job in kube.list(*JOB, namespace))


def test_three_stages_make_a_policy(
    kube: Kube, namespace: str, operator: Operator, ray: Ray, receiver: Receiver
) -> None:
    (operator.webhooks / "team").write_text(receiver.url)
    operator.start()
    kube.create(rlhf_pipeline(NAME, namespace, notifications=[{"webhook": "team", "format": "cloudEvents"}]))
    seen: list[str] = []

    def done(pipeline: Object) -> bool:
        seen.append(phase(pipeline))
        return is_over(pipeline)

    pipeline = play(kube, namespace, ray, done)
    status = pipeline["status"]
    phases = [each for each in dict.fromkeys(seen) if each]
    assert [each for each in phases if each not in ("Pending", "Evaluating")] == [
        "Supervised",
        "Reward",
        "PPO",
        "Succeeded",
    ]
    assert jobs(kube, namespace) == [f"{NAME}-ppo", f"{NAME}-reward", f"{NAME}-sft"]
    uids = {s: kube.get(*JOB, f"{NAME}-{s}", namespace)["metadata"]["uid"][:8] for s in STAGES}
    assert [(each["name"], each["phase"], each["job"]) for each in status["stages"]] == [
        (stage, "Succeeded", f"{NAME}-{stage}") for stage in STAGES
    ]
    assert status["percentage"] == 100
    assert status["observedGeneration"] == pipeline["metadata"]["generation"]
    assert status["artifacts"]["folder"] == f"pvc://runs/{namespace}/{NAME}-ppo-{uids['ppo']}"
    assert status["evaluation"]["rows"] == 10
    assert status["completionTime"]
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        "Validated": "True",
        "Running": "False",
        "Complete": "True",
    }
    assert sorted(told(kube, namespace, NAME)) == ["Complete", *["StageStarted"] * 3, *["StageSucceeded"] * 3]

    config = kube.get("v1", "ConfigMap", f"{NAME}-ppo-1", namespace)
    spec = json.loads(config["data"]["job.json"])["spec"]
    folders = {stage: f"pvc://runs/{namespace}/{NAME}-{stage}-{uids[stage]}/model" for stage in STAGES}
    assert spec["model"]["source"] == folders["sft"]
    assert spec["objective"]["ppo"]["reward"][0]["model"]["source"] == folders["reward"]

    eventually(lambda: get(kube, namespace)["status"]["notifications"][0]["state"] == "Delivered", "the message")
    (event,) = receiver.bodies()
    assert event["type"] == "dev.tunesmith.rlhfpipeline.succeeded", "a stage sends none of its own"


def test_a_failed_stage_is_tried_again_alone(kube: Kube, namespace: str, operator: Operator) -> None:
    operator.start()
    kube.create(rlhf_pipeline(NAME, namespace))
    ray = Ray(kube, namespace, hopeless=(f"{NAME}-ppo",))
    failed = play(kube, namespace, ray, is_over)
    assert phase(failed) == "Failed"
    assert "there are no rows; change spec.ppo to run it again as helpful-ppo-2" in failed["status"]["message"]
    assert told(kube, namespace, NAME).count("StageFailed") == 1
    before = {name: kube.get(*JOB, name, namespace)["metadata"]["uid"] for name in jobs(kube, namespace)}

    kube.patch(*PIPELINE, NAME, OTHER_PPO, namespace)
    done = play(kube, namespace, ray, lambda p: phase(p) == "Succeeded")
    assert (line(done, "ppo")["job"], line(done, "ppo")["number"]) == (f"{NAME}-ppo-2", 2)
    after = {name: kube.get(*JOB, name, namespace)["metadata"]["uid"] for name in jobs(kube, namespace)}
    assert before.items() < after.items(), (
        "the other stages are not run again, and the failed job stays to be looked at"
    )
    second = kube.get(*JOB, f"{NAME}-ppo-2", namespace)
    assert second["spec"]["training"]["seed"] == 5


def test_a_stage_that_fails_at_a_gate_goes_on_with_its_model_and_one_that_is_deleted_runs_again(
    kube: Kube, namespace: str, operator: Operator
) -> None:
    operator.start()
    gated = {"metrics": ["perplexity"], "gates": [{"metric": "perplexity", "atMost": 1}]}
    data = {"train": {"source": "hf://org/answers"}, "test": {"source": "hf://org/answers", "split": "test"}}
    sft = {"dataset": data, "method": {"lora": {}}, "evaluation": gated}
    kube.create(rlhf_pipeline(NAME, namespace, sft=sft))
    failed = play(kube, namespace, Ray(kube, namespace, evaluated=GATE_FAILED), is_over)
    reason = "the model does not meet evaluation.gates: perplexity is 2, but should be at most 1"
    assert phase(failed) == "Failed"
    assert failed["status"]["message"].startswith(f"stage sft failed: {reason}; change spec.sft to run it")
    conditions = {c["type"]: (c["status"], c["reason"]) for c in failed["status"]["conditions"]}
    assert conditions["Failed"] == ("True", "GateFailed")
    assert [(each["name"], each.get("phase")) for each in failed["status"]["stages"]] == [
        ("sft", "Failed"), ("reward", None), ("ppo", None)
    ]  # fmt: skip
    assert jobs(kube, namespace) == [f"{NAME}-sft"], "what builds on it is not begun"
    job = kube.get(*JOB, f"{NAME}-sft", namespace)["status"]
    judged = {c["type"]: (c["status"], c["reason"]) for c in job["conditions"]}
    assert (judged["Trained"][0], judged["Evaluated"]) == ("True", ("False", "GateFailed"))
    assert job["evaluation"]["metrics"][0]["tuned"]["value"] == 2
    told_to_pod = run_config(kube, namespace, f"{NAME}-sft-evaluation")
    assert [(past["number"], past["reason"]) for past in told_to_pod["past"]] == [(1, "Succeeded")]

    model = f"{job['artifacts']['folder']}/model"
    as_it_is = {"source": model, "dataset": None, "method": None, "evaluation": None}
    kube.patch(*PIPELINE, NAME, {"spec": {"model": None, "sft": as_it_is}}, namespace)
    hopeless = play(kube, namespace, Ray(kube, namespace, hopeless=(f"{NAME}-reward",)), is_later_over("reward"))
    assert line(hopeless, "sft")["message"] == f"is {model}"
    kube.delete(*JOB, f"{NAME}-reward", namespace)
    done = play(kube, namespace, Ray(kube, namespace), lambda p: phase(p) == "Succeeded")
    assert line(done, "reward")["number"] == 1
    ppo = json.loads(kube.get("v1", "ConfigMap", f"{NAME}-ppo-1", namespace)["data"]["job.json"])
    assert ppo["spec"]["model"]["source"] == model


def test_suspending_frees_the_stage_that_runs_and_resuming_goes_on(
    kube: Kube, namespace: str, operator: Operator
) -> None:
    operator.start()
    kube.create(rlhf_pipeline(NAME, namespace))
    ray = Ray(kube, namespace)
    play(kube, namespace, ray, lambda p: phase(p) == "Reward")
    trains = Ray(kube, namespace, stops_before="the outcome")
    play(kube, namespace, trains, lambda p: line(p, "reward").get("phase") == "Training")
    kube.patch(*PIPELINE, NAME, {"spec": {"suspend": True}}, namespace)
    suspended = play(kube, namespace, trains, lambda p: phase(p) == "Suspended")
    assert line(suspended, "reward")["phase"] == "Suspended"
    eventually(lambda: not kube.find(*RAY, f"{NAME}-reward-1", namespace), "the pods to be freed")
    kube.patch(*PIPELINE, NAME, {"spec": {"suspend": False}}, namespace)
    done = play(kube, namespace, ray, is_over)
    assert phase(done) == "Succeeded"
    attempts = kube.get(*JOB, f"{NAME}-reward", namespace)["status"]["attempts"]
    assert [(each["reason"], each["counted"]) for each in attempts] == [("Suspended", False), ("Succeeded", False)]


def test_a_job_that_is_deleted_while_it_runs_is_made_again(kube: Kube, namespace: str, operator: Operator) -> None:
    operator.start()
    kube.create(rlhf_pipeline(NAME, namespace))
    trains = Ray(kube, namespace, stops_before="the outcome")
    play(kube, namespace, trains, lambda p: line(p, "sft").get("phase") == "Training")
    before = kube.get(*JOB, f"{NAME}-sft", namespace)["metadata"]["uid"]
    kube.delete(*JOB, f"{NAME}-sft", namespace)

    def successor() -> bool:
        found = kube.find(*JOB, f"{NAME}-sft", namespace)
        return found is not None and found["metadata"]["uid"] != before

    eventually(successor, "another job of the name")
    assert phase(play(kube, namespace, Ray(kube, namespace), is_over)) == "Succeeded"


def test_somebody_elses_job_is_left_alone(kube: Kube, namespace: str, operator: Operator, ray: Ray) -> None:
    theirs = kube.create(fine_tune_job(f"{NAME}-sft", namespace, managedBy="example.com/other"))
    operator.start()
    kube.create(rlhf_pipeline(NAME, namespace))
    conflict = play(kube, namespace, ray, lambda p: "is there already" in p.get("status", {}).get("message", ""))
    assert (
        "FineTuneJob helpful-sft is there already and does not belong to this pipeline" in conflict["status"]["message"]
    )
    assert kube.get(*JOB, f"{NAME}-sft", namespace) == theirs
    kube.delete(*JOB, f"{NAME}-sft", namespace)
    assert phase(play(kube, namespace, ray, is_over)) == "Succeeded"


def test_a_model_of_a_job_that_is_not_there_is_named(kube: Kube, namespace: str, operator: Operator, ray: Ray) -> None:
    operator.start()
    kube.create(rlhf_pipeline(NAME, namespace, reward={"source": "job://judge"}))
    waiting = play(kube, namespace, ray, lambda p: "judge" in p.get("status", {}).get("message", ""))
    assert "waits for FineTuneJob judge, which is not there" in waiting["status"]["message"]
    kube.create(fine_tune_job("judge", namespace))
    assert phase(play(kube, namespace, ray, is_over)) == "Succeeded"


def test_deleting_takes_everything_along_without_the_operator(kube: Kube, namespace: str, operator: Operator) -> None:
    operator.start()
    kube.create(rlhf_pipeline(NAME, namespace))
    ray = Ray(kube, namespace, stops_before="the outcome")
    play(kube, namespace, ray, lambda p: line(p, "sft").get("phase") == "Training")
    operator.stop()
    kube.delete(*PIPELINE, NAME, namespace)
    eventually(lambda: not jobs(kube, namespace), "the end of the jobs")
    eventually(lambda: not kube.list(*RAY, namespace), "the end of their RayJobs")


def test_a_pipeline_goes_when_its_time_is_over(kube: Kube, namespace: str, operator: Operator, ray: Ray) -> None:
    operator.start()
    kube.create(rlhf_pipeline(NAME, namespace, ttlSecondsAfterFinished=1))

    def gone() -> bool:
        ray.step()
        return kube.find(*PIPELINE, NAME, namespace) is None

    eventually(gone, "the end of the pipeline", seconds=60)
    eventually(lambda: not jobs(kube, namespace), "the end of its jobs")


def test_at_rest_and_after_a_restart_nothing_is_written(
    kube: Kube, namespace: str, operator: Operator, proxy: Proxy
) -> None:
    operator.start()
    kube.create(rlhf_pipeline(NAME, namespace))
    play(kube, namespace, Ray(kube, namespace), lambda p: phase(p) == "Reward")
    trains = Ray(kube, namespace, stops_before="the outcome")
    play(kube, namespace, trains, lambda p: line(p, "reward").get("phase") == "Training")
    time.sleep(1)
    proxy.writes.clear()
    time.sleep(2)
    operator.start(resync_seconds="1").wait_until_healthy()
    time.sleep(4)
    assert proxy.writes == []
    assert 'tunesmith_operator_jobs{kind="RLHFPipeline",phase="Reward"} 1.0' in operator.metrics()


def story(kube: Kube, namespace: str, ray: Ray, operator: Operator) -> dict[str, Any]:
    """A pipeline whose last stage fails, is changed, and succeeds; returns all that is left of it."""
    play(kube, namespace, ray, is_over, operator)
    kube.patch(*PIPELINE, NAME, OTHER_PPO, namespace)
    pipeline = play(kube, namespace, ray, lambda p: phase(p) == "Succeeded", operator)
    left = {
        "status": timeless(pipeline["status"]),
        "jobs": jobs(kube, namespace),
        "events": sorted(told(kube, namespace, NAME)),
        "ray jobs": sorted(each["metadata"]["name"] for each in kube.list(*RAY, namespace)),
    }
    kube.delete(*PIPELINE, NAME, namespace)
    eventually(lambda: not jobs(kube, namespace) and not kube.list(*RAY, namespace), "the garbage collector")
    for event in kube.list("v1", "Event", namespace):
        kube.delete("v1", "Event", event["metadata"]["name"], namespace)
    return left


def is_of_pipeline(write: str) -> bool:
    """Whether a write is one of the pipeline's own; those of its jobs are the story of another test."""
    return "/rlhfpipelines/" in write or (write.startswith(("POST", "PATCH")) and write.endswith("/finetunejobs"))


def test_every_write_may_be_the_last(kube: Kube, namespace: str, operator: Operator, proxy: Proxy) -> None:
    ray = Ray(kube, namespace, hopeless=(f"{NAME}-ppo",))
    operator.start(**PATIENT).wait_until_healthy()
    kube.create(rlhf_pipeline(NAME, namespace))
    undisturbed = story(kube, namespace, ray, operator)
    assert undisturbed["jobs"] == [f"{NAME}-ppo", f"{NAME}-ppo-2", f"{NAME}-reward", f"{NAME}-sft"]
    for number in itertools.count(1):
        proxy.writes.clear()
        killed = kill_after_own(number, operator, proxy)
        kube.create(rlhf_pipeline(NAME, namespace))
        assert story(kube, namespace, ray, operator) == undisturbed, f"killed after write {number}: {proxy.writes}"
        if not killed.is_set():
            break  # the story has fewer writes
    assert number > 12, proxy.writes


def kill_after_own(number: int, operator: Operator, proxy: Proxy) -> threading.Event:
    """Kills the operator once, after so many writes of the pipeline's own; it does not hear of the last one."""
    killed, own = threading.Event(), itertools.count(1)

    def on_write(_: int) -> None:
        if is_of_pipeline(proxy.writes[-1]) and next(own) == number and not killed.is_set():
            operator.kill()
            killed.set()

    proxy.on_write = on_write
    return killed
