"""The rows of a run: split, deduplicated, tokenized once to a disk, and found there again."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from tests.unit.data.specs import spec_of, tokenizer_of
from tunesmith.api.load import InputError
from tunesmith.data import prepare
from tunesmith.data.encode import encode
from tunesmith.data.parts import RunRows
from tunesmith.data.prepare import TrainingData, prepare_data
from tunesmith.data.rows import Row
from tunesmith.data.tokenized import TokenizedRows
from tunesmith.sources import Resolver

ROWS: list[Row] = [{"prompt": str(i), "response": str(i + 1)} for i in range(40)]
TRAIN = {"train": {"source": "rows.jsonl"}}
OWN = TRAIN | {"validation": {"source": "held-out.jsonl"}}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return tokenizer_of(["0123456789"])


Made = Callable[..., TrainingData]


@pytest.fixture
def made(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> Made:
    """Prepares rows that are written to files of these names first."""

    def make(dataset: dict[str, Any] = TRAIN, limit: int = 16, first: bool = True, **files: list[Row]) -> TrainingData:
        for name, rows in ({"rows": ROWS} | files).items():
            text = "".join(json.dumps(row) + "\n" for row in rows)
            file = tmp_path / f"{name.replace('_', '-')}.jsonl"
            if not file.exists() or file.read_text() != text:
                file.write_text(text)
        spec = spec_of(dataset=dataset, training={"maxLength": limit})
        return prepare_data(RunRows(spec, Resolver(base=tmp_path)), tokenizer, tmp_path / "tokens", first)

    return make


def texts(data: TokenizedRows | None, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    assert data is not None
    return [tokenizer.decode(data.row(i)[0]).removesuffix("<|endoftext|>") for i in range(len(data))]


def as_texts(rows: list[Row]) -> list[str]:
    return [f"{row['prompt']} {row['response']}" for row in rows]


def test_what_is_on_the_disk_is_what_encoding_gives(
    made: Made, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the rows are cut for the tokenizer."""
    whole = encode(ROWS, spec_of(training={"maxLength": 16}), tokenizer)
    digests = set()
    for chunk in (1, 7, 1000):
        monkeypatch.setattr(prepare, "CHUNK_ROWS", chunk)
        shutil.rmtree(tmp_path / "tokens", ignore_errors=True)
        data = made()
        for name in ("tokens", "learned", "offsets", "targets", "lengths"):
            assert getattr(data.train, name).tolist() == getattr(whole, name).tolist(), name
        digests.add(data.digest)
    assert len(digests) == 1


def test_a_share_is_set_aside_and_both_parts_keep_their_order(made: Made, tokenizer: PreTrainedTokenizerBase) -> None:
    data = made(TRAIN | {"validation": {"fraction": 0.25}})
    train, held = texts(data.train, tokenizer), texts(data.validation, tokenizer)
    assert (len(train), len(held)) == (30, 10)
    assert sorted(train + held) == sorted(as_texts(ROWS))
    assert train == sorted(train, key=as_texts(ROWS).index)


def test_a_validation_set_of_its_own_leaves_the_training_set_whole(
    made: Made, tokenizer: PreTrainedTokenizerBase
) -> None:
    others: list[Row] = [{"prompt": "7", "response": "77"}]
    data = made(OWN, held_out=others)
    assert texts(data.train, tokenizer) == as_texts(ROWS)
    assert texts(data.validation, tokenizer) == as_texts(others)


def test_training_rows_that_are_tested_with_are_left_out_and_counted(
    made: Made, tokenizer: PreTrainedTokenizerBase
) -> None:
    dataset = OWN | {"test": {"source": "test.jsonl"}}
    files = {"held_out": ROWS[3:5], "test": [*ROWS[10:12], {"prompt": "new", "response": "row"}]}
    data = made(dataset, **files)
    assert texts(data.train, tokenizer) == as_texts(ROWS[:3] + ROWS[5:10] + ROWS[12:])
    assert (data.summary.overlapping, data.summary.test_rows) == (4, 3)
    (warning,) = data.summary.warnings
    assert warning == "4 training rows stand in the validation or test rows too: left out of the training"

    kept = made(dataset | {"deduplicate": False}, **files)
    assert texts(kept.train, tokenizer) == as_texts(ROWS)
    (warning,) = kept.summary.warnings
    assert warning == (
        "4 training rows stand in the validation or test rows too, and flatter both: leave them out with "
        "dataset.deduplicate"
    )


def test_a_row_that_stands_on_both_sides_of_a_split_is_only_validated_on(
    made: Made, tokenizer: PreTrainedTokenizerBase
) -> None:
    data = made(TRAIN | {"validation": {"fraction": 0.25}}, rows=ROWS * 2)
    train, held = texts(data.train, tokenizer), texts(data.validation, tokenizer)
    assert len(held) == 20
    assert not set(train) & set(held)
    assert len(train) + data.summary.overlapping == 60


def test_a_set_that_is_all_tested_with_is_refused(made: Made) -> None:
    with pytest.raises(InputError) as refused:
        made(TRAIN | {"test": {"source": "rows.jsonl"}})
    message = "every row of it stands in the validation or test rows too: nothing is left to learn from"
    assert str(refused.value) == f"spec.dataset.train: {message}"


def test_test_rows_that_cannot_be_read_are_an_error_before_training(made: Made) -> None:
    with pytest.raises(InputError, match=r"^spec\.dataset\.test\.source: .*test\.jsonl does not exist$"):
        made(TRAIN | {"test": {"source": "test.jsonl"}})


