"""Where a model is wrong: its worst rows, those that became worse, and what these have in common."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tunesmith.api.evaluation import OwnMetric
from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.metric import NEITHER_IS_BETTER, OF_TEXTS
from tunesmith.api.outcome import Interval
from tunesmith.data.rows import Row
from tunesmith.evaluation.formats import Format, format_of
from tunesmith.evaluation.kinds import KINDS, Kind, kind_of
from tunesmith.evaluation.metrics import exact_match
from tunesmith.evaluation.pairs import by_prompt, preferred
from tunesmith.evaluation.questions import question_of
from tunesmith.evaluation.report import FailureGroup, FailuresReport
from tunesmith.evaluation.score import ModelScores, Progress, TestSet
from tunesmith.evaluation.statistics import FEWEST_ROWS, Floats, RowScores, estimate
from tunesmith.evaluation.topics import topics_of
from tunesmith.evaluation.verdict import better_of
from tunesmith.models.embed import embed_texts
from tunesmith.sources import Resolver

PLACE = "spec.evaluation.failures"

_SAMPLES = 5
"""Rows that are named of each group."""
_PARTS = 4
"""Groups by length: quartiles."""
_PERCENTAGES = frozenset({"bleu", "chrf"})
_ENOUGH = 1e-9
"""What rounding may make of a perfect score."""

Rows = Sequence[int] | NDArray[np.int64]


@dataclass(frozen=True)
class Failures:
    """What is said of all rows, and of each."""

    report: FailuresReport
    kinds: dict[str, list[Kind]]
    """Of each row, for tuned and base; nothing where there are no answers."""


@dataclass(frozen=True)
class _Judged:
    """One model, row by row."""

    values: Floats
    """How good each row is: more is better; NaN where it does not count; [rows]."""
    ties: list[Floats]
    """The same by what decides between rows of equal value."""
    on: Callable[[NDArray[np.int64]], RowScores]
    """The metric on some of the rows."""


def find_failures(
    rows: Sequence[Row],
    test: TestSet,
    models: dict[str, ModelScores],
    spec: FineTuneJobSpec,
    resolver: Resolver,
    progress: Progress,
) -> Failures | None:
    """Looks at every row of the test set.

    Args:
        rows: as they were read.
        test: what the models were tested on.
        models: tuned, and base where there is one.
        spec: the job's, with its evaluation.
        resolver: finds the encoder that topics are found with.
        progress: is told of each batch of that.

    Returns:
        None where nothing that is asked for says what is good.

    Raises:
        InputError: the encoder cannot be loaded.
    """
    assert spec.evaluation is not None
    asked = spec.evaluation.failures
    metric = _metric(spec, models["tuned"])
    if metric is None:
        return None
    own = spec.evaluation.own
    judged = {name: _judge(metric, scores, test, own) for name, scores in models.items() if metric in scores.metrics}
    tuned, base = judged["tuned"], judged.get("base")
    right = {name: _right(metric, scores, test) for name, scores in models.items()}
    expected = format_of(text["reference"] for text in test.texts if "reference" in text)
    kinds = {name: _kinds(scores, test, right[name], expected) for name, scores in models.items() if scores.answers}
    order = _worst_first(tuned)
    perfect = _perfect(metric, tuned, right["tuned"])
    group = _Grouping(judged, order)
    groups = list(_by_kind(kinds, group)) if kinds else []
    counted = np.flatnonzero(~np.isnan(tuned.values))
    groups += _by_length(test, counted, group)
    if asked.encoder is not None:
        texts = [_question(row, number, test, spec) for number, row in enumerate(rows)] if not test.pairs else []
        texts = texts or [text["prompt"] for text in test.texts]
        texts = [texts[row] for row in counted]
        vectors = embed_texts(
            texts, asked.encoder, resolver, f"{PLACE}.encoder", lambda *n: progress("embedding prompts", *n)
        )
        groups += [group("topic", t.name, counted[t.rows]) for t in topics_of(texts, vectors, asked.topics)]
    report = FailuresReport.model_validate(
        {
            "metric": metric,
            "format": expected.name if expected is not None and kinds else None,
            "worst": [row + 1 for row in order if not perfect[row]][: asked.samples],
            "regressed": _regressed(tuned, base)[: asked.samples] if base is not None else [],
            "groups": groups,
        }
    )
    return Failures(report, kinds)


def _question(row: Row, number: int, test: TestSet, spec: FineTuneJobSpec) -> str:
    text = test.texts[number]
    return text["text"] if "text" in text else question_of(row, spec)


def _metric(spec: FineTuneJobSpec, tuned: ModelScores) -> str | None:
    """What rows are judged by: as asked; of a policy its reward; else the first that has good values."""
    assert spec.evaluation is not None
    if spec.evaluation.failures.metric is not None:
        return spec.evaluation.failures.metric
    asked = [*spec.evaluation.metrics, *spec.evaluation.own_names]
    found = [metric for metric in asked if metric not in NEITHER_IS_BETTER and metric in tuned.metrics]
    if spec.objective.ppo is not None and "reward" in found:
        return "reward"
    return found[0] if found else None


def _judge(metric: str, scores: ModelScores, test: TestSet, own: Sequence[OwnMetric]) -> _Judged:
    if scores.pairs is not None and test.pairs is not None:
        right, prompts = preferred(scores.pairs), np.array(test.pairs.prompts, dtype=object)
        lead: Floats = scores.pairs[:, 0] - scores.pairs[:, 1]
        return _Judged(right, [lead], lambda rows: by_prompt(right[rows], prompts[rows].tolist()))
    of_metric = scores.metrics[metric]
    others = [_goodness(name, other, own) for name, other in scores.metrics.items() if name != metric]
    return _Judged(_goodness(metric, of_metric, own), others, lambda rows: _on(of_metric, rows))


def _goodness(metric: str, scores: RowScores, own: Sequence[OwnMetric]) -> Floats:
    """Of each row; perplexity by its logarithm, so that differences are in nats per token."""
    values = scores.of_rows()
    if metric == "perplexity":
        values = np.log(values)
    if metric in NEITHER_IS_BETTER:
        return np.zeros(len(values))
    return -values if better_of(metric, own) == "lower" else values


def _on(scores: RowScores, rows: NDArray[np.int64]) -> RowScores:
    return replace(scores, parts=scores.parts[rows], used=scores.used[rows])


def _worst_first(judged: _Judged) -> list[int]:
    """The rows that count, the worst first; equal ones by the other metrics, then in their order."""
    ties = [np.where(np.isnan(values), np.inf, values) for values in judged.ties]
    numbers = np.arange(len(judged.values))
    order = np.lexsort([numbers, *reversed(ties), judged.values])
    return [int(row) for row in order if not np.isnan(judged.values[row])]


def _regressed(tuned: _Judged, base: _Judged) -> list[int]:
    """The numbers of rows that are worse than the base's, the most first."""
    loss = np.nan_to_num(base.values - tuned.values, nan=0.0)
    order = sorted(np.flatnonzero(loss > _ENOUGH).tolist(), key=lambda row: (-loss[row], row))
    return [row + 1 for row in order]


