"""Peak memory and time of a step, by precision, optimizer, method and strategy; and the losses of the precisions.

    python -m tests.benchmarks.memory [--layers 8] [--hidden 512] [--steps 3] [--only NAME ...]

A new Llama (27M parameters by default) is trained on made-up rows through the real worker, each way in processes of its
own, one after the other, each worker on one thread, and all of them on the same 8 rows a step. Memory is the highest
resident set of a worker from where it builds the model on, less what the process held there, with every library
imported that the way needs. It is measured twice: as it is, and with a C library that gives back what is freed
(MALLOC_MMAP_THRESHOLD_), which shows what tensors take, without the blocks that it keeps otherwise. Time is the median
of the steps after the first, as it is.
"""

import argparse
import gc
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

ROWS, ROW_TOKENS, BATCH = 64, 128, 8
TOLERANCE = 0.02
"""Of a loss in bf16, relative to fp32: 8 bits of mantissa, 2^-9 in each product."""
GIVING_BACK = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}

WAYS: dict[str, dict[str, Any]] = {
    "fp32, adamw": {},
    "bf16": {"training": {"precision": "bf16"}},
    "gradient checkpointing": {"training": {"gradientCheckpointing": True}},
    "8-bit adamw": {"training": {"optimizer": {"adamw": {"bits": 8}}}},
    "adafactor": {"training": {"optimizer": {"adafactor": {}}}},
    "muon": {"training": {"optimizer": {"muon": {}}}},
    "sgd": {"training": {"optimizer": {"sgd": {}}}},
    "average of weights": {"training": {"average": {}}},
    "lora, rank 8": {"lora": True},
    "DDP, 2 workers": {"scaling": {"workers": 2}},
    "ZeRO-3, 2 workers": {"scaling": {"workers": 2, "deepspeed": {"zeroStage": 3}}},
    "FSDP2, 2 workers": {"scaling": {"workers": 2, "fsdp": {}}},
    "tensor parallel, 2 workers": {"scaling": {"workers": 2, "tensorParallel": 2}},
}


def body_of(way: dict[str, Any], model: dict[str, Any], rows: Path, base: Path, steps: int) -> dict[str, Any]:
    """The job of one way."""
    training = {
        "maxSteps": steps,
        "batchSize": BATCH,
        "microBatchSize": BATCH,
        "maxLength": ROW_TOKENS,
        "precision": "fp32",
        "learningRate": 3e-4,
        "checkpoint": {"everySteps": 1_000_000, "keep": 1},
    }
    lora = "lora" in way
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "memory"},
        "spec": {
            "model": {"source": str(base)} if lora else {"config": model},
            "dataset": {"train": {"source": str(rows)}, "columns": {"text": "text"}},
            "objective": {"causalLM": {}},
            "method": {"lora": {"rank": 8}} if lora else {"full": {}},
            "training": training | way.get("training", {}),
            "scaling": {"resources": {"cpu": 1}} | way.get("scaling", {}),
        },
    }


def worker(folder: Path, rank: int) -> None:
    """One worker of a run; prints its figures."""
    import torch.distributed as dist

    from tunesmith.api.job import FineTuneJob
    from tunesmith.api.pod import RunFolder
    from tunesmith.launch.folder import open_folder
    from tunesmith.sources import Resolver
    from tunesmith.training import worker as module
    from tunesmith.training.assignment import Assignment
    from tunesmith.training.loop import Trainer

    job = FineTuneJob.model_validate(json.loads((folder / "job.json").read_text()))
    run, workers = RunFolder(folder / "run"), job.spec.scaling.workers
    if workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=workers)
    _import_all(job)
    held: list[int] = []  # before the model was built
    build: Any = module.__dict__["trainable_model"]
    train = Trainer.run

    def built(*arguments: Any, **options: Any) -> Any:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the highest resident set starts anew
        held.append(_memory("VmRSS"))
        return build(*arguments, **options)

    def watched(self: Trainer, position: Any) -> Any:
        self.__dict__["save"] = lambda position: None  # writing a checkpoint is not what is measured
        train(self, position)
        _report(run.metrics, _memory("VmHWM") - held[0], rank)
        sys.exit()  # nor is exporting the model

    module.__dict__["trainable_model"] = built
    Trainer.run = watched  # type: ignore[method-assign]
    assignment = Assignment(job, run, Resolver())
    if rank == 0:
        with open_folder(run, job):
            module.run_worker(assignment)
    else:
        module.run_worker(assignment)


