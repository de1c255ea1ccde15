"""What other jobs have left of their evaluations, brought into the order of this one's rows."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.api.pod import RunFolder
from tunesmith.api.source import Location
from tunesmith.data.rows import Row
from tunesmith.evaluation.pairs import by_prompt
from tunesmith.evaluation.report import ROWS_FILE, EvaluationReport, read_report
from tunesmith.evaluation.statistics import Floats, RowScores, mean_score, perplexity
from tunesmith.sources import Resolver

PLACE = "spec.evaluation.compareWith"

Compare = Callable[[str, Sequence[str | None], Sequence[str]], RowScores | None]
"""Scores answers beside references by a metric; None where it is no metric of texts."""
_OF_LOSSES: dict[str, Callable[[Floats, Floats], RowScores]] = {"loss": mean_score, "perplexity": perplexity}
_MAKERS = {"judge": "judge", "reward": "reward"}
"""What a metric's scores come from; of an own one it is a function."""
_BETWEEN_MODELS = frozenset({"winRate", "divergence"})
"""Comparisons with the base themselves."""


@dataclass(frozen=True)
class OwnRows:
    """What this evaluation's rows are."""

    ids: Sequence[str]
    """Of each row."""
    texts: Sequence[Mapping[str, str]]
    """Of each row, its prompt and reference, or the answers of a pair."""
    tokens: Floats | None = None
    """Of each row, where there are losses."""


@dataclass(frozen=True)
class EarlierRun:
    """Another job's evaluation of the same rows."""

    address: str
    """As in evaluation.compareWith."""
    report: EvaluationReport
    rows: Sequence[Mapping[str, Any]]
    """What it found of its tuned model, in the order of this evaluation's rows."""


def row_ids(rows: Sequence[Row], texts: Sequence[Mapping[str, str]], spec: FineTuneJobSpec) -> list[str]:
    """What a row is known by in other evaluations: all of it, before any template; without its empty columns, which
    some formats leave out. Pairs that are made of rankings and ratings are known by their texts.

    Args:
        rows: of the test set.
        texts: of rows.jsonl.
        spec: the job's.
    """
    columns = spec.dataset.columns
    made = spec.objective.reward is not None and (columns.ranking is not None or columns.rating is not None)
    return [_digest(row) for row in (texts if made else rows)]


