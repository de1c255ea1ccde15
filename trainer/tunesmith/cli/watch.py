"""`tunesmith watch`: follows a job or pipeline on a cluster to its end."""

import argparse
import queue
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tunesmith.cli.cluster_arguments import add_cluster_arguments, connect

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from tunesmith.cluster.client import Cluster, Object
    from tunesmith.cluster.follow import Change
    from tunesmith.cluster.kinds import Kind
    from tunesmith.cluster.story import Line

_FRAME_S = 1.0
_BAR = 20
_SHARE = 10
"""Without a terminal, a line of progress for each so many percent."""
_UNSEEN_S = 30.0
"""After which no operator seems to look after a job."""
_PAST_S = 3.0
"""How long the first answers are waited for, so that what was before is told in its order."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("name", metavar="NAME", help="a job or pipeline; finetunejob/NAME where both have that name")
    add_cluster_arguments(parser)
    parser.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> int:
    """Follows it; 0 when it succeeded, 1 when it failed or was deleted, 2 when there is none."""
    from rich.console import Console

    from tunesmith.cluster.find import find

    cluster = connect(arguments)
    kind, body = find(cluster, arguments.namespace or cluster.namespace, arguments.name)
    return _Watch(cluster, kind, body, Console(highlight=False)).run()


class _Watch:
    """Tells what happens to one object."""

    def __init__(self, cluster: "Cluster", kind: "Kind", body: "Object", console: "Console") -> None:
        from tunesmith.cluster.story import Story

        self._kind, self._body, self._console = kind, body, console
        self._story = Story()
        self._changes = self._follow(cluster)
        self._is_deleted = self._is_lost = False
        self._share, self._began, self._has_asked = -1, time.monotonic(), False

    def _follow(self, cluster: "Cluster") -> "queue.Queue[Change]":
        from tunesmith.cluster.follow import Follower
        from tunesmith.cluster.kinds import EVENTS

        changes: queue.Queue[Change] = queue.Queue()
        meta = self._body["metadata"]
        for kind, field, value in (
            (EVENTS, "involvedObject.uid", meta["uid"]),
            (self._kind, "metadata.name", meta["name"]),
        ):
            Follower(cluster, kind, meta["namespace"], changes, {"fieldSelector": f"{field}={value}"})
        return changes

    def run(self) -> int:
        """Follows to the end, and says how it ended."""
        from rich.live import Live

        from tunesmith.cluster.rows import now

        self._tell(sorted([*self._story.status(self._body, now()), *self._past()], key=lambda line: line.when))
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while not self._is_over:
                self._show_progress(live)
                try:
                    self._tell(self._take(self._changes.get(timeout=_FRAME_S)))
                except queue.Empty:
                    self._mind_a_missing_operator()
        return self._end()

    @property
    def _is_over(self) -> bool:
        from tunesmith.cluster.find import OVER

        return self._is_deleted or (self._body.get("status") or {}).get("phase") in OVER

    def _past(self) -> "list[Line]":
        """What the first answers tell."""
        lines, waiting, until = list[Any](), {"events", self._kind.plural}, time.monotonic() + _PAST_S
        while waiting and (left := until - time.monotonic()) > 0:
            try:
                change = self._changes.get(timeout=left)
            except queue.Empty:
                break
            lines += self._take(change)
            waiting -= {change.kind.plural} if change.what in ("all", "refused") else set()
        return lines

    def _take(self, change: "Change") -> "list[Line]":
        """What a change tells."""
        if change.what == "refused" and change.kind is not self._kind:
            self._note(f"its events cannot be read: {change.error}")
        elif change.what == "refused":
            assert change.error is not None
            raise change.error
        elif change.what == "lost" and not self._is_lost:
            self._is_lost = True
            self._note(f"{change.error}; trying again")
        elif change.what == "back" and self._is_lost:
            self._is_lost = False
            self._note("the API server is back")
        elif change.kind is not self._kind:
            return [line for body in change.objects for line in self._story.event(body)]
        elif change.what in ("all", "changed", "deleted"):
            return self._look(change)
        return []

    def _look(self, change: "Change") -> "list[Line]":
        from tunesmith.cluster.rows import now

        mine = [body for body in change.objects if body["metadata"]["uid"] == self._body["metadata"]["uid"]]
        if change.what == "deleted" or not mine:  # another may have its name by now
            self._is_deleted = True
            return []
        self._body = mine[0]
        return self._story.status(self._body, now())

    def _tell(self, lines: "list[Line]") -> None:
        from rich.text import Text

        for line in lines:
            style = "red" if line.is_bad else "bold"
            text = line.text and f"  {line.text}"
            told = Text.assemble((_clock(line.when), "dim"), "  ", (line.word, style), text)
            self._console.print(told, soft_wrap=True)

    def _show_progress(self, live: "Live") -> None:
        """The bar, or without a terminal a line now and then."""
        from rich.text import Text

        from tunesmith.cluster.rows import now
        from tunesmith.cluster.story import position

        where = position(self._body)
        if self._console.is_terminal:
            done = 0 if where is None else _BAR * where.percentage // 100
            bar = ("━" * done, "green"), ("━" * (_BAR - done), "bright_black")
            text = Text("") if where is None else Text.assemble(f"{where.what} ", *bar, f" {where.text}")
            text.no_wrap, text.overflow = True, "ellipsis"
            live.update(text, refresh=True)
        elif where is not None and where.percentage // _SHARE != self._share:
            self._share = where.percentage // _SHARE
            self._console.print(f"{_clock(now())}  {where.what} {where.percentage}%  {where.text}", soft_wrap=True)

    def _mind_a_missing_operator(self) -> None:
        if not self._has_asked and not self._body.get("status") and time.monotonic() - self._began > _UNSEEN_S:
            self._has_asked = True
            self._note("has no status yet: does Tunesmith's operator run, and look after this namespace?")

    def _note(self, text: str) -> None:
        print(f"{self._body['metadata']['name']}: {text}", file=sys.stderr, flush=True)

    def _end(self) -> int:
        from tunesmith.cluster.evaluation import status_caption, status_table

        if self._is_deleted:
            self._note("was deleted")
            return 1
        status, name = self._body["status"], self._body["metadata"]["name"]
        if status.get("evaluation"):
            self._console.print(status_table(status["evaluation"]))
            self._console.print(status_caption(status["evaluation"]), soft_wrap=True)
        for what in ("model", "report", "folder"):
            if where := (status.get("artifacts") or {}).get(what):
                self._console.print(f"{what}: {where}", soft_wrap=True, markup=False)
        if status["phase"] == "Succeeded":
            return 0
        failed: Object = next((each for each in status.get("conditions") or () if each["type"] == "Failed"), {})
        self._note(f"{failed.get('reason', 'Failed')}: {failed.get('message') or status.get('message', '')}")
        if status.get("attempts") or status.get("stages"):
            print(f"its log: tunesmith logs {name} -n {self._body['metadata']['namespace']}", file=sys.stderr)
        return 1


def _clock(when: datetime) -> str:
    from tunesmith.cluster.rows import now
    from tunesmith.cluster.words import clock

    return clock(when, now())
