"""Comparisons with other jobs, from what these have left."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError
from tunesmith.api.pod import RunFolder
from tunesmith.evaluation.earlier import EarlierRun, OwnRows, earlier_scores, made_by, read_earlier_runs, row_ids
from tunesmith.evaluation.report import EvaluationReport, write_report
from tunesmith.evaluation.scorers import compare_texts
from tunesmith.sources import Resolver

ROWS: list[dict[str, Any]] = [
    {"prompt": "1 + 1 =", "response": "2"},
    {"prompt": "天气 =", "response": "😀", "source": None},
    {"prompt": "2 + 2 =", "response": "4"},
    {"prompt": "2 + 2 =", "response": "4"},
]
SPEC: dict[str, Any] = {
    "model": {"source": "m"},
    "dataset": {"train": {"source": "a.jsonl"}, "test": {"source": "b.jsonl"}},
    "objective": {"instruction": {}},
    "method": {"full": {}},
}


def own_rows(rows: Sequence[dict[str, Any]] = ROWS, tokens: Sequence[float] = (2, 2, 2, 2)) -> OwnRows:
    texts = [{"prompt": "ours: " + row["prompt"], "reference": str(row["response"])} for row in rows]
    return OwnRows(row_ids(rows, texts, FineTuneJobSpec.model_validate(SPEC)), texts, np.array(tokens, float))


def left(runs: Path, answers: Sequence[str | None], name: str = "old", order: Sequence[int] | None = None) -> Path:
    """What another job has left, whose prompts were others."""
    rows = own_rows()
    lines = [
        {
            "row": place + 1,
            "id": rows.ids[row],
            "prompt": "theirs: " + ROWS[row]["prompt"],
            "reference": ROWS[row]["response"],
            "tuned": {"answer": answers[row], "negativeLogLikelihood": 1.0 + row, "tokens": 2, "answerTokens": 3.0},
            "base": {"answer": "never mind"},
        }
        for place, row in enumerate(order or range(len(ROWS)))
    ]
    model = {"address": "m", "dtype": "float32", "device": "cpu", "seconds": 1.0}
    report = {"job": name, "rows": len(lines), "metrics": [], "tuned": model, "versions": {}}
    folder = RunFolder(runs / name)
    settings = {"maxNewTokens": 20, "judge by": "job://judge"}
    write_report(folder, EvaluationReport.model_validate(report | {"settings": settings}), lines)
    return folder.root


def read(runs: Path, address: str = "job://old", rows: OwnRows | None = None) -> EarlierRun:
    (run,) = read_earlier_runs([address], Resolver(runs=runs, base=runs), rows or own_rows())
    return run


def scores(run: EarlierRun, *metrics: str, rows: OwnRows | None = None, **settings: Any) -> tuple[dict[str, Any], Any]:
    settings = {"maxNewTokens": 20, "judge by": "job://judge"} | settings
    found, said = earlier_scores(run, metrics, rows or own_rows(), settings, compare_texts)
    return {name: each.of_rows().tolist() for name, each in found.items()}, said


def test_answers_are_scored_anew_and_losses_are_those_that_were_measured(tmp_path: Path) -> None:
    left(tmp_path, ["2", "no", None, "4"])
    found, said = scores(read(tmp_path), "exactMatch", "tokenF1", "loss", "answerTokens", "winRate", "divergence")
    assert said == []
    assert found == {
        "exactMatch": [1, 0, 0, 1],
        "tokenF1": [1, 0, 0, 1],
        "loss": [0.5, 1, 1.5, 2],
        "answerTokens": [3, 3, 3, 3],
    }


@pytest.mark.parametrize("address", ["job://old", "old", "file://{runs}/old", "pvc://claim/team/old"])
def test_a_run_is_found_by_the_name_of_its_job_or_its_folder(tmp_path: Path, address: str) -> None:
    folder = left(tmp_path, ["2", "no", None, "4"])
    mounted = tmp_path / "mnt" / "pvc" / "claim" / "team"
    mounted.mkdir(parents=True)
    resolver = Resolver(runs=tmp_path, base=tmp_path)
    if address.startswith("pvc"):
        folder.rename(mounted / "old")
        resolver = Resolver(in_pod=True, mount_root=tmp_path / "mnt")
    (run,) = read_earlier_runs([address.format(runs=tmp_path)], resolver, own_rows())
    assert [row["answer"] for row in run.rows] == ["2", "no", None, "4"]


def test_a_separator_within_an_answer_ends_no_line(tmp_path: Path) -> None:
    left(tmp_path, ["4\u2028", "x\u2029y", "\x85", "4"])
    found, _ = scores(read(tmp_path), "exactMatch")
    assert len(found["exactMatch"]) == len(ROWS)


def test_rows_in_another_order_are_found_by_what_they_hold(tmp_path: Path) -> None:
    """Of two equal rows the first is the first."""
    left(tmp_path, ["2", "no", "first", "second"], order=[2, 1, 3, 0])
    assert [row["answer"] for row in read(tmp_path).rows] == ["2", "no", "first", "second"]


def test_a_format_that_leaves_empty_columns_out_holds_the_same_rows() -> None:
    filled = [row | {"source": None, "more": None} for row in ROWS]
    assert own_rows(filled).ids == own_rows().ids
    swapped = [dict(reversed(row.items())) for row in ROWS]
    assert own_rows(swapped).ids == own_rows().ids
    assert own_rows([row | {"response": "5"} for row in ROWS]).ids != own_rows().ids


def test_pairs_are_known_by_their_rows_and_made_pairs_by_their_texts() -> None:
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
    pairs = [[{"prompt": f"{how} a", "chosen": "b", "rejected": "c"}] for how in ("ours:", "theirs:")]
    spec = SPEC | {"objective": {"reward": {}}, "method": {"lora": {"rank": 2}}}
    plain = FineTuneJobSpec.model_validate(spec)
    assert row_ids(rows, pairs[0], plain) == row_ids(rows, pairs[1], plain)
    ranked = spec | {"dataset": spec["dataset"] | {"columns": {"ranking": "answers"}}}
    made = FineTuneJobSpec.model_validate(ranked)
    assert row_ids([{"prompt": "a", "answers": ["b", "c"]}], pairs[0], made) == row_ids([], pairs[0], made)


@pytest.mark.parametrize(
    ("rows", "missing", "more"),
    [(ROWS[:3], 0, 1), ([*ROWS, {"prompt": "new", "response": ""}], 1, 0), ([*ROWS[:3], ROWS[0]], 1, 1)],
)
def test_other_rows_are_one_line_with_a_remedy(
    tmp_path: Path, rows: list[dict[str, Any]], missing: int, more: int
) -> None:
    left(tmp_path, ["2", "no", None, "4"])
    with pytest.raises(InputError) as refused:
        read(tmp_path, rows=own_rows(rows, [2] * len(rows)))
    assert str(refused.value) == (
        f"spec.evaluation.compareWith[0]: job://old was evaluated on other rows: {missing} of the {len(rows)} are "
        f"missing there, and {more} are there alone; give both jobs the same dataset.test, and evaluate it again"
    )


def test_another_right_answer_to_the_same_row_is_refused(tmp_path: Path) -> None:
    left(tmp_path, ["2", "no", None, "4"])
    rows = own_rows()
    other = OwnRows(rows.ids, [*rows.texts[:2], {"prompt": "2 + 2 =", "reference": "four"}, rows.texts[3]])
    with pytest.raises(InputError, match="with another right answer in row 3; give both jobs the same"):
        read(tmp_path, rows=other)


DAMAGED = "job://old has no whole evaluation in {runs}/old/evaluation; evaluate it (again) first"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("result.json", None, DAMAGED),
        ("result.json", '{"job"', DAMAGED),
        ("rows.jsonl", None, DAMAGED),
        ("rows.jsonl", '{"row": 1, "id": "0", "tuned": {', DAMAGED),
        ("rows.jsonl", '{"row": 1, "tuned": {}}\n', DAMAGED),
        ("rows.jsonl", "[1]\n", DAMAGED),
        ("rows.jsonl", '{"row": 1, "id": "0", "tuned": 1}\n', DAMAGED),
        ("rows.jsonl", "\udcff", DAMAGED),
    ],
)
def test_what_is_missing_or_damaged_is_one_line(tmp_path: Path, file: str, content: str | None, message: str) -> None:
    path = left(tmp_path, ["2", "no", None, "4"]) / "evaluation" / file
    path.unlink()
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as refused:
        read(tmp_path)
    assert str(refused.value) == f"spec.evaluation.compareWith[0]: {message.format(runs=tmp_path)}"


def test_a_job_that_never_ran_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"compareWith\[0\]: job old has left no run in .*/old; run it first$"):
        read(tmp_path)


def test_what_cannot_be_compared_is_said_and_left_out(tmp_path: Path) -> None:
    left(tmp_path, ["2", "no", None, "4"])
    run = read(tmp_path)
    for metric, rows, settings, why in [
        ("perplexity", own_rows(tokens=[2, 2, 2, 3]), {}, "its tokens are others, and a loss is one of tokens"),
        ("judge", own_rows(), {"judge by": "job://other"}, "it was not scored by the same judge"),
        ("tone", own_rows(), {"tone by": "ours.metrics:tone"}, "it was not scored by the same function"),
        ("judge", own_rows(), {}, "its evaluation holds no values of it; evaluate it again with this metric"),
    ]:
        found, said = scores(run, metric, "exactMatch", rows=rows, **settings)
        assert list(found) == ["exactMatch"]
        assert said == [f"{metric} is not compared with job://old: {why}"]


def test_answers_of_another_length_are_compared_with_a_warning(tmp_path: Path) -> None:
    left(tmp_path, ["2", "no", None, "4"])
    found, said = scores(read(tmp_path), "exactMatch", "loss", maxNewTokens=64)
    assert list(found) == ["exactMatch", "loss"]
    assert said == ["job://old answered within maxNewTokens 20, this model within 64"]
    assert scores(read(tmp_path), "loss", maxNewTokens=64)[1] == []


def test_values_of_a_judge_are_taken_where_the_judge_is_the_same(tmp_path: Path) -> None:
    path = left(tmp_path, ["2", "no", None, "4"]) / "evaluation" / "rows.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for number, line in enumerate(lines[:3]):
        line["tuned"]["judge"] = 0.5 * number
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found, said = scores(read(tmp_path), "judge")
    assert said == []
    assert found["judge"][:3] == [0, 0.5, 1] and np.isnan(found["judge"][3])


def test_what_scores_come_from_is_kept() -> None:
    own = {"name": "tone", "function": "ours.metrics:tone"}
    evaluation = {"metrics": ["exactMatch", "judge"], "own": [own], "judge": {"source": "job://judge"}}
    spec = FineTuneJobSpec.model_validate(SPEC | {"evaluation": evaluation})
    assert made_by(spec) == {"tone by": "ours.metrics:tone", "judge by": "job://judge"}
    assert made_by(FineTuneJobSpec.model_validate(SPEC)) == {}
