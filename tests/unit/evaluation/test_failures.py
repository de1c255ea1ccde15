"""The rows that went wrong, and what is said of groups of them."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tests.unit.data.specs import spec_of
from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.metric import MetricName
from tunesmith.data.pairs import Pair
from tunesmith.evaluation.failures import find_failures
from tunesmith.evaluation.generate import Answers
from tunesmith.evaluation.metrics import exact_match, token_f1
from tunesmith.evaluation.pairs import TestPairs, by_prompt, preferred
from tunesmith.evaluation.report import FailureGroup, FailuresReport
from tunesmith.evaluation.score import ModelScores, TestSet
from tunesmith.evaluation.statistics import RowScores, mean_share, perplexity
from tunesmith.sources import Resolver

REFERENCES = [str(10 + row) for row in range(24)]


def spec(metrics: Sequence[MetricName], **evaluation: Any) -> FineTuneJobSpec:
    body = {"metrics": list(metrics), **evaluation}
    return spec_of(dataset={"train": {"source": "a"}, "test": {"source": "b"}}, evaluation=body)


def answers_of(texts: list[str | None]) -> Answers:
    tokens = [[1] * len(text or "") for text in texts]
    return Answers(texts, 0, 4, tokens, [None if text is None or text.endswith("…") else 2 for text in texts])


def compared(compare: Callable[[str, str], float], texts: Sequence[str | None]) -> RowScores:
    pairs = zip(texts, REFERENCES, strict=False)
    return mean_share(np.array([0.0 if text is None else compare(text, right) for text, right in pairs]))


def scores_of(texts: list[str | None], metrics: Sequence[MetricName]) -> ModelScores:
    compare = {"exactMatch": exact_match, "tokenF1": token_f1}
    found: dict[str, Any] = {name: compared(compare[name], texts) for name in metrics}
    return ModelScores(found, answers=answers_of(texts))


def test_set(lengths: list[int]) -> TestSet:
    texts = [{"prompt": "p" * n, "reference": reference} for n, reference in zip(lengths, REFERENCES, strict=True)]
    return TestSet(rows=len(texts), texts=texts, prompts=[[1] * n for n in lengths])


test_set.__test__ = False  # type: ignore[attr-defined]  # no test case


def found(
    tuned: list[str | None],
    base: list[str | None] | None = None,
    metrics: Sequence[MetricName] = ("exactMatch",),
    **failures: Any,
) -> FailuresReport:
    models = {"tuned": scores_of(tuned, metrics)} | ({"base": scores_of(base, metrics)} if base else {})
    rows = [{"prompt": "p", "response": "r"}] * len(REFERENCES)
    job = spec(metrics, failures=failures)
    test = test_set([row // 6 + 1 for row in range(len(REFERENCES))])
    result = find_failures(rows, test, models, job, Resolver(), lambda *call: None)
    assert result is not None
    return result.report


def groups(report: FailuresReport, by: str) -> dict[str, FailureGroup]:
    return {group.name: group for group in report.groups if group.by == by}


def with_failures() -> list[str | None]:
    answers: list[str | None] = list(REFERENCES)
    answers[1], answers[5], answers[8], answers[9], answers[20] = "", "seven", "5…", None, "99"
    return answers


def test_kinds_are_counted_beside_those_of_the_base() -> None:
    report = found(with_failures(), [""] * 24)
    kinds = groups(report, "kind")
    assert report.format == "a number"
    counts = {name: (group.rows, group.base_rows) for name, group in kinds.items()}
    seen = ("empty", "wrong format", "cut off", "unanswered", "wrong")
    assert counts == dict.fromkeys(seen, (1, 0)) | {"empty": (1, 24), "right": (19, 0)}
    assert list(kinds)[-1] == "right"
    assert kinds["wrong format"].samples == [6]


def test_no_figure_is_given_for_a_few_rows() -> None:
    kinds = groups(found(with_failures(), [""] * 24), "kind")
    assert kinds["empty"].tuned is None and kinds["empty"].base is None
    right = kinds["right"]
    assert right.tuned is not None and right.base is not None
    assert (right.tuned.value, right.base.value) == (1, 0)


def test_the_worst_rows_are_wrong_ones_and_other_metrics_break_ties() -> None:
    answers = with_failures()
    answers[20] = "30 and more"
    report = found(answers, metrics=["exactMatch", "tokenF1"])
    assert report.worst == [2, 6, 9, 10, 21]  # the last has the right word in it
    assert found(answers, metrics=["exactMatch"], samples=2).worst == [2, 6]
    assert found(list(REFERENCES)).worst == []


def test_rows_that_became_worse_are_those_the_base_had_right() -> None:
    base: list[str | None] = list(REFERENCES)
    base[1] = base[8] = "wrong too"
    assert found(with_failures(), base).regressed == [6, 10, 21]
    assert found(with_failures(), with_failures()).regressed == []


def test_quartiles_of_length_show_where_it_is_wrong() -> None:
    answers: list[str | None] = [*REFERENCES[:18], *["99"] * 6]
    lengths = groups(found(answers), "length")
    values = {name: group.tuned and group.tuned.value for name, group in lengths.items()}
    assert values == {"1 tokens": 1, "2 tokens": 1, "3 tokens": 1, "4 tokens": 0}
    assert lengths["4 tokens"].samples == [19, 20, 21, 22, 23]


def test_of_losses_the_worst_rows_are_those_of_the_highest_per_token() -> None:
    losses, tokens = np.arange(12, dtype=np.float64) * 10, np.full(12, 10.0)
    tokens[11], tokens[3] = 100, 0
    losses[3] = 0
    base = ModelScores({"perplexity": perplexity(losses[::-1].copy(), np.where(tokens > 0, 10.0, 0))})
    texts = [{"text": "t" * (row + 1)} for row in range(12)]
    test = TestSet(rows=12, texts=texts, prompts=[[1] * (row + 1) for row in range(12)])
    models = {"tuned": ModelScores({"perplexity": perplexity(losses, tokens)}), "base": base}
    result = find_failures([{"text": "t"}] * 12, test, models, spec(["perplexity"]), Resolver(), lambda *call: None)
    assert result is not None and result.kinds == {} and result.report.format is None
    assert result.report.worst == [11, 10, 9, 8, 7, 6, 5, 3, 12, 2, 1]
    assert result.report.regressed[:3] == [11, 9, 10]
    assert {group.by for group in result.report.groups} <= {"length"}


def test_of_pairs_the_worst_are_those_most_surely_wrong() -> None:
    """Right pairs are no failures; pairs of one prompt count together."""
    scores = np.array([[1.0, 0.0], [0.0, 3.0], [0.0, 1.0], [np.nan, np.nan], *[[2.0, 1.0]] * 12])
    prompts = [f"prompt {'x' * row}" for row in range(16)]
    pairs = TestPairs([Pair(prompt, "a", "b") for prompt in prompts], {}, 0)
    metrics: dict[str, Any] = {"pairAccuracy": by_prompt(preferred(scores), prompts)}
    test = TestSet(rows=16, texts=[{"prompt": prompt} for prompt in prompts], pairs=pairs)
    job = spec_of(
        model={"source": "m"},
        dataset={"train": {"source": "a"}, "test": {"source": "b"}},
        objective={"reward": {"template": "{prompt}{response}"}},
        evaluation={"metrics": ["pairAccuracy"]},
    )
    models = {"tuned": ModelScores(metrics, pairs=scores)}
    result = find_failures([{}] * 16, test, models, job, Resolver(), lambda *call: None)
    assert result is not None
    assert result.report.worst == [2, 3]
    assert [group.rows for group in result.report.groups] == [8, 7]


def test_a_metric_of_which_nothing_is_good_says_nothing() -> None:
    models = {"tuned": ModelScores({"answerTokens": mean_share(np.ones(24))}, answers=answers_of(list(REFERENCES)))}
    rows = [{"prompt": "p", "response": "r"}] * 24
    assert find_failures(rows, test_set([1] * 24), models, spec(["answerTokens"]), Resolver(), print) is None


def test_odd_answers_neither_crash_nor_count_as_right() -> None:
    answers: list[str | None] = ["🎉", "天气", "\u200b", "x" * 20_000, *["{" * 500] * 20]
    report = found(answers)
    kinds = groups(report, "kind")
    assert "right" not in kinds and sum(group.rows for group in kinds.values()) == 24
    assert kinds["repeats"].rows == 21 and kinds["empty"].samples == [3]
    json.loads(report.model_dump_json())


@pytest.mark.parametrize("metric", ["exactMatch", "tokenF1"])
def test_failures_are_judged_by_what_was_asked_for(metric: MetricName) -> None:
    assert found(with_failures(), metrics=["exactMatch", "tokenF1"], metric=metric).metric == metric
