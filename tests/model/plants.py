"""What tests plant in a process before it starts: something that goes wrong at a known place, or a watcher."""

import errno
import gc
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from tunesmith.api.pod import RunFolder
from tunesmith.data import prepare
from tunesmith.data.collate import Batch
from tunesmith.data.parts import RunRows
from tunesmith.data.prefetch import Ahead
from tunesmith.data.prepare import TrainingData
from tunesmith.training import checkpoint, loop, worker
from tunesmith.training.checkpoint import Position
from tunesmith.training.loop import Trainer
from tunesmith.training.objective import token_loss
from tunesmith.training.state import unwrapped
from tunesmith.training.tensor_parallel import local

LOSS = token_loss


def signal_in_step(step: int, number: int) -> None:
    """The process gets a signal while the loss of a step is computed, and has heeded it before the step ends."""

    def send(loss: Tensor) -> Tensor:
        os.kill(os.getpid(), number)
        time.sleep(0.5)  # the handler runs in the main thread, which waits for this one in turns of 0.2 s
        return loss

    _in_step(step, send)


def nan_in_step(step: int, times: int) -> None:
    """The loss of a step is not a number, the first few times."""
    left = [times]

    def spoil(loss: Tensor) -> Tensor:
        left[0] -= 1
        return loss * float("nan") if left[0] >= 0 else loss

    _in_step(step, spoil)


def nan_gradient_in_step(step: int, times: int) -> None:
    """The loss of a step is a number and its gradient is not, the first few times."""
    left = [times]

    def spoil(loss: Tensor) -> Tensor:
        left[0] -= 1
        if left[0] >= 0:
            loss.register_hook(lambda gradient: gradient * float("nan"))  # type: ignore[no-untyped-call]
        return loss

    _in_step(step, spoil)


def defect_in_step(step: int, message: str, **environment: str) -> None:
    """A step fails as no program should; the process has these variables."""
    os.environ |= environment

    def fail(loss: Tensor) -> Tensor:
        raise RuntimeError(message)

    _in_step(step, fail)


def with_environment(**environment: str) -> None:
    """The process has these variables."""
    os.environ |= environment


def memory_for(tokens: int) -> None:
    """The device runs out of memory for a larger micro-batch."""

    def objective(model: nn.Module, batch: Batch) -> Tensor:
        if batch.tokens > tokens:
            raise torch.OutOfMemoryError(f"{batch.tokens} tokens are too much")
        return LOSS(model, batch)

    worker.token_loss = objective  # type: ignore[attr-defined]  # read from there


def full_disk_after(checkpoints: int) -> None:
    """There is room for so many checkpoints; the next one ends after its first file."""
    room = [checkpoints * 4 + 1]  # the weights, AdamW's two moments and its count
    save_file = safetensors.torch.save_file

    def save(tensors: dict[str, Tensor], file: Path) -> None:
        room[0] -= 1
        if room[0] < 0:
            file.write_bytes(b"begun")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        save_file(tensors, file)

    checkpoint.save_file = save  # type: ignore[attr-defined]  # read from there


def watch_strategy() -> None:
    """Leaves what a worker is made of, at its end, in strategy-RANK.json in the run's folder."""
    run = Trainer.run

    @wraps(run)
    def watched(self: Trainer, position: Position) -> Position:
        engine: Any = self.model
        forwards = _count_forwards(unwrapped(engine))
        result = run(self, position)
        adam: Any = engine.optimizer.optimizer if hasattr(engine, "zero_optimization_stage") else self.optimizer
        moments = [state["exp_avg"] for state in adam.state.values() if "exp_avg" in state]
        dtensors = [p for p in engine.parameters() if isinstance(p, DTensor)]
        facts = {
            "model": type(engine).__name__,
            "stage": engine.zero_optimization_stage() if hasattr(engine, "zero_optimization_stage") else None,
            "world": dist.get_world_size() if dist.is_initialized() else 1,
            "workers": self.accelerator.num_processes,
            "moments": sum(local(moment).numel() for moment in moments),
            "moments_at": sorted({str(moment.device) for moment in moments}),
            "weights": sum(local(getattr(p, "ds_tensor", p)).numel() for p in engine.parameters() if p.requires_grad),
            "shards": sorted({f"{p.device_mesh.mesh.tolist()} {p.placements}" for p in dtensors}),
            "offload": _offload_of(engine),
            "forwards": forwards["layer"] / max(1, forwards["model"]),
            "rates": sorted({group["lr"] for group in adam.param_groups}),
            "parameters": sum(getattr(p, "ds_numel", p.numel()) for p in engine.parameters() if p.requires_grad),
        }
        file = self.folder.root / f"strategy-{self.accelerator.process_index}.json"
        file.write_text(json.dumps(facts), encoding="utf-8")
        return result

    Trainer.run = watched  # type: ignore[method-assign]
    _watch_export()


