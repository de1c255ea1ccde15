"""What ratings show, beside published examples and figures that are worked out by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.review.runs import items_of, key_of, make, rate, write_run
from tunesmith.cli.main import main
from tunesmith.review.agreement import alpha
from tunesmith.review.strength import is_separated, strengths

NO = None
KRIPPENDORFF = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NO, NO, NO],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NO, 3],
    [NO, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NO],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NO],
]
"""Four observers, twelve units: example C of Krippendorff 2011, Computing Krippendorff's Alpha-Reliability."""
BASEBALL = {
    "Milwaukee": ([0, 7, 9, 7, 7, 9, 11], 1.581),
    "Detroit": ([6, 0, 7, 5, 11, 9, 9], 1.436),
    "Toronto": ([4, 6, 0, 7, 7, 8, 12], 1.294),
    "New York": ([6, 8, 6, 0, 6, 7, 10], 1.248),
    "Boston": ([6, 2, 6, 7, 0, 7, 12], 1.108),
    "Cleveland": ([4, 4, 5, 6, 6, 0, 6], 0.684),
    "Baltimore": ([2, 4, 1, 3, 1, 7, 0], 0.0),
}
"""Wins of each team against each, and its Bradley-Terry strength beyond Baltimore's: Agresti 2002, Categorical Data
Analysis, section 10.6."""


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815)])
def test_alpha_of_krippendorffs_own_example(level: Any, published: float) -> None:
    counts = np.array([[column.count(value) for value in range(1, 6)] for column in zip(*KRIPPENDORFF, strict=True)])
    assert alpha(counts, level) == pytest.approx(published, abs=5e-4)


def test_the_example_through_the_command(tmp_path: Path) -> None:
    """Units become items of a Likert set, and a missing rating is one that was not given."""
    run = write_run(tmp_path / "run", [f"answer {row}" for row in range(12)])
    folder = make(tmp_path / "set", run, kind="likert", rows=12)
    for rater, values in enumerate(KRIPPENDORFF):
        rate(folder, f"observer-{rater}", {n: str(v) for n, v in enumerate(values, 1) if v is not None})
    found = results(folder)
    assert found["agreement"]["alpha"]["value"] == pytest.approx(0.815, abs=5e-4)
    assert found["agreement"]["alpha"]["low"] < 0.815 < found["agreement"]["alpha"]["high"] <= 1
    assert found["agreement"]["items"] == 11
    assert [(rater["name"], rater["rated"]) for rater in found["raters"]] == [
        ("observer-0", 9),
        ("observer-1", 11),
        ("observer-2", 10),
        ("observer-3", 11),
    ]
    means = [np.mean([v for v in column if v is not None]) for column in zip(*KRIPPENDORFF, strict=True)]
    assert found["models"][0]["mean"]["value"] == pytest.approx(np.mean(means))


def test_strengths_of_the_baseball_teams() -> None:
    wins = np.array([row for row, _ in BASEBALL.values()], np.float64)
    found = strengths(wins)
    assert found - found[-1] == pytest.approx([strength for _, strength in BASEBALL.values()], abs=1e-3)
    assert found.mean() == pytest.approx(0, abs=1e-12)
    assert not is_separated(wins)


def test_strengths_stay_finite_where_a_model_wins_everything() -> None:
    wins = np.array([[0, 10, 10], [0, 0, 5], [0, 5, 0]], np.float64)
    assert is_separated(wins)
    first, second, third = strengths(wins)
    assert second == pytest.approx(third)
    assert 2 < first - second < 4


def results(folder: Path) -> dict[str, Any]:
    assert main(["review", "results", str(folder)]) == 0
    found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found


def prefer(folder: Path, rater: str, wins: dict[int, str], much: str = "") -> None:
    """Rates a set of two models: by row, the model that is preferred, or tie."""
    values = {}
    for item in key_of(folder)["items"]:
        wanted = wins.get(item["row"])
        if wanted == "tie":
            values[item["item"]] = "tie"
        elif wanted is not None:
            values[item["item"]] = "AB"[[models[0] for models in item["models"]].index(wanted)] + much
    rate(folder, rater, values)


def two_models(tmp_path: Path, rows: int, kind: str) -> Path:
    """A set of all rows of a run and its base."""
    new, old = ([f"{name} {row}" for row in range(rows)] for name in ("new", "old"))
    return make(tmp_path / "set", write_run(tmp_path / "run", new, old), kind=kind, rows=rows)


