"""The jobs that are trained here: a tiny Llama learns sums of one to six numbers, so that rows differ in length."""

import json
import random
from pathlib import Path
from typing import Any

from tunesmith.api.base import API_VERSION
from tunesmith.api.job import FineTuneJob

ROWS = 90
"""A tenth is validated on; of the 81 others, five steps of 16 leave one row for the sixth."""
STEPS = 12
"""Two epochs."""
SAVE_EVERY = 4

Parts = dict[str, Any]


def write_rows(file: Path, rows: int = ROWS, seed: int = 0) -> None:
    """Writes sums and their results as JSONL."""
    draw = random.Random(seed)
    with file.open("w") as lines:
        for _ in range(rows):
            numbers = [draw.randrange(100) for _ in range(draw.choice((1, 2, 2, 2, 3, 6)))]
            row = {"prompt": " + ".join(map(str, numbers)) + " =", "response": str(sum(numbers))}
            lines.write(json.dumps(row) + "\n")


def job_of(
    rows: Path,
    *,
    base: Path | None = None,
    lora: Parts | None = None,
    method: Parts | None = None,
    quantization: Parts | None = None,
    scaling: Parts | None = None,
    **training: Any,
) -> FineTuneJob:
    """A job: from scratch, or tuning the model in the folder `base`; in full, or with adapters."""
    body = body_of(rows, base=base, lora=lora, method=method, quantization=quantization, scaling=scaling, **training)
    return FineTuneJob.model_validate(body)


def body_of(
    rows: Path,
    *,
    base: Path | None = None,
    lora: Parts | None = None,
    method: Parts | None = None,
    quantization: Parts | None = None,
    scaling: Parts | None = None,
    **training: Any,
) -> Parts:
    """The same as data, for a file."""
    new = {
        "hiddenSize": 32,
        "layers": 2,
        "attentionHeads": 4,
        "keyValueHeads": 2,
        "intermediateSize": 64,
        "contextLength": 64,
        "tokenizer": {"vocabularySize": 280},
    }
    defaults = {
        "epochs": 2,
        "batchSize": 16,
        "microBatchSize": 8,
        "maxLength": 48,
        "precision": "fp32",
        "learningRate": 2e-3,
        "checkpoint": {"everySteps": SAVE_EVERY, "keep": 10},
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "FineTuneJob",
        "metadata": {"name": "sums"},
        "spec": {
            "model": {"config": new} if base is None else {"source": str(base), "quantization": quantization},
            "dataset": {"train": {"source": str(rows)}, "validation": {"fraction": 0.1}},
            "objective": {"instruction": {"template": "{prompt} {response}"}},
            "method": method or ({"full": {}} if lora is None else {"lora": lora}),
            "training": defaults | training,
            "scaling": {"resources": {"cpu": 1}} | (scaling or {}),
        },
    }
