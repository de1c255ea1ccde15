"""Writes a text-to-text task beside this file: one model sorts letters forwards and backwards, told apart by a prefix.

No word stands both in the training and in the test file; the same seed writes the same files.
"""

import json
import random
from pathlib import Path

TRAIN_ROWS, TEST_ROWS = 10_000, 500
LETTERS = "abcdefghijklmnop"
SHORTEST, LONGEST = 3, 8
"""Letters of a word, each of which is in it once."""
TASKS = ("sort", "sort backwards")


def main(folder: Path) -> None:
    """Writes train.jsonl and test.jsonl."""
    draw = random.Random(0)
    words: dict[str, None] = {}
    while len(words) < TRAIN_ROWS + TEST_ROWS:
        words["".join(draw.sample(LETTERS, draw.randint(SHORTEST, LONGEST)))] = None
    rows = []
    for word in words:
        task = draw.choice(TASKS)
        answer = "".join(sorted(word, reverse=task == "sort backwards"))
        rows.append(json.dumps({"task": task, "prompt": word, "response": answer}) + "\n")
    (folder / "test.jsonl").write_text("".join(rows[:TEST_ROWS]), encoding="utf-8")
    (folder / "train.jsonl").write_text("".join(rows[TEST_ROWS:]), encoding="utf-8")


if __name__ == "__main__":
    main(Path(__file__).parent)