def _right(metric: str, scores: ModelScores, test: TestSet) -> list[bool | None]:
    """Whether each answer is perfect: the same as its reference, or with the best score of a metric that compares the
    two. None where there is no reference."""
    if scores.answers is None:
        return [None] * test.rows
    named = next((m for m in (metric, *scores.metrics) if m in OF_TEXTS and m in scores.metrics), None)
    best = 100.0 if named in _PERCENTAGES else 1.0
    values = scores.metrics[named].of_rows() if named is not None else np.full(test.rows, np.nan)
    return [
        None
        if "reference" not in text
        else answer is not None and bool(value >= best - _ENOUGH or exact_match(answer, text["reference"]))
        for answer, text, value in zip(scores.answers.texts, test.texts, values, strict=True)
    ]


def _perfect(metric: str, judged: _Judged, right: Sequence[bool | None]) -> NDArray[np.bool_]:
    if metric in OF_TEXTS:
        return np.array([bool(perfect) for perfect in right], np.bool_)
    if metric in ("pairAccuracy", "winRate"):
        full: NDArray[np.bool_] = judged.values == 1
        return full
    return np.zeros(len(judged.values), np.bool_)


def _kinds(scores: ModelScores, test: TestSet, right: Sequence[bool | None], expected: Format | None) -> list[Kind]:
    answers = scores.answers
    assert answers is not None
    return [
        kind_of(answer, answers.ends[row] is not None, right[row], test.texts[row].get("reference"), expected)
        for row, answer in enumerate(answers.texts)
    ]