def _watch_export() -> None:
    """Leaves in exporting.json, in the run's folder, how many optimizers are held yet when the model is exported."""
    module: Any = worker
    export = module.export_model

    def watched(spec: Any, resolver: Any, tokenizer: Any, chosen: Path, folder: RunFolder) -> None:
        held = sum(issubclass(type(each), Optimizer) for each in gc.get_objects())
        (folder.root / "exporting.json").write_text(json.dumps(held))
        export(spec, resolver, tokenizer, chosen, folder)

    module.export_model = watched


def _count_forwards(model: nn.Module) -> Counter[str]:
    """Counts, in training, how often a model is computed, and how often its first linear layer, which is one within a
    block: twice for once where activations are recomputed."""
    counts: Counter[str] = Counter()

    def count(name: str) -> Callable[..., None]:
        return lambda *_: counts.update([name] if model.training else [])

    model.register_forward_pre_hook(count("model"))
    layer = next(module for module in model.modules() if isinstance(module, nn.Linear))
    layer.register_forward_pre_hook(count("layer"))
    return counts


def _offload_of(engine: Any) -> list[str]:
    """Which parts DeepSpeed or FSDP2 keeps in the CPU's memory."""
    sharded: list[Any] = [part for part in engine.modules() if isinstance(part, FSDPModule)]
    if sharded:
        policies = {
            type(group.offload_policy) for part in sharded for group in part._get_fsdp_state()._fsdp_param_groups
        }
        return ["optimizer", "weights"] if policies == {CPUOffloadPolicy} else []
    if not hasattr(engine, "zero_optimization_stage"):
        return []
    parts = {"optimizer": engine.zero_offload_optimizer(), "weights": engine.zero_offload_param()}
    return [name for name, part in parts.items() if part is not None and part.device == "cpu"]


def nan_in_steps(*steps: int) -> None:
    """The losses of these steps are not numbers."""
    _in_step(steps, lambda loss: loss * float("nan"))


def _in_step(steps: int | tuple[int, ...], act: Callable[[Tensor], Tensor]) -> None:
    """Acts on the loss of a step's first micro-batch, in training."""
    chosen = steps if isinstance(steps, tuple) else (steps,)
    seen: list[int] = []
    step_before = Trainer._step

    @wraps(step_before)
    def noted(self: Trainer, position: Position) -> tuple[Position, dict[str, float]]:
        seen[:] = [position.step + 1]
        return step_before(self, position)

    def objective(model: nn.Module, batch: Batch) -> Tensor:
        loss = LOSS(model, batch)
        if seen and seen[0] in chosen and model.training:
            seen.clear()
            return act(loss)
        return loss

    Trainer._step = noted  # type: ignore[method-assign]
    worker.token_loss = objective  # type: ignore[attr-defined]  # read from there


def make_batches_ahead() -> None:
    """Batches are made in a thread, as for a GPU."""

    class InThread(Ahead[Any]):
        def __init__(self, make: Callable[[int], Any], end: int, in_thread: bool) -> None:
            super().__init__(make, end, True)

    loop.Ahead = InThread  # type: ignore[attr-defined]  # read from there


def only_first_encodes() -> None:
    """Tokenizing is refused to every worker but the first."""
    if os.environ.get("RANK", "0") != "0":
        prepare.encode = None  # type: ignore[assignment,attr-defined]  # read from there


def watch_memory() -> None:
    """Leaves in memory.json, in the run's folder, by how many bytes preparing the data raised the process's own memory,
    looked at every millisecond: without pages of mapped files, which the kernel may take back."""

    def own() -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("RssAnon:")[1].split()[0])

    def watched(rows: RunRows, tokenizer: Any, folder: Path, *others: Any) -> TrainingData:
        seen, over = [own()], threading.Event()

        def watch() -> None:
            while not over.wait(0.001):
                seen.append(own())

        watcher = threading.Thread(target=watch)
        watcher.start()
        data = prepare.prepare_data(rows, tokenizer, folder, *others)
        over.set()
        watcher.join()
        (folder.parent / "memory.json").write_text(json.dumps(max(seen) - seen[0]))
        return data

    worker.prepare_data = watched  # type: ignore[assignment,attr-defined]  # read from there


def script_validation(losses: list[float]) -> None:
    """Validations find these losses, one after the other."""
    left = list(losses)

    def scripted(self: Trainer, data: object) -> list[float]:
        return [left.pop(0)]

    Trainer.validate = scripted  # type: ignore[method-assign]
