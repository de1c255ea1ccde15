"""What the evaluation would refuse of its test rows is refused before the training."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.data.specs import spec_of
from tunesmith.api.load import InputError
from tunesmith.data.parts import RunRows
from tunesmith.evaluation.ahead import check_test_rows
from tunesmith.sources import Resolver


def check(folder: Path, answers: int, **evaluation: Any) -> None:
    rows = ({"prompt": "1", "response": f"text {row}"} for row in range(answers))
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = {"train": {"source": "rows.jsonl"}, "test": {"source": "test.jsonl"}}
    spec = spec_of(dataset=dataset, evaluation=evaluation)
    check_test_rows(RunRows(spec, Resolver(base=folder)))


@pytest.mark.parametrize("metric", ["accuracy", "macroF1", "microF1"])
def test_texts_are_no_classes(metric: str, tmp_path: Path) -> None:
    check(tmp_path, 100, metrics=[metric])
    check(tmp_path, 101, metrics=["exactMatch"])
    with pytest.raises(InputError, match=r"^spec\.evaluation\.metrics: .* of which the test set has 101 "):
        check(tmp_path, 101, metrics=["exactMatch", metric])


def test_a_column_of_domains_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^spec\.evaluation\.domainColumn: row 1 of .* has no column 'topic'"):
        check(tmp_path, 3, metrics=["loss"], domainColumn="topic")
