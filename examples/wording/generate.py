"""Writes small stories with a sum in them beside this file, each two sentences and a question.

No story stands both in the training and in the test file, but sums do; the same seed writes the same files.
"""

import json
import random
from pathlib import Path

TEST_ROWS, TRAIN_ROWS = 200, 4000
NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Felix")
THINGS = ("apples", "books", "coins", "stones", "stamps", "shells")
LARGEST = 12


def story(draw: random.Random) -> dict[str, str]:
    """A row: prompt and response."""
    name, thing = draw.choice(NAMES), draw.choice(THINGS)
    first, second = draw.randint(1, LARGEST), draw.randint(1, LARGEST)
    text = f"{name} has {first} {thing}. Later {name} finds {second} more. How many {thing} are there now?"
    return {"prompt": text, "response": str(first + second)}


def main(folder: Path) -> None:
    """Writes train.jsonl and test.jsonl."""
    draw = random.Random(0)
    rows: dict[str, dict[str, str]] = {}
    while len(rows) < TEST_ROWS + TRAIN_ROWS:
        row = story(draw)
        rows[row["prompt"]] = row
    every = list(rows.values())
    for name, part in (("test", every[:TEST_ROWS]), ("train", every[TEST_ROWS:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")


if __name__ == "__main__":
    main(Path(__file__).parent)
