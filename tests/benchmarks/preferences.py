"""A reward model of solutions to school problems, tested on pairs whose problems it has not seen.

    python -m tests.benchmarks.preferences --data DIR [--folder DIR] [--folds K ...]

DIR holds train.jsonl and preferences.jsonl of GSM8K. A small Llama learns to write the solutions in train.jsonl. Then,
for each of three folds of the prompts in preferences.jsonl, a reward model starts from it, learns from the pairs of the
other folds, and is evaluated on those of its own. Intervals are bootstrapped over prompts. With --folder, what was
trained there before is not trained again.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.api.base import API_VERSION
from tunesmith.api.job import FineTuneJob
from tunesmith.api.outcome import Interval
from tunesmith.api.pod import RunFolder
from tunesmith.evaluation.pairs import by_prompt
from tunesmith.evaluation.run import evaluate_job
from tunesmith.evaluation.statistics import RowScores, estimate
from tunesmith.launch.folder import open_folder
from tunesmith.launch.run import train_here
from tunesmith.sources import Resolver

FOLDS = 3
SEED = 0
TEMPLATE = "Question: {prompt}\nAnswer: {response}"
MODEL = {
    "hiddenSize": 96,
    "layers": 2,
    "attentionHeads": 4,
    "intermediateSize": 256,
    "contextLength": 512,
    "tokenizer": {"vocabularySize": 2048},
}
BASE_TRAINING = {
    "epochs": 2,
    "batchSize": 32,
    "microBatchSize": 4,
    "maxLength": 384,
    "learningRate": 3.0e-3,
    "precision": "fp32",
    "checkpoint": {"everySteps": 100},
}
REWARD_TRAINING = {
    "epochs": 3,
    "batchSize": 32,
    "microBatchSize": 4,
    "maxLength": 384,
    "learningRate": 3.0e-4,
    "precision": "fp32",
    "checkpoint": {"everySteps": 20},
}

Rows = list[dict[str, Any]]


def job(name: str, **spec: Any) -> FineTuneJob:
    return FineTuneJob.model_validate(
        {
            "apiVersion": API_VERSION,
            "kind": "FineTuneJob",
            "metadata": {"name": name},
            "spec": {"method": {"full": {}}, "scaling": {"resources": {"cpu": 1}}} | spec,
        }
    )


def base_job(rows: Path) -> FineTuneJob:
    """The language model, from nothing."""
    return job(
        "base",
        model={"config": MODEL},
        dataset={"train": {"source": str(rows)}, "validation": {"fraction": 0.03}},
        objective={"causalLM": {"template": TEMPLATE}},
        training=BASE_TRAINING,
    )


def reward_job(base: Path, train: Path, test: Path) -> FineTuneJob:
    """A reward model on it; which of its checkpoints is kept is decided by pairs of the training folds."""
    return job(
        "reward",
        model={"source": str(base)},
        dataset={
            "train": {"source": str(train)},
            "validation": {"fraction": 0.1},
            "test": {"source": str(test)},
        },
        objective={"reward": {"template": TEMPLATE}},
        training=REWARD_TRAINING,
        evaluation={"metrics": ["pairAccuracy"]},
    )


def read(file: Path) -> Rows:
    with file.open(encoding="utf-8") as lines:  # not splitlines: a solution may hold other characters that end lines
        return [json.loads(line) for line in lines]


def write(file: Path, rows: Rows) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def solutions(rows: Rows) -> Rows:
    """Problems with their solutions, which end as those of the pairs do."""
    return [{"prompt": row["question"], "response": row["answer"].replace("#### ", "A: ")} for row in rows]


def fold_of(rows: Rows) -> np.ndarray:
    """The fold of each pair; all pairs of a prompt are in one."""
    prompts = sorted({row["prompt"] for row in rows})
    order = np.random.default_rng(SEED).permutation(len(prompts))
    folds = {prompts[place]: rank % FOLDS for rank, place in enumerate(order)}
    return np.array([folds[row["prompt"]] for row in rows])


def train(task: FineTuneJob, folder: Path) -> RunFolder:
    """Trains a job, unless that has been done."""
    run = RunFolder(folder)
    if not run.model.exists():
        with open_folder(run, task):
            outcome = train_here(task, run, Resolver(), print)
        if outcome.reason != "Succeeded":
            raise SystemExit(outcome.message)
    return run


def judge(base: Path, pairs: Rows, fold: int, folder: Path) -> Rows:
    """Trains on the pairs of the other folds; the rows of the evaluation on those of this one."""
    folds = fold_of(pairs)
    parts = {"train": folds != fold, "test": folds == fold}
    files = {
        name: write(folder / f"{name}.jsonl", [row for row, inside in zip(pairs, part, strict=True) if inside])
        for name, part in parts.items()
    }
    task = reward_job(base, files["train"], files["test"])
    run = train(task, folder / "reward")
    if not (run.evaluation / "result.json").exists():
        outcome = evaluate_job(task, run, Resolver())
        if outcome.reason != "Succeeded":
            raise SystemExit(outcome.message)
    return read(run.evaluation / "rows.jsonl")


def accuracy(rows: Rows, right: list[float]) -> Interval:
    """With its interval over prompts, whose pairs are alike."""
    return estimate(_by_prompt(rows, right)).tuned


def difference(rows: Rows, one: list[float], other: list[float]) -> Interval:
    """Of two accuracies, on the same prompts in each draw."""
    found = estimate(_by_prompt(rows, one), _by_prompt(rows, other)).difference
    assert found is not None
    return found


def _by_prompt(rows: Rows, right: list[float]) -> RowScores:
    prompts = [row["prompt"] for row in rows]
    return by_prompt(np.array(right), prompts)


def longer(row: dict[str, Any]) -> float:
    """1 where the preferred answer has more characters, 0.5 where both have as many."""
    ahead = len(row["chosen"]) - len(row["rejected"])
    return float((np.sign(ahead) + 1) / 2)


def line(name: str, interval: Interval) -> str:
    return f"| {name} | {interval.value:.3f} | {interval.low:.3f} to {interval.high:.3f} |"


def main() -> None:
    """Prints the accuracies as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.folder or Path(scratch)).absolute()
        solved = write(folder / "solutions.jsonl", solutions(read(arguments.data / "train.jsonl")))
        base = train(base_job(solved), folder / "base")
        pairs = read(arguments.data / "preferences.jsonl")
        rows: Rows = []
        for fold in arguments.folds:
            rows += judge(base.model, pairs, fold, folder / f"fold-{fold}")
    rows = [row for row in rows if row["tuned"]]
    right, by_length = [row["tuned"]["pairAccuracy"] for row in rows], [longer(row) for row in rows]
    print(f"{len(rows)} pairs of {len({row['prompt'] for row in rows})} prompts, each tested by a model without it")
    print("| prefers | accuracy | 95% interval |\n|---|---|---|")
    print(line("the reward model", accuracy(rows, right)))
    print(line("the longer answer", accuracy(rows, by_length)))
    print(line("difference", difference(rows, right, by_length)))


if __name__ == "__main__":
    main()
