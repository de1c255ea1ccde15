"""What an evaluation leaves in the run's folder: result.json and rows.jsonl."""

import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from tunesmith.api.base import Record
from tunesmith.api.load import InputError, Problem
from tunesmith.api.outcome import EvaluationResult, Interval, MetricResult
from tunesmith.api.pod import RunFolder
from tunesmith.evaluation.verdict import Better, Verdict
from tunesmith.whole_files import write_whole

RESULT_FILE, ROWS_FILE, PROMPTS_FILE, HARNESS_FILE = "result.json", "rows.jsonl", "prompts.jsonl", "harness.jsonl"

_MOST = 64
"""Metrics in a job's status, at most."""
_ROWS = (
    "rows cut to training.maxLength for perplexity",
    "rows with nothing to predict within training.maxLength, left out of perplexity",
)
_PAIRS = (
    "pairs cut to training.maxLength",
    "pairs without room within training.maxLength, or with the same answer twice, left out",
)
"""What happened to rows that were truncated, and to those that were dropped."""


class Comparison(Record):
    """The evaluated model beside another one, on the same rows."""

    to: str
    """base, or the address of the other as in evaluation.compareWith."""
    value: Interval
    """Of the other one."""
    difference: Interval
    """Tuned - other, paired by row."""
    p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Of the paired test that both are alike; not corrected."""
    corrected_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """The same, corrected for all metrics and comparisons of the evaluation (Holm)."""
    effect: float | None = None
    """The difference in standard deviations of a row's difference."""
    detectable: float | None = None
    """The smallest difference that these rows would show in four of five cases, after the correction."""
    verdict: Verdict = ""
    """What the test shows of the evaluated model, and no more."""


class MetricReport(Record):
    """One metric, with 95% intervals."""

    name: str
    """One of ours, of evaluation.own, or TASK/METRIC of evaluation.harness."""
    better: Better
    """Which values are good."""
    rows: int
    """Rows that count; for perplexity those that have something to predict; for pairAccuracy prompts, each of which may
    have several pairs."""
    tuned: Interval
    """Of the evaluated model."""
    comparisons: list[Comparison] = []
    """Beside the base first, then beside others."""
    p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Of a win rate, which is a comparison itself: of the test that both models win as often."""
    corrected_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """The same, corrected like that of a comparison."""
    detectable: float | None = None
    """Of a win rate, the smallest difference from a half that these rows would show in four of five cases."""
    verdict: Verdict = ""
    """Of a win rate too."""

    @property
    def base(self) -> Comparison | None:
        """Beside the base."""
        return next((c for c in self.comparisons if c.to == "base"), None)


class VariantReport(Record):
    """The test rows with other prompts."""

    name: str
    """Of a template, or the change."""
    kind: Literal["template", "change"]
    template: str | None = None
    row: int
    """The number of the first row, counted from 1, whose prompt differs from the job's own; 1 where none does."""
    own: str
    """That row's prompt in the job's own wording, as the model saw it."""
    example: str
    """And in this one."""
    changed: int
    """Rows whose prompt differs; sentences of a prompt that is a single one cannot change places, for one."""
    rows: int
    """Rows that count."""
    tuned: Interval
    """The metric, on all of these."""
    base: Interval | None = None
    difference: Interval
    """Of the evaluated model: this prompt - the job's own, paired by row."""
    corrected_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Of the paired test that both do as well, corrected for all wordings (Holm)."""
    verdict: Verdict = ""
    """What that difference shows."""
    same_answers: Interval
    """How often the evaluated model gives the same answer as to the job's own prompt."""
    answer_tokens: Interval | None = None
    """Mean length of the evaluated model's answers; none where no prompt left room for one."""


class PromptsReport(Record):
    """How much depends on the wording of prompts."""

    metric: str
    better: Better = "higher"
    """Which values of it are good."""
    own: Interval
    """The metric with the job's own prompts."""
    base: Interval | None = None
    """Of the base with these."""
    own_tokens: Interval | None = None
    """Mean length of the answers to these; none where no prompt left room for one."""
    variants: list[VariantReport]
    consistency: Interval | None = None
    """How often two wordings get the same answer, over rows and pairs of templates, the job's own included."""


class FailureGroup(Record):
    """Rows that have something in common."""

    by: Literal["kind", "length", "topic"]
    name: str
    rows: int
    base_rows: int | None = None
    """How many rows of the base are of this kind."""
    tuned: Interval | None = None
    """The metric on these rows; none where they are too few."""
    base: Interval | None = None
    """Of the base on the same rows."""
    samples: list[int]
    """Numbers of rows, counted from 1, the worst first."""


class FailuresReport(Record):
    """Where the model is wrong."""

    metric: str
    format: str | None = None
    """What all right answers look like, where there is such a thing; an answer that does not is of the wrong format."""
    worst: list[int]
    """Numbers of the rows with the worst scores that are not perfect, the worst first."""
    regressed: list[int]
    """Numbers of the rows that became worse against the base, the most first."""
    groups: list[FailureGroup]


class GateReport(Record):
    """Whether a condition of evaluation.gates is met."""

    metric: str
    passed: bool
    message: str
    """The condition and the figure, in a sentence."""


class ModelReport(Record):
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


class EvaluationReport(Record):
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
    domains: dict[str, list[MetricReport]] = {}
    """loss and perplexity for each value of evaluation.domainColumn."""
    prompts: PromptsReport | None = None
    failures: FailuresReport | None = None
    gates: list[GateReport] = []
    warnings: list[str] = []
    """What the figures cannot show, a sentence each: too few rows for a difference that was asked for, for one."""
    tuned: ModelReport
    base: ModelReport | None = None
    settings: dict[str, int | float | str]
    versions: dict[str, str]

    def to_result(self) -> EvaluationResult:
        """The part that goes into the job's status."""
        metrics = [_result(metric) for metric in self.metrics]
        return EvaluationResult(rows=self.rows, metrics=metrics[:_MOST], omitted=max(0, len(metrics) - _MOST))

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
        remarks = [f"{text}: {count:,}" for count, text in counts if count]
        if (longer := self.longer) is not None:
            reached = f"{longer.value:.3f} [{longer.low:.3f}, {longer.high:.3f}]"
            remarks.append(f"preferring the longer answer would reach {reached}")
        return remarks


def _result(metric: MetricReport) -> MetricResult:
    base = metric.base
    verdict = base.verdict if base is not None else metric.verdict
    value = _rounded(base.value) if base is not None else None
    return MetricResult(name=metric.name, tuned=_rounded(metric.tuned), base=value, verdict=verdict or None)


def _rounded(interval: Interval) -> Interval:
    return Interval(**{name: float(f"{value:.6g}") for name, value in interval})


def write_report(
    folder: RunFolder,
    report: EvaluationReport,
    rows: Iterable[dict[str, Any]],
    prompts: Iterable[dict[str, Any]] = (),
    harness: Iterable[dict[str, Any]] = (),
) -> None:
    """Leaves the files, each whole or not at all; result.json comes last. Without other wordings or tasks of the
    harness, those of an earlier evaluation go."""
    folder.evaluation.mkdir(parents=True, exist_ok=True)
    for name, lines in ((ROWS_FILE, rows), (PROMPTS_FILE, prompts), (HARNESS_FILE, harness)):
        file = folder.evaluation / name
        write_whole(file, (json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        if name != ROWS_FILE and not file.stat().st_size:
            file.unlink()
    write_whole(folder.evaluation / RESULT_FILE, [report.model_dump_json(indent=1, exclude_none=True) + "\n"])


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
