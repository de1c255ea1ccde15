"""Jobs that train on two workers, are evaluated, and tell their story."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, Object
from tests.e2e.jobs import sample
from tests.e2e.storage import shell
from tests.integration.kube import eventually
from tunesmith.api.pod import METRICS_PORT

DASHBOARD_PORT = 8265
STRATEGIES = {
    "addition-ddp": ("strategy: DDP", "2 workers, DistributedDataParallel;"),
    "addition-zero2": ("strategy: ZeRO-2", "2 workers, DeepSpeedEngine;"),
}


@dataclass(frozen=True)
class Story:
    """A job from its start to its end."""

    name: str
    table: list[list[str]]
    """What `kubectl get finetunejobs -w` showed: NAME, PHASE, PROGRESS, LOSS, AGE."""
    pods: dict[str, list[Object]]
    """The pods during the training, by component."""
    metrics: str
    """Of the first worker."""
    dashboard: str
    """What Ray's dashboard said to somebody without the token."""
    shown: dict[str, tuple[int, str, str]]
    """Exit code, output and errors of `tunesmith top` and `logs` during the training, and of `watch` to its end."""
    end: Object
    """The job at its end."""

    @property
    def status(self) -> Object:
        status: Object = self.end["status"]
        return status


@pytest.fixture(scope="module", params=STRATEGIES)
def story(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Story]:
    name = request.param
    with cluster.watching("finetunejobs") as table:
        cluster.apply(sample(f"{name}.yaml"))
        cluster.await_status(name, lambda s: s.get("progress", {}).get("step", 0) > 0, "the first step")
        pods = {each: cluster.pods_of(name, each) for each in ("head", "worker", "submitter")}
        metrics = [cluster.http(pod["metadata"]["name"], METRICS_PORT, "metrics").stdout for pod in pods["worker"]]
        watch = cluster.tunesmith("watch", name)
        commands = {"top": cluster.tunesmith("top"), "logs": cluster.tunesmith("logs", name, "-o", "json")}
        shown = {what: ended(process, 60) for what, process in commands.items()}
        dashboard = cluster.http(pods["head"][0]["metadata"]["name"], DASHBOARD_PORT, "api/jobs/").stderr
        done = ("--for=condition=Complete", "--timeout=400s")
        cluster.kubectl("wait", f"finetunejob/{name}", *done, seconds=410)
        shown["watch"] = ended(watch, 60)
    shown["logs afterwards"] = ended(cluster.tunesmith("logs", name), 60)
    end = cluster.find("finetunejob", name)
    assert end is not None
    table = [row for row in table if row[0] == name]
    yield Story(name, table, pods, "".join(metrics), dashboard, shown, end)


def ended(process: "subprocess.Popen[str]", seconds: float) -> tuple[int, str, str]:
    """A command's exit code, output and errors."""
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def test_the_command_line_shows_the_training(story: Story) -> None:
    code, out, _ = story.shown["top"]
    row = next(line.split() for line in out.splitlines() if line.startswith(f"{story.name} "))
    assert code == 0
    assert row[1:3] == ["job", "Training"]
    code, out, err = story.shown["logs"]
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert err.startswith(f"attempt 1 of {story.name}, pod ")
    assert any("2 workers" in record["message"] for record in records)


def test_the_command_line_follows_it_to_its_end(story: Story) -> None:
    code, out, err = story.shown["watch"]
    assert (code, err) == (0, "")
    assert "Trained  attempt 1 trained the model" in out
    assert "Complete  the model is ready" in out
    assert "exactMatch" in out
    code, out, err = story.shown["logs afterwards"]
    assert code == 0
    assert err.startswith(f"evaluation of {story.name}, pod ")
    assert out


