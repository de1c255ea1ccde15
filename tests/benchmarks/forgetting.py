"""What each method learns of a second task, and what it forgets of the first; its weights, time and memory.

    python -m tests.benchmarks.forgetting [--folder DIR] [--only NAME ...]

A small Llama learns to add (the first job of manifests/samples/arithmetic.yaml), then to subtract, with each method
in a process of its own. Exact match is on 500 held-out problems of each task. Memory is the highest of the process.
With --folder, what was trained there before is not trained again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.arithmetic import RESOLVER, addition_job, exact_match, subtraction_job

EPOCHS = 4
METHODS: dict[str, tuple[dict[str, Any], float]] = {
    "full": ({"full": {}}, 5e-4),
    "full, l2Pull 0.01": ({"full": {"l2Pull": 0.01}}, 5e-4),
    "full, l2Pull 0.1": ({"full": {"l2Pull": 0.1}}, 5e-4),
    "full, l2Pull 1": ({"full": {"l2Pull": 1.0}}, 5e-4),
    "lora": ({"lora": {"rank": 8, "alpha": 16}}, 2e-3),
    "lora, dora": ({"lora": {"rank": 8, "alpha": 16, "dora": True}}, 2e-3),
    "adalora": ({"adalora": {"initialRank": 12, "targetRank": 8, "alpha": 64}}, 5e-3),
    "prefix": ({"prefix": {"tokens": 16}}, 3e-2),
    "prefix, projection": ({"prefix": {"tokens": 16, "projection": 128}}, 3e-3),
    "ptuning, mlp": ({"ptuning": {"tokens": 16}}, 3e-3),
    "ptuning, lstm": ({"ptuning": {"tokens": 16, "encoder": "lstm"}}, 3e-3),
}
"""Each with a learning rate that suits it."""


def train(job: Any, folder: Path) -> None:
    """Trains a job, unless that has been done."""
    from tunesmith.api.pod import RunFolder
    from tunesmith.launch.folder import open_folder
    from tunesmith.launch.run import train_here

    run = RunFolder(folder)
    if run.model.exists():
        return
    with open_folder(run, job):
        outcome = train_here(job, run, RESOLVER, print)
    if outcome.reason != "Succeeded":
        raise SystemExit(outcome.message)


def measure(name: str, folder: Path) -> dict[str, float]:
    """Trains with one method, in this process, and measures the result."""
    from tunesmith.models.load import ModelLocation, load_model
    from tunesmith.training.telemetry import peak_memory

    base = folder / "addition" / "model"
    method, rate = METHODS[name]
    run = folder / name.replace(", ", "-").replace(" ", "-")
    started = time.perf_counter()
    train(subtraction_job(base, method, EPOCHS, rate), run)
    seconds, memory = time.perf_counter() - started, peak_memory()
    model = load_model(ModelLocation(str(run / "model")), torch.float32)
    summary = json.loads((run / "data.json").read_text())
    return {
        "addition": exact_match(model, base, "addition"),
        "subtraction": exact_match(model, base, "subtraction"),
        "parameters": summary["trainable_parameters"],
        "seconds": seconds,
        "memory": memory / 2**20,
    }


def base_scores(folder: Path) -> tuple[float, float]:
    """Trains the base, and measures it on both tasks."""
    from tunesmith.models.load import ModelLocation, load_model

    train(addition_job(), folder / "addition")
    base = folder / "addition" / "model"
    model = load_model(ModelLocation(str(base)), torch.float32)
    return exact_match(model, base, "addition"), exact_match(model, base, "subtraction")


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.folder or Path(scratch)).absolute()
        addition, subtraction = base_scores(folder)
        print("| method | trained weights | addition | subtraction | seconds | MiB |\n|---|---|---|---|---|---|")
        print(f"| before | | {addition:.3f} | {subtraction:.3f} | | |", flush=True)
        for name in arguments.only:
            command = [sys.executable, "-m", "tests.benchmarks.forgetting", "--measure", name, "--folder", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
            r = json.loads(done.stdout.strip().splitlines()[-1])
            figures = f"{r['addition']:.3f} | {r['subtraction']:.3f} | {r['seconds']:.0f} | {r['memory']:.0f}"
            print(f"| {name} | {r['parameters']:,} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
