"""Metrics of one's own: allowed, there, and well-behaved, or a line that says what to do."""

from pathlib import Path

import pytest

from tunesmith.api.evaluation import OwnMetric
from tunesmith.api.load import InputError
from tunesmith.evaluation.metrics.own import Own

CODE = """
from subprocess import run

def length(answers, references):
    return [len(a) - len(r) for a, r in zip(answers, references)]

def half(answers, references):
    return [1.0] * (len(answers) // 2)

def not_a_number(answers, references):
    return [0.5] * (len(answers) - 1) + [float("nan")]

def text(answers, references):
    return ["good"] * len(answers)

def breaks(answers, references):
    raise KeyError("colour\\nsecond line")

def nothing(answers, references):
    return None

number = 5
"""
PLACE = "spec.evaluation.own[0]"


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("tidy_metrics", "broken_metrics"):
        (tmp_path / package).mkdir()
    (tmp_path / "tidy_metrics" / "__init__.py").touch()
    (tmp_path / "tidy_metrics" / "ours.py").write_text(CODE)
    (tmp_path / "broken_metrics" / "__init__.py").write_text("import what_is_nowhere\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def own(function: str, allowed: tuple[str, ...] = ("tidy_metrics",), better: str = "higher") -> Own:
    metric = OwnMetric.model_validate({"name": "mine", "function": function, "better": better})
    return Own(metric, PLACE, allowed)


def test_a_function_of_a_module_below_an_allowed_one_scores_answers() -> None:
    scores = own("tidy_metrics.ours:length").rows(["abc", "a", ""], ["a", "a", "a"])
    assert scores.of_rows().tolist() == [2, 0, -1]


@pytest.mark.parametrize(
    ("better", "answers", "expected"),
    [
        pytest.param("higher", ["abc", None], [2, 0], id="higher is better: 0"),
        pytest.param("higher", ["", None], [-1, -1], id="higher is better: the lowest below 0"),
        pytest.param("lower", ["abc", None], [2, 2], id="lower is better: the highest"),
        pytest.param("higher", [None, None], [0, 0], id="no answers at all"),
    ],
)
def test_a_missing_answer_is_never_shown_and_counts_as_the_worst(
    better: str, answers: list[str | None], expected: list[float]
) -> None:
    assert own("tidy_metrics.ours:length", better=better).rows(answers, ["a", "a"]).of_rows().tolist() == expected


@pytest.mark.parametrize(
    ("function", "allowed", "message"),
    [
        pytest.param(
            "os:system",
            ("tidy_metrics",),
            "os:system: module os is not allowed here (allowed: tidy_metrics); add --allow-metrics os, or have the "
            "administrator of the cluster list it",
            id="another module",
        ),
        pytest.param(
            "tidy_metrics_too:length",
            ("tidy_metrics",),
            "tidy_metrics_too:length: module tidy_metrics_too is not allowed here (allowed: tidy_metrics); add",
            id="a name that starts alike",
        ),
        pytest.param(
            "tidy_metrics.ours:length",
            (),
            "tidy_metrics.ours:length: module tidy_metrics.ours is not allowed here (allowed: none); add",
            id="nothing is allowed",
        ),
        pytest.param(
            "tidy_metrics.ours:run",
            ("tidy_metrics",),
            "tidy_metrics.ours:run: run is not a function of tidy_metrics.ours, which only imports it; name one",
            id="what an allowed module has imported",
        ),
        pytest.param(
            "tidy_metrics.theirs:length",
            ("tidy_metrics",),
            "tidy_metrics.theirs:length: cannot be imported: No module named 'tidy_metrics.theirs'; install it into",
            id="no such module",
        ),
        pytest.param(
            "broken_metrics:length",
            ("broken_metrics",),
            "broken_metrics:length: cannot be imported: No module named 'what_is_nowhere'; install it into the image",
            id="a module that cannot be imported",
        ),
        pytest.param(
            "tidy_metrics.ours:width",
            ("tidy_metrics",),
            "tidy_metrics.ours:width: module tidy_metrics.ours has no function width; correct the name",
            id="no such function",
        ),
        pytest.param(
            "tidy_metrics.ours:number",
            ("tidy_metrics",),
            "tidy_metrics.ours:number: module tidy_metrics.ours has no function number; correct the name",
            id="no function",
        ),
    ],
)
def test_what_may_not_run_is_refused_before_anything_is_answered(
    function: str, allowed: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError) as refused:
        own(function, allowed)
    assert str(refused.value).startswith(f"{PLACE}.function: {message}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("half", "gave 1 numbers for 2 answers; return one for each", id="too few"),
        pytest.param("not_a_number", "gave nan for the answer 'two'; return finite numbers", id="NaN"),
        pytest.param("text", "raised ValueError: could not convert string to float: 'good'; mend it", id="no numbers"),
        pytest.param("breaks", "raised KeyError: 'colour\\nsecond line'; mend it", id="an error of its own"),
        pytest.param("nothing", "raised TypeError: 'NoneType' object is not iterable; mend it", id="nothing"),
    ],
)
def test_what_misbehaves_is_a_line_and_no_figure(name: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        own(f"tidy_metrics.ours:{name}").rows(["one", "two"], ["1", "2"])
    assert str(refused.value) == f"{PLACE}.function: tidy_metrics.ours:{name}: {message}"