@pytest.mark.parametrize("name", ["training", "validation"])
def test_rows_all_over_the_limit_are_refused(name: str, made: Made) -> None:
    long = [{"prompt": "9" * 60, "response": "1"}] * 3
    files = {"rows": long} if name == "training" else {"held_out": long}
    with pytest.raises(InputError) as refused:
        made(OWN, **({"held_out": ROWS[:2]} | files))
    message = f"spec.training.maxLength: no {name} row has anything left to learn from within 16 tokens; raise it"
    assert str(refused.value) == message


def test_the_summary_counts(made: Made) -> None:
    odd = [{"prompt": "9" * 60, "response": "1"}, {"prompt": "1", "response": "9" * 60}]
    summary = made(OWN, rows=[*odd, *ROWS, ROWS[0]], held_out=[{"prompt": "8", "response": "88"}]).summary
    assert (summary.train_rows, summary.dropped, summary.truncated, summary.repeated) == (42, 1, 1, 1)
    assert (summary.validation_rows, summary.train_tokens > summary.learned_tokens > 42) == (1, True)
    assert (summary.lengths.shortest, summary.lengths.longest) == (4, 16)
    assert sum(summary.lengths.counts) == 42
    assert summary.lengths.counts[-1] == 1


def test_a_mixture_is_its_sets_one_after_the_other(made: Made, tokenizer: PreTrainedTokenizerBase) -> None:
    sets = [{"source": "few.jsonl", "weight": 3}, {"source": "rows.jsonl", "weight": 1}]
    few: list[Row] = [{"prompt": "few", "response": str(i)} for i in range(4)]
    data = made({"train": {"mixture": sets}, "validation": {"fraction": 0.25}}, few=few)
    held = texts(data.validation, tokenizer)
    assert len(held) == 11
    assert texts(data.train, tokenizer) == [text for text in as_texts(few + ROWS) if text not in held]
    assert (sum(data.sets), data.weights) == (33, (3, 1))
    assert data.sets[0] == sum(text.startswith("few") for text in texts(data.train, tokenizer))
    assert [(part.source, part.drawn) for part in data.summary.sets] == [("few.jsonl", 25), ("rows.jsonl", 8)]


FEW = {"train": {"mixture": [{"source": name, "weight": 1} for name in ("rows.jsonl", "few.jsonl")]}}


@pytest.mark.parametrize(
    ("dataset", "place"),
    [
        (FEW, "spec.dataset.train.mixture[1]"),
        (FEW | {"validation": {"fraction": 0.5}}, "spec.dataset.train.mixture[1]"),
        (TRAIN | {"validation": {"source": "few.jsonl"}}, "spec.dataset.validation"),
        (TRAIN | {"test": {"source": "few.jsonl"}}, "spec.dataset.test"),
    ],
)
def test_of_several_sets_the_one_with_something_wrong_is_named(dataset: dict[str, Any], place: str, made: Made) -> None:
    with pytest.raises(InputError) as error:
        made(dataset, few=[{"prompt": "1", "answer": "2"}] * 4)
    wrong = "spec.dataset.columns: there is no column 'response' for {response}; the data has: answer, prompt"
    assert str(error.value) == f"{wrong} (in the rows of {place}, few.jsonl)"


def test_a_single_set_is_not_named(made: Made) -> None:
    with pytest.raises(InputError, match=r"the data has: prompt$"):
        made(rows=[{"prompt": "1"}])


def test_the_digest_tells_other_data(made: Made) -> None:
    different: list[list[Row]] = [ROWS, ROWS[::-1], ROWS[1:], [{"prompt": "0 ", "response": "1"}, *ROWS[1:]]]
    assert len({made(rows=rows).digest for rows in different}) == 4
    assert made(rows=ROWS).digest == made(rows=ROWS, dataset=OWN, held_out=[{"prompt": "a", "response": "b"}]).digest


def inode(folder: Path) -> int:
    return (folder / "tokens" / "train" / "tokens").stat().st_ino


def test_rows_are_tokenized_once(made: Made, tmp_path: Path) -> None:
    before = made(), inode(tmp_path)
    again = made(), inode(tmp_path)
    assert again[1] == before[1]
    assert again[0].digest == before[0].digest
    assert again[0].summary == before[0].summary
    assert made(first=False).train.tokens.tolist() == before[0].train.tokens.tolist()


@pytest.mark.parametrize("change", ["rows", "limit", "dataset", "time"])
def test_a_cache_of_something_else_is_made_anew(change: str, made: Made, tmp_path: Path) -> None:
    made()
    before = inode(tmp_path)
    match change:
        case "rows":
            assert len(made(rows=ROWS[:20]).train) == 20
        case "limit":
            assert made(limit=5).summary.truncated > 0
        case "dataset":
            assert made(TRAIN | {"validation": {"fraction": 0.1}}).validation is not None
        case _:
            os.utime(tmp_path / "rows.jsonl", ns=(1, 1))
            made()
    assert inode(tmp_path) != before


def test_of_a_cache_that_could_not_be_finished_nothing_is_left(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(made().train.tokens.tolist())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tunesmith.data.cache.RowWriter.write", full)
    with pytest.raises(OSError, match="No space left"):
        made(limit=8)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["tokens"]
    assert sorted(made().train.tokens.tolist()) == before, "the one from before is whole"


def test_a_request_to_stop_is_heeded_between_chunks(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, made: Made
) -> None:
    made()

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rows = RunRows(spec_of(training={"maxLength": 9}), Resolver(base=tmp_path))
        prepare_data(rows, tokenizer, tmp_path / "other", between=stop)
    assert not (tmp_path / "other").exists()