class _Grouping:
    """Makes groups of rows."""

    def __init__(self, judged: dict[str, _Judged], order: Sequence[int]) -> None:
        self.judged = judged
        self.place = {row: place for place, row in enumerate(order)}

    def __call__(self, by: str, name: str, rows: Rows, base_rows: int | None = None) -> FailureGroup:
        numbers = np.array(sorted(rows, key=lambda row: self.place.get(int(row), len(self.place))), np.int64)
        figures = {model: _interval(judged.on(numbers)) for model, judged in self.judged.items()}
        samples = [int(row) + 1 for row in numbers[:_SAMPLES]]
        body = {"by": by, "name": name, "rows": len(numbers), "baseRows": base_rows, "samples": samples}
        return FailureGroup.model_validate(body | figures)


def _interval(scores: RowScores) -> Interval | None:
    """None where the rows are too few to say anything."""
    if int(scores.used.sum()) < FEWEST_ROWS or not np.isfinite(scores.measure(scores.parts.sum(axis=0))):
        return None
    return estimate(scores).tuned


def _by_kind(kinds: dict[str, list[Kind]], group: _Grouping) -> Iterator[FailureGroup]:
    """The kinds that either model has, the most frequent of the tuned one first, right last."""
    tuned, base = kinds["tuned"], kinds.get("base")
    counts = {kind: (tuned.count(kind), base.count(kind) if base is not None else 0) for kind in KINDS}
    present = [kind for kind in KINDS if any(counts[kind])]
    for kind in sorted(present, key=lambda kind: (kind == "right", -counts[kind][0])):
        rows = [row for row, found in enumerate(tuned) if found == kind]
        yield group("kind", kind, rows, counts[kind][1] if base is not None else None)


def _by_length(test: TestSet, counted: NDArray[np.int64], group: _Grouping) -> Iterator[FailureGroup]:
    """Quartiles of the prompts' lengths; fewer groups where rows are few, none where all are alike."""
    unit = "tokens"
    if test.prompts:
        lengths = np.array([len(prompt) for prompt in test.prompts])
    elif test.encoded is not None:
        lengths = np.bincount(test.encoded.row_of, test.encoded.pieces.lengths, minlength=test.rows).astype(np.int64)
    else:
        lengths, unit = np.array([len(text["prompt"]) for text in test.texts]), "characters"
    own = lengths[counted]
    parts = min(_PARTS, len(counted) // FEWEST_ROWS)
    if parts < 2:
        return
    inner = np.quantile(own, np.arange(1, parts) / parts, method="inverted_cdf")
    part_of = np.searchsorted(inner, own, side="left")
    found = [counted[part_of == part] for part in np.unique(part_of)]
    for rows in found if len(found) > 1 else []:
        low, high = int(lengths[rows].min()), int(lengths[rows].max())
        yield group("length", f"{low:,} {unit}" if low == high else f"{low:,}-{high:,} {unit}", rows)
