"""Ratings come and go: as CSV for spreadsheets, and as preferences for the reward stage."""

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit.data.specs import spec_of
from tests.unit.review.runs import EMOJI, FORMULA, items_of, make, rate, rated, write_run
from tunesmith.cli.main import main
from tunesmith.data.pairs import Pair, pairs_of
from tunesmith.data.rows import iterate_rows
from tunesmith.sources import Resolver

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANSWERS = [EMOJI, FORMULA, 'He said "no",\r\nand; left\tus', "", "'quoted'", "x" * 40_000]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make(tmp_path / "set", write_run(tmp_path / "run", ANSWERS, list("abcdef")), kind="pairwise", rows=6)


def table_of(file: Path, delimiter: str = ",") -> list[list[str]]:
    with file.open(encoding="utf-8-sig", newline="") as opened:
        return list(csv.reader(opened, delimiter=delimiter))


def fill(file: Path, ratings: dict[int, str], delimiter: str = ",", encoding: str = "utf-8-sig") -> None:
    """Writes ratings into a CSV file, as a spreadsheet would."""
    header, *rows = table_of(file)
    for row in rows:
        row[header.index("rating")] = ratings.get(int(row[header.index("item")]), "")
    with file.open("w", encoding=encoding, newline="") as opened:
        csv.writer(opened, delimiter=delimiter).writerows([header, *rows])


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8-sig"), (";", "utf-8"), ("\t", "utf-8")])
def test_ratings_come_back_from_a_spreadsheet(folder: Path, tmp_path: Path, delimiter: str, encoding: str) -> None:
    file = tmp_path / "set.csv"
    assert main(["review", "export", str(folder), "--csv", str(file)]) == 0
    fill(file, {1: "A much", 3: " TIE ", 5: "b"}, delimiter, encoding)
    assert main(["review", "import", str(folder), "--csv", str(file), "--rater", "cleo"]) == 0
    assert rated(folder, "cleo") == {1: "A much", 3: "tie", 5: "B"}


def test_later_ratings_replace_earlier_ones_and_leave_the_rest(folder: Path, tmp_path: Path) -> None:
    rate(folder, "cleo", {1: "A", 2: "B"})
    assert main(["review", "export", str(folder), "--csv", str(tmp_path / "set.csv")]) == 0
    fill(tmp_path / "set.csv", {2: "tie", 4: "A"})
    assert main(["review", "import", str(folder), "--csv", str(tmp_path / "set.csv"), "--rater", "cleo"]) == 0
    assert rated(folder, "cleo") == {1: "A", 2: "tie", 4: "A"}


def test_texts_reach_the_spreadsheet_whole_but_for_what_it_would_compute_or_cut(folder: Path, tmp_path: Path) -> None:
    assert main(["review", "export", str(folder), "--csv", str(tmp_path / "set.csv")]) == 0
    header, *rows = table_of(tmp_path / "set.csv")
    assert header == ["set", "item", "prompt", "answer A", "answer B", "rating"]
    shown = {cell for row in rows for cell in row[3:5]}
    for answer in ANSWERS:
        if answer == FORMULA:
            assert "'" + FORMULA in shown
        elif len(answer) > 32_767:
            assert any(len(cell) == 32_767 and cell.endswith("(cut: longer than a cell)") for cell in shown)
        else:
            assert answer in shown
    assert not any(cell.lstrip()[:1] in tuple("=+-@") for cell in shown if cell)


MISTAKES = {
    "no rating": ({"2": "C"}, "{file}:{line}: item 2: rating 'C' should be one of A much, A, tie, B, B much"),
    "no column": ("set,item\n", "{file}:1: there is no column 'rating'; the file has: set, item"),
    "empty": ("", "{file}: is empty"),
    "no item": ("set,item,rating\n{id},7,A\n", "{file}:2: there is no item '7'; items are 1 to 6"),
    "no number": ("set,item,rating\n{id},x,A\n", "{file}:2: there is no item 'x'; items are 1 to 6"),
    "twice": ("set,item,rating\n{id},1,A\n\n{id},1,B\n", "{file}:4: item 1 has a rating already"),
    "another set": ("set,item,rating\nab-1,1,A\n", "{file}:2: is of the set 'ab-1', and not of this one, '{id}'"),
    "broken": ('set,item,rating\n{id},1,"A\n', "{file}:2: is broken CSV: unexpected end of data"),
    "after a long cell": (
        'set,item,prompt,rating\n{id},1,"two\nlines",A\n{id},2,x,?\n',
        "{file}:4: item 2: rating '?' should be one of A much, A, tie, B, B much",
    ),
    "two at once": (
        "set,item,rating\n{id},1,x\n{id},2,y\n",
        "{file}:2: item 1: rating 'x' should be one of A much, A, tie, B, B much\n"
        "{file}:3: item 2: rating 'y' should be one of A much, A, tie, B, B much",
    ),
}


