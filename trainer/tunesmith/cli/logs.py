"""`tunesmith logs`: the log of a job or pipeline on a cluster."""

import argparse
import re
import sys
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tunesmith.api.problem import InputError, Problem
from tunesmith.cli.cluster_arguments import add_cluster_arguments, connect

if TYPE_CHECKING:
    from tunesmith.cluster.log_source import LogSource
    from tunesmith.cluster.pods import RunPod

_POLL_S = 2.0
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("name", metavar="NAME", help="a job or pipeline; finetunejob/NAME where both have that name")
    add_cluster_arguments(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on to the job's end, through all attempts")
    parser.add_argument("--tail", type=_count, metavar="N", help="the last N lines")
    parser.add_argument("--since", type=_seconds, metavar="TIME", help="only lines of the last 30s, 5m, 2h, 1d")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("-p", "--previous", action="store_true", help="of the attempt before the newest")
    which.add_argument("--attempt", type=_count, metavar="N", help="of this attempt (default: of what it does now)")
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("--worker", type=int, metavar="N", help="only what this worker says, counted from 0")
    whose.add_argument("--all", action="store_true", help="of every pod, the head's and the workers' too: Ray's own")
    parser.add_argument("--stage", choices=("sft", "reward", "ppo"), help="of a pipeline (default: what runs)")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="json: an object a line")
    parser.set_defaults(main=main)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} should be a number from 1 on")
    return int(text)


def _seconds(text: str) -> int:
    if not re.fullmatch(r"([0-9]+[smhd])+", text):
        raise argparse.ArgumentTypeError(f"{text!r} should be a time such as 30s, 5m, 1h30m")
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([smhd])", text)) or 1


def main(arguments: argparse.Namespace) -> int:
    """Prints it; 1 where there is nothing to print, 2 where there is no such job."""
    from tunesmith.cluster.log_source import LogSource

    if arguments.follow and arguments.tail and arguments.worker is not None:
        raise InputError(Problem("does not go with --follow and --worker together", "--tail"))
    cluster = connect(arguments)
    source = LogSource(cluster, arguments.namespace or cluster.namespace, arguments.name, arguments.stage)
    source.look()
    attempt = arguments.attempt
    if arguments.previous:
        attempt = source.previous()
    if attempt is not None:
        source.check_attempt(attempt)
    printer = _Printer(arguments)
    return _follow(source, attempt, printer) if arguments.follow else _print(source, attempt, printer)


class _Printer:
    """Prints the lines that are wanted."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from tunesmith.cluster.logs import Wanted

        self._json, self._worker, self.all = arguments.output == "json", arguments.worker, arguments.all
        self._colours = sys.stdout.isatty()
        self._tail = arguments.tail if self._worker is not None else None
        self.wanted = Wanted(None if self._tail else arguments.tail, arguments.since)
        self.count = 0

    def print_all(self, lines: "Iterable[tuple[RunPod | None, str]]") -> None:
        """Prints lines with the pods that they are of, until there are no more."""
        wanted = (pair for pair in lines if self._is_wanted(pair[1]))
        for pod, text in deque(wanted, self._tail) if self._tail else wanted:
            self.count += 1
            self._print(pod, text)

    def _is_wanted(self, text: str) -> bool:
        from tunesmith.cluster.log_lines import parse_line

        return self._worker is None or parse_line(text).rank == self._worker

    def _print(self, pod: "RunPod | None", text: str) -> None:
        from tunesmith.cluster.log_lines import parse_line
        from tunesmith.cluster.rows import now

        line, name = parse_line(text), pod.name if pod is not None and self.all else ""
        prefix = f"[{name}] " if name and not self._json else ""
        shown = line.to_json(name) if self._json else line.to_text(now(), self._colours)
        print(f"{prefix}{shown}", flush=True)

    def end(self) -> int:
        """The exit code."""
        if not self.count and self._worker is not None:
            _note(f"there is no line of worker {self._worker}")
        return 0 if self.count else 1


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print(source: "LogSource", attempt: int | None, printer: _Printer) -> int:
    from tunesmith.cluster.logs import read_log

    pods = source.pods(attempt, printer.all)
    for pod in pods:
        if pod.waits:
            _note(f"pod {pod.name} does not run yet: {pod.waits}")
            continue
        _note(source.title(pod))
        printer.print_all((pod, text) for text in read_log(source.cluster, pod, printer.wanted))
    return printer.end() if pods else _print_what_is_left(source, attempt, printer)


def _follow(source: "LogSource", attempt: int | None, printer: _Printer) -> int:
    from tunesmith.cluster.logs import Wanted, follow_logs

    shown, said = set[str](), ""
    while True:
        new = [pod for pod in source.pods(attempt, printer.all) if pod.uid not in shown]
        ready = [pod for pod in new if not pod.waits]
        for pod in ready:
            _note(source.title(pod))
        if ready:
            shown |= {pod.uid for pod in ready}
            printer.print_all(follow_logs(source.cluster, ready, printer.wanted))
            printer.wanted = Wanted()  # of what comes later, everything
        elif source.is_over(attempt):
            return printer.end() if shown else _print_what_is_left(source, attempt, printer)
        else:
            waits = f"pod {new[0].name} does not run yet: {new[0].waits}" if new else source.state()
            if waits != said:
                _note(waits)
            said = waits
            time.sleep(_POLL_S)
        if not source.look():
            _note(f"{source.name} was deleted")
            return 1


def _print_what_is_left(source: "LogSource", attempt: int | None, printer: _Printer) -> int:
    """Prints what the status keeps of a log whose pods are gone, and says where the whole is."""
    tail, where = source.left(attempt)
    _note(where)
    printer.print_all((None, text) for text in tail)
    return printer.end()
