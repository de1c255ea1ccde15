"""The real operator, real runs and played GPUs, seen by a real Prometheus: a minute of theirs takes a second here."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.tools.build import BuildError, build
from tests.tools.collection import prepare_for

from ..controlplane import ControlPlane
from ..kube import Kube
from ..test_chart import of_kind, render
from .boards import Board, boards_of
from .cluster import SYSTEM, Cluster, running_operator
from .play import short
from .prometheus import Prometheus, running_prometheus
from .promql import in_seconds
from .trainings import running_trainings

HISTORY = 45.0
"""Seconds that everything has run before the questions are asked."""
VALUES = {
    "prometheusRules": {
        "enabled": True,
        "thresholds": {"gpuIdleMinutes": 20, "startingMinutes": 15, "noProgressMinutes": 20},
    },
    "dashboards": {"gpuHourPrice": 2.5},
}
SETTLED = {
    "sums": "Training",
    "titles": "Succeeded",
    "helpful-sft": "Succeeded",
    "helpful-reward": "Succeeded",
    "helpful-ppo": "Training",
    "polite-sft": "Succeeded",
    "polite-reward": "Training",
    "embeddings": "Training",
    "ranker": "Training",
    "drafts": "Failed",
    "gated": "Failed",
    "large": "Starting",
    "night": "Queued",
    "paused": "Suspended",
}


def pytest_collection_finish(session: pytest.Session) -> None:
    prepare_for(Path(__file__).parent, session, _build_prometheus)


def _build_prometheus() -> None:
    try:
        build("prometheus")
    except BuildError as error:
        raise pytest.UsageError(f"the tests of the boards need Prometheus, which cannot be built: {error}") from None


@dataclass(frozen=True)
class Seen:
    """What Prometheus has seen, and what is asked of it."""

    prometheus: Prometheus
    boards: list[Board]
    alerts: dict[str, str]
    """The expression of each alert."""
    began: float
    end: float


@pytest.fixture(scope="module")
def seen(control_plane: ControlPlane, kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Plays a platform until every job is where it should be, and some time longer."""
    folder = tmp_path_factory.mktemp("monitoring")
    objects = render(VALUES, SYSTEM)
    (rules,) = of_kind(objects, "PrometheusRule")
    file = folder / "rules.yaml"
    file.write_text(in_seconds(yaml.safe_dump(rules["spec"], width=10_000)))
    with ExitStack() as stack:
        prometheus = stack.enter_context(running_prometheus(folder))
        operator = stack.enter_context(running_operator(control_plane, kube, folder))
        ports = stack.enter_context(running_trainings(folder))
        cluster = Cluster(kube, operator, prometheus, short(), ports, minute=1)
        stack.callback(cluster.close)
        began = time.time()
        cluster.open([file])
        _play(cluster, lambda: cluster.phases() == SETTLED, 60)
        _play(cluster, lambda: _all_train(prometheus), 60)
        settled = time.time()
        _play(cluster, lambda: time.time() > settled + HISTORY, HISTORY + 10)
        alerts = {
            each["alert"]: each["expr"]
            for group in rules["spec"]["groups"]
            for each in group["rules"]
            if "alert" in each
        }
        yield Seen(prometheus, boards_of(objects), alerts, began, time.time())


def _all_train(prometheus: Prometheus) -> bool:
    """Whether Prometheus has seen steps of all three runs."""
    steps = prometheus.now("tunesmith_training_steps_total > 0", time.time())
    return len({each.labels["tunesmith_dev_job"] for each in steps}) == 3


def _play(cluster: Cluster, done: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"it stands still at {cluster.phases()}"
        cluster.step()
        time.sleep(0.2)
