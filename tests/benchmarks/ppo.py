"""PPO beside TRL 1.12's PPOTrainer, its last release with it: the same small models, lengths, epochs and precision.

    python -m tests.benchmarks.ppo [--rounds 3] [--steps 2] [--ends]

Each contender is a process that stands still while another works; they take turns, and the ratio of each round counts.
"""

import argparse
import json
import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.benchmarks.asked import Asked
from tests.benchmarks.ppo_problem import Settings, write_speed
from tests.benchmarks.ppo_trl import Trl

FULL: dict[str, Any] = {"full": {}}
LORA: dict[str, Any] = {"lora": {"rank": 16, "alpha": 32}}
METHODS: dict[str, tuple[dict[str, Any], bool]] = {
    "separate models, full": (FULL, False),
    "one trunk, LoRA": (LORA, False),
    "value on the policy, full": (FULL, True),
    "value on the policy, LoRA": (LORA, True),
}
"""The method, and whether the value function is a head on the policy."""


def rate(steps: list[dict[str, Any]], batch: int) -> float:
    """Answers a second."""
    seconds = sum(float(step["seconds"]) for step in steps)
    return len(steps) * batch / seconds


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="of each contender in a round")
    parser.add_argument("--batch", type=int, default=64, help="answers in a step")
    parser.add_argument("--ends", action="store_true", help="answers end by themselves, instead of at the limit")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(str(write_speed(Path(folder), arguments.ends).folder), batch_size=arguments.batch)
        contenders = {"TRL 1.12.0": Trl(settings)} | {
            name: Asked("tests.benchmarks.ppo_ours", "serve", json.dumps(asdict(settings)), json.dumps(how))
            for name, how in METHODS.items()
        }
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        last: dict[str, dict[str, Any]] = {}
        for contender in contenders.values():
            contender.go(1)
        for turn in range(arguments.rounds):
            for name, contender in contenders.items():
                steps = contender.go(arguments.steps)
                rates[name].append(rate(steps, arguments.batch))
                last[name] = steps[-1]
            print(f"round {turn + 1}: " + ", ".join(f"{n} {r[-1]:.1f}" for n, r in rates.items()), flush=True)
        for contender in contenders.values():
            contender.__exit__()
    theirs, *_ = rates
    print("| | answers/s | ratio | memory beyond the libraries | ratio | answering | scoring | learning |")
    print("|---|---|---|---|---|---|---|---|")
    for name, step in last.items():
        ratio = statistics.median(a / b for a, b in zip(rates[name], rates[theirs], strict=True))
        memory = step["peak_mib"] - step["base_mib"]
        share = memory / (last[theirs]["peak_mib"] - last[theirs]["base_mib"])
        parts = ""
        if "collecting_share" in step:
            answering, collecting = step["answering_share"], step["collecting_share"]
            parts = f"{answering:.0%} | {collecting - answering:.0%} | {1 - collecting:.0%}"
        median = statistics.median(rates[name])
        print(f"| {name} | {median:.1f} | {ratio:.2f} | {memory:,.0f} MiB | {share:.2f} | {parts or '| |'} |")


if __name__ == "__main__":
    main()