def _digest(row: Mapping[str, Any]) -> str:
    filled = {name: value for name, value in row.items() if value is not None}
    text = json.dumps(filled, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def made_by(spec: FineTuneJobSpec) -> dict[str, str]:
    """What scores come from that the texts alone do not give, by metric; kept in the report's settings."""
    evaluation, ppo = spec.evaluation, spec.objective.ppo
    found = {}
    if evaluation is not None:
        found = {metric.name: metric.function for metric in evaluation.own}
        if "judge" in evaluation.metrics and evaluation.judge is not None:
            found["judge"] = evaluation.judge.source
        if "reward" in evaluation.metrics and ppo is not None:
            terms = [term.to_dict() for term in ppo.reward]
            found["reward"] = json.dumps([terms, ppo.missing_end_penalty], sort_keys=True)
    return {f"{name} by": source for name, source in found.items()}


def read_earlier_runs(addresses: Sequence[str], resolver: Resolver, ours: OwnRows) -> list[EarlierRun]:
    """The evaluations of other jobs.

    Raises:
        InputError: one is missing, damaged, or of other rows.
    """
    return [_read(address, f"{PLACE}[{index}]", resolver, ours) for index, address in enumerate(addresses)]


def _read(address: str, place: str, resolver: Resolver, ours: OwnRows) -> EarlierRun:
    folder = RunFolder(resolver.run(Location.parse(address), place))
    try:
        report = read_report(folder)
        # as bytes: texts hold separators (U+2028) that end a line for str.splitlines
        lines = [_line(text) for text in (folder.evaluation / ROWS_FILE).read_bytes().splitlines()]
    except (InputError, OSError, ValueError, KeyError, TypeError):
        message = f"{address} has no whole evaluation in {folder.evaluation}; evaluate it (again) first"
        raise InputError(Problem(message, place)) from None
    return EarlierRun(address, report, _in_order(address, place, lines, ours))


def _line(text: bytes) -> dict[str, Any]:
    line = json.loads(text)
    if not (isinstance(line["id"], str) and isinstance(line["tuned"], dict)):
        raise TypeError
    return dict(line)


def _in_order(address: str, place: str, lines: Sequence[Mapping[str, Any]], ours: OwnRows) -> list[Mapping[str, Any]]:
    """The lines of the same rows; rows that are there twice are taken in their order."""
    asked, there = Counter(ours.ids), Counter(line["id"] for line in lines)
    if asked != there:
        missing, more = (asked - there).total(), (there - asked).total()
        message = (
            f"{address} was evaluated on other rows: {missing:,} of the {len(ours.ids):,} are missing there, and "
            f"{more:,} are there alone; give both jobs the same dataset.test, and evaluate it again"
        )
        raise InputError(Problem(message, place))
    waiting = defaultdict(list)
    for line in reversed(lines):
        waiting[line["id"]].append(line)
    found = []
    for row, (name, text) in enumerate(zip(ours.ids, ours.texts, strict=True), start=1):
        line = waiting[name].pop()
        if any(
            line.get(part, text[part]) != text[part] for part in ("reference", "chosen", "rejected") if part in text
        ):
            message = (
                f"{address} was evaluated with another right answer in row {row:,}; give both jobs the same "
                "dataset.columns, and evaluate it again"
            )
            raise InputError(Problem(message, place))
        found.append(line["tuned"])
    return found


def earlier_scores(
    run: EarlierRun, metrics: Sequence[str], ours: OwnRows, settings: Mapping[str, object], compare: Compare
) -> tuple[dict[str, RowScores], list[str]]:
    """The metrics of another job's model.

    Args:
        run: its evaluation.
        metrics: that this evaluation has.
        ours: its rows.
        settings: of this evaluation, with `made_by`.
        compare: scores answers anew, so that it matters not which metrics the other job had.

    Returns:
        The metrics that can be had, and a sentence for each that cannot, or not quite.
    """
    found, missing = dict[str, RowScores](), list[str]()
    for name in metrics:
        if name in _BETWEEN_MODELS:
            continue
        try:
            found[name] = _scores(run, name, ours, settings, compare)
        except _NotComparableError as error:
            missing.append(f"{name} is not compared with {run.address}: {error}")
    limits = run.report.settings.get("maxNewTokens"), settings.get("maxNewTokens")
    if limits[0] != limits[1] and not _OF_LOSSES.keys() >= found.keys():
        missing.append(f"{run.address} answered within maxNewTokens {limits[0]}, this model within {limits[1]}")
    return found, missing


class _NotComparableError(Exception):
    """Why a metric cannot be compared, in a few words."""


def _scores(run: EarlierRun, name: str, ours: OwnRows, settings: Mapping[str, object], compare: Compare) -> RowScores:
    rows = run.rows
    if name in _OF_LOSSES:
        tokens = np.array([row.get("tokens", -1) for row in rows], np.float64)
        if (tokens < 0).any():
            raise _NotComparableError("it was evaluated without loss and perplexity")
        if ours.tokens is None or not np.array_equal(tokens, ours.tokens):
            raise _NotComparableError("its tokens are others, and a loss is one of tokens")
        return _OF_LOSSES[name](np.array([row["negativeLogLikelihood"] for row in rows]), tokens)
    if all("answer" in row for row in rows):
        references = [text.get("reference", "") for text in ours.texts]
        if (scores := compare(name, [row["answer"] for row in rows], references)) is not None:
            return scores
    label = f"{name} by"
    if run.report.settings.get(label) != settings.get(label):
        raise _NotComparableError(f"it was not scored by the same {_MAKERS.get(name, 'function')}")
    values = np.array([row.get(name, np.nan) for row in rows], np.float64)
    counted = ~np.isnan(values)
    if not counted.any():
        raise _NotComparableError("its evaluation holds no values of it; evaluate it again with this metric")
    if name == "pairAccuracy":
        return by_prompt(values, [text["prompt"] for text in ours.texts])
    return mean_score(np.where(counted, values, 0.0), counted.astype(np.float64))
