"""The store: the newest state wins, in whatever order the news arrive."""

from typing import Any

import pytest

from tunesmith_operator.builders.common import owner_reference
from tunesmith_operator.builders.rayjob import ray_job
from tunesmith_operator.kinds import JOBS, PIPELINES, RAY_JOBS
from tunesmith_operator.store import Key, Store

from .pipeline_world import pipeline
from .test_builders import run
from .world import SETTINGS, UID, job

KEY = Key("team", "tune")


def the_job(version: str = "1", uid: str = UID, name: str = "tune", **spec: Any) -> dict[str, Any]:
    body = job(name, uid, **spec)
    body["metadata"]["resourceVersion"] = version
    return body


def the_ray_job(version: str = "1", uid: str = "r", **status: Any) -> dict[str, Any]:
    body = ray_job(run(), SETTINGS)
    body["metadata"] |= {"uid": uid, "resourceVersion": version, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return body | {"status": status}


@pytest.fixture
def store() -> Store:
    store = Store()
    store.put(JOBS, the_job())
    return store


def test_a_child_wakes_its_job(store: Store) -> None:
    assert store.put(RAY_JOBS, the_ray_job()) == {KEY}
    assert list(store.children(UID, RAY_JOBS)) == ["tune-1"]


def test_what_is_known_already_wakes_nobody(store: Store) -> None:
    store.put(RAY_JOBS, the_ray_job("9"))
    assert store.put(RAY_JOBS, the_ray_job("9")) == set()
    assert store.put(RAY_JOBS, the_ray_job("8", jobStatus="RUNNING")) == set(), "older news"
    assert store.put(RAY_JOBS, the_ray_job("10")) == set(), "nothing that matters has changed"
    assert store.put(RAY_JOBS, the_ray_job("11", jobStatus="RUNNING")) == {KEY}


def test_a_late_answer_does_not_bring_a_deleted_child_back(store: Store) -> None:
    store.put(RAY_JOBS, the_ray_job("9"))
    assert store.remove(RAY_JOBS, "team", "tune-1", "r") == {KEY}
    assert store.put(RAY_JOBS, the_ray_job("9")) == set()
    assert store.children(UID, RAY_JOBS) == {}


def test_a_late_deletion_does_not_take_the_successor_away(store: Store) -> None:
    store.put(RAY_JOBS, the_ray_job("9", uid="new"))
    assert store.remove(RAY_JOBS, "team", "tune-1", "old") == set()
    assert list(store.children(UID, RAY_JOBS)) == ["tune-1"]


def test_children_may_be_known_before_their_job() -> None:
    store = Store()
    assert store.put(RAY_JOBS, the_ray_job()) == set()
    assert store.put(JOBS, the_job()) == {KEY}
    assert list(store.children(UID, RAY_JOBS)) == ["tune-1"]


def test_a_job_that_is_made_again_has_none_of_the_children_of_the_former(store: Store) -> None:
    store.put(RAY_JOBS, the_ray_job())
    store.put(JOBS, the_job("5", uid="another"))
    assert store.children("another", RAY_JOBS) == {}
    assert store.put(RAY_JOBS, the_ray_job("6", jobStatus="FAILED")) == set()


def test_a_job_wakes_those_that_wait_for_its_model(store: Store) -> None:
    waiting = Key("team", "waiting")
    store.put(JOBS, the_job(uid="w", name="waiting", model={"source": "job://tune"}))
    assert store.put(JOBS, the_job("2")) == {KEY, waiting}
    assert store.remove(JOBS, "team", "tune", UID) == {KEY, waiting}
    store.remove(JOBS, "team", "waiting", "w")
    assert store.put(JOBS, the_job("3", uid="again")) == {KEY}


def test_versions_are_compared_as_numbers(store: Store) -> None:
    assert store.put(JOBS, the_job("10")) == {KEY}
    assert store.put(JOBS, the_job("9")) == set()
    assert store.versions(JOBS) == {("team", "tune"): (UID, "10")}


def test_a_job_wakes_those_that_it_rewards(store: Store) -> None:
    learns = Key("team", "learns")
    reward = {"ppo": {"reward": [{"exactMatch": {}}, {"model": {"source": "job://tune"}}]}}
    store.put(JOBS, the_job(uid="l", name="learns", objective=reward))
    assert store.put(JOBS, the_job("2")) == {KEY, learns}


def test_a_job_wakes_its_pipeline_and_is_known_as_its_own(store: Store) -> None:
    key = Key("team", "helpful", PIPELINES.name)
    body = pipeline()
    assert store.put(PIPELINES, body) == {key}
    child = the_job(uid="c", name="helpful-sft")
    child["metadata"]["ownerReferences"] = [owner_reference("RLHFPipeline", "helpful", body["metadata"]["uid"])]
    assert store.put(JOBS, child) == {Key("team", "helpful-sft"), key}
    assert list(store.jobs_of(key, body["metadata"]["uid"])) == ["helpful-sft"]
    assert list(store.jobs_of(key, "of a pipeline that is made again")) == []
    assert store.remove(JOBS, "team", "helpful-sft", "c") == {Key("team", "helpful-sft"), key}


def test_a_pipeline_and_a_job_may_have_one_name(store: Store) -> None:
    body = pipeline("tune")
    store.put(PIPELINES, body)
    assert store.owner(KEY) != store.owner(Key("team", "tune", PIPELINES.name))
    assert sorted(map(str, store.keys())) == ["FineTuneJob team/tune", "RLHFPipeline team/tune"]
