"""The reward models that are trained here: on sums with two answers each, of which the right one is preferred."""

import json
import random
from pathlib import Path
from typing import Any

from tests.model.jobs import body_of
from tunesmith.api.job import FineTuneJob

Parts = dict[str, Any]

PAIRS = 90
"""As many as `jobs.ROWS`: the last step of an epoch has one or so."""


def write_pairs(file: Path, pairs: int = PAIRS, seed: int = 0) -> None:
    """Two or three pairs a prompt, of different lengths; every answer that is preferred ends in "!"."""
    draw = random.Random(seed)
    with file.open("w") as lines:
        prompt = ""
        for number in range(pairs):
            if number % 3 != 2 or not prompt:
                numbers = [draw.randrange(100) for _ in range(draw.choice((1, 2, 3, 6)))]
                prompt = " + ".join(map(str, numbers)) + " ="
            right, wrong = draw.randrange(1000), draw.randrange(10_000)
            row = {"prompt": prompt, "chosen": f"{right}!", "rejected": f"{wrong}", "strength": draw.choice((0, 1, 2))}
            lines.write(json.dumps(row) + "\n")


def reward_body(rows: Path, base: Path, reward: Parts | None = None, **rest: Any) -> Parts:
    """A job that trains a reward model on the base; everything else as in `jobs.body_of`."""
    columns = rest.pop("columns", {})
    body = body_of(rows, base=base, **({"learningRate": 3e-3} | rest))
    settings = {"template": "{prompt} {response}", "centringPrompts": 16, "centringTokens": 8}
    body["spec"]["objective"] = {"reward": settings | (reward or {})}
    body["spec"]["dataset"] |= {"columns": columns, "validation": {"fraction": 0.2}}
    return body


def reward_job(rows: Path, base: Path, **rest: Any) -> FineTuneJob:
    return FineTuneJob.model_validate(reward_body(rows, base, **rest))