def _import_all(job: Any) -> None:
    """What a way needs beside torch and transformers, so that it is not taken for the model's."""
    importlib.import_module("peft")
    importlib.import_module("bitsandbytes")
    if job.spec.scaling.deepspeed is not None:
        importlib.import_module("deepspeed")
    if job.spec.scaling.workers > 1:
        importlib.import_module("torch.distributed.fsdp")
        importlib.import_module("torch.distributed.tensor.parallel")


def _memory(kind: str) -> int:
    """A figure of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{kind}:"))


def _report(metrics: Path, peak: int, rank: int) -> None:
    records = [json.loads(line) for line in metrics.read_text().splitlines()] if rank == 0 else []
    tokens = [after["tokens"] - before["tokens"] for before, after in pairwise(records)]
    times = [count / r["tokens_per_second"] for count, r in zip(tokens, records[1:], strict=True)] if records else []
    seconds = statistics.median(times) if times else 0.0
    print(json.dumps({"peak": peak, "ms": 1000 * seconds, "losses": [r["loss"] for r in records]}))


def measure(
    way: dict[str, Any], model: dict[str, Any], rows: Path, base: Path, steps: int, settings: dict[str, str]
) -> dict[str, Any]:
    """Runs one way, each worker in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        body = body_of(way, model, rows, base, steps)
        (Path(folder) / "job.json").write_text(json.dumps(body))
        workers = body["spec"]["scaling"].get("workers", 1)
        started = []
        for rank in range(workers):
            environment = (
                os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1"} | settings
            )
            if workers > 1:
                environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(workers)}
                environment |= {"LOCAL_WORLD_SIZE": str(workers), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
            command = [sys.executable, "-m", "tests.benchmarks.memory", "--worker", str(rank), "--folder", folder]
            started.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )
        results = []
        for process in started:
            out, errors = process.communicate()
            if process.returncode or not out.strip():
                raise SystemExit(f"{way} failed:\n{errors[-3000:]}")
            results.append(json.loads(out.strip().splitlines()[-1]))
    first: dict[str, Any] = results[0]
    return first | {"peak": max(result["peak"] for result in results)}


def write_base(model: dict[str, Any], rows: Path, base: Path) -> None:
    """The base of the adapter: the same model, untrained, with a tokenizer."""
    from tunesmith.api.model import NewModel
    from tunesmith.models.build import build_model
    from tunesmith.models.tokenizer import train_tokenizer

    config = NewModel.model_validate(model)
    tokenizer = train_tokenizer((json.loads(line)["text"] for line in rows.open()), config)
    build_model(config, tokenizer, 0).save_pretrained(base)
    tokenizer.save_pretrained(base)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        worker(arguments.folder, arguments.worker)
        return
    model = {
        "hiddenSize": arguments.hidden,
        "layers": arguments.layers,
        "attentionHeads": 10 if arguments.hidden % 10 == 0 else 8,
        "intermediateSize": 4 * arguments.hidden * 2 // 3 // 64 * 64,
        "contextLength": ROW_TOKENS,
        "tokenizer": {"vocabularySize": 2048},
    }
    with tempfile.TemporaryDirectory() as folder:
        rows, base = Path(folder) / "rows.jsonl", Path(folder) / "base"
        with rows.open("w") as lines:
            for i in range(ROWS):
                text = " ".join(f"item{(i * 31 + j) % 997}" for j in range(ROW_TOKENS))
                lines.write(json.dumps({"text": text}) + "\n")
        write_base(model, rows, base)
        print("| way | tensors, MiB | resident, MiB | ms a step |\n|---|---|---|---|", flush=True)
        found = {}
        for name in arguments.only:
            found[name] = measure(WAYS[name], model, rows, base, arguments.steps, {})
            tensors = measure(WAYS[name], model, rows, base, arguments.steps, GIVING_BACK)["peak"]
            peaks = f"{tensors / 2**20:.0f} | {found[name]['peak'] / 2**20:.0f}"
            print(f"| {name} | {peaks} | {found[name]['ms']:.0f} |", flush=True)
    if {"fp32, adamw", "bf16"} <= found.keys():
        pairs = list(zip(found["fp32, adamw"]["losses"], found["bf16"]["losses"], strict=True))
        print("\n| step | loss in fp32 | loss in bf16 |\n|---|---|---|")
        for step, (exact, rounded) in enumerate(pairs, 1):
            print(f"| {step} | {exact:.4f} | {rounded:.4f} |")
        worst = max(abs(b / a - 1) for a, b in pairs)
        print(f"\nlargest relative difference {worst:.1e}, tolerance {TOLERANCE}")
        if worst > TOLERANCE:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
