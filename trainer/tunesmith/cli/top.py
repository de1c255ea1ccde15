"""`tunesmith top`: the jobs and pipelines of a cluster, as a live table."""

import argparse
import json
import queue
import sys
import threading
import time
from typing import TYPE_CHECKING

from tunesmith.api.problem import InputError, Problem
from tunesmith.cli.cluster_arguments import add_cluster_arguments, connect

if TYPE_CHECKING:
    from rich.console import Console

    from tunesmith.cluster.board import Board
    from tunesmith.cluster.client import Cluster
    from tunesmith.cluster.follow import Change
    from tunesmith.cluster.rows import Row
    from tunesmith.cluster.utilization import Prometheus

SORTS = ("state", "name", "age", "progress", "tokens", "gpus", "utilization", "left")
_FRAME_S = 1.0
_ASK_S = 15.0
"""Between two questions to Prometheus, whose own scrapes are not more frequent."""
_HOW = "UTIL needs --prometheus: a URL, or NAMESPACE/SERVICE:PORT to reach it through the API server"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_cluster_arguments(parser)
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces")
    parser.add_argument("--sort", choices=SORTS, default="state", help="default: state, what runs first")
    parser.add_argument("--once", action="store_true", help="print it once, as is done for a pipe or a file")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="json: once, for programs")
    parser.add_argument(
        "--prometheus",
        metavar="ADDRESS",
        help="where to ask how busy GPUs are: a URL, or NAMESPACE/SERVICE:PORT, which goes through the API server",
    )
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Shows the table until it is interrupted, or once."""
    from rich.console import Console

    from tunesmith.cluster.utilization import Prometheus

    if arguments.all_namespaces and arguments.namespace:
        raise InputError(Problem("does not go with --namespace", "--all-namespaces"))
    cluster = connect(arguments)
    try:
        prometheus = Prometheus(arguments.prometheus, cluster) if arguments.prometheus else None
    except ValueError as error:
        raise InputError(Problem(str(error), "--prometheus")) from None
    console = Console(highlight=False)
    if arguments.once or arguments.output == "json" or not console.is_terminal:
        return _once(arguments, cluster, prometheus, console)
    return _live(arguments, cluster, prometheus, console)


def _namespace(arguments: argparse.Namespace, cluster: "Cluster") -> str | None:
    return None if arguments.all_namespaces else arguments.namespace or cluster.namespace


def _sorted(board: "Board", arguments: argparse.Namespace) -> "list[Row]":
    from tunesmith.cluster.rows import SORTS as KEYS

    return sorted(board.rows(), key=KEYS[arguments.sort])


def _once(
    arguments: argparse.Namespace, cluster: "Cluster", prometheus: "Prometheus | None", console: "Console"
) -> int:
    from tunesmith.cluster.board import KINDS, Board
    from tunesmith.cluster.rows import now, summary
    from tunesmith.cluster.table import live_table, plain_table, summary_line

    board, asker = Board(), _Asker(prometheus)
    for kind in KINDS:
        pages = cluster.pages(kind, _namespace(arguments, cluster))
        board.replace(kind, [body for page in pages for body in page["items"] or []])
    asker.ask()
    board.busy = asker.busy
    rows = _sorted(board, arguments)
    if arguments.output == "json":
        held, phases = summary(rows)
        whole = {"gpusHeld": held, "phases": phases, "items": [row.to_dict(now()) for row in rows]}
        print(json.dumps(whole, indent=2))
    elif not rows:
        where = "" if arguments.all_namespaces else f" in namespace {_namespace(arguments, cluster)}"
        print(f"there are no jobs and no pipelines{where}", file=sys.stderr)
    elif console.is_terminal:
        console.print(live_table(rows, arguments.all_namespaces, now(), console.width, None, []))
    else:
        print(plain_table(rows, arguments.all_namespaces, now()))
        print(summary_line(rows), file=sys.stderr)
    note = asker.note(rows)
    if note and (prometheus is not None or arguments.output != "json"):
        print(note, file=sys.stderr)
    return 0


def _live(
    arguments: argparse.Namespace, cluster: "Cluster", prometheus: "Prometheus | None", console: "Console"
) -> int:
    from rich.live import Live

    from tunesmith.cluster.board import KINDS, Board
    from tunesmith.cluster.follow import Follower
    from tunesmith.cluster.rows import now
    from tunesmith.cluster.table import live_table

    board, asker = Board(), _Asker(prometheus)
    changes: queue.Queue[Change] = queue.Queue()
    for kind in KINDS:
        Follower(cluster, kind, _namespace(arguments, cluster), changes)
    while not board.is_complete:  # what is refused is said before the screen is taken
        change = changes.get()
        if change.what == "lost":
            assert change.error is not None
            raise change.error
        board.apply(change)
    asker.start()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            board.busy = asker.busy
            rows = _sorted(board, arguments)
            notes = [text for text in (asker.note(rows), board.trouble and f"{board.trouble}; trying again") if text]
            table = live_table(rows, arguments.all_namespaces, now(), console.width, console.height, notes)
            live.update(table, refresh=True)
            _take(changes, board, time.monotonic() + _FRAME_S)


def _take(changes: "queue.Queue[Change]", board: "Board", until: float) -> None:
    """Takes in what comes until the next frame is due."""
    while (left := until - time.monotonic()) > 0:
        try:
            board.apply(changes.get(timeout=left))
        except queue.Empty:
            return


class _Asker:
    """Keeps what Prometheus says; nobody waits for it."""

    def __init__(self, prometheus: "Prometheus | None") -> None:
        self._prometheus = prometheus
        self._trouble = ""
        self.busy: dict[tuple[str, str], float] = {}

    def start(self) -> None:
        if self._prometheus is not None:
            threading.Thread(target=self._ask_for_ever, daemon=True, name="prometheus").start()

    def ask(self) -> None:
        if self._prometheus is None:
            return
        try:
            self.busy, self._trouble = self._prometheus.utilization(), ""
        except OSError as error:
            self.busy, self._trouble = {}, str(error)

    def note(self, rows: "list[Row]") -> str:
        """Why there is a dash where a figure could be."""
        held = [row for row in rows if row.gpus_held]
        if not held:
            return ""
        if self._prometheus is None:
            return _HOW
        if not self._trouble and self.busy.keys().isdisjoint((row.namespace, row.name) for row in held):
            return f"UTIL: {self._prometheus.address} has no series of these jobs' GPUs, of DCGM's exporter or Ray"
        return self._trouble and f"UTIL: {self._trouble}"

    def _ask_for_ever(self) -> None:
        while True:
            self.ask()
            time.sleep(_ASK_S)