@pytest.mark.parametrize(("content", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_name_their_line_and_nothing_is_read(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | dict[str, str], message: str
) -> None:
    file, line = tmp_path / "set.csv", 0
    name = json.loads((folder / "set.json").read_text())["id"]
    if isinstance(content, str):
        file.write_text(content.replace("{id}", name))
    else:
        main(["review", "export", str(folder), "--csv", str(file)])
        fill(file, {int(item): value for item, value in content.items()})
        line = next(
            n
            for n, text in enumerate(file.read_text().split("\n"), 1)
            if text.startswith((f"\ufeff{name},2,", f"{name},2,"))
        )
    assert main(["review", "import", str(folder), "--csv", str(file), "--rater", "cleo"]) == 2
    assert capsys.readouterr().err == message.format(file=file, id=name, line=line) + "\n"
    assert not (folder / "answers" / "cleo.jsonl").exists()


def test_a_ranking_is_letters_from_the_best_to_the_worst(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / name, [f"{name} {row}" for row in range(4)]) for name in ("x", "y", "z")]
    folder = make(tmp_path / "set", *runs, kind="ranking", rows=4)
    main(["review", "export", str(folder), "--csv", str(tmp_path / "set.csv")])
    fill(tmp_path / "set.csv", {1: "b a c", 2: "CBA", 3: "A > C > B", 4: "A>B"})
    command = ["review", "import", str(folder), "--csv", str(tmp_path / "set.csv"), "--rater", "cleo"]
    assert main(command) == 2
    assert "item 4: rating 'A>B' should name each answer once, the best first, such as C>B>A" in capsys.readouterr().err
    fill(tmp_path / "set.csv", {1: "b a c", 2: "CBA", 3: "A > C > B"})
    assert main(command) == 0
    assert rated(folder, "cleo") == {1: "B>A>C", 2: "C>B>A", 3: "A>C>B"}


@pytest.fixture(scope="module")
def tokenizer() -> "PreTrainedTokenizerBase":
    from tests.unit.data.specs import tokenizer_of

    return tokenizer_of(["Question 1: yes and no"] * 20)


def reward_pairs(file: Path, tokenizer: "PreTrainedTokenizerBase", **columns: str) -> list[Pair]:
    """What objective `reward` makes of a file."""
    spec = spec_of(
        model={"source": "never-loaded"},
        dataset={"train": {"source": str(file)}, "columns": columns},
        objective={"reward": {"template": "{prompt}{response}"}},
    )
    assert spec.dataset.train is not None
    return list(pairs_of(iterate_rows(spec.dataset.train, Resolver(), "spec.dataset.train"), spec, tokenizer))


def test_pairwise_ratings_become_pairs_with_a_margin(
    folder: Path, tmp_path: Path, tokenizer: "PreTrainedTokenizerBase", capsys: pytest.CaptureFixture[str]
) -> None:
    rate(folder, "anna", {1: "A much", 2: "B", 3: "tie", 4: "A", 5: "A"})
    rate(folder, "ben", {1: "A", 2: "B", 5: "B"})
    assert main(["review", "pairs", str(folder), "--out", str(tmp_path / "pairs.jsonl")]) == 0
    assert "3 pairs; left out: 2 ties, 1 items that nobody has rated" in capsys.readouterr().out
    texts = {item["item"]: (item["prompt"], *item["answers"]) for item in items_of(folder)}
    (p1, a1, b1), (p2, a2, b2), (p4, a4, b4) = (texts[number] for number in (1, 2, 4))
    assert reward_pairs(tmp_path / "pairs.jsonl", tokenizer, margin="margin") == [
        Pair(p1, a1, b1, 1.5),
        Pair(p2, b2, a2, 1.0),
        Pair(p4, a4, b4, 1.0),
    ]


def test_rankings_become_all_their_pairs(tmp_path: Path, tokenizer: "PreTrainedTokenizerBase") -> None:
    runs = [write_run(tmp_path / name, [f"{name} 0"]) for name in ("x", "y", "z")]
    folder = make(tmp_path / "set", *runs, kind="ranking", rows=1)
    rate(folder, "anna", {1: "B>A>C"})
    assert main(["review", "pairs", str(folder), "--out", str(tmp_path / "pairs.jsonl")]) == 0
    a, b, c = items_of(folder)[0]["answers"]
    pairs = reward_pairs(tmp_path / "pairs.jsonl", tokenizer, margin="margin")
    assert {(pair.chosen, pair.rejected, pair.margin) for pair in pairs} == {(b, a, 1.0), (b, c, 2.0), (a, c, 1.0)}


def test_likert_ratings_become_rated_answers(tmp_path: Path, tokenizer: "PreTrainedTokenizerBase") -> None:
    folder = make(tmp_path / "set", write_run(tmp_path / "run", ["good"], ["bad"]), kind="likert", rows=1)
    stars = {"good": ("5", "4"), "bad": ("2", "1")}
    for rater in (0, 1):
        rate(folder, f"rater-{rater}", {i["item"]: stars[i["answers"][0]][rater] for i in items_of(folder)})
    assert main(["review", "pairs", str(folder), "--out", str(tmp_path / "pairs.jsonl")]) == 0
    pairs = reward_pairs(tmp_path / "pairs.jsonl", tokenizer, rating="rating")
    assert pairs == [Pair("Question 1: ", "good", "bad", 3.0)]


def test_nothing_rated_is_said(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["results", str(folder)], ["pairs", str(folder), "--out", str(tmp_path / "p.jsonl")]):
        assert main(["review", *command]) == 2
        assert capsys.readouterr().err == f"{folder}: nobody has rated anything yet\n"
    rate(folder, "anna", {1: "tie"})
    assert main(["review", "pairs", str(folder), "--out", str(tmp_path / "p.jsonl")]) == 2
    assert "all 1 pairs are ties: there is no preference" in capsys.readouterr().err
