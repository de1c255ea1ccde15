"""How far off `tunesmith estimate` is: `python -m tests.benchmarks.estimate [NAME...]`.

Each configuration trains through the real worker in processes of its own, one after the other; their highest resident
memory is compared with the estimate. A process that imports everything and trains nothing is the overhead.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from tunesmith.api.base import API_VERSION
from tunesmith.api.job import FineTuneJob

MIB = 2**20
SMALL = {
    "hiddenSize": 512,
    "layers": 6,
    "attentionHeads": 8,
    "intermediateSize": 1408,
    "contextLength": 256,
    "tokenizer": {"vocabularySize": 8192},
}
LARGE = SMALL | {"hiddenSize": 768, "layers": 10, "attentionHeads": 12, "intermediateSize": 2048}
TRAINING = {
    "maxSteps": 2,
    "batchSize": 8,
    "microBatchSize": 4,
    "maxLength": 256,
    "precision": "fp32",
    "checkpoint": {"everySteps": 2},
}
LORA = {"lora": {"rank": 16, "alpha": 32}}

Changes = dict[str, Any]

CONFIGURATIONS: dict[str, Changes] = {
    "full, fp32": {},
    "full, bf16": {"precision": "bf16"},
    "full, fp32, 4 times the micro-batch": {"microBatchSize": 16, "batchSize": 32},
    "full, fp32, side by side, checkpointing": {
        "microBatchSize": 16,
        "batchSize": 32,
        "packing": False,
        "gradientCheckpointing": True,
    },
    "larger model, full, bf16": {"precision": "bf16", "new": LARGE},
    "larger model, full, fp32, short rows": {"new": LARGE, "maxLength": 32, "microBatchSize": 1, "batchSize": 2},
    "larger model, LoRA, bf16": {"precision": "bf16", "base": True, "method": LORA, "microBatchSize": 8},
    "larger model, LoRA, nf4, bf16": {
        "precision": "bf16",
        "base": True,
        "method": LORA,
        "microBatchSize": 8,
        "quantization": {"type": "nf4"},
    },
    "full, fp32, 2 workers, ZeRO 2": {"scaling": {"workers": 2, "deepspeed": {"zeroStage": 2}}},
    "larger model, full, fp32, 2 workers, ZeRO 3": {
        "new": LARGE,
        "scaling": {"workers": 2, "deepspeed": {"zeroStage": 3}},
    },
    "full, fp32, 2 workers, DDP": {"scaling": {"workers": 2}},
    "larger model, full, fp32, 2 workers, FSDP2": {"new": LARGE, "scaling": {"workers": 2, "fsdp": {}}},
    "larger model, full, fp32, 2 workers, ZeRO 1 offloaded": {
        "new": LARGE,
        "scaling": {"workers": 2, "deepspeed": {"zeroStage": 1, "offload": True}},
    },
    "larger model, full, fp32, 2 workers, FSDP2 offloaded": {
        "new": LARGE,
        "scaling": {"workers": 2, "fsdp": {"offload": True}},
    },
    "larger model, full, fp32, 2 workers, tensor parallel": {
        "new": LARGE,
        "scaling": {"workers": 2, "tensorParallel": 2},
    },
    "larger model, full, fp32, 2 workers, tensor parallel, 4 times the micro-batch": {
        "new": LARGE,
        "microBatchSize": 16,
        "batchSize": 32,
        "scaling": {"workers": 2, "tensorParallel": 2},
    },
}


def job_of(changes: Changes, folder: Path) -> FineTuneJob:
    """The job of a configuration."""
    own = ("new", "base", "method", "quantization", "scaling")
    training = TRAINING | {key: value for key, value in changes.items() if key not in own}
    model: dict[str, Any] = {"config": changes.get("new", SMALL)}
    if changes.get("base"):
        model = {"source": str(folder / "base"), "quantization": changes.get("quantization")}
    spec = {
        "model": model,
        "dataset": {"train": {"source": str(folder / "text.txt")}},
        "objective": {"causalLM": {}},
        "method": changes.get("method", {"full": {}}),
        "training": training,
        "scaling": {"resources": {"cpu": 1}} | changes.get("scaling", {}),
    }
    return FineTuneJob.model_validate(
        {"apiVersion": API_VERSION, "kind": "FineTuneJob", "metadata": {"name": "measured"}, "spec": spec}
    )


def main() -> None:
    """Measures, and prints a row for each configuration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", help="part of a configuration's name; all by default")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        _work(json.loads(arguments.work))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_text(folder / "text.txt")
        idle = max(_measure({"idle": True}, 1))
        print(f"a process that trains nothing: {idle / MIB:,.0f} MiB\n")
        print(f"{'configuration':44} {'estimate':>9} {'measured':>9} {'error':>7}   MiB by part")
        _measure({"make": LARGE, "folder": name}, 1)
        for title, changes in CONFIGURATIONS.items():
            if not arguments.names or any(part in title for part in arguments.names):
                _compare(title, changes, folder, idle)