def test_a_win_rate_counts_ties_half_and_rows_once(tmp_path: Path) -> None:
    """Of 40 rows: anna prefers the run in 24, the base in 8, and 8 are ties; ben rates only rows that anna gave to the
    run, of which he gives 4 to the base."""
    folder = two_models(tmp_path, 40, "pairwise")
    prefer(folder, "anna", {row: "run" if row <= 24 else "base" if row <= 32 else "tie" for row in range(1, 41)})
    prefer(folder, "ben", {row: "base" if row <= 4 else "run" for row in range(1, 13)}, " much")
    found = results(folder)
    (pair,) = found["pairs"]
    expected = (4 * 0.5 + 20 + 8 * 0.5) / 40
    assert pair["winRate"]["value"] == pytest.approx(expected)
    error = np.sqrt(expected * (1 - expected) / 40)
    half = (pair["winRate"]["high"] - pair["winRate"]["low"]) / 2
    assert 0.7 * 1.96 * error < half < 1.1 * 1.96 * error, "about the normal interval, narrower for the ties"
    assert (pair["model"], pair["other"], pair["rows"], pair["verdict"]) == ("run", "base", 40, "better")
    assert pair["ties"] == pytest.approx(8 / 52)
    run, base = found["models"]
    assert run["winRate"]["value"] == pytest.approx(expected)
    odds = np.log(expected / (1 - expected))
    assert run["strength"]["value"] - base["strength"]["value"] == pytest.approx(odds, abs=1e-6)
    assert run["strength"]["low"] < run["strength"]["value"] < run["strength"]["high"]


def test_rows_that_were_drawn_more_often_count_less(tmp_path: Path) -> None:
    """Of 100 rows 10 differ in score; 20 are drawn, half of them from these, of which the run wins all, and of the
    others none: over all rows it wins one in ten."""
    scores = {"exactMatch": [float(row < 10) for row in range(100)], "base_exactMatch": [0.0] * 100}
    new, old = ([f"{name} {row}" for row in range(100)] for name in ("new", "old"))
    folder = make(tmp_path / "set", write_run(tmp_path / "run", new, old, **scores), kind="ab", rows=20)
    prefer(folder, "anna", {row: "run" if row <= 10 else "base" for row in range(1, 101)})
    assert results(folder)["pairs"][0]["winRate"]["value"] == pytest.approx(0.1)


def test_verdicts_claim_no_more_than_ratings_show(tmp_path: Path) -> None:
    folder = two_models(tmp_path, 40, "ab")
    prefer(folder, "anna", {row: "run" if row % 2 else "base" for row in range(1, 41)})
    found = results(folder)
    assert found["pairs"][0]["verdict"] == "no difference shown"
    assert any(w.startswith("40 rows tell the win rate of run over base within 0.15") for w in found["warnings"])
    assert any(w.startswith("one rater alone shows one person's taste") for w in found["warnings"])
    prefer(folder, "anna", dict.fromkeys(range(1, 5), "run"))
    found = results(folder)
    assert found["pairs"][0]["verdict"] == "too few rows to tell"
    assert "36 of 40 items are not rated yet" in found["warnings"]
    assert any(w.startswith("a model won or lost everything") for w in found["warnings"])


def test_a_taste_for_the_first_place_is_seen_and_favours_nobody(tmp_path: Path) -> None:
    folder = two_models(tmp_path, 40, "ab")
    rate(folder, "anna", {item["item"]: "A" if item["item"] % 10 else "B" for item in items_of(folder)})
    found = results(folder)
    assert found["firstPlace"]["preferred"]["value"] == pytest.approx(0.9)
    assert (found["firstPlace"]["expected"], found["firstPlace"]["verdict"]) == (0.5, "shown")
    assert found["raters"][0]["first"] == pytest.approx(0.9)
    assert found["pairs"][0]["verdict"] == "no difference shown"


def test_raters_who_agree_and_raters_who_do_not(tmp_path: Path) -> None:
    folder = two_models(tmp_path, 40, "ab")
    prefer(folder, "anna", dict.fromkeys(range(1, 41), "run"))
    prefer(folder, "ben", dict.fromkeys(range(1, 41), "run"))
    assert results(folder)["agreement"]["alpha"]["value"] == 1, "also where one model wins everything"
    prefer(folder, "ben", {row: "run" if row % 2 else "base" for row in range(1, 41)})
    found = results(folder)
    assert found["agreement"]["alpha"]["value"] < 0.3
    assert any("raters agree too little for conclusions" in warning for warning in found["warnings"])


