"""metrics.jsonl as trackers read it."""

from pathlib import Path

from tunesmith.tracking.records import Records, figures_of, steps_after


def lines(*steps: int) -> str:
    return "".join(f'{{"step": {step}, "time": 1.5, "loss": {step}.25}}\n' for step in steps)


def steps(records: Records, most: int = 100) -> list[int]:
    found = [record["step"] for record in records.peek(most)]
    records.advance()
    return found


def test_lines_come_once_and_only_whole(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    records = Records(file)
    assert steps(records) == [], "there is no file yet"
    file.write_text(lines(1, 2) + '{"step": 3, "lo')
    assert steps(records) == [1, 2]
    with file.open("a") as more:
        more.write('ss": 0.5}\n' + lines(4))
    assert steps(records, most=1) == [3]
    assert steps(records) == [4]
    assert steps(records) == []


def test_what_could_not_be_sent_comes_again(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(lines(1, 2))
    records = Records(file)
    assert records.peek(10) == records.peek(10)


def test_a_file_that_a_resumed_run_replaced_is_read_again(tmp_path: Path) -> None:
    """As `forget_after` does it."""
    file = tmp_path / "metrics.jsonl"
    file.write_text(lines(1, 2, 3, 4))
    records = Records(file)
    assert steps(records) == [1, 2, 3, 4]
    partial = tmp_path / "partial"
    partial.write_text(lines(1, 2))
    partial.replace(file)
    with file.open("a") as more:
        more.write(lines(3, 4, 5, 6))
    assert steps(records) == [1, 2, 3, 4, 5, 6]


def test_a_line_that_a_kill_cut_off_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(lines(1) + '{"step": 2, "lo\n' + lines(3))
    assert steps(Records(file)) == [1, 3]
    assert steps_after(file, 1) == 1


def test_a_steps_figures_are_numbers(tmp_path: Path) -> None:
    assert figures_of({"step": 3, "time": 1.5, "loss": 2, "validation/loss": 0.5}) == {
        "loss": 2.0,
        "validation/loss": 0.5,
    }
