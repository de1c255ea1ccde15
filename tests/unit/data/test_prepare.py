"""The sets of a run: the split, and the refusal of what leaves nothing to learn from."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from tests.unit.data.specs import spec_of, tokenizer_of
from tunesmith.api.load import InputError
from tunesmith.data.prepare import TrainingData, read_training_rows, split_rows, tokenize
from tunesmith.data.rows import Row
from tunesmith.sources import Resolver

ROWS: list[Row] = [{"prompt": str(i), "response": str(i + 1)} for i in range(40)]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return tokenizer_of(["0123456789"])


def data_of(rows: list[Row], tokenizer: PreTrainedTokenizerBase, **training: Any) -> TrainingData:
    return tokenize(rows, rows[:2], spec_of(training={"maxLength": 16, **training}), tokenizer)


def test_a_split_shares_the_rows_out_and_keeps_their_order() -> None:
    train, held_out = split_rows(ROWS, 0.25, seed=0)
    assert len(held_out) == 10
    assert sorted(train + held_out, key=ROWS.index) == ROWS
    assert train == sorted(train, key=ROWS.index)
    assert (train, held_out) == split_rows(ROWS, 0.25, seed=0)
    assert held_out != split_rows(ROWS, 0.25, seed=1)[1]


@pytest.mark.parametrize(("fraction", "empty"), [(0.01, "validation"), (0.999, "training")])
def test_a_split_that_leaves_nothing_is_refused(fraction: float, empty: str) -> None:
    with pytest.raises(InputError) as refused:
        split_rows(ROWS, fraction, seed=0)
    message = f"spec.dataset.validation.fraction: {fraction} of 40 rows leaves no {empty} row; choose another fraction"
    assert str(refused.value) == message


def test_a_validation_set_of_its_own_leaves_the_training_set_whole(tmp_path: Path) -> None:
    for name, rows in (("rows", ROWS), ("held-out", ROWS[:3])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = spec_of(dataset={"train": {"source": "rows.jsonl"}, "validation": {"source": "held-out.jsonl"}})
    assert read_training_rows(spec, Resolver(base=tmp_path)) == (ROWS, ROWS[:3])


@pytest.mark.parametrize("name", ["training", "validation"])
def test_rows_all_over_the_limit_are_refused(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    long = [{"prompt": "9" * 60, "response": "1"}] * 3
    train, validation = (long, ROWS) if name == "training" else (ROWS, long)
    with pytest.raises(InputError) as refused:
        tokenize(train, validation, spec_of(training={"maxLength": 16}), tokenizer)
    message = f"spec.training.maxLength: no {name} row has anything left to learn from within 16 tokens; raise it"
    assert str(refused.value) == message


def test_the_summary_counts(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [{"prompt": "9" * 60, "response": "1"}, {"prompt": "1", "response": "9" * 60}, *ROWS]
    summary = data_of(rows, tokenizer).summary()
    assert (summary.train_rows, summary.dropped, summary.truncated, summary.longest) == (41, 1, 1, 16)
    assert (summary.validation_rows, summary.train_tokens > summary.learned_tokens > 41) == (1, True)


def test_the_digest_tells_other_data(tokenizer: PreTrainedTokenizerBase) -> None:
    digests = {
        data_of(ROWS, tokenizer).digest,
        data_of(ROWS[::-1], tokenizer).digest,
        data_of(ROWS[1:], tokenizer).digest,
        data_of([{"prompt": "0 ", "response": "1"}, *ROWS[1:]], tokenizer).digest,
    }
    assert len(digests) == 4
    assert data_of(ROWS, tokenizer, packing=False).digest in digests
