"""Writes small conversations beside this file: the system message says by how much to count, the user where to start,
and each turn of the assistant goes on from the one before.

No start stands with the same step both in the training and in the test file; the same seed writes the same files.
"""

import json
import random
from pathlib import Path

TEST_ROWS = 200
STEPS, STARTS, TURNS = range(1, 10), range(300), 4
"""By how much is counted, from where, and how often at most."""

Message = dict[str, str]


def conversation(step: int, start: int, turns: int) -> list[Message]:
    """The messages of one conversation."""
    messages = [{"role": "system", "content": f"Count by {step}."}]
    for turn in range(turns):
        messages.append({"role": "user", "content": f"Start at {start}." if turn == 0 else "Next."})
        messages.append({"role": "assistant", "content": str(start + step * (turn + 1))})
    return messages


def main(folder: Path) -> None:
    """Writes train.jsonl and test.jsonl."""
    draw = random.Random(0)
    pairs = [(step, start) for step in STEPS for start in STARTS]
    draw.shuffle(pairs)
    for name, part in (("test", pairs[:TEST_ROWS]), ("train", pairs[TEST_ROWS:])):
        rows = [{"messages": conversation(step, start, draw.randint(2, TURNS))} for step, start in part]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main(Path(__file__).parent)
