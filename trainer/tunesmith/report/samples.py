"""Which test rows a report shows, and how: the two models side by side, those rows first where they differ."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tunesmith.evaluation.figures import number_text
from tunesmith.evaluation.report import EvaluationReport, MetricReport
from tunesmith.report.read import Run
from tunesmith.report.words import is_number, shown, title_of

_EACH = 5
"""Rows of a group; they are drawn, not chosen."""
_NARROW = 100
"""Characters up to which a text does with a narrow column."""
_FOLDED = 500
"""Characters from which on a text is folded."""
_LONGEST = 20_000
"""Characters of a text that a page holds; rows.jsonl has them all."""
_SAME = 1e-6
"""Scores that differ by less are the same: the last bits depend on how rows were batched."""
_NO_SCORES = frozenset({"answer", "finished", "answerTokens", "tokens", "negativeLogLikelihood", "chosen", "rejected"})
_TEXTS = {"prompt": "prompt", "reference": "reference", "text": "text", "chosen": "preferred", "rejected": "rejected"}


@dataclass(frozen=True)
class Text:
    """A text as a page shows it."""

    text: str
    beginning: str
    """What is seen of a folded text; empty where it is not folded."""
    length: int
    """Characters of the whole."""
    cut: bool
    """Whether the page does not hold all of it."""

    @classmethod
    def of(cls, text: str) -> "Text":
        """Folds what is long."""
        kept = shown(text[:_LONGEST])
        return cls(kept, kept[:200] if len(text) > _FOLDED else "", len(text), len(text) > _LONGEST)


@dataclass(frozen=True)
class Answer:
    """What a model made of a row."""

    model: str
    text: Text | None
    """None where it could not answer, or the row asks for no answer."""
    remark: str
    scores: list[tuple[str, str]]


@dataclass(frozen=True)
class Sample:
    """A test row."""

    row: int
    texts: list[tuple[str, Text]]
    answers: list[Answer]

    @property
    def roomy(self) -> bool:
        """Whether a text of it needs more than a narrow column."""
        texts = [*(text for _, text in self.texts), *(answer.text for answer in self.answers if answer.text)]
        return any(text.length > _NARROW for text in texts)


@dataclass(frozen=True)
class Group:
    """Rows that have something in common."""

    title: str
    total: int
    """How many there are in all."""
    samples: list[Sample]


@dataclass
class Samples:
    """The rows that a report shows."""

    lead: str = ""
    """The metric that rows are sorted by."""
    groups: list[Group] = field(default_factory=list)
    by_row: dict[int, Sample] = field(default_factory=dict)
    """The rows that were asked for by number."""


def samples_of(run: Run, names: dict[str, str], wanted: Iterable[int] = ()) -> Samples:
    """Draws rows of the evaluation, with a fixed seed.

    Args:
        run: with an evaluation.
        names: of the models, by what rows.jsonl calls them.
        wanted: numbers of rows that are needed besides.
    """
    report = run.evaluation
    if report is None:
        return Samples()
    lead, wanted = lead_of(report), set(wanted)
    drawn: dict[str, _Reservoir] = {}
    by_row: dict[int, Sample] = {}
    for line in run.rows():
        drawn.setdefault(_kind(line, lead, report.base is not None), _Reservoir()).offer(line)
        if line.get("row") in wanted:
            by_row[int(line["row"])] = sample_of(line, names)
    titles = _TITLES if report.base is not None else _ALONE
    order = [kind for kind in titles if kind in drawn]
    groups = [Group(titles[k], drawn[k].seen, [sample_of(line, names) for line in drawn[k].kept]) for k in order]
    return Samples(title_of(lead.name) if lead else "", groups, by_row)


def lead_of(report: EvaluationReport) -> MetricReport | None:
    """The metric that a reader looks at first: the first that tells models apart and has a better and a worse."""
    judging = [metric for metric in report.metrics if metric.better != "neither"]
    compared = [metric for metric in judging if metric.base is not None]
    return next(iter(compared or judging or report.metrics), None)


_TITLES = {
    "improved": "Better than the base",
    "regressed": "Worse than the base",
    "differs": "Another answer, the same score",
    "wrong": "The same as the base, not perfect",
    "same": "The same as the base",
    "unscored": "Not scored",
}
_ALONE = {"wrong": "Not perfect", "same": "Perfect", "unscored": "Rows"}


def _kind(line: dict[str, Any], lead: MetricReport | None, compared: bool) -> str:
    """What a row shows of the two models, by the leading metric."""
    tuned, base = line.get("tuned") or {}, line.get("base") or {}
    mine = tuned.get(lead.name) if lead is not None else None
    if lead is None or not is_number(mine):
        return "unscored"
    imperfect = lead.better == "higher" and 0 <= mine < 1 and lead.tuned.value <= 1
    if not compared:
        return "wrong" if imperfect else "same"
    theirs = base.get(lead.name)
    if not is_number(theirs):
        return "unscored"
    same_answer = "answer" in tuned and tuned.get("answer") == base.get("answer")
    if same_answer or abs(mine - theirs) <= _SAME * max(1.0, abs(theirs)):
        return "differs" if "answer" in tuned and not same_answer else "wrong" if imperfect else "same"
    return "improved" if (mine > theirs) == (lead.better != "lower") else "regressed"


class _Reservoir:
    """Keeps some of a stream of unknown length, each with the same chance (Vitter 1985, algorithm R)."""

    def __init__(self) -> None:
        self.seen, self._kept = 0, list[tuple[int, dict[str, Any]]]()
        self._draw = random.Random(0)

    def offer(self, line: dict[str, Any]) -> None:
        self.seen += 1
        if len(self._kept) < _EACH:
            self._kept.append((self.seen, line))
        elif (place := self._draw.randrange(self.seen)) < _EACH:
            self._kept[place] = (self.seen, line)

    @property
    def kept(self) -> list[dict[str, Any]]:
        """In their order."""
        return [line for _, line in sorted(self._kept, key=lambda pair: pair[0])]


def sample_of(line: dict[str, Any], names: dict[str, str]) -> Sample:
    """A line of rows.jsonl, with the answers of the models that are named."""
    texts = [(title, Text.of(str(line[name]))) for name, title in _TEXTS.items() if line.get(name) is not None]
    answers = [_answer(names[key], line[key]) for key in names if isinstance(line.get(key), dict)]
    return Sample(int(line.get("row", 0)), texts, answers)


def _answer(model: str, said: dict[str, Any]) -> Answer:
    text, remark = said.get("answer"), ""
    if "answer" in said and text is None:
        remark = "could not answer: the prompt leaves no room in its context"
    elif text == "":
        remark = "an empty answer"
    elif said.get("finished") is False:
        remark = "not finished at the limit"
    known = {name: value for name, value in said.items() if is_number(value)}
    scores = [(title_of(name), number_text(value)) for name, value in known.items() if name not in _NO_SCORES]
    if "loss" not in known and is_number(said.get("negativeLogLikelihood")) and said.get("tokens"):
        scores.append(("loss, nats per token", number_text(said["negativeLogLikelihood"] / said["tokens"])))
    scores += [(f"score, {_TEXTS[name]}", number_text(known[name])) for name in ("chosen", "rejected") if name in known]
    return Answer(model, Text.of(str(text)) if text else None, remark, scores)
