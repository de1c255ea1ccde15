"""`tunesmith estimate`: the memory that a worker of a job needs, whether it fits, and what would make it fit."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tunesmith.api.architecture import Architecture
from tunesmith.api.fitting import change_that_fits
from tunesmith.api.job import FineTuneJob
from tunesmith.api.load import InputError, Problem, load_jobs
from tunesmith.api.quantity import parse_quantity
from tunesmith.api.sizing import GIB, estimate, trained_weights
from tunesmith.api.source import Location
from tunesmith.cli.mounts import add_mount_argument
from tunesmith.sources import Resolver

PLACE = "spec.model.source"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("-f", "--filename", type=Path, required=True, help="a file with FineTuneJobs and RLHFPipelines")
    parser.add_argument("--device-memory", type=_bytes, metavar="SIZE", help="a GPU's memory, for example 80Gi")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs of other jobs are")
    add_mount_argument(parser)
    parser.set_defaults(main=main)


def _bytes(text: str) -> int:
    try:
        return int(parse_quantity(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main(arguments: argparse.Namespace) -> int:
    """Prints a table for each job of the file; 1 where one does not fit."""
    jobs = load_jobs(arguments.filename)
    resolver = Resolver(mounts=dict(arguments.mount), base=arguments.filename.parent, runs=arguments.runs)
    console = Console(highlight=False)
    training = [job for job in jobs if job.spec.trains]
    for job in jobs:
        if job not in training:
            console.print(f"{job.metadata.name}: trains nothing; only the memory of a training is estimated")
    fitting = [_show(job, architecture_of(job, jobs, resolver), arguments.device_memory, console) for job in training]
    return 0 if all(fitting) else 1


def _show(job: FineTuneJob, model: Architecture, device_memory: int | None, console: Console) -> bool:
    spec = job.spec
    on_gpu = device_memory is not None or spec.scaling.resources.gpu is not None
    memory = estimate(spec, model, on_gpu)
    limit, whose = _limit(job, device_memory, on_gpu)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, size in memory.parts.items():
        if size:
            table.add_row(name, f"{size / GIB:,.2f} GiB")
    table.add_row("total, at most", f"{memory.total / GIB:,.2f} GiB", style="bold")
    console.rule(f"{job.metadata.name}: {'GPU' if on_gpu else 'CPU'} memory of each worker", align="left")
    trained, _ = trained_weights(spec, model)
    console.print(f"{model.weights:,} weights, {trained:,} of them trained")
    console.print(table)
    if limit is None:
        console.print("the GPU's memory is not known here: give it with --device-memory, for example 80Gi")
        return True
    verdict = f"{whose} ({limit / GIB:,.1f} GiB)"
    if memory.total <= limit:
        console.print(f"fits in {verdict}")
        return True
    change = change_that_fits(spec, model, limit, on_gpu)
    console.print(f"does not fit in {verdict}; {change or 'nothing that was tried makes it fit: take a smaller model'}")
    return False


def _limit(job: FineTuneJob, device_memory: int | None, on_gpu: bool) -> tuple[float | None, str]:
    """Bytes that a worker has, and what says so."""
    if device_memory is not None:
        return device_memory, "--device-memory"
    if on_gpu:
        import torch

        return (torch.cuda.mem_get_info()[1], "this machine's GPU") if torch.cuda.is_available() else (None, "")
    wanted = job.spec.scaling.resources.memory
    if wanted is not None:
        return float(parse_quantity(wanted)), "spec.scaling.resources.memory"
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
    workers = job.spec.scaling.workers
    share = "this machine's memory" if workers == 1 else f"this machine's memory over {workers} workers"
    return int(lines["MemTotal"].split()[0]) * 1024 / workers, share


def architecture_of(job: FineTuneJob, jobs: Sequence[FineTuneJob], resolver: Resolver) -> Architecture:
    """The dimensions of a job's model: from the job, from one that it starts from in the same file, or from a
    config.json.

    Raises:
        InputError: there is none, or it does not say.
    """
    spec = job.spec.model
    if spec.config is not None:
        return Architecture.of_new_model(spec.config)
    before = next((other for other in jobs if other.metadata.name == spec.job), None)
    if before is not None and before is not job:
        return architecture_of(before, [other for other in jobs if other is not job], resolver)
    assert spec.source is not None
    location = Location.parse(spec.source)
    if location.scheme == "hf":
        return _from_hub(location.name, location.revision)
    return _from_folder(resolver.path(location, PLACE))


def _from_folder(folder: Path) -> Architecture:
    adapter = folder / "adapter_config.json"
    if adapter.exists():
        base = str(json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"])
        return _from_folder(Path(base)) if Path(base).is_dir() else _from_hub(base, None)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(Problem(f"{folder} holds no config.json that can be read", PLACE)) from None
    return _known(Architecture.of_config(config), str(folder))


def _from_hub(name: str, revision: str | None) -> Architecture:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(name, revision=revision)
    except (OSError, ValueError) as error:
        raise InputError(Problem(f"its configuration cannot be loaded: {str(error).splitlines()[0]}", PLACE)) from None
    return _known(Architecture.of_config(config.to_dict()), name)


def _known(architecture: Architecture | None, name: str) -> Architecture:
    if architecture is None:
        raise InputError(
            Problem(f"the configuration of {name} does not name its dimensions as it is known here", PLACE)
        )
    return architecture
