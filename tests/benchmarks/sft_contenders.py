"""What `sft.py` measures: each contender runs in a process of its own and prints its figures as a line of JSON.

The first step is not timed. In it the multiplications and additions of matrix products and attention are counted, so
that the utilisation is of what was really executed: there padding that a contender computes counts, in its real tokens
per second it does not.
"""

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

ROWS, BATCH, MICRO, LENGTH = 512, 16, 8, 512
TEMPLATE = "Question: {question}\nAnswer: {answer}"
CONFIG = {"hiddenSize": 384, "layers": 8, "attentionHeads": 6, "intermediateSize": 1024, "contextLength": 1024}


@dataclass
class Measured:
    """The figures of a contender."""

    tokens_per_second: float
    """Real ones."""
    first_step: float
    """When the first step had ended."""
    flops_per_token: float
    """Of matrix products and attention, by real token, in the first step."""


@contextmanager
def counted_flops() -> Iterator[list[int]]:
    """Appends the number of floating-point operations of what is done inside."""
    from torch.utils.flop_counter import FlopCounterMode

    counted: list[int] = []
    with FlopCounterMode(display=False) as counter:
        yield counted
    counted.append(counter.get_total_flops())


def matmul_peak(precision: str) -> float:
    """Floating-point operations a second of a large matrix product, the best of ten."""
    import torch

    size = 2048
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(size, size).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        begun = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best


def prepare(data: Path, folder: Path) -> None:
    """Writes the rows, and the model with its tokenizer, that all contenders start from."""
    from tunesmith.api.model import NewModel
    from tunesmith.models.build import build_model
    from tunesmith.models.tokenizer import train_tokenizer

    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()[:ROWS]]
    pairs = [{"prompt": f"Question: {r['question']}\nAnswer: ", "response": r["answer"]} for r in rows]
    (folder / "train.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    config = NewModel.model_validate(CONFIG)
    tokenizer = train_tokenizer((p["prompt"] + p["response"] for p in pairs), config)
    tokenizer.save_pretrained(folder / "model")
    build_model(config, tokenizer, 0).save_pretrained(folder / "model")


def run_tunesmith(folder: Path, precision: str, steps: int) -> Measured:
    """Tunesmith, through the worker that every run uses."""
    import tempfile

    from tunesmith.api.job import FineTuneJob
    from tunesmith.api.pod import RunFolder
    from tunesmith.sources import Resolver
    from tunesmith.training.assignment import Assignment
    from tunesmith.training.loop import Trainer
    from tunesmith.training.worker import run_worker

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
    flops: list[int] = []
    step = Trainer._step

    def first_step(self: Trainer, position: Any) -> Any:
        with counted_flops() as counted:
            result = step(self, position)
        flops.extend(counted)
        Trainer._step = step  # type: ignore[method-assign]
        return result

    Trainer._step = first_step  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as run:
        run_folder = RunFolder(Path(run))
        outcome = run_worker(Assignment(job, run_folder, Resolver()))
        if outcome.reason != "Succeeded":
            raise SystemExit(outcome.message)
        lines = [json.loads(line) for line in run_folder.metrics.read_text(encoding="utf-8").splitlines()]
    steps_tokens = [after["tokens"] - before["tokens"] for before, after in pairwise(lines)]
    seconds = sum(n / line["tokens_per_second"] for n, line in zip(steps_tokens, lines[1:], strict=True))
    return Measured(sum(steps_tokens) / seconds, lines[0]["time"], flops[0] / lines[0]["tokens"])


def run_trl(folder: Path, layout: str, precision: str, steps: int) -> Measured:
    """TRL's SFTTrainer."""
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
    counting = counted_flops()
    flops_of_first: list[list[int]] = []

    class Marks(TrainerCallback):  # type: ignore[misc]  # a base of type Any
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if not marks:
                flops_of_first.append(counting.__enter__())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if not marks:
                counting.__exit__(None, None, None)
            marks.append((time.time(), counter.tokens))

    trainer.add_callback(Marks())
    trainer.train()
    speed = (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0])
    return Measured(speed, marks[0][0], flops_of_first[0][0] / marks[0][1])


def run_bare(folder: Path, precision: str, steps: int) -> Measured:
    """The loop that one writes oneself: rows as they come, padded to the longest of a micro-batch."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=0.0)
    pairs = [json.loads(line) for line in (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0)).tolist()
    rows = []
    for pair in (pairs[i] for i in order):
        prompt, response = (tokenizer(pair[k], add_special_tokens=False)["input_ids"] for k in ("prompt", "response"))
        ids = [*prompt, *response, tokenizer.eos_token_id][:LENGTH]
        rows.append((ids, ([-100] * len(prompt) + ids[len(prompt) :])[: len(ids)]))
    marks: list[tuple[float, int]] = []
    tokens = 0

    def step(number: int) -> None:
        nonlocal tokens
        for part in range(number * BATCH, (number + 1) * BATCH, MICRO):
            batch = [rows[i % len(rows)] for i in range(part, part + MICRO)]
            tokens += sum(len(ids) for ids, _ in batch)
            width = max(len(ids) for ids, _ in batch)
            ids = torch.tensor([i + [tokenizer.pad_token_id] * (width - len(i)) for i, _ in batch])
            labels = torch.tensor([t + [-100] * (width - len(t)) for _, t in batch])
            mask = torch.tensor([[1] * len(i) + [0] * (width - len(i)) for i, _ in batch])
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
            (loss / (BATCH // MICRO)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        marks.append((time.time(), tokens))

    with counted_flops() as counted:
        step(0)
    for number in range(1, steps + 1):
        step(number)
    speed = (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0])
    return Measured(speed, marks[0][0], counted[0] / marks[0][1])


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
    if contender == "tunesmith":
        measured = run_tunesmith(base, kind, count)
    elif contender == "bare":
        measured = run_bare(base, kind, count)
    else:
        measured = run_trl(base, contender, kind, count)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {
        "tokens_per_second": measured.tokens_per_second,
        "peak_mib": peak,
        "first_step": measured.first_step - begun,
        "utilisation": measured.tokens_per_second * measured.flops_per_token / matmul_peak(kind),
    }
    print(json.dumps(figures))
