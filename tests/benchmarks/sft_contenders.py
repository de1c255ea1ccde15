"""What `sft.py` measures: each contender runs in a process of its own and prints its figures as a line of JSON."""

import json
import resource
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

ROWS, BATCH, MICRO, LENGTH = 512, 16, 8, 512
TEMPLATE = "Question: {question}\nAnswer: {answer}"
CONFIG = {"hiddenSize": 384, "layers": 8, "attentionHeads": 6, "intermediateSize": 1024, "contextLength": 1024}


def prepare(data: Path, folder: Path) -> None:
    """Writes the rows, and the model with its tokenizer, that all contenders start from."""
    from tunesmith.api.model import NewModel
    from tunesmith.models.load import build_model
    from tunesmith.models.tokenizer import train_tokenizer

    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()[:ROWS]]
    pairs = [{"prompt": f"Question: {r['question']}\nAnswer: ", "response": r["answer"]} for r in rows]
    (folder / "train.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    config = NewModel.model_validate(CONFIG)
    tokenizer = train_tokenizer((p["prompt"] + p["response"] for p in pairs), config)
    tokenizer.save_pretrained(folder / "model")
    build_model(config, tokenizer, 0).save_pretrained(folder / "model")


def run_tunesmith(folder: Path, precision: str, steps: int) -> tuple[float, float]:
    """Tokens per second and the time of the first step, through the worker that every run uses."""
    import tempfile

    from tunesmith.api.job import FineTuneJob
    from tunesmith.api.pod import RunFolder
    from tunesmith.sources import Resolver
    from tunesmith.training.worker import Assignment, run_worker

    spec = {
        "model": {"source": str(folder / "model")},
        "dataset": {"train": {"source": str(folder / "train.jsonl")}},
        "objective": {"instruction": {"template": "{prompt}{response}"}},
        "method": {"full": {}},
        "training": {
            "maxSteps": steps + 1,
            "batchSize": BATCH,
            "microBatchSize": MICRO,
            "maxLength": LENGTH,
            "precision": precision,
            "checkpoint": {"everySteps": 1_000_000},
        },
    }
    job = FineTuneJob.model_validate(
        {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "bench"}, "spec": spec}
    )
    with tempfile.TemporaryDirectory() as run:
        run_folder = RunFolder(Path(run))
        outcome = run_worker(Assignment(job, run_folder, Resolver()))
        if outcome.reason != "Succeeded":
            raise SystemExit(outcome.message)
        lines = [json.loads(line) for line in run_folder.metrics.read_text(encoding="utf-8").splitlines()]
    steps_tokens = [after["tokens"] - before["tokens"] for before, after in pairwise(lines)]
    seconds = sum(n / line["tokens_per_second"] for n, line in zip(steps_tokens, lines[1:], strict=True))
    return sum(steps_tokens) / seconds, lines[0]["time"]


def run_trl(folder: Path, layout: str, precision: str, steps: int) -> tuple[float, float]:
    """Tokens per second and the time of the first step of TRL's SFTTrainer."""
    import datasets
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    pairs = [json.loads(line) for line in (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = datasets.Dataset.from_list([{"prompt": p["prompt"], "completion": p["response"]} for p in pairs])
    layouts: dict[str, dict[str, Any]] = {
        "trl-padded": {"train_sampling_strategy": "group_by_length"},
        "trl-packed": {"packing": True},
        "trl-padding-free": {"padding_free": True, "max_length": None},  # no row is longer
    }
    config = SFTConfig(
        output_dir=str(folder / layout),
        max_steps=steps + 1,
        per_device_train_batch_size=MICRO,
        gradient_accumulation_steps=BATCH // MICRO,
        completion_only_loss=True,
        learning_rate=2e-4,
        bf16=precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        gradient_checkpointing=False,
        **({"max_length": LENGTH} | layouts[layout]),
    )
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    trainer = SFTTrainer(model=model, args=config, train_dataset=rows, processing_class=tokenizer)
    counter = _Counter(trainer.data_collator)
    trainer.data_collator = counter
    marks: list[tuple[float, int]] = []

    class Marks(TrainerCallback):  # type: ignore[misc]  # a base of type Any
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append((time.time(), counter.tokens))

    trainer.add_callback(Marks())
    trainer.train()
    return (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0]), marks[0][0]


class _Counter:
    """Counts the real tokens of the batches that a collator makes."""

    def __init__(self, collator: Any) -> None:
        self._collator, self.tokens = collator, 0

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        self.tokens += sum(len(row["input_ids"]) for row in rows)
        return self._collator(rows)


if __name__ == "__main__":
    begun = time.time()
    contender, base, kind, count = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    speed, first = (
        run_tunesmith(base, kind, count) if contender == "tunesmith" else run_trl(base, contender, kind, count)
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"tokens_per_second": speed, "peak_mib": peak, "first_step": first - begun}))