def test_the_watched_table_moves(story: Story) -> None:
    phases = list(dict.fromkeys(row[1] for row in story.table))
    assert phases[-4:] == ["Starting", "Training", "Evaluating", "Succeeded"]
    training = [row for row in story.table if row[1] == "Training" and len(row) == 5]
    progress = [int(row[2]) for row in training]
    assert progress == sorted(progress)
    assert len(set(progress)) >= 3
    losses = [float(row[3]) for row in training]
    assert losses[-1] < losses[0]


def test_a_head_and_two_workers_ran_the_strategy(cluster: Cluster, story: Story) -> None:
    assert {component: len(pods) for component, pods in story.pods.items()} == {"head": 1, "worker": 2, "submitter": 1}
    log = shell(cluster, story.status["artifacts"]["folder"], "cat logs/worker-0.log")
    assert all(line in log for line in STRATEGIES[story.name]), log


def test_no_pod_of_the_training_holds_a_token_of_the_cluster(story: Story) -> None:
    for pod in [pod for pods in story.pods.values() for pod in pods]:
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert not [volume for volume in pod["spec"]["volumes"] if "projected" in volume]


def test_ray_answers_nobody_without_its_token(story: Story) -> None:
    assert "must be logged in" in story.dashboard  # kubectl's words for 401


def test_the_trainer_serves_metrics_that_prometheus_likes(story: Story, promtool: Path) -> None:
    assert "tunesmith_training_loss" in story.metrics
    checked = subprocess.run([promtool, "check", "metrics"], input=story.metrics, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_evaluation_compares_with_the_base_model(story: Story) -> None:
    evaluation = story.status["evaluation"]
    metrics = {metric["name"]: metric for metric in evaluation["metrics"]}
    assert evaluation["rows"] == 500
    assert set(metrics) == {"exactMatch", "tokenF1", "perplexity"}
    for metric in metrics.values():
        for model in ("tuned", "base"):
            assert metric[model]["low"] <= metric[model]["value"] <= metric[model]["high"]
    assert metrics["perplexity"]["tuned"]["high"] < metrics["perplexity"]["base"]["low"]
    assert metrics["exactMatch"]["tuned"]["low"] > metrics["exactMatch"]["base"]["high"]


def test_the_artifacts_are_where_the_status_says(cluster: Cluster, story: Story) -> None:
    uid = story.end["metadata"]["uid"]
    artifacts = story.status["artifacts"]
    assert artifacts["folder"] == f"pvc://runs/{cluster.namespace}/{story.name}-{uid[:8]}"
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(
        shell(cluster, artifacts["model"], "ls").split()
    )
    steps = [json.loads(line)["step"] for line in shell(cluster, artifacts["folder"], "cat metrics.jsonl").splitlines()]
    assert steps == list(range(1, story.status["progress"]["totalSteps"] + 1))


def test_conditions_and_events_tell_the_story(cluster: Cluster, story: Story) -> None:
    conditions = {each["type"]: each["status"] for each in story.status["conditions"]}
    assert conditions == {
        "Validated": "True",
        "Running": "False",
        "Trained": "True",
        "Evaluated": "True",
        "Complete": "True",
    }
    assert story.status["observedGeneration"] == story.end["metadata"]["generation"]
    assert [attempt["reason"] for attempt in story.status["attempts"]] == ["Succeeded"]
    events = cluster.items("events")
    told = [each["reason"] for each in events if each["involvedObject"].get("uid") == story.end["metadata"]["uid"]]
    assert {"AttemptStarted", "Trained", "Evaluated", "Complete"} <= set(told)


def test_deleting_the_job_deletes_all_that_it_made(cluster: Cluster, story: Story) -> None:
    kinds = "rayjobs,rayclusters,jobs,services,configmaps,secrets,pods"

    def children() -> list[str]:
        names = [each["metadata"]["name"] for each in cluster.items(kinds)]
        return [name for name in names if name.startswith(f"{story.name}-")]

    assert children()
    cluster.delete("finetunejob", story.name)
    eventually(lambda: not children(), "the end of all children", seconds=150)
