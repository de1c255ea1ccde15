"""What each export format costs and saves: `python -m tests.benchmarks.quantization --data shakespeare.txt`.

A Llama is trained from nothing three times, alike but for training.quantizationAware, and each model is exported; the
perplexities are those of the held-out rows. Prints the table of docs/export.md, then how far seeds alone move each way
of training.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from tunesmith.api.base import API_VERSION
from tunesmith.api.job import FineTuneJob
from tunesmith.api.pod import RunFolder
from tunesmith.cli.terminal import quiet_libraries
from tunesmith.export.formats import FORMATS, export_run
from tunesmith.export.measure import Measured, cells
from tunesmith.sources import Resolver

RUNS: dict[str | None, tuple[str, ...]] = {
    None: tuple(FORMATS),
    "int8": ("int8-dynamic",),
    "nf4": ("nf4",),
}
"""By training.quantizationAware: what is exported."""


def body_of(data: Path, aware: str | None, steps: int, seed: int = 0) -> dict[str, Any]:
    """The job."""
    return {
        "apiVersion": API_VERSION,
        "kind": "FineTuneJob",
        "metadata": {"name": aware or "plain"},
        "spec": {
            "model": {
                "config": {
                    "hiddenSize": 192,
                    "layers": 4,
                    "attentionHeads": 4,
                    "intermediateSize": 512,
                    "contextLength": 128,
                    "tokenizer": {"vocabularySize": 1024},
                }
            },
            "dataset": {"train": {"source": str(data)}, "validation": {"fraction": 0.05}},
            "objective": {"causalLM": {}},
            "method": {"full": {}},
            "training": {
                "maxSteps": steps,
                "batchSize": 16,
                "microBatchSize": 16,
                "maxLength": 128,
                "learningRate": 4e-3,
                "weightDecay": 0.1,
                "precision": "fp32",
                "checkpoint": {"everySteps": steps, "keep": 1},
                "quantizationAware": aware,
                "seed": seed,
            },
            "scaling": {"resources": {"cpu": 1}},
        },
    }


def train(body: dict[str, Any], folder: Path) -> tuple[float, float]:
    """Trains with the command line; returns the tokens per second of the middle of the run, and the last validation's
    perplexity, which is that of rounded values where it trained on them."""
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(body))
    run = [sys.executable, "-m", "tunesmith.cli.main", "run", "-f", str(file), "--output", str(folder)]
    subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    speeds = sorted(step["tokens_per_second"] for step in steps)
    return float(speeds[len(speeds) // 2]), math.exp(steps[-1]["validation/loss"])


def main() -> None:
    """Trains, exports, and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a text file")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=4, help="how many are trained each way")
    arguments = parser.parse_args()
    quiet_libraries()
    first: Measured | None = None
    print("| trained | format | bytes | perplexity | difference | tokens/s |\n|---|---|---|---|---|---|")
    speeds, perplexities = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        for aware, kinds in RUNS.items():
            root = Path(scratch) / (aware or "plain")
            body = body_of(arguments.data.absolute(), aware, arguments.steps)
            speeds[aware or "plain"], seen = train(body, root)
            perplexities[aware or "plain"] = [seen]
            spec = FineTuneJob.model_validate(body).spec
            for kind in kinds:
                done = export_run(spec, RunFolder(root), Resolver(), kind, Path(scratch) / f"{root.name}-{kind}")
                if first is None:
                    first = done.original
                    print(f"| plain | {' | '.join(cells(first, first))} |")
                elif kind == kinds[0]:
                    print(f"| {aware} | {' | '.join(cells(done.original, first))} |")
                print(f"| {aware or 'plain'} | {' | '.join(cells(done.exported, first))} |", flush=True)
        for seed in range(1, arguments.seeds):
            for aware in RUNS:
                body = body_of(arguments.data.absolute(), aware, arguments.steps, seed)
                _, seen = train(body, Path(scratch) / f"{aware or 'plain'}-{seed}")
                perplexities[aware or "plain"].append(seen)
    for name, seen_ in perplexities.items():
        print(f"{name}, perplexity by seed: {', '.join(f'{each:.3f}' for each in seen_)}")
    print("training, tokens/s: " + ", ".join(f"{name} {speed:,.0f}" for name, speed in speeds.items()))
    print(time.strftime("%Y-%m-%d"), file=sys.stderr)


if __name__ == "__main__":
    main()
