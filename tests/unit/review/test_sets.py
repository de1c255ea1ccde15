"""A set shows no rater whose answers these are, and is drawn from where models differ."""

from collections import Counter
from pathlib import Path

import pytest

from tests.unit.review.runs import items_of, key_of, make, write_run
from tunesmith.cli.main import main
from tunesmith.review.draw import shares

ROWS = 60
SAME, RIGHT = range(0, ROWS, 6), range(0, ROWS, 2)


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two runs and a base; every sixth answer is the same of all, and every second one of the first run is right."""
    same = {row: f"alike {row}" for row in SAME}
    found = []
    for name, right in (("polished-llama", RIGHT), ("rusty-mistral", [])):
        answers = [same.get(row, f"{len(name)} says {row}") for row in range(ROWS)]
        base = [same.get(row, f"once more {row}") for row in range(ROWS)]
        scores = [float(row in right) for row in range(ROWS)]
        found.append(write_run(tmp_path / name, answers, base, exactMatch=scores, base_exactMatch=[0.0] * ROWS))
    return found


@pytest.mark.parametrize("kind", ["likert", "pairwise", "ranking", "ab"])
def test_nothing_that_raters_see_names_a_model(tmp_path: Path, runs: list[Path], kind: str) -> None:
    options = [] if kind == "ab" else ["--with-base"]
    folder = make(tmp_path / "set", *runs, kind=kind, rows=20, options=options)
    assert main(["review", "export", str(folder), "--csv", str(tmp_path / "set.csv")]) == 0
    for file in (folder / "items.jsonl", folder / "set.json", tmp_path / "set.csv"):
        text = file.read_text(encoding="utf-8")
        for secret in ("polished", "llama", "rusty", "mistral", "base", "tuned", "exactMatch", str(tmp_path)):
            assert secret not in text, file.name


def test_the_key_tells_whose_answers_were_shown(tmp_path: Path, runs: list[Path]) -> None:
    folder = make(tmp_path / "set", *runs, kind="ab", rows=20)
    of = {"polished-llama": 14, "rusty-mistral": 13}
    for item, keyed in zip(items_of(folder), key_of(folder)["items"], strict=True):
        shown = [f"{of[model]} says {keyed['row'] - 1}" for (model,) in keyed["models"]]
        assert item["answers"] == shown
        assert item["prompt"] == f"Question {keyed['row']}: "


def test_a_seed_draws_the_same_set_again_and_another_one_another(tmp_path: Path, runs: list[Path]) -> None:
    sets = [
        make(tmp_path / f"set-{number}", *runs, kind="pairwise", rows=20, options=["--seed", seed])
        for number, seed in enumerate(["1", "1", "2"])
    ]
    first, again, other = ((folder / "items.jsonl").read_text() for folder in sets)
    assert first == again
    assert first != other


def test_rows_come_evenly_from_where_scores_differ_and_where_not(tmp_path: Path, runs: list[Path]) -> None:
    folder = make(tmp_path / "set", *runs, kind="ab", rows=20)
    key = key_of(folder)
    assert key["same"] == len(SAME), "nobody is asked which of two same texts is better"
    assert [(s["name"], s["units"], s["drawn"]) for s in key["strata"]] == [
        ("scores alike", 30, 10),
        ("scores apart", 20, 10),
    ]
    apart = {item["row"] for item in key["items"] if key["strata"][item["stratum"]]["name"] == "scores apart"}
    assert apart <= {row + 1 for row in RIGHT if row not in SAME}


def test_each_model_stands_first_as_often_as_the_other(tmp_path: Path, runs: list[Path]) -> None:
    items = key_of(make(tmp_path / "set", *runs, kind="ab", rows=20))["items"]
    firsts = [item["models"][0][0] for item in items]
    assert Counter(firsts) == {"polished-llama": 10, "rusty-mistral": 10}
    assert firsts[::2] != firsts[1::2], "not by turns"


def test_every_place_of_a_ranking_is_shared_alike(tmp_path: Path, runs: list[Path]) -> None:
    items = key_of(make(tmp_path / "set", *runs, kind="ranking", rows=30, options=["--with-base"]))["items"]
    for place in range(3):
        assert set(Counter(item["models"][place][0] for item in items).values()) == {10}


def test_an_answer_that_two_models_gave_is_rated_once(tmp_path: Path, runs: list[Path]) -> None:
    folder = make(tmp_path / "set", *runs, kind="likert", rows=ROWS)
    key = key_of(folder)
    assert len(key["items"]) == len(SAME) + 2 * (ROWS - len(SAME))
    shared = [item["row"] - 1 for item in key["items"] if len(item["models"][0]) == 2]
    assert sorted(shared) == list(SAME)


def test_three_models_are_compared_two_by_two(tmp_path: Path, runs: list[Path]) -> None:
    items = key_of(make(tmp_path / "set", *runs, kind="pairwise", rows=30, options=["--with-base"]))["items"]
    met = Counter(frozenset(model for (model,) in item["models"]) for item in items)
    assert len(met) == 3
    assert min(met.values()) >= 6


def test_raters_see_the_right_answer_where_they_are_to(tmp_path: Path, runs: list[Path]) -> None:
    hidden = make(tmp_path / "hidden", *runs, kind="ab", rows=5)
    shown = make(tmp_path / "shown", *runs, kind="ab", rows=5, options=["--show-reference"])
    assert "reference" not in items_of(hidden)[0]
    assert all(item["reference"].startswith("right ") for item in items_of(shown))


def test_a_row_that_a_model_could_not_answer_is_left_out(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", ["a", "b"])
    file = write_run(tmp_path / "two", ["c", "LONG"]) / "evaluation" / "rows.jsonl"
    file.write_text(file.read_text().replace('"LONG"', "null"))
    key = key_of(make(tmp_path / "set", one, tmp_path / "two", kind="ab", rows=2))
    assert key["leftOut"] == 1
    assert [item["row"] for item in key["items"]] == [1]


def test_a_line_separator_within_an_answer_ends_no_row(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one", ["a\u2028b\u0085c"], ["d"])
    assert "a\u2028b\u0085c" in items_of(make(tmp_path / "set", run, kind="ab", rows=1))[0]["answers"]


@pytest.mark.parametrize(
    ("sizes", "total", "expected"),
    [([10, 10], 6, [3, 3]), ([1, 10], 6, [1, 5]), ([2, 3], 100, [2, 3]), ([0, 5, 5], 3, [0, 2, 1])],
    ids=["even", "a small one gives what it has", "no more than there is", "an empty one"],
)
def test_shares(sizes: list[int], total: int, expected: list[int]) -> None:
    assert shares(sizes, total) == expected


MISTAKES = {
    "one model": (
        ["one"],
        "ab",
        "--kind: ab needs 2 models, and there are 1; name another run, or evaluate this one with",
    ),
    "a ranking of two": (
        ["one", "two"],
        "ranking",
        "--kind: ranking needs 3 to 9 models, and there are 2; of two take",
    ),
    "no run": (["none"], "likert", "none/evaluation/rows.jsonl: is missing; evaluate the run first"),
    "other rows": (["one", "other"], "ab", "one and other were evaluated on different rows: row 1 is not the same"),
    "more rows": (["one", "more"], "ab", "the runs were evaluated on different numbers of rows: one 2, more 3"),
    "no answers": (["pairs"], "likert", "pairs/evaluation/rows.jsonl: holds no answers: the run's evaluation compares"),
    "damaged": (["broken"], "likert", "broken/evaluation/rows.jsonl: is damaged; evaluate the run again"),
    "twice": (["one", "one"], "ab", "one is the name of two models; name the folders of runs differently"),
    "all the same": (
        ["one", "twin"],
        "ab",
        "the models gave the same answer to every row: there is nothing to compare",
    ),
}


@pytest.mark.parametrize(("names", "kind", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    names: list[str],
    kind: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path("one"), ["a", "b"])
    write_run(Path("two"), ["c", "d"])
    write_run(Path("twin"), ["a", "b"])
    write_run(Path("more"), ["a", "b", "c"])
    for name, text in (("other", "Answer this: 1"), ("pairs", '{"prompt": "p", "chosen": "a"}'), ("broken", "{")):
        rows = write_run(Path(name), ["x", "y"]) / "evaluation" / "rows.jsonl"
        whole = rows.read_text().replace("Question", "Task").replace("right", "true")
        rows.write_text(whole if name == "other" else text)
    assert main(["review", "make", *names, "--kind", kind, "--rows", "2", "--out", "set"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(message)
    assert said.count("\n") == 1
    assert not Path("set").exists()


def test_a_set_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "one", ["a"], ["b"])
    folder = make(tmp_path / "set", run, kind="ab", rows=1)
    assert main(["review", "make", str(run), "--kind", "ab", "--rows", "1", "--out", str(folder)]) == 2
    assert "exists already, perhaps with ratings; choose another --out" in capsys.readouterr().err
