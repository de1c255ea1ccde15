"""What an evaluation leaves in the run's folder: result.json and rows.jsonl."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from tunesmith.api.base import Schema
from tunesmith.api.evaluation import MetricName
from tunesmith.api.load import InputError, Problem
from tunesmith.api.outcome import EvaluationResult, Interval, MetricResult
from tunesmith.api.pod import RunFolder
from tunesmith.evaluation.statistics import FEWEST_ROWS

RESULT_FILE, ROWS_FILE = "result.json", "rows.jsonl"

_ROWS = (
    "rows cut to training.maxLength for perplexity",
    "rows left out of perplexity: nothing to predict within training.maxLength",
)
_PAIRS = (
    "pairs cut to training.maxLength",
    "pairs left out: no room within training.maxLength, or the same answer twice",
)
"""What happened to rows that were truncated, and to those that were dropped."""

Verdict = Literal["better", "worse", "longer", "shorter", "no difference shown", "too few rows to tell", ""]


class MetricReport(Schema):
    """One metric of both models, with 95% intervals."""

    name: MetricName
    rows: int
    """Rows that count; for perplexity those that have something to predict; for pairAccuracy prompts, each of which may
    have several pairs."""
    tuned: Interval
    base: Interval | None = None
    difference: Interval | None = None
    """Tuned - base, paired by row."""

    @property
    def verdict(self) -> Verdict:
        """What the difference's interval shows of the tuned model, or that of a win rate, and no more; empty without a
        base, and for a divergence, which is neither good nor bad."""
        shown, equal = (self.tuned, 0.5) if self.name == "winRate" else (self.difference, 0.0)
        if shown is None:
            return ""
        if self.rows < FEWEST_ROWS:
            return "too few rows to tell"
        if shown.low <= equal <= shown.high:
            return "no difference shown"
        if self.name == "answerTokens":
            return "longer" if shown.value > equal else "shorter"
        return "better" if (shown.value > equal) != (self.name == "perplexity") else "worse"


class ModelReport(Schema):
    """How one model was evaluated."""

    address: str
    """The folder or source that it was loaded from."""
    dtype: str
    """Type of its weights."""
    device: str
    unanswered: int = 0
    """Rows whose prompt leaves no room in the model's context, or has no token; they count as wrong, and for reward,
    winRate and answerTokens not at all."""
    unfinished: int = 0
    """Answers that ran into maxNewTokens, or the end of the context, before their end."""
    batch_size: int | None = None
    """Rows that were answered at once; less than asked for where memory ran out."""
    seconds: float


class EvaluationReport(Schema):
    """Everything but the rows."""

    job: str
    rows: int
    """Test rows."""
    truncated: int = 0
    """Rows that lost their end to training.maxLength, for perplexity."""
    dropped: int = 0
    """Rows without anything to predict within training.maxLength, left out of perplexity; pairs without room for an
    answer within it, or with the same answer twice."""
    longer: Interval | None = None
    """Of pairs, the accuracy of preferring the longer answer."""
    metrics: list[MetricReport]
    tuned: ModelReport
    base: ModelReport | None = None
    settings: dict[str, int | float | str]
    versions: dict[str, str]

    def to_result(self) -> EvaluationResult:
        """The part that goes into the job's status."""
        metrics = [MetricResult(name=m.name, tuned=m.tuned, base=m.base) for m in self.metrics]
        return EvaluationResult(rows=self.rows, metrics=metrics)

    @property
    def remarks(self) -> list[str]:
        """What a reader of the figures should know, a phrase each."""
        models = [("tuned", self.tuned), *([("base", self.base)] if self.base else [])]
        cut, dropped = _ROWS if self.longer is None else _PAIRS
        counts = [
            (self.truncated, cut),
            (self.dropped, dropped),
            *((m.unanswered, f"prompts too long for the {name} model, counted as wrong") for name, m in models),
            *((m.unfinished, f"answers of the {name} model not finished at the limit") for name, m in models),
        ]
        remarks = [f"{count:,} {text}" for count, text in counts if count]
        if (longer := self.longer) is not None:
            reached = f"{longer.value:.3f} [{longer.low:.3f}, {longer.high:.3f}]"
            remarks.append(f"preferring the longer answer would reach {reached}")
        return remarks


def write_report(folder: RunFolder, report: EvaluationReport, rows: Iterable[dict[str, Any]]) -> None:
    """Leaves both files, each whole or not at all; result.json comes last."""
    folder.evaluation.mkdir(parents=True, exist_ok=True)
    _replace(folder.evaluation / ROWS_FILE, (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    _replace(folder.evaluation / RESULT_FILE, [report.model_dump_json(indent=1, exclude_none=True) + "\n"])


def _replace(target: Path, pieces: Iterable[str]) -> None:
    partial = target.with_name(f".partial-{target.name}")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(pieces)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def read_report(folder: RunFolder) -> EvaluationReport:
    """The report in a run's folder.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = folder.evaluation / RESULT_FILE
    try:
        return EvaluationReport.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(Problem("is missing or damaged; evaluate the run again", file=str(path))) from None
