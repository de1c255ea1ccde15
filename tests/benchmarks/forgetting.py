"""What each method learns of a second task, what it forgets of the first, and how much of it there is to keep.

    python -m tests.benchmarks.forgetting [--folder DIR] [--only NAME ...]

A small Llama learns to add (the first job of manifests/samples/arithmetic.yaml), then to subtract, with each method.
Exact match and perplexity are on 500 held-out problems of each task. The state is what a training step needs beside the
model: the trained weights' gradients and AdamW's two moments, and the starting weights for l2Pull, in fp32. The file is
the model or the adapter that is written. With --folder, what was trained there before is not trained again.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.arithmetic import RESOLVER, addition_job, exact_match, perplexity, subtraction_job
from tunesmith.api.job import FineTuneJob
from tunesmith.api.pod import RunFolder
from tunesmith.launch.folder import open_folder
from tunesmith.launch.run import train_here
from tunesmith.models.load import ModelLocation, load_model

EPOCHS = 12
METHODS: dict[str, tuple[dict[str, Any], float]] = {
    "full": ({"full": {}}, 1e-3),
    "full, l2Pull 0.01": ({"full": {"l2Pull": 0.01}}, 1e-3),
    "full, l2Pull 0.1": ({"full": {"l2Pull": 0.1}}, 1e-3),
    "full, l2Pull 0.3": ({"full": {"l2Pull": 0.3}}, 1e-3),
    "full, l2Pull 1": ({"full": {"l2Pull": 1.0}}, 1e-3),
    "lora": ({"lora": {"rank": 8, "alpha": 16}}, 5e-3),
    "lora, dora": ({"lora": {"rank": 8, "alpha": 16, "dora": True}}, 5e-3),
    "adalora": ({"adalora": {"initialRank": 12, "targetRank": 8, "alpha": 96}}, 5e-3),
    "prefix": ({"prefix": {"tokens": 16}}, 3e-2),
    "prefix, projection": ({"prefix": {"tokens": 16, "projection": 128}}, 1e-2),
    "ptuning, mlp": ({"ptuning": {"tokens": 16}}, 1e-2),
    "ptuning, lstm": ({"ptuning": {"tokens": 16, "encoder": "lstm"}}, 1e-2),
}
"""Each with a learning rate that suits it."""


def train(job: FineTuneJob, folder: Path) -> None:
    """Trains a job, unless that has been done."""
    run = RunFolder(folder)
    if run.model.exists():
        return
    with open_folder(run, job):
        outcome = train_here(job, run, RESOLVER, print)
    if outcome.reason != "Succeeded":
        raise SystemExit(outcome.message)


def measure(name: str, folder: Path) -> str:
    """Trains with one method and measures the result; a row of the table."""
    base = folder / "addition" / "model"
    method, rate = METHODS[name]
    run = folder / name.replace(", ", "-").replace(" ", "-")
    train(subtraction_job(base, method, EPOCHS, rate), run)
    model = load_model(ModelLocation(str(run / "model")), torch.float32)
    trained = json.loads((run / "data.json").read_text())["trainable_parameters"]
    copies = 4 if method.get("full", {}).get("l2Pull") else 3
    size = sum(file.stat().st_size for file in (run / "model").glob("*.safetensors"))
    state = copies * 4 * trained / 2**20
    return f"| {name} | {trained:,} | {state:.2f} | {size / 2**20:.2f} | {scores(model, base)} |"


def scores(model: Any, base: Path) -> str:
    """Exact match and perplexity on both tasks; four cells."""
    return " | ".join(
        f"{exact_match(model, base, task):.3f} | {perplexity(model, base, task):.3g}"
        for task in ("addition", "subtraction")
    )


def base_scores(folder: Path) -> str:
    """Trains the base, and measures it on both tasks."""
    train(addition_job(), folder / "addition")
    base = folder / "addition" / "model"
    return scores(load_model(ModelLocation(str(base)), torch.float32), base)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.folder or Path(scratch)).absolute()
        before = base_scores(folder)
        columns = "addition | perplexity | subtraction | perplexity"
        print(f"| method | trained weights | state, MiB | file, MiB | {columns} |\n|{'---|' * 8}")
        print(f"| before | | | | {before} |", flush=True)
        for name in arguments.only:
            print(measure(name, folder), flush=True)


if __name__ == "__main__":
    main()