def _compare(title: str, changes: Changes, folder: Path, idle: int) -> None:
    from dataclasses import replace

    from tunesmith.api.architecture import Architecture
    from tunesmith.api.model import NewModel
    from tunesmith.api.sizing import LIBRARIES, estimate

    job = job_of(changes, folder)
    new = NewModel.model_validate(LARGE if changes.get("base") else changes.get("new", SMALL))
    memory = estimate(job.spec, Architecture.of_new_model(new))
    memory = replace(memory, overhead=idle + memory.overhead - LIBRARIES)
    measured = max(_measure({"changes": changes, "folder": str(folder), "title": title}, job.spec.scaling.workers))
    error = memory.total / measured - 1
    parts = ", ".join(f"{name} {size / MIB:.0f}" for name, size in memory.parts.items() if size)
    print(f"{title:44} {memory.total / MIB:9,.0f} {measured / MIB:9,.0f} {error:+7.1%}   {parts}", flush=True)


def _write_text(file: Path) -> None:
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(9000)]
    file.write_text("\n".join(" ".join(draw.choices(words, k=4000)) for _ in range(15)), encoding="utf-8")


def _measure(task: dict[str, Any], workers: int) -> list[int]:
    """The highest resident memory of each worker, in bytes."""
    with tempfile.TemporaryDirectory() as meeting:
        command = [sys.executable, "-m", "tests.benchmarks.estimate", "--work"]
        processes = []
        for rank in range(workers):
            text = json.dumps(task | {"store": f"{meeting}/store", "workers": workers, "rank": rank})
            environment = os.environ | {"DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
            if workers > 1:
                environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(workers)}
                environment |= {"LOCAL_WORLD_SIZE": str(workers), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
            processes.append(
                subprocess.Popen([*command, text], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            )
        results = [process.communicate() for process in processes]
    for process, (_, errors) in zip(processes, results, strict=True):
        if process.returncode != 0:
            sys.exit(errors.decode()[-3000:])
    return [int(output.splitlines()[-1]) for output, _ in results]


def _work(task: dict[str, Any]) -> None:
    """What a measured process does."""
    import bitsandbytes  # noqa: F401  # part of the overhead
    import peft  # noqa: F401
    import torch.distributed as dist

    from tunesmith.api.model import NewModel
    from tunesmith.api.pod import RunFolder
    from tunesmith.models.build import build_model
    from tunesmith.models.tokenizer import train_tokenizer
    from tunesmith.sources import Resolver
    from tunesmith.training.assignment import Assignment
    from tunesmith.training.worker import run_worker

    if task.get("make"):
        config = NewModel.model_validate(task["make"])
        folder = Path(task["folder"])
        tokenizer = train_tokenizer((folder / "text.txt").read_text(encoding="utf-8").splitlines(), config)
        build_model(config, tokenizer, 0).save_pretrained(folder / "base")
        tokenizer.save_pretrained(folder / "base")
    elif not task.get("idle"):
        if task["workers"] > 1:
            size, rank = task["workers"], task["rank"]
            store = f"file://{task['store']}"
            dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size, timeout=timedelta(minutes=5))
        folder = Path(task["folder"])
        root = folder / task["title"].replace(" ", "-")
        root.mkdir(exist_ok=True)
        outcome = run_worker(Assignment(job_of(task["changes"], folder), RunFolder(root), Resolver()))
        assert outcome.reason == "Succeeded", outcome
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


if __name__ == "__main__":
    main()
