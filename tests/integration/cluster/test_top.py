"""`tunesmith top`."""

import json

import pytest

from tunesmith.cluster import client

from ..kube import Kube, eventually
from .conftest import Run, Start
from .gateway import Gateway
from .statuses import attempt, make_job, make_pipeline, progress, set_status


@pytest.fixture
def jobs(kube: Kube, namespace: str) -> None:
    make_job(
        kube,
        namespace,
        "done",
        "Succeeded",
        1,
        progress=progress(1000, loss=0.1),
        completionTime="2026-11-27T10:00:00Z",
    )
    make_job(kube, namespace, "waits", "Queued", 4, attempts=[attempt(1, "waits")])
    late = progress(100, loss=0.5, tokensPerSecond=1234.5, remainingSeconds=7200)
    make_job(kube, namespace, "late", "Training", 2, attempts=[attempt(1, "late"), attempt(2, "late")], progress=late)
    soon = progress(900, reward=0.25, tokensPerSecond=99.0, remainingSeconds=60)
    make_job(kube, namespace, "soon", "Training", 1, attempts=[attempt(1, "soon")], progress=soon)
    kube.patch(
        "tunesmith.dev/v1alpha1",
        "FineTuneJob",
        "soon",
        {"metadata": {"labels": {"tunesmith.dev/stage": "ppo"}}},
        namespace,
    )
    make_pipeline(kube, namespace, "adds", phase="PPO", percentage=90)


def cells(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()]


def test_what_runs_stands_first_with_its_figures(run: Run, jobs: None) -> None:
    code, out, err = run("top")
    titles, *lines = cells(out)
    rows = {line[0]: dict(zip(titles, line, strict=True)) for line in lines}
    assert code == 0
    assert list(rows) == ["soon", "late", "adds", "waits", "done"]
    late = rows["late"] | {"AGE": ""}
    assert late == {
        "NAME": "late", "KIND": "job", "PHASE": "Training", "PROGRESS": "10%", "LOSS": "0.5000", "REWARD": "-",
        "TOKENS/S": "1,234", "GPUS": "2", "UTIL": "-", "ATTEMPTS": "2", "AGE": "", "LEFT": "2h00m",
    }  # fmt: skip
    assert (rows["soon"]["KIND"], rows["soon"]["REWARD"], rows["soon"]["LEFT"]) == ("ppo", "0.250", "1m00s")
    assert (rows["adds"]["KIND"], rows["adds"]["PHASE"], rows["adds"]["GPUS"]) == ("pipeline", "PPO", "-")
    assert "3 GPUs held; 5 jobs and pipelines: 2 Training, 1 PPO, 1 Queued, 1 Succeeded" in err
    assert "UTIL needs --prometheus" in err
    by_name = [line[0] for line in cells(run("top", "--sort", "name")[1])[1:]]
    assert by_name == ["adds", "done", "late", "soon", "waits"]


def test_json_is_for_programs(run: Run, jobs: None, namespace: str) -> None:
    code, out, err = run("top", "-o", "json", "-A")
    found = {each["name"]: each for each in json.loads(out)["items"] if each["namespace"] == namespace}
    assert (code, err) == (0, "")
    assert found["late"]["tokensPerSecond"] == 1234.5
    assert found["soon"]["stage"] == "ppo"
    assert found["adds"]["kind"] == "RLHFPipeline"


def test_a_long_list_comes_in_pages(
    kube: Kube, namespace: str, run: Run, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        make_job(kube, namespace, f"job-{number}", "Pending")
    monkeypatch.setattr(client, "PAGE", 2)
    assert len(cells(run("top")[1])) == 1 + 5
    assert len([path for path in gateway.reads if "finetunejobs?limit=2" in path]) == 3


def lists(gateway: Gateway) -> int:
    """How often a list was asked for."""
    return len([path for path in gateway.reads if "limit=" in path])


def test_the_live_table_follows_through_broken_watches(
    kube: Kube, namespace: str, start: Start, gateway: Gateway
) -> None:
    make_job(kube, namespace, "one", "Pending")
    top = start("top", terminal=True)
    top.shows("1 Pending")
    set_status(kube, namespace, "one", phase="Starting")
    top.shows("1 Starting")
    gateway.cut()
    set_status(kube, namespace, "one", phase="Training", progress=progress(420, loss=0.25))
    top.shows("0.2500")
    assert lists(gateway) == 2, "a broken watch goes on where it was"
    gateway.cut(outdated=True)
    eventually(lambda: lists(gateway) > 2, "another list, as what the watch should go on from is forgotten")
    set_status(kube, namespace, "one", phase="Succeeded")
    top.shows("1 Succeeded")
    kube.delete("tunesmith.dev/v1alpha1", "FineTuneJob", "one", namespace)
    top.shows("0 jobs and pipelines")
    top.press_ctrl_c()
    assert top.end() == 130
    assert "Traceback" not in top.out
    assert top.out.rstrip().endswith("\x1b[?1049l"), "the screen is as it was before"
