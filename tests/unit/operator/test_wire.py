"""What goes over the wire, what comes in from the outside, and the queue in between."""

import asyncio
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from tunesmith_operator.client import RateLimit
from tunesmith_operator.events import event_body
from tunesmith_operator.main import parse_settings
from tunesmith_operator.merge import merge_patch
from tunesmith_operator.reconcile.plan import Event
from tunesmith_operator.settings import PodResources, Settings
from tunesmith_operator.store import Key
from tunesmith_operator.work_queue import WorkQueue

from .world import job

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "after", "patch"),
    [
        ({}, {"a": 1}, {"a": 1}),
        ({"a": 1, "b": 2}, {"b": 2}, {"a": None}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, {"a": {"c": 3}}),
        ({"a": {"b": 1}}, {"a": {"b": 1}}, {}),
        ({"a": [1, 2]}, {"a": [1]}, {"a": [1]}),
        ({"a": {"b": 1}}, {"a": [1]}, {"a": [1]}),
        ({"a": {"b": 1, "c": 1}}, {"a": {"b": 1}}, {"a": {"c": None}}),
    ],
)
def test_merge_patch(before: dict[str, Any], after: dict[str, Any], patch: dict[str, Any]) -> None:
    assert merge_patch(before, after) == patch


def test_the_same_event_has_the_same_name_and_another_has_another() -> None:
    def name(reason: str = "Trained", key: str = "1", uid: str = "u") -> str:
        made: str = event_body(job(uid=uid), Event(reason, "text", False, key), NOW)["metadata"]["name"]
        return made

    assert name() == name()
    assert len({name(), name(reason="Failed"), name(key="2"), name(uid="v")}) == 4
    assert re.fullmatch(r"tune\.[0-9a-f]{16}", name())


def test_an_event_is_about_its_job_and_not_too_long() -> None:
    body = event_body(job(), Event("Failed", "x" * 5000, True, "1"), NOW)
    assert body["type"] == "Warning"
    assert body["involvedObject"]["kind"] == "FineTuneJob"
    assert len(body["message"]) == 1024


def test_settings_come_from_the_environment_and_the_command_line_wins() -> None:
    environment = {"TUNESMITH_NAMESPACES": "a, b,", "TUNESMITH_IMAGE": "one", "TUNESMITH_HEAD": "500m,2Gi"}
    environment |= {"TUNESMITH_BURST": "7"}
    settings = parse_settings(["--image", "two", "--progress-seconds", "2.5"], environment)
    assert settings == Settings(
        namespaces=("a", "b"), image="two", head=PodResources("500m", "2Gi"), burst=7, progress_seconds=2.5
    )
    assert parse_settings([], {}) == Settings()


@pytest.mark.parametrize("arguments", [["--burst", "many"], ["--head", "1"], ["--head", "1,much"], ["--imagee", "x"]])
def test_a_wrong_setting_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_settings(arguments, {})
    assert arguments[0] in capsys.readouterr().err


def test_the_queue_holds_a_job_once_and_gives_it_to_one_worker() -> None:
    async def story() -> None:
        queue, key = WorkQueue(), Key("team", "tune")
        queue.add([key, key])
        assert await queue.get() == key
        queue.add([key])  # something happens while it is looked after
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.get(), 0.05)
        queue.done(key, again_in=60)
        assert await asyncio.wait_for(queue.get(), 1) == key
        queue.done(key, again_in=0.05)
        assert await asyncio.wait_for(queue.get(), 1) == key
        queue.done(key, again_in=None)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.get(), 0.1)

    asyncio.run(story())


def test_an_event_makes_a_delay_pointless() -> None:
    async def story() -> None:
        queue, key = WorkQueue(), Key("team", "tune")
        queue.add([key])
        queue.done(await queue.get(), again_in=0.05)
        queue.add([key])
        queue.done(await queue.get(), again_in=None)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.get(), 0.15)

    asyncio.run(story())


def test_the_rate_limit_lets_a_burst_through_and_then_so_many_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))

    async def story() -> None:
        limit = RateLimit(qps=10, burst=2, clock=lambda: 0.0)
        for _ in range(4):
            await limit.wait()

    monkeypatch.setattr(asyncio, "sleep", sleep)
    asyncio.run(story())
    assert slept == [0.1, 0.2]
