"""Tokens per second and peak memory of supervised fine-tuning, side by side with TRL's SFTTrainer.

    python -m tests.benchmarks.sft [--data FILE.jsonl] [--rounds 3] [--steps 6] [--precision fp32 bf16]

Without data the rows are made up, one in nine of them long. All train the same new Llama of 17M parameters on the same
rows, with the same effective batch, precision, optimizer and loss (on the answer only), each in a process of its own,
alternately. Tokens are real ones: padding does not count. TRL runs in each of its layouts (padded by similar lengths,
packed, padding-free); the fastest is what we are held to. A loop of bare PyTorch is the floor. The utilisation is that
of the matrix products executed, against a large one measured in the same process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks import sft_contenders

TRL_LAYOUTS = ("trl-padded", "trl-packed", "trl-padding-free")


def synthetic_rows(count: int) -> list[dict[str, str]]:
    """Questions and answers of skewed lengths, for where no data is given; none is cut off."""
    rows = []
    for i in range(count):
        words = 4 + (i * 7919) % 24 + (90 if i % 9 == 0 else 0)
        rows.append(
            {"question": " ".join(f"item{(i + j) % 997}" for j in range(words)), "answer": f"the count is {words}"}
        )
    return rows


def measure(contender: str, data: Path, precision: str, steps: int) -> dict[str, float]:
    """Runs one contender in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.sft_contenders", contender, str(data), precision, str(steps)]
    environment = os.environ | {"TRL_EXPERIMENTAL_SILENCE": "1", "DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{contender} failed:\n{done.stderr[-3000:]}")
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def main() -> None:
    """Prints a table for each precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, help="JSONL with question and answer (default: made up, of skewed lengths)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data
        if data is None:
            data = Path(folder) / "rows.jsonl"
            data.write_text("".join(json.dumps(row) + "\n" for row in synthetic_rows(2000)), encoding="utf-8")
        sft_contenders.prepare(data, Path(folder))
        for precision in arguments.precision:
            results: dict[str, list[dict[str, float]]] = {name: [] for name in ("tunesmith", *TRL_LAYOUTS, "bare")}
            for _ in range(arguments.rounds):
                for name in results:
                    results[name].append(measure(name, Path(folder), precision, arguments.steps))
            _print(precision, results)


def _print(precision: str, results: dict[str, list[dict[str, float]]]) -> None:
    medians = {
        name: {key: statistics.median(r[key] for r in rounds) for key in rounds[0]} for name, rounds in results.items()
    }
    best = max(TRL_LAYOUTS, key=lambda name: medians[name]["tokens_per_second"])
    columns = f"{'tokens/s (min-max)':>24} {'peak MiB':>10} {'first step s':>13} {'utilised':>9}"
    print(f"{precision}: {'contender':18} {columns}")
    for name, rounds in results.items():
        speeds, median = [r["tokens_per_second"] for r in rounds], medians[name]
        speed = f"{median['tokens_per_second']:,.0f} ({min(speeds):,.0f}-{max(speeds):,.0f})"
        figures = f"{median['peak_mib']:>10,.0f} {median['first_step']:>13.1f} {median['utilisation']:>9.0%}"
        print(f"{precision}: {name:18} {speed:>24} {figures}")
    for key, what in (("tokens_per_second", "speed"), ("peak_mib", "memory"), ("first_step", "time to first step")):
        ratio = medians["tunesmith"][key] / medians[best][key]
        print(f"{precision}: {what}: {ratio:.2f} times that of {best}, TRL's fastest")


if __name__ == "__main__":
    main()
