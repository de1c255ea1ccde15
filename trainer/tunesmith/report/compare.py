"""Several runs beside each other: figures, what differs in their configurations, curves, and time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.api.load import InputError
from tunesmith.api.outcome import Interval
from tunesmith.evaluation.compare import Scored, metric_reports
from tunesmith.evaluation.earlier import EarlierRun, OwnRows, earlier_scores, read_earlier_runs
from tunesmith.evaluation.report import Comparison, MetricReport
from tunesmith.evaluation.scorers import compare_texts
from tunesmith.evaluation.statistics import RowScores
from tunesmith.report import words
from tunesmith.report.curves import overlaid
from tunesmith.report.page import render, status_of
from tunesmith.report.read import Run
from tunesmith.report.samples import Answer, Sample, lead_of, sample_of
from tunesmith.report.summary import method_of, start_of, summary_of
from tunesmith.sources import Resolver

_IGNORED = ("runtime", "storage", "suspend", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished")
_ROWS = 8
"""Rows on which the runs differ that the page holds."""

_TEXTS = ("prompt", "reference", "chosen", "rejected")

Line = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """A metric of one run."""

    value: Interval | None
    beside: Comparison | None = None
    """With the first run, paired by row."""


@dataclass(frozen=True)
class MetricRow:
    """A metric of all runs."""

    name: str
    better: str
    cells: list[Cell]


@dataclass(frozen=True)
class Field:
    """A field in which configurations differ."""

    path: str
    values: list[str]


class SameRows:
    """The runs that were tested on the rows of the first one, in its order; of the others, why not."""

    def __init__(self, names: Sequence[str], runs: Sequence[Run]) -> None:
        self._names = names
        self.lines: list[Line] = list(runs[0].rows()) if runs[0].evaluation is not None else []
        self.runs: dict[int, EarlierRun] = {}
        self.unlike: list[str] = []
        self._first = runs[0].evaluation
        tokens = [(line.get("tuned") or {}).get("tokens") for line in self.lines]
        self._ours = OwnRows(
            ids=[str(line.get("id")) for line in self.lines],
            texts=[{name: line[name] for name in _TEXTS if name in line} for line in self.lines],
            tokens=np.array(tokens, np.float64) if tokens and None not in tokens else None,
        )
        for place, run in enumerate(runs):
            if self.lines and run.evaluation is not None:
                self._read(place, run)

    def _read(self, place: int, run: Run) -> None:
        try:
            (self.runs[place],) = read_earlier_runs([str(run.folder.root.absolute())], Resolver(), self._ours)
        except InputError as error:
            self._note(place, str(error).partition(": ")[2], str(run.folder.root.absolute()))

    def _note(self, place: int, text: str, address: str) -> None:
        """A sentence that is about a run's address, with its name."""
        self.unlike.append(text.replace(address, self._names[place]))

    def comparisons(self) -> dict[tuple[int, str], Comparison]:
        """Each other run beside the first, by its place and the metric; Holm's correction is over all of them."""
        if self._first is None or 0 not in self.runs:
            return {}
        better = {metric.name: metric.better for metric in self._first.metrics}
        mine = self._scores(0, list(better))
        scored, places = [], []
        for place in self.runs:
            theirs = self._scores(place, list(better)) if place > 0 else {}
            for name in theirs.keys() & mine.keys():
                scored.append(Scored(name, better[name], theirs[name], {"first": mine[name]}))
                places.append((place, name))
        found = zip(places, metric_reports(scored) if scored else [], strict=True)
        return {key: report.comparisons[0] for key, report in found if report.comparisons}

    def _scores(self, place: int, metrics: Sequence[str]) -> Mapping[str, RowScores]:
        assert self._first is not None
        scores, missing = earlier_scores(self.runs[place], metrics, self._ours, self._first.settings, compare_texts)
        for text in missing if place > 0 else ():
            self._note(place, text, self.runs[place].address)
        return scores


