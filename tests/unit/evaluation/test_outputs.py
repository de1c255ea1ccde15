"""What is kept of outputs, whoever is killed in the middle."""

from pathlib import Path

import numpy as np
import pytest

from tunesmith.evaluation.outputs import OutputFile, delete_others
from tunesmith.evaluation.work import digest


def test_outputs_come_back_as_they_were(tmp_path: Path) -> None:
    file = OutputFile(tmp_path / "outputs" / "answers.jsonl")
    assert file.read() == {}
    batches: list[dict[int, object]] = [{3: [[5, 6], None], 0: [[], 2]}, {1: 0.1 + 0.2}, {2: float("inf")}]
    for batch in batches:
        file.append(batch)
    assert file.read() == {3: [[5, 6], None], 0: [[], 2], 1: 0.1 + 0.2, 2: float("inf")}


@pytest.mark.parametrize("cut", [1, 5, 8])
def test_a_torn_last_line_is_cut_off_and_the_file_goes_on(cut: int, tmp_path: Path) -> None:
    file = OutputFile(tmp_path / "answers.jsonl")
    file.append({0: 1.5})
    file.append({1: 2.5})
    file.path.write_bytes(file.path.read_bytes()[:-cut])
    assert file.read() == {0: 1.5}
    file.append({1: 3.5})
    assert file.read() == {0: 1.5, 1: 3.5}


def test_what_outputs_follow_from_tells_them_apart() -> None:
    facts = ["answers", [[1, 2], [3]], 20, np.array([1, 2])]
    assert digest(*facts) == digest(*facts)
    others = [
        ["answers", [[1], [2, 3]], 20, np.array([1, 2])],
        ["answers", [[1, 2], [3]], 20, np.array([1, 2], np.int32)],
    ]
    others += [["answers", [[1, 2], [3]], 21, np.array([1, 2])], ["answers", [[1, 2], [3]], 20, np.array([2, 1])]]
    assert len({digest(*facts), *(digest(*other) for other in others)}) == 5


def test_files_of_earlier_settings_go(tmp_path: Path) -> None:
    used, old = tmp_path / "tuned-answers-1.jsonl", tmp_path / "tuned-answers-2.jsonl"
    used.touch()
    old.touch()
    delete_others(tmp_path, {used})
    assert used.exists() and not old.exists()
