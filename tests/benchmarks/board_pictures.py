"""`python -m tests.benchmarks.board_pictures [--output docs/images] [--data FOLDER]`: the pictures of docs/boards.md.

Plays seven minutes of a small platform (tests/integration/monitoring): a real API server, operator and Prometheus,
real runs of tiny models; what GPUs, network and nodes do is played. Then it asks what each panel of each board asks,
and draws the answers. With --data the play is kept, and where one is kept already it is drawn again.
"""

import argparse
import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.benchmarks.board_drawing import draw
from tests.benchmarks.board_fields import Line
from tests.integration.conftest import CRDS, TOOLS
from tests.integration.controlplane import running_control_plane
from tests.integration.kube import Kube
from tests.integration.monitoring.boards import Board, boards_of, filled
from tests.integration.monitoring.cluster import SYSTEM, Cluster, running_operator
from tests.integration.monitoring.play import long
from tests.integration.monitoring.prometheus import Prometheus, running_prometheus
from tests.integration.monitoring.trainings import running_trainings
from tests.integration.test_chart import of_kind, render
from tests.tools.build import build

SECONDS = 7 * 60.0
STEPS = 240
"""Points of a line."""
_SPAN = "span.json"
VALUES = {"prometheusRules": {"enabled": True}, "dashboards": {"enabled": True, "gpuHourPrice": 2.5}}
_CHOSEN = {"tunesmith-job": {"namespace": "assistants", "name": "sums"}}
"""One job on the board of one."""


def main() -> None:
    """Plays, asks and draws."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.data or Path(scratch)
        if not (folder / _SPAN).exists():
            folder.mkdir(parents=True, exist_ok=True)
            play(folder, arguments.seconds)
        began, end = json.loads((folder / _SPAN).read_text())
        with running_prometheus(folder) as prometheus:
            for board in boards_of(render(VALUES, SYSTEM)):
                name = board.body["uid"].removeprefix("tunesmith-")
                answers = ask(board, prometheus, began, end)
                draw(board.body, answers, (began, end), arguments.output / f"board-{name}.png")


def play(folder: Path, seconds: float) -> None:
    """Leaves what Prometheus has seen in a folder."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        programs = build(*TOOLS)
        crds = [*programs["kuberay-crds"].iterdir(), *sorted(CRDS.glob("*.yaml"))]
        plane = stack.enter_context(running_control_plane(programs, scratch, crds))
        kube = Kube(plane.kubeconfig)
        prometheus = stack.enter_context(running_prometheus(folder))
        operator = stack.enter_context(running_operator(plane, kube, scratch))
        ports = stack.enter_context(running_trainings(scratch, **_slow(seconds)))
        (rules,) = of_kind(render(VALUES, SYSTEM), "PrometheusRule")
        (scratch / "rules.yaml").write_text(json.dumps(rules["spec"]))
        cluster = Cluster(kube, operator, prometheus, long(), ports, minute=seconds / 12, interval="2s")
        stack.callback(cluster.close)
        cluster.open([scratch / "rules.yaml"])
        began = time.time()
        while time.time() - began < seconds:
            cluster.step()
            time.sleep(0.5)
        (folder / _SPAN).write_text(json.dumps([began, time.time()]))


def _slow(seconds: float) -> dict[str, Any]:
    """Runs that outlast the play, and do not see a row too often."""
    often = {"everySteps": 100, "keep": 2}
    return {"steps": round(40 * seconds), "examples": 4000, "batchSize": 48, "learningRate": 5e-4, "checkpoint": often}


def ask(board: Board, prometheus: Prometheus, began: float, end: float) -> dict[int, dict[str, list[Line]]]:
    """The answers of a board, by panel and letter of the query."""
    shown = {"__range": f"{round(end - began)}s", "__range_s": f"{end - began:g}"}
    shown |= {"__interval": "5s", "__rate_interval": "30s"}
    values = board.values(prometheus, _CHOSEN.get(board.body["uid"])) | shown
    found: dict[int, dict[str, list[Line]]] = {}
    for panel in board.panels():
        for query in panel.queries:
            expr, step = filled(query.expr, values), (end - began) / STEPS
            lines = prometheus.now(expr, end) if query.instant else prometheus.over(expr, began, end, step)
            answers = [Line("", line.labels, line.samples) for line in lines if line.figures]
            found.setdefault(panel.body["id"], {})[query.ref] = answers
    return found


if __name__ == "__main__":
    main()
