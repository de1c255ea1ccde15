"""PPO and TRL 1.12's PPOTrainer on the same data, models and settings: the curves side by side, over several seeds.

    python -m tests.benchmarks.ppo_trl curves FOLDER --steps 30      # records TRL's, once
    python -m tests.benchmarks.ppo_parity FOLDER

The answers of FOLDER/limit all run into the length limit, where both are the same algorithm but for the draws. What an
algorithm gives differs from seed to seed; the two agree where their difference is no larger than that.
"""

import argparse
import json
import statistics
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tests.benchmarks.asked import Asked
from tests.benchmarks.ppo_problem import Settings

SHOWN = ("score", "kl", "clip_fraction", "value_loss")

Curve = list[dict[str, Any]]


def ours(settings: Settings, steps: int) -> Curve:
    """Our steps."""
    method = json.dumps([{"full": {}}, False])
    with Asked("tests.benchmarks.ppo_ours", "serve", json.dumps(asdict(settings)), method) as process:
        return process.go(steps)


def spread(curves: list[Curve], step: int, name: str) -> str:
    """Mean and range over the seeds."""
    values = [float(curve[step][name]) for curve in curves]
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--problem", choices=("limit", "ends"), default="limit")
    arguments = parser.parse_args()
    folder = arguments.folder / arguments.problem
    recorded = json.loads((folder / "trl.json").read_text(encoding="utf-8"))
    theirs: dict[str, Curve] = recorded["steps"]
    settings = replace(Settings(**recorded["settings"]), problem=str(folder))
    mine = {seed: ours(replace(settings, seed=int(seed)), len(curve)) for seed, curve in theirs.items()}
    (folder / "ours.json").write_text(json.dumps(mine, indent=1) + "\n", encoding="utf-8")
    print(f"seeds {', '.join(theirs)}; mean (lowest to highest)\n")
    print("| step | | " + " | ".join(SHOWN) + " |")
    print("|---|---|" + "---|" * len(SHOWN))
    last = min(len(curve) for curve in theirs.values())
    for step in sorted({0, last // 6, last // 3, last // 2, 2 * last // 3, last - 1}):
        for who, curves in (("ours", list(mine.values())), ("TRL", list(theirs.values()))):
            print(f"| {step + 1} | {who} | " + " | ".join(spread(curves, step, name) for name in SHOWN) + " |")


if __name__ == "__main__":
    main()
