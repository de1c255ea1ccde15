"""Log lines of a run's pods, for people: the trainer writes JSON, Ray puts its own words in front."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tunesmith.api.log_lines import without_rays_words
from tunesmith.cluster.words import clock

_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True)
class LogLine:
    """A line of a pod's log."""

    raw: str
    record: dict[str, Any] | None
    """What it holds, where it is one of the trainer's or the operator's own."""

    @property
    def rank(self) -> int | None:
        """The worker that wrote it."""
        rank = (self.record or {}).get("rank")
        return rank if isinstance(rank, int) else None

    def to_json(self, pod: str = "") -> str:
        """As a JSON object, whoever wrote it; with the pod's name, where one is given."""
        record = ({"message": self.raw} if self.record is None else self.record) | ({"pod": pod} if pod else {})
        return json.dumps(record, ensure_ascii=False)

    def to_text(self, now: datetime, colours: bool) -> str:
        """TIME LEVEL [RANK] step STEP: MESSAGE; a line that is no JSON as it is."""
        record = self.record
        if record is None:
            return self.raw
        level = str(record.get("level", ""))
        rank = f" [{self.rank}]" if self.rank is not None else ""
        step = f" step {record['step']}:" if record.get("step") is not None else ""
        when, after = _when(record.get("time"), now), f" {record.get('message', '')}"
        if colours:
            when, level = f"{_DIM}{when}{_PLAIN}", f"{_COLOURS.get(level, '')}{level}{_PLAIN}"
        exception = f"\n{record['exception']}" if record.get("exception") else ""
        return f"{when} {level}{rank}{step}{after}{exception}".strip()


def parse_line(text: str) -> LogLine:
    """Reads a line, with or without Ray's words in front."""
    bare = without_rays_words(text)
    if bare.startswith("{"):
        try:
            record = json.loads(bare)
        except ValueError:
            record = None
        if isinstance(record, dict) and "message" in record:
            return LogLine(text, record)
    return LogLine(text, None)


def _when(time: Any, now: datetime) -> str:
    try:
        when = datetime.fromisoformat(str(time))
    except ValueError:
        return str(time or "")
    return clock(when, now) if when.tzinfo else str(time)