def comparison_page(runs: Sequence[Run], title: str = "") -> str:
    """The page that compares runs, as HTML.

    Args:
        runs: two or more; differences are from the first.
        title: of the page.
    """
    names = distinct_names(runs)
    same = SameRows(names, runs)
    metrics = list(_metrics(runs, same.comparisons()))
    return render(
        "comparison.html",
        title=title or f"{words.listed(names)}: comparison",
        runs=list(zip(names, runs, strict=True)),
        statuses=[status_of(run) for run in runs],
        summaries=[summary_of(run) for run in runs],
        metrics=metrics,
        unlike=same.unlike,
        fields=differing_fields([run.spec for run in runs]),
        samples=_samples(names, runs, same),
        curves=overlaid(runs, names),
        costs=_costs(runs),
    )


def distinct_names(runs: Sequence[Run]) -> list[str]:
    """The jobs' names; with the folder's where two are the same, and with a number where these are too."""
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = [run.folder.root.name for run in runs]
    return [f"{name} ({place})" if names.count(name) > 1 else name for place, name in enumerate(names, 1)]


def differing_fields(specs: Sequence[dict[str, Any]]) -> list[Field]:
    """The fields whose values are not the same in all; what only a cluster heeds is left out."""
    flat = [dict(_flat({k: v for k, v in spec.items() if k not in _IGNORED})) for spec in specs]
    paths = list(dict.fromkeys(path for fields in flat for path in fields))
    found = [Field(path, [words.plain(fields.get(path)) for fields in flat]) for path in paths]
    return [each for each in found if len(set(each.values)) > 1]


def _flat(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        return [pair for key, inner in value.items() for pair in _flat(inner, f"{path}.{key}".lstrip("."))]
    if isinstance(value, dict):
        return [(path, "set")]
    return [(path, ", ".join(map(words.plain, value)) if isinstance(value, list) else value)]


def _metrics(runs: Sequence[Run], beside: Mapping[tuple[int, str], Comparison]) -> Iterator[MetricRow]:
    reports: list[dict[str, MetricReport]] = [
        {metric.name: metric for metric in run.evaluation.metrics} if run.evaluation is not None else {} for run in runs
    ]
    for name in dict.fromkeys(name for report in reports for name in report):
        found = [report.get(name) for report in reports]
        cells = [Cell(m.tuned if m else None, beside.get((place, name))) for place, m in enumerate(found)]
        yield MetricRow(name, next(metric.better for metric in found if metric is not None), cells)


def _samples(names: list[str], runs: Sequence[Run], same: SameRows) -> list[Sample]:
    """Rows on which the runs do not say the same, spread over the test set."""
    lead = lead_of(runs[0].evaluation) if runs[0].evaluation else None
    if len(same.runs) < 2 or lead is None:
        return []
    said = [[_said(run.rows[row], lead.name) for run in same.runs.values()] for row in range(len(same.lines))]
    apart = [row for row, texts in enumerate(said) if len(set(texts)) > 1]
    chosen = apart[:: max(1, len(apart) // _ROWS)][:_ROWS]
    return [
        _beside(same.lines[row], {names[place]: run.rows[row] for place, run in same.runs.items()}) for row in chosen
    ]


def _said(tuned: Mapping[str, Any], metric: str) -> str:
    return str(tuned.get("answer", tuned.get(metric)))


def _beside(line: Line, tuned: Mapping[str, Mapping[str, Any]]) -> Sample:
    one = sample_of(line, {})
    answers: list[Answer] = []
    for name, said in tuned.items():
        answers += sample_of({"tuned": dict(said)}, {"tuned": name}).answers
    return Sample(one.row, one.texts, answers)


def _costs(runs: Sequence[Run]) -> list[Field]:
    """What each run took."""
    found = {
        "starts from": [start_of(run) for run in runs],
        "trains": [method_of(run) if run.trains else "nothing" for run in runs],
        "training rows": [f"{run.data['train_rows']:,}" if run.data else "—" for run in runs],
        "steps": [f"{run.steps[0]:,}" for run in runs],
        "time of the steps": [words.duration(run.seconds) if run.seconds else "—" for run in runs],
        "tokens seen": [words.many(run.last["tokens"]) if "tokens" in run.last else "—" for run in runs],
        "highest memory": [
            words.size(run.last["peak_memory_bytes"]) if "peak_memory_bytes" in run.last else "—" for run in runs
        ],
    }
    return [Field(name, values) for name, values in found.items()]
