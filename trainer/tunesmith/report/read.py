"""What a run's folder tells a reader, whatever its state: parts may be missing, damaged, or of an older release."""

import fcntl
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from tunesmith.api.load import InputError, Problem
from tunesmith.api.outcome import Outcome, PastAttempt
from tunesmith.api.pod import RunFolder
from tunesmith.evaluation.report import RESULT_FILE, ROWS_FILE, EvaluationReport, read_report
from tunesmith.launch.folder import read_attempts, read_result
from tunesmith.launch.trials import Trial, read_trials
from tunesmith.training.coach import Finding, read_findings

_RESUMED = re.compile(r"goes on from step (\d+) of \d+")
_PAUSE_S, _PAUSE_STEPS = 60.0, 20.0
"""A gap between two records that is longer than both, in seconds and in usual gaps, is time in which nothing ran."""


@dataclass(frozen=True)
class Run:
    """One run, read once."""

    folder: RunFolder
    job: dict[str, Any]
    """The FineTuneJob as data, defaults filled in."""
    versions: dict[str, str]
    outcome: Outcome | None
    records: list[dict[str, Any]] = field(default_factory=list)
    """The lines of metrics.jsonl."""
    data: dict[str, Any] = field(default_factory=dict)
    """data.json; empty before the data were read."""
    findings: list[Finding] = field(default_factory=list)
    evaluation: EvaluationReport | None = None
    evaluation_problem: str = ""
    """Why there is none although there are files."""
    trials: list[Trial] = field(default_factory=list)
    attempts: list[PastAttempt] = field(default_factory=list)
    """Those that are over."""
    resumed: list[int] = field(default_factory=list)
    """The steps after which it was gone on with."""
    running: bool = False
    """Whether somebody else is training or evaluating it now."""

    @property
    def name(self) -> str:
        """The job's."""
        return str(self.job.get("metadata", {}).get("name", self.folder.root.name))

    @property
    def spec(self) -> dict[str, Any]:
        """The job's."""
        spec: dict[str, Any] = self.job.get("spec", {})
        return spec

    @property
    def objective(self) -> str:
        """The member of spec.objective; empty for a job that trains nothing."""
        return next(iter(self.spec.get("objective") or {}), "")

    @property
    def method(self) -> str:
        """The member of spec.method; empty for a job that trains nothing."""
        return next(iter(self.spec.get("method") or {}), "")

    @property
    def trains(self) -> bool:
        """Whether it is more than an evaluation."""
        return bool(self.objective)

    @property
    def last(self) -> dict[str, Any]:
        """The newest value of each column of metrics.jsonl."""
        found: dict[str, Any] = {}
        for record in self.records:
            found.update(record)
        return found

    @property
    def steps(self) -> tuple[int, int]:
        """Finished steps, and those of the whole run, 0 where that is not known."""
        done = int(self.last.get("step", 0))
        if self.outcome is not None and self.outcome.step is not None:
            done = max(done, self.outcome.step)
        return done, int(self.data.get("total_steps", 0))

    @property
    def seconds(self) -> float:
        """The time of the steps, pauses excluded; the first one is counted as the second one."""
        times = [float(record["time"]) for record in self.records if "time" in record]
        gaps = [late - early for early, late in itertools.pairwise(times) if late > early]
        if not gaps:
            return 0.0
        usual = sorted(gaps)[len(gaps) // 2]
        return usual + sum(gap for gap in gaps if gap <= max(_PAUSE_S, _PAUSE_STEPS * usual))

    @property
    def ended(self) -> datetime | None:
        """When the last step was noted."""
        moment = self.last.get("time")
        return datetime.fromtimestamp(moment, UTC) if moment is not None else None

    @property
    def rows_file(self) -> Path:
        """The rows of the evaluation."""
        return self.folder.evaluation / ROWS_FILE

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of the evaluation, one by one: there may be many."""
        try:
            with self.rows_file.open(encoding="utf-8") as lines:
                yield from filter(None, map(_object, lines))
        except OSError:
            return

    @cached_property
    def data_digest(self) -> str:
        """Of the tokenized training rows; empty where no checkpoint tells."""
        for file in sorted(self.folder.checkpoints.glob("step-*/checkpoint.json"), reverse=True):
            digest = (_read(file).get("position") or {}).get("dataDigest")
            if digest:
                return str(digest)
        return ""


def read_run(folder: RunFolder, running: bool | None = None) -> Run:
    """Reads a run's folder.

    Args:
        folder: of the run.
        running: whether somebody else is at work in it; None to look, for whoever does not hold the folder.

    Raises:
        InputError: it is not a run's folder.
    """
    config = _read(folder.config)
    if not isinstance(config.get("job"), dict):
        raise InputError(Problem("is not a run's folder: it holds no config.json of a run", file=str(folder.root)))
    evaluation, problem = None, ""
    if (folder.evaluation / RESULT_FILE).exists():
        try:
            evaluation = read_report(folder)
        except InputError as error:
            problem = str(error).removeprefix(str(folder.root)).lstrip("/")
    try:
        trials = read_trials(folder)
    except InputError:
        trials = []
    return Run(
        folder=folder,
        job=config["job"],
        versions=config.get("versions") or {},
        outcome=read_result(folder.result),
        records=[record for record in map(_object, _lines(folder.metrics)) if record and "step" in record],
        data=_read(folder.data),
        findings=read_findings(folder.findings),
        evaluation=evaluation,
        evaluation_problem=problem,
        trials=trials,
        attempts=read_attempts(folder),
        resumed=[int(step) for line in _lines(folder.logs / "worker-0.log") for step in _RESUMED.findall(line)],
        running=is_held(folder) if running is None else running,
    )


def is_held(folder: RunFolder) -> bool:
    """Whether a run is using the folder now."""
    try:
        with folder.lock.open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").split("\n")  # texts may hold U+2028
    except OSError:
        return []


def _object(line: str) -> dict[str, Any] | None:
    """A line of JSON; None where a kill has cut it off."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _read(file: Path) -> dict[str, Any]:
    return _object("\n".join(_lines(file))) or {}
