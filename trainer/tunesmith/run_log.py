"""The log of a run: text for people in its folder, where it outlives the pods, JSON for collectors in the pods' own."""

import faulthandler
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.api.log_lines import log_as_json
from tunesmith.api.outcome import LOG_TAIL_LIMIT
from tunesmith.api.pod import RunFolder

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"

_about: dict[str, Any] = {}
"""What this process works on: one run at a time."""
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|_KEY$|^KEY$", re.IGNORECASE)
_SHORTEST_SECRET = 6
_READ = 64 * 1024


def log_in_pod(namespace: str | None, job: str, attempt: int, rank: int | None = None) -> None:
    """Has this process log JSON lines about a run."""
    _about.clear()
    _about.update(namespace=namespace, job=job, attempt=attempt, rank=rank)
    log_as_json(_about)


def at_step(step: int) -> None:
    """From now on lines are about this optimizer step."""
    _about["step"] = step


def step_now() -> int | None:
    """The optimizer step that lines are about."""
    step: int | None = _about.get("step")
    return step


def log_to_file(file: Path) -> None:
    """Adds a log to the run's folder; a crash of native code leaves its traceback there too."""
    logger = logging.getLogger("tunesmith")
    logger.setLevel(logging.INFO)
    for handler in [h for h in logger.handlers if isinstance(h, logging.FileHandler)]:
        logger.removeHandler(handler)
        handler.close()
    _about.pop("step", None)
    file.parent.mkdir(parents=True, exist_ok=True)
    to_file = logging.FileHandler(file)
    to_file.setFormatter(logging.Formatter(LOG_FORMAT))
    logger.addHandler(to_file)
    assert to_file.stream is not None
    faulthandler.enable(to_file.stream)


def worker_log(folder: RunFolder, rank: int) -> Path:
    """The log of a worker."""
    return folder.logs / f"worker-{rank}.log"


def evaluation_log(folder: RunFolder) -> Path:
    """The log of the evaluation."""
    return folder.logs / "evaluation.log"


def tail(file: Path, environment: Mapping[str, str] = os.environ) -> str | None:
    """The last whole lines of a log, LOG_TAIL_LIMIT bytes at most; None where there are none.

    Secrets are masked.
    """
    try:
        with file.open("rb") as lines:
            lines.seek(max(0, file.stat().st_size - _READ))
            text = lines.read().decode(errors="replace").strip()
    except OSError:
        return None
    text = masked(text, environment)
    kept, left = list[str](), LOG_TAIL_LIMIT
    for line in reversed(text.split("\n")):
        left -= len(line.encode()) + 1
        if left < 0 and kept:
            break
        kept.insert(0, line)
    return "\n".join(kept).encode()[-LOG_TAIL_LIMIT:].decode(errors="ignore") or None


def masked(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """A text without the values of environment variables whose names say that they are secret."""
    for name, value in environment.items():
        if _SECRET.search(name) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "***")
    return text


def last_tail(folder: RunFolder) -> str | None:
    """Of a run whose worker could not say how it ended: the tail of the log that was written last."""
    logs = sorted(folder.logs.glob("worker-*.log"), key=lambda log: log.stat().st_mtime)
    return tail(logs[-1]) if logs else None
