"""Writes the data of the RLHF sample: demonstrations of addition, of which many forget the carry, and preferences.

    python examples/rlhf/generate.py

Whoever wrote the demonstrations forgot the carry in 6 of 10 sums that have one; so a model that imitates them well adds
badly. But shown two answers, people see which one is right. No prompt of one file stands in another, except that the
policy practises on those of the demonstrations too.
"""

import json
import random
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
FORGETFUL = 0.6
PREFERENCES, TEST = 2400, 600


def forgets_the_carry(a: int, b: int) -> int:
    """The sum of two numbers of two digits without what is carried from the ones to the tens."""
    return (a // 10 + b // 10) * 10 + (a % 10 + b % 10) % 10


def mistakes_the_carry(a: int, b: int) -> int:
    """The sum without the carry, or with one where there is nothing to carry."""
    return a + b - 10 if a % 10 + b % 10 >= 10 else a + b + 10


def write(name: str, rows: Iterable[dict[str, str]]) -> None:
    """Writes rows as JSONL."""
    (HERE / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    """Writes all files."""
    draw = random.Random(0)
    sums = [(a, b) for a in range(10, 100) for b in range(10, 100)]
    draw.shuffle(sums)
    test, preferences, others = sums[:TEST], sums[TEST : TEST + PREFERENCES], sums[TEST + PREFERENCES :]

    def prompt(a: int, b: int) -> str:
        return f"{a} + {b} ="

    def right(pairs: Iterable[tuple[int, int]]) -> list[dict[str, str]]:
        return [{"prompt": prompt(a, b), "response": str(a + b)} for a, b in pairs]

    demonstrations = []
    for a, b in others:
        answer = forgets_the_carry(a, b) if draw.random() < FORGETFUL else a + b
        demonstrations.append({"prompt": prompt(a, b), "response": str(answer)})
    pairs = [
        {"prompt": prompt(a, b), "chosen": str(a + b), "rejected": str(mistakes_the_carry(a, b))}
        for a, b in preferences
    ]
    write("demonstrations.jsonl", demonstrations)
    write("preferences.jsonl", pairs)
    write("prompts.jsonl", right(others))
    write("test.jsonl", right(test))


if __name__ == "__main__":
    main()
