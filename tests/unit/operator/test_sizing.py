"""A job that cannot fit is warned of, once, and started all the same."""

from typing import Any

import pytest

from .world import World, job

LLAMA = {
    "hiddenSize": 4096,
    "layers": 8,
    "attentionHeads": 32,
    "intermediateSize": 14336,
    "tokenizer": {"vocabularySize": 32000},
}
NEW = {"model": {"config": LLAMA}}
TINY = {"hiddenSize": 32, "layers": 2, "attentionHeads": 4, "intermediateSize": 64}


def memory(size: str, **more: Any) -> dict[str, Any]:
    return {"scaling": {"resources": {"memory": size} | more}}


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "a job that fits says nothing": (NEW | memory("200Gi"), ""),
    "a job far too large is told what would make it fit": (NEW | memory("32Gi"), "scaling.workers: "),
    "a smaller micro-batch is the first thing to try": (
        NEW | memory("48Gi"),
        "with training.microBatchSize: 2 it takes",
    ),
    "nothing helps: the limit should rise": (NEW | memory("1Gi"), "raise it"),
    "without a limit there is nothing to exceed": (NEW, ""),
    "a model of which only the address is known is not judged": (memory("1Gi"), ""),
    "a GPU's memory is not known": (NEW | memory("1Gi", **{"nvidia.com/gpu": 1}), ""),
}


@pytest.mark.parametrize("story", CASES)
def test_a_job_that_cannot_fit(story: str) -> None:
    spec, expected = CASES[story]
    world = World(**spec).look()
    assert "AttemptStarted" in world.told, "it is started, whatever the estimate says"
    told = [event.message for event in world.events if event.reason == "WontFit"]
    assert len(told) == bool(expected)
    assert all(expected in message for message in told), told
    assert not expected or "scaling.resources.memory is" in told[0]


def test_it_is_told_once() -> None:
    world = World(**(NEW | memory("32Gi"))).look().trains().look()
    world.tells("WorkerLost").looks().later(60).looks()
    assert len(world.status.attempts) == 2
    assert world.told.count("WontFit") == 1


@pytest.mark.parametrize(("size", "told"), [(LLAMA, True), (TINY, False)])
def test_the_model_of_another_job_is_as_large_as_that_job_made_it(size: dict[str, Any], told: bool) -> None:
    world = World(model={"source": "job://base"}, method={"lora": {}}, **memory("4Gi"))
    done = {"conditions": [{"type": "Complete", "status": "True"}], "artifacts": {"folder": "pvc://old/team/base"}}
    world.others["base"] = job("base", "99999999aaaa", status=done, model={"config": size})
    assert ("WontFit" in world.looks().told) == told


def test_a_job_that_this_release_cannot_read_is_no_obstacle() -> None:
    world = World(model={"source": "job://base"}, method={"lora": {}}, **memory("4Gi"))
    done = {"conditions": [{"type": "Complete", "status": "True"}], "artifacts": {"folder": "pvc://old/team/base"}}
    world.others["base"] = job("base", "99999999aaaa", status=done, model={"config": LLAMA | {"wheels": 4}})
    assert "AttemptStarted" in world.looks().told
    assert "WontFit" not in world.told