def test_likert_means_and_their_difference(tmp_path: Path) -> None:
    folder = two_models(tmp_path, 30, "likert")
    shown = {item["item"]: item["answers"][0] for item in items_of(folder)}
    rate(folder, "anna", {n: "4" if text.startswith("new") else "23"[int(text[4:]) % 2] for n, text in shown.items()})
    found = results(folder)
    assert [model["mean"]["value"] for model in found["models"]] == [4, 2.5]
    (pair,) = found["pairs"]
    assert (pair["difference"]["value"], pair["rows"], pair["verdict"]) == (1.5, 30, "better")
    assert found["agreement"].get("alpha") is None


def test_rankings_of_three(tmp_path: Path) -> None:
    """x is always before y, and z is first in every second row."""
    names = ("x", "y", "z")
    runs = [write_run(tmp_path / name, [f"{name} {row}" for row in range(20)]) for name in names]
    folder = make(tmp_path / "set", *runs, kind="ranking", rows=20)
    values = {}
    for item in key_of(folder)["items"]:
        places = dict(zip((models[0] for models in item["models"]), "ABC", strict=True))
        values[item["item"]] = ">".join(places[name] for name in ("zxy" if item["row"] % 2 else "xyz"))
    rate(folder, "anna", values)
    rate(folder, "ben", values)
    found = results(folder)
    rates = {(pair["model"], pair["other"]): pair["winRate"]["value"] for pair in found["pairs"]}
    assert rates == {("x", "y"): 1, ("x", "z"): 0.5, ("y", "z"): 0.5}
    verdicts = {(pair["model"], pair["other"]): pair["verdict"] for pair in found["pairs"]}
    assert verdicts[("x", "y")] == "better"
    assert verdicts[("x", "z")] == "no difference shown"
    strengths = [model["strength"]["value"] for model in found["models"]]
    assert strengths[0] > strengths[2] > strengths[1]
    assert found["agreement"]["alpha"]["value"] == 1
    assert found["firstPlace"]["expected"] == pytest.approx(1 / 3)


def test_models_that_share_an_answer_share_its_place(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, [text]) for name, text in (("x", "same"), ("y", "same"), ("z", "other"))]
    folder = make(tmp_path / "set", *runs, kind="ranking", rows=1)
    (item,) = items_of(folder)
    assert sorted(item["answers"]) == ["other", "same"]
    rate(folder, "anna", {1: "A>B" if item["answers"][0] == "same" else "B>A"})
    found = results(folder)
    assert {(p["model"], p["other"]): p["winRate"]["value"] for p in found["pairs"]} == {("x", "z"): 1, ("y", "z"): 1}


def test_many_pairs_of_models_need_more_to_show_a_difference(tmp_path: Path) -> None:
    """The same rows show a difference between two models, and not between two of six."""
    names = [f"m{number}" for number in range(6)]
    runs = [write_run(tmp_path / name, [f"{name} {row}" for row in range(30)]) for name in names]
    found = {}
    for kind, chosen in (("ab", runs[:2]), ("ranking", runs)):
        folder = make(tmp_path / kind, *chosen, kind=kind, rows=30)
        values = {}
        for item in key_of(folder)["items"]:
            order = [models[0] for models in item["models"]]
            wanted = sorted(order, reverse=item["row"] > 21)  # m0 is before m1 in 21 of 30 rows
            letters = ["ABCDEF"[order.index(name)] for name in wanted]
            values[item["item"]] = letters[0] if kind == "ab" else ">".join(letters)
        rate(folder, "anna", values)
        found[kind] = results(folder)["pairs"][0]
    assert found["ab"]["winRate"] == found["ranking"]["winRate"]
    assert found["ab"]["verdict"] == "better"
    assert found["ranking"]["verdict"] == "no difference shown"


@pytest.mark.parametrize("kind", ["likert", "pairwise", "ranking", "ab"])
def test_the_table_names_models_raters_and_doubts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    runs = [write_run(tmp_path / name, [f"{name} {row}" for row in range(8)]) for name in ("x[b]", "y", "z")]
    folder = make(tmp_path / "set", *runs[: 2 if kind == "ab" else 3], kind=kind, rows=8)
    value = {"likert": "4", "pairwise": "A much", "ranking": "A>B>C", "ab": "A"}[kind]
    rate(folder, "anna", {item["item"]: value for item in items_of(folder)})
    capsys.readouterr()
    results(folder)
    said = capsys.readouterr().out
    for text in ("x[b]", "anna", "Krippendorff's alpha", "95% intervals", "warning: one rater alone"):
        assert text in said
