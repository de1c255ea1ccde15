"""Whether RLHF teaches something: the sample's pipeline with several seeds, beside more supervised tuning for as long.

    python -m tests.benchmarks.rlhf [--seeds 0 1 2] [--work DIR]

For each seed: the supervised stage until its validation loss no longer falls; PPO through the reward model, and the
same with the value function on the policy; PPO through the rule (exact match); and a control that goes on with
supervised tuning for as long as the longest of these took. All are tested on the same prompts, which none has seen. The
interval is a paired bootstrap over prompts.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "manifests" / "samples" / "rlhf.yaml"
DATA = ROOT / "examples" / "rlhf"


def pipeline(seed: int, name: str) -> dict[str, Any]:
    """The sample with another seed."""
    body: dict[str, Any] = yaml.safe_load(SAMPLE.read_text(encoding="utf-8"))
    body["metadata"]["name"] = name
    for stage in ("sft", "reward", "ppo"):
        body["spec"][stage]["training"]["seed"] = seed
    return body


def by_rule(body: dict[str, Any], name: str) -> dict[str, Any]:
    """The same from the supervised model that is there, with the rule for a reward."""
    spec = json.loads(json.dumps(body["spec"]))
    del spec["model"], spec["reward"]
    spec["sft"] = {"source": f"job://{body['metadata']['name']}-sft"}
    spec["ppo"]["ppo"] |= {"reward": [{"exactMatch": {}}], "klCoefficient": 0.02}
    return body | {"metadata": {"name": name}, "spec": spec}


def on_the_policy(body: dict[str, Any], name: str) -> dict[str, Any]:
    """The same from the models that are there, with the value function as a head on the policy."""
    spec, of = json.loads(json.dumps(body["spec"])), body["metadata"]["name"]
    del spec["model"]
    spec |= {"sft": {"source": f"job://{of}-sft"}, "reward": {"source": f"job://{of}-reward"}}
    spec["ppo"]["ppo"] |= {"sharedValue": True}
    return body | {"metadata": {"name": name}, "spec": spec}


def control(body: dict[str, Any], name: str, seconds: float, pace: float) -> dict[str, Any]:
    """More supervised tuning of the supervised model, at a tenth of its rate, for so many seconds."""
    sft, ppo = body["spec"]["sft"], body["spec"]["ppo"]
    training = sft["training"] | {"maxSteps": max(1, round(seconds / pace)), "learningRate": 2.0e-4}
    training = {k: v for k, v in training.items() if k not in ("epochs", "earlyStopping")}
    spec = {
        "model": {"source": f"job://{body['metadata']['name']}-sft"},
        "dataset": sft["dataset"] | {"test": ppo["dataset"]["test"]},
        "objective": {"instruction": {"template": body["spec"]["template"]}},
        "method": sft["method"],
        "training": training,
        "evaluation": body["spec"]["evaluation"] | {"metrics": ["exactMatch"]},
    }
    return {"apiVersion": body["apiVersion"], "kind": "FineTuneJob", "metadata": {"name": name}, "spec": spec}


def run(body: dict[str, Any], work: Path) -> None:
    """`tunesmith run` of one resource."""
    file = work / f"{body['metadata']['name']}.yaml"
    file.write_text(yaml.safe_dump(body), encoding="utf-8")
    command = [sys.executable, "-m", "tunesmith.cli.main", "run", "-f", str(file), "--runs", str(work / "runs")]
    subprocess.run([*command, "--mount", f"rlhf={DATA}"], check=True, cwd=work, stdout=subprocess.DEVNULL)


def steps(work: Path, name: str) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl."""
    text = (work / "runs" / name / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def seconds_of(work: Path, name: str) -> float:
    """How long a run trained."""
    lines = steps(work, name)
    return float(lines[-1]["time"] - lines[0]["time"]) * len(lines) / max(1, len(lines) - 1)


def right(work: Path, name: str, model: str = "tuned") -> np.ndarray:
    """Exact match of each test row."""
    text = (work / "runs" / name / "evaluation" / "rows.jsonl").read_text(encoding="utf-8")
    return np.array([json.loads(line)[model]["exactMatch"] for line in text.splitlines()])


def gain(after: np.ndarray, before: np.ndarray) -> str:
    """In points, with a 95% interval over prompts."""
    difference = 100 * (after - before)
    drawn = np.random.default_rng(0).integers(len(difference), size=(2000, len(difference)))
    low, high = np.percentile(difference[drawn].mean(axis=1), [2.5, 97.5])
    return f"{difference.mean():+.1f} [{low:+.1f}, {high:+.1f}]"


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    columns = ("seed", "supervised", "PPO, reward model", "with sharedValue", "PPO, rule", "more supervised tuning")
    print("|", " | ".join([*columns, "seconds: sft, reward, PPO, with sharedValue"]), "|")
    print("|---" * (len(columns) + 1) + "|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for seed in arguments.seeds:
            name = f"adding-{seed}"
            body = pipeline(seed, name)
            began = time.monotonic()
            run(body, work)
            run(on_the_policy(body, f"shared-{seed}"), work)
            run(by_rule(body, f"rule-{seed}"), work)
            took = [seconds_of(work, f"{name}-{stage}") for stage in ("sft", "reward", "ppo")]
            took.append(seconds_of(work, f"shared-{seed}-ppo"))
            pace = took[0] / len(steps(work, f"{name}-sft"))
            longest = max(took[2], took[3], seconds_of(work, f"rule-{seed}-ppo"))
            run(control(body, f"control-{seed}", longest, pace), work)
            before = right(work, f"{name}-ppo", "base")
            tuned = (f"{name}-ppo", f"shared-{seed}-ppo", f"rule-{seed}-ppo", f"control-{seed}")
            gains = [gain(right(work, each), before) for each in tuned]
            spent = ", ".join(f"{seconds:.0f}" for seconds in took)
            print(f"| {seed} | {before.mean():.1%} | {' | '.join(gains)} | {spent} |", flush=True)
            print(f"seed {seed}: {time.monotonic() - began:.0f} s in all", file=sys.stderr)


if __name__ == "__main__":
    main()
