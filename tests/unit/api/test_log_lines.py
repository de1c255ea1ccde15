"""Log lines of pods and of the operator."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tunesmith.api.log_lines import JsonLines


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("tunesmith.test")
    yield logger
    logger.handlers.clear()


def logged(logger: logging.Logger, about: dict[str, Any]) -> io.StringIO:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines(about))
    logger.addHandler(handler)
    return stream


def test_a_line_says_what_it_is_about_now(logger: logging.Logger) -> None:
    about: dict[str, Any] = {"namespace": "team", "job": "tune", "attempt": 2, "rank": 0, "step": None}
    stream = logged(logger, about)
    logger.warning("it\nbegins with %s", "ü")
    about["step"] = 7
    logger.warning("later", extra={"job": "other"})
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert list(first) == ["time", "level", "logger", "message", "namespace", "job", "attempt", "rank"]
    assert first["time"].endswith("Z")
    assert (first["level"], first["logger"], first["message"]) == ("WARNING", "tunesmith.test", "it\nbegins with ü")
    assert (second["step"], second["job"]) == (7, "other")


def test_an_exception_stays_in_its_line(logger: logging.Logger) -> None:
    stream = logged(logger, {})
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("it failed")
    (line,) = map(json.loads, stream.getvalue().splitlines())
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: no")


def test_the_whole_process_logs_so() -> None:
    program = """
import logging, threading, warnings
from tunesmith.api.log_lines import log_as_json
logging.basicConfig()  # somebody was faster
log_as_json({"job": "tune"})
logging.getLogger("another.library").info("hello")
warnings.warn("old", FutureWarning)
thread = threading.Thread(target=lambda: {}["missing"], name="beside")
thread.start()
thread.join()
raise ValueError("no\\nway")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    hello, old, thread, end = map(json.loads, done.stderr.splitlines())
    assert (hello["logger"], hello["message"], hello["job"]) == ("another.library", "hello", "tune")
    assert (thread["message"], thread["exception"].splitlines()[-1]) == ("thread beside ends", "KeyError: 'missing'")
    assert (end["level"], end["exception"].splitlines()[-2:]) == ("CRITICAL", ["ValueError: no", "way"])
    assert (old["logger"], old["message"]) == ("py.warnings", "FutureWarning: old")
