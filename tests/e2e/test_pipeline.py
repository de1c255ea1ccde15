"""A tiny pipeline through its three stages, the last of them on two workers."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, Object
from tests.e2e.storage import shell
from tests.integration.kube import eventually

NAME = "adds"
STAGES = ("sft", "reward", "ppo")
ARITHMETIC = Path(__file__).resolve().parents[2] / "examples" / "arithmetic"
PAIRS = 320
TRAINING = {"batchSize": 64, "microBatchSize": 64, "maxLength": 32, "learningRate": 2.0e-3, "precision": "fp32"}
LORA = {"lora": {"rank": 8}}
PIPELINE: Object = {
    "apiVersion": "tunesmith.dev/v1alpha1",
    "kind": "RLHFPipeline",
    "metadata": {"name": NAME},
    "spec": {
        "model": {
            "config": {
                "hiddenSize": 64,
                "layers": 2,
                "attentionHeads": 4,
                "intermediateSize": 128,
                "contextLength": 64,
                "tokenizer": {"vocabularySize": 300},
            }
        },
        "template": "{prompt} {response}",
        "sft": {
            "dataset": {"train": {"source": "configmap://arithmetic/addition.train.jsonl"}},
            "method": {"full": {}},
            "training": TRAINING | {"maxSteps": 60},
        },
        "reward": {
            "dataset": {
                "train": {"source": "configmap://preferences/pairs.jsonl"},
                "validation": {"fraction": 0.1, "groupBy": "prompt"},
            },
            "reward": {"centringPrompts": 32, "centringTokens": 6},
            "method": LORA,
            "training": TRAINING | {"maxSteps": 10, "batchSize": 32},
        },
        "ppo": {
            "dataset": {
                "train": {"source": "configmap://arithmetic/addition.train.jsonl"},
                "test": {"source": "configmap://arithmetic/addition.test.jsonl"},
            },
            "ppo": {
                "reward": [{"model": {}}, {"exactMatch": {}}],
                "maxNewTokens": 6,
                "epochs": 2,
                "miniBatches": 2,
            },
            "method": LORA,
            "training": TRAINING | {"maxSteps": 8, "batchSize": 32, "learningRate": 1.0e-3},
            "scaling": {"workers": 2, "resources": {"cpu": "200m", "memory": "3Gi"}},
        },
        "evaluation": {"metrics": ["reward", "winRate", "divergence", "answerTokens", "exactMatch"], "maxNewTokens": 6},
        "scaling": {"resources": {"cpu": "200m", "memory": "3Gi"}},
        "storage": {"persistentVolumeClaim": {"claimName": "runs"}},
    },
}


@dataclass(frozen=True)
class Story:
    """The pipeline from its start to its end."""

    table: list[list[str]]
    """What `kubectl get rlhfpipelines -w` showed: NAME, PHASE, PROGRESS, AGE."""
    pods: dict[str, list[Object]]
    """The pods of the last stage while it trained, by component."""
    end: Object

    @property
    def status(self) -> Object:
        status: Object = self.end["status"]
        return status


def preferences() -> str:
    """The right sum, and one that is wrong by one or ten, as JSONL."""
    with (ARITHMETIC / "addition.train.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in itertools.islice(lines, PAIRS)]
    wrong = [str(int(row["response"]) + (1, 10)[index % 2]) for index, row in enumerate(rows)]
    pairs = [{"prompt": r["prompt"], "chosen": r["response"], "rejected": w} for r, w in zip(rows, wrong, strict=True)]
    return "".join(json.dumps(pair) + "\n" for pair in pairs)


@pytest.fixture(scope="module")
def story(cluster: Cluster) -> Iterator[Story]:
    meta = {"name": "preferences", "namespace": cluster.namespace}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"pairs.jsonl": preferences()}})
    with cluster.watching("rlhfpipelines") as table:
        cluster.apply(PIPELINE)
        cluster.await_status(NAME, lambda s: s.get("phase") == "PPO", "the last stage", 600, "rlhfpipeline")
        cluster.await_status(
            f"{NAME}-ppo", lambda s: s.get("phase") in ("Training", "Evaluating", "Succeeded"), "training"
        )
        pods = {each: cluster.pods_of(f"{NAME}-ppo", each) for each in ("head", "worker")}
        done = ("--for=condition=Complete", "--timeout=400s")
        cluster.kubectl("wait", f"rlhfpipeline/{NAME}", *done, seconds=410)
    end = cluster.find("rlhfpipeline", NAME)
    assert end is not None
    yield Story(table, pods, end)


def test_the_watched_table_shows_the_stages_and_their_progress(story: Story) -> None:
    phases = [phase for phase in dict.fromkeys(row[1] for row in story.table if len(row) > 2) if phase != "Pending"]
    assert [phase for phase in phases if phase != "Evaluating"] == ["Supervised", "Reward", "PPO", "Succeeded"]
    progress = [int(row[2]) for row in story.table if len(row) == 4]
    assert progress == sorted(progress)
    assert progress[-1] == 100


def test_the_last_stage_had_two_workers(cluster: Cluster, story: Story) -> None:
    assert {component: len(pods) for component, pods in story.pods.items()} == {"head": 1, "worker": 2}
    folder = story.status["artifacts"]["folder"]
    assert "2 workers" in shell(cluster, folder, "cat logs/worker-0.log")


def test_the_status_has_a_line_for_each_stage(cluster: Cluster, story: Story) -> None:
    stages = story.status["stages"]
    assert [(s["name"], s["job"], s["phase"], s["number"]) for s in stages] == [
        (stage, f"{NAME}-{stage}", "Succeeded", 1) for stage in STAGES
    ]
    for stage in stages:
        files = shell(cluster, stage["artifacts"]["model"], "ls").split()
        assert ("config.json" if stage["name"] == "sft" else "adapter_config.json") in files
    assert story.status["percentage"] == 100
    assert story.status["observedGeneration"] == story.end["metadata"]["generation"]
    assert story.status["artifacts"]["model"] == stages[-1]["artifacts"]["model"]
    assert {c["type"]: c["status"] for c in story.status["conditions"]} == {
        "Validated": "True",
        "Running": "False",
        "Complete": "True",
    }


def test_the_policy_is_evaluated_beside_the_supervised_model(story: Story) -> None:
    metrics = {metric["name"]: metric["tuned"] for metric in story.status["evaluation"]["metrics"]}
    assert set(metrics) == {"reward", "winRate", "divergence", "answerTokens", "exactMatch"}
    assert 0 <= metrics["winRate"]["value"] <= 1
    assert 1 <= metrics["answerTokens"]["value"] <= 6


def test_each_stage_read_what_the_one_before_it_had_left(cluster: Cluster, story: Story) -> None:
    models = {stage["name"]: stage["artifacts"]["model"] for stage in story.status["stages"]}
    spec = {stage: _spec(cluster, f"{NAME}-{stage}-1") for stage in STAGES}
    assert spec["reward"]["model"]["source"] == spec["ppo"]["model"]["source"] == models["sft"]
    assert spec["ppo"]["objective"]["ppo"]["reward"][0]["model"]["source"] == models["reward"]


def _spec(cluster: Cluster, name: str) -> Object:
    config = cluster.find("configmap", name)
    assert config is not None
    spec: Object = json.loads(config["data"]["job.json"])["spec"]
    return spec


def test_events_tell_the_story(cluster: Cluster, story: Story) -> None:
    uid = story.end["metadata"]["uid"]
    told = [each["reason"] for each in cluster.items("events") if each["involvedObject"].get("uid") == uid]
    assert sorted(told) == ["Complete", *["StageStarted"] * 3, *["StageSucceeded"] * 3]


def test_deleting_the_pipeline_deletes_its_jobs_and_all_that_they_made(cluster: Cluster, story: Story) -> None:
    kinds = "finetunejobs,rayjobs,rayclusters,jobs,services,configmaps,secrets,pods"

    def children() -> list[str]:
        names = [each["metadata"]["name"] for each in cluster.items(kinds)]
        return [name for name in names if name.startswith(f"{NAME}-")]

    assert children()
    cluster.delete("rlhfpipeline", NAME)
    eventually(lambda: not children(), "the end of all children", seconds=150)
