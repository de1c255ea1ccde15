"""Pairs, rankings and ratings become the same rows; what is no preference is refused or counted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from tests.unit.data.specs import tokenizer_of
from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError
from tunesmith.data.collate import Collator
from tunesmith.data.pairs import Pair, encode_pairs, pairs_of
from tunesmith.data.parts import RunRows
from tunesmith.data.prepare import TrainingData, prepare_data
from tunesmith.data.rows import Row
from tunesmith.sources import Resolver


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return tokenizer_of(["0123456789 abcdefghijklmnopqrstuvwxyz"])


def spec_of(
    columns: dict[str, Any] | None = None, template: str | None = "{prompt} {response}", **parts: Any
) -> FineTuneJobSpec:
    dataset = {"train": {"source": "rows.jsonl"}, "columns": columns or {}} | parts.pop("dataset", {})
    return FineTuneJobSpec.model_validate(
        {
            "model": {"source": "base"},
            "dataset": dataset,
            "objective": {"reward": {"template": template}},
            "method": {"full": {}},
            "training": {"maxLength": 16},
        }
        | parts
    )


def made_of(rows: list[Row], tokenizer: PreTrainedTokenizerBase, **columns: Any) -> list[Pair]:
    return list(pairs_of(rows, spec_of(columns), tokenizer))


def test_pairs(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [{"prompt": "p", "chosen": "good", "rejected": "bad", "by": 3}]
    assert made_of(rows, tokenizer) == [Pair("p ", "good", "bad", 1.0)]
    assert made_of(rows, tokenizer, margin="by") == [Pair("p ", "good", "bad", 3.0)]


def test_a_ranking_of_k_answers_is_all_pairs_of_them(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [{"prompt": "p", "answers": ["a", "b", "c"]}, {"prompt": "q", "answers": ["alone"]}]
    pairs = made_of(rows, tokenizer, ranking="answers")
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]


def test_ratings_are_compared_within_a_prompt(tokenizer: PreTrainedTokenizerBase) -> None:
    """The rows of a prompt need not stand together; two people rated "fine", at 3 on average; "same" is as good."""
    rows: list[Row] = [
        {"prompt": "p", "response": "fine", "stars": 2},
        {"prompt": "q", "response": "other", "stars": 5},
        {"prompt": "p", "response": "great", "stars": 5},
        {"prompt": "p", "response": "same", "stars": 3.0},
        {"prompt": "p", "response": "fine", "stars": 4},
    ]
    pairs = made_of(rows, tokenizer, rating="stars")
    assert pairs == [Pair("p ", "great", "fine", 2.0), Pair("p ", "great", "same", 2.0)]


GOOD: Row = {"prompt": "p", "chosen": "good", "rejected": "bad", "by": 1, "answers": ["a", "b"], "response": "r"}
BAD: dict[str, tuple[Row, dict[str, str], str, str]] = {
    "a column is missing": ({"chosen": 0}, {"chosen": "better"}, "chosen", "there is no column 'better'"),
    "an answer is null": ({"rejected": None}, {}, "rejected", "column 'rejected' is null, in the row that starts {"),
    "an answer is a conversation": ({"chosen": [{"role": "user"}]}, {}, "chosen", "'chosen' should be a text"),
    "a margin is text": ({"by": "much"}, {"margin": "by"}, "margin", "'by' should be a number, and is \"much\""),
    "a margin is below 0": ({"by": -1}, {"margin": "by"}, "margin", "is -1; a pair is preferred by 0 at least"),
    "a margin is no number": ({"by": float("nan")}, {"margin": "by"}, "margin", "should be a number, and is NaN"),
    "a ranking is text": ({"answers": "a, b"}, {"ranking": "answers"}, "ranking", "should be a list of answers"),
    "a ranking holds numbers": ({"answers": [1, 2]}, {"ranking": "answers"}, "ranking", "should be a list of answers"),
    "a rating is true": ({"by": True}, {"rating": "by"}, "rating", "'by' should be a number, and is true"),
    "a rating is missing": ({}, {"rating": "stars"}, "rating", "there is no column 'stars'; the data has: answers, by"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_rows_are_refused_in_a_line(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    change, columns, part, message = BAD[name]
    with pytest.raises(InputError) as caught:
        made_of([GOOD, GOOD | change], tokenizer, **columns)
    text = str(caught.value)
    assert f"spec.dataset.columns.{part}" in text
    assert message in text
    assert "\n" not in text.strip()


def test_a_prompt_is_needed_as_for_answers(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(InputError, match=r"there is no column .prompt. for \{prompt\}"):
        made_of([{"chosen": "a", "rejected": "b"}], tokenizer)
    with pytest.raises(InputError, match=r"spec.objective.reward.template: is not set, and .* no chat template"):
        list(pairs_of([GOOD], spec_of(template=None), tokenizer_of(["abc"])))


def test_a_pair_is_one_row_of_two_texts(tokenizer: PreTrainedTokenizerBase) -> None:
    """Each ends with the end-of-sequence token; the one learned position begins the second."""
    rows = encode_pairs([Pair("p ", "good", "bad", 0.5)], spec_of(), tokenizer)
    tokens, mask = rows.row(0)
    end = tokenizer.eos_token_id
    first, second = (tokenizer(f"p {answer}")["input_ids"] for answer in ("good", "bad"))
    assert tokenizer.decode(tokens.tolist()).count(tokenizer.eos_token) == 2
    assert tokens[mask.argmax() - 1] == end == tokens[-1]
    assert mask.sum() == 1
    assert rows.targets.tolist() == [1]
    assert rows.margins is not None
    assert rows.margins.tolist() == [0.5]
    assert len(first) + len(second) <= len(tokens)


def test_a_long_answer_loses_its_end_and_a_long_prompt_its_pair(tokenizer: PreTrainedTokenizerBase) -> None:
    pairs = [Pair("p ", "x1" * 20, "bad"), Pair("y2" * 20, "good", "bad"), Pair("p ", "good", "bad")]
    rows = encode_pairs(pairs, spec_of(), tokenizer)
    assert (len(rows), rows.truncated, rows.dropped, rows.equal) == (2, 1, 1, 0)
    tokens, mask = rows.row(0)
    assert mask.argmax() == 16
    assert tokens[15] != tokenizer.eos_token_id


def test_the_same_answer_twice_is_no_pair(tokenizer: PreTrainedTokenizerBase) -> None:
    """Nor are two answers that differ only beyond maxLength."""
    long = "x1" * 20
    pairs = [Pair("p ", "good", "good"), Pair("p ", f"{long} a", f"{long} b"), Pair("p ", "good", "bad")]
    rows = encode_pairs(pairs, spec_of(), tokenizer)
    assert (len(rows), rows.equal, rows.dropped) == (1, 2, 0)


@pytest.mark.parametrize("packed", [True, False])
def test_a_batch_of_pairs_is_scored_at_each_end(packed: bool, tokenizer: PreTrainedTokenizerBase) -> None:
    pairs = [Pair("p ", "good", "bad", 2.0), Pair("a long one ", "x", "yz", 3.0)]
    rows = encode_pairs(pairs, spec_of(), tokenizer)
    batch = Collator(int(tokenizer.pad_token_id), packed, pairs=True).batch(rows, [1, 0], 0)
    assert batch.margins is not None
    assert batch.margins.tolist() == [3.0, 2.0]
    assert batch.input_ids[batch.keep].tolist() == [tokenizer.eos_token_id] * 4
    if batch.row_lengths is not None:
        assert (np.cumsum(batch.row_lengths) - 1).tolist() == batch.keep[0].nonzero()[:, 0].tolist()
    else:
        assert batch.keep.sum(dim=1).tolist() == [1, 1, 1, 1]
    nothing = Collator(int(tokenizer.pad_token_id), packed, pairs=True).batch(rows, [], 0)
    assert (nothing.tokens, int(nothing.keep.sum())) == (0, 0)


Prepare = Callable[..., Any]


@pytest.fixture
def prepared(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> Prepare:
    def prepare(rows: list[Row], **options: Any) -> TrainingData:
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        dataset = {"train": {"source": str(tmp_path / "rows.jsonl")}} | options.pop("dataset", {})
        spec = spec_of(options.pop("columns", None), dataset=dataset, **options)
        return prepare_data(RunRows(spec, Resolver()), tokenizer, tmp_path / "tokens")

    return prepare


def rows_of(prompts: int, of_each: int = 3) -> list[Row]:
    return [
        {"prompt": f"p{number % prompts}", "chosen": f"c{number}", "rejected": f"r{number}", "by": number}
        for number in range(prompts * of_each)
    ]


def test_no_prompt_is_on_both_sides_of_a_split(prepared: Prepare, tokenizer: PreTrainedTokenizerBase) -> None:
    data = prepared(rows_of(20), dataset={"validation": {"fraction": 0.2}})
    assert (len(data.train), len(data.validation)) == (48, 12)

    def prompts(rows: Any) -> set[str]:
        return {tokenizer.decode(rows.row(index)[0].tolist()).split()[0] for index in range(len(rows))}

    assert prompts(data.train).isdisjoint(prompts(data.validation))
    assert len(prompts(data.train)) == 16


def test_ratings_are_split_before_they_are_paired(prepared: Prepare) -> None:
    rows = [{"prompt": f"p{n // 2}", "response": f"a{n}", "stars": n % 2} for n in range(40)]
    data = prepared(rows, columns={"rating": "stars"}, dataset={"validation": {"fraction": 0.2}})
    assert (len(data.train), len(data.validation)) == (16, 4)


def test_margins_are_kept_on_the_disk(prepared: Prepare) -> None:
    data = prepared(rows_of(4), columns={"margin": "by"})
    assert data.train.margins.tolist() == list(range(12))
    again = prepared(rows_of(4), columns={"margin": "by"})
    assert again.digest == data.digest
    assert again.train.margins.tolist() == list(range(12))
    assert prepared(rows_of(4)).digest != data.digest, "other margins are other data"


def test_what_stands_in_the_test_rows_is_left_out(prepared: Prepare, tmp_path: Path) -> None:
    rows = rows_of(4)
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))
    data = prepared(rows, columns={"margin": "by"}, dataset={"test": {"source": str(tmp_path / "test.jsonl")}})
    assert (len(data.train), data.summary.overlapping, data.summary.test_rows) == (10, 2, 2)
    assert data.train.margins.tolist() == list(range(2, 12)), "each margin stays with its pair"


def test_equal_answers_are_counted_and_said(prepared: Prepare) -> None:
    data = prepared([*rows_of(2), {"prompt": "p", "chosen": "same", "rejected": "same"}])
    assert (data.summary.train_rows, data.summary.equal) == (6, 1)
    assert data.summary.warnings == ["1 training pair has the same answer twice: left out"]


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (
            [{"prompt": "p", "chosen": "same", "rejected": "same"}] * 3,
            {},
            "spec.dataset.train: chosen equals rejected in every training pair: nothing is left to learn from",
        ),
        (
            [{"prompt": f"p{n}", "response": "r", "stars": n} for n in range(3)],
            {"rating": "stars"},
            "spec.dataset.columns.rating: no two answers to a training prompt are rated differently: there is no pair",
        ),
        (
            [{"prompt": "p" * 99, "chosen": "a", "rejected": "b"}],
            {},
            "spec.training.maxLength: no training row has anything left to learn from within 16 tokens; raise it",
        ),
    ],
    ids=["equal", "no different ratings", "no room"],
)
def test_nothing_to_learn_is_refused(rows: list[Row], columns: dict[str, str], message: str, prepared: Prepare) -> None:
    with pytest.raises(InputError) as caught:
        prepared(rows, columns=columns)
    assert message in str(caught.value)
