"""The metrics of jobs: what they say at each point of a job's story, and that they go with it."""

from collections.abc import Callable
from typing import TypeVar

import pytest

from tunesmith.api.status import Progress
from tunesmith_operator import observed
from tunesmith_operator.job_metrics import JobMetrics

from .pipeline_world import PipelineWorld
from .world import START, World

GPUS = {"workers": 4, "resources": {"cpu": "8", "nvidia.com/gpu": 1}}
MINE = {"namespace": "team", "name": "tune", "kind": "FineTuneJob"}
T = TypeVar("T")


class Scraped:
    """What Prometheus would get of a world, from one collector all along."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._metrics = JobMetrics(
            lambda: [world.body],
            lambda _: self._children("RayJob", observed.ray_job),
            lambda _: self._children("Pod", observed.pod),
            lambda: world.now,
            kept_seconds=3600,
        )

    def _children(self, wanted: str, parse: Callable[[observed.Object], T]) -> dict[str, T]:
        return {name: parse(body) for (kind, name), body in self.world.objects.items() if kind == wanted}

    def __call__(self, name: str, **more: str) -> float | None:
        samples = {frozenset(labels.items()): value for labels, value in self.all(name)}
        return samples.get(frozenset((MINE | more).items()))

    def all(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series of a name."""
        families = self._metrics.collect()
        wanted = f"tunesmith_job_{name}"
        return [(s.labels, s.value) for family in families for s in family.samples if s.name == wanted]


@pytest.fixture
def world() -> World:
    return World(scaling=GPUS)


def test_a_job_is_told_from_its_first_moment_to_its_end(world: World) -> None:
    scrape = Scraped(world)
    assert scrape("phase", phase="Pending") == 1
    assert (scrape("requested_gpus"), scrape("gpu_seconds_total"), scrape("attempts")) == (4, 0, 0)
    assert scrape("start_timestamp_seconds") is None
    world.looks()
    assert scrape("start_timestamp_seconds") == START.timestamp()
    assert scrape("gpu_seconds_total") == 0, "the Ray cluster has not begun to run"
    world.trains().looks().later(100)
    assert scrape("phase", phase="Training") == 1
    assert scrape("phase", phase="Pending") is None
    assert scrape("gpu_seconds_total") == 400
    world.tells("Succeeded").looks()
    assert scrape("phase", phase="Succeeded") == 1
    assert (scrape("gpu_seconds_total"), scrape("attempts")) == (400, 1)
    ended = scrape("end_timestamp_seconds")
    assert ended is not None and ended >= START.timestamp() + 100


def test_the_series_of_a_job_go_an_hour_after_its_end(world: World) -> None:
    scrape = Scraped(world)
    world.looks().trains().looks().tells("Succeeded").looks().later(3600)
    assert scrape("phase", phase="Succeeded") == 1
    world.later(1)
    assert scrape("phase", phase="Succeeded") is None
    assert scrape("gpu_seconds_total") is None


def test_gpu_seconds_never_fall(world: World) -> None:
    """An attempt's own figure is rounded; Prometheus takes a counter that falls for one that began anew."""
    scrape = Scraped(world)
    world.looks().trains().looks().later(10.4)
    assert scrape("gpu_seconds_total") == pytest.approx(41.6)
    world.tells("Succeeded").looks()
    assert world.status.attempts[0].active_seconds == 10
    assert scrape("gpu_seconds_total") == pytest.approx(41.6)


def test_a_suspended_job_holds_nothing(world: World) -> None:
    scrape = Scraped(world)
    world.looks().trains().looks().later(50).spec(suspend=True).looks().later(1000)
    assert (scrape("gpu_seconds_total"), scrape("requested_gpus")) == (200, 4)


def test_the_pods_that_a_job_holds_are_told_while_it_holds_them(world: World) -> None:
    scrape = Scraped(world)
    world.looks().pod("head").pod("worker").trains().looks()
    named = {"namespace": "team", "name": "tune"}
    assert scrape.all("pod_info") == [
        (named | {"pod": "head-1", "component": "head"}, 1),
        (named | {"pod": "worker-1", "component": "worker"}, 1),
    ]
    world.ends("worker").looks()
    assert [labels["pod"] for labels, _ in scrape.all("pod_info")] == ["head-1"]


def test_steps_stay_and_the_time_left_goes_with_the_training(world: World) -> None:
    scrape = Scraped(world)
    world.looks().trains().looks()
    world.progress = Progress.model_validate({"step": 30, "totalSteps": 40, "percentage": 75, "remainingSeconds": 9})
    world.looks()
    assert (scrape("steps"), scrape("steps_planned"), scrape("remaining_seconds")) == (30, 40, 9)
    world.tells("InvalidInput").looks()
    assert (scrape("steps"), scrape("remaining_seconds")) == (30, None)
    assert scrape("failure", reason="InvalidInput") == 1


def test_a_stage_names_its_pipeline(world: World) -> None:
    owner = {"kind": "RLHFPipeline", "name": "helpful", "uid": "other", "controller": True}
    world.body["metadata"] |= {"labels": {"tunesmith.dev/stage": "ppo"}, "ownerReferences": [owner]}
    labels = {"namespace": "team", "name": "tune", "pipeline": "helpful", "stage": "ppo"}
    assert Scraped(world).all("stage_info") == [(labels, 1)]


def test_a_pipeline_has_a_phase_and_no_gpus_of_its_own() -> None:
    world = PipelineWorld()
    metrics = JobMetrics(lambda: [world.body], lambda _: {}, lambda _: {}, lambda: world.now, kept_seconds=3600)
    names = {sample.name for family in metrics.collect() for sample in family.samples}
    assert names == {"tunesmith_job_phase"}
    world.body["status"] = {"phase": "Reward", "percentage": 40}
    values = {sample.name: sample.value for family in metrics.collect() for sample in family.samples}
    assert values == {"tunesmith_job_phase": 1, "tunesmith_job_progress_ratio": 0.4}
