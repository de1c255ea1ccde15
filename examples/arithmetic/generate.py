"""Writes the arithmetic task beside this file: additions for a first job, subtractions for a second one.

Every problem stands in one file only, with its right answer; the same seed writes the same files.
"""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

Problem = dict[str, str]

TEST_ROWS = 500


def problems(symbol: str, answer: Callable[[int, int], int]) -> list[Problem]:
    """Every problem with two numbers below 100 whose answer is not negative."""
    pairs = [(a, b) for a in range(100) for b in range(100) if answer(a, b) >= 0]
    return [{"prompt": f"{a} {symbol} {b} =", "response": str(answer(a, b))} for a, b in pairs]


def write(path: Path, rows: Sequence[Problem]) -> None:
    """Writes rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main(folder: Path) -> None:
    """Writes addition.* and subtraction.*, each a train and a test file."""
    shuffle = random.Random(0).shuffle
    for name, rows in (
        ("addition", problems("+", lambda a, b: a + b)),
        ("subtraction", problems("-", lambda a, b: a - b)),
    ):
        shuffle(rows)
        write(folder / f"{name}.test.jsonl", rows[:TEST_ROWS])
        write(folder / f"{name}.train.jsonl", rows[TEST_ROWS:])


if __name__ == "__main__":
    main(Path(__file__).parent)
