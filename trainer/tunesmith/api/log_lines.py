"""Log lines as JSON, an object a line: what pods and the operator write."""

import json
import logging
import re
import sys
import threading
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

ABOUT = ("kind", "namespace", "job", "attempt", "rank", "step")
"""What a line may be about, in this order; a call of a logger gives them as `extra`."""

_RAYS_WORDS = re.compile(r"^(?:\x1b\[\d+m)?(\([^()]*pid=\d+[^()]*\))(?:\x1b\[0m)? ?")


class JsonLines(logging.Formatter):
    """Writes time (RFC 3339, UTC), level, logger, message, what the line is about, and an exception's traceback."""

    def __init__(self, about: Mapping[str, Any] | None = None) -> None:
        """
        Args:
            about: what every line is about, of ABOUT; is read anew for each line.
        """
        super().__init__()
        self._about = about if about is not None else {}

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S}.{record.msecs:03.0f}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in ABOUT:
            value = getattr(record, name, self._about.get(name))
            if value is not None:
                line[name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_as_json(about: Mapping[str, Any] | None = None, stream: TextIO | None = None) -> None:
    """Has the whole process log so from now on, warnings and uncaught exceptions included."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(about))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}"
    sys.excepthook = lambda *error: logging.critical("the process ends", exc_info=error)
    threading.excepthook = lambda hook: logging.critical(
        "thread %s ends", hook.thread and hook.thread.name, exc_info=hook.exc_value
    )


def without_rays_words(line: str) -> str:
    """A worker's line in the driver's log as it was written: Ray puts (RayTrainWorker pid=212, ip=10.1.0.7) before."""
    return _RAYS_WORDS.sub("", line, count=1)
