"""`tunesmith find`: a learning rate, or the largest micro-batch, for a job; the job itself is not run."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tunesmith.api.job import FineTuneJob
from tunesmith.api.load import InputError, Problem, load_jobs
from tunesmith.api.sizing import GIB
from tunesmith.cli.mounts import add_mount_argument
from tunesmith.cli.terminal import quiet_libraries
from tunesmith.sources import Resolver


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    kinds = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    rate = kinds.add_parser("learning-rate", help="a range test: the loss at rates that rise from step to step")
    rate.add_argument("--steps", type=int, default=100, help="at most so many optimizer steps (default: 100)")
    rate.add_argument("--low", type=float, default=1e-6, help="the first rate (default: 1e-6)")
    rate.add_argument("--high", type=float, default=1.0, help="the last rate (default: 1)")
    rate.add_argument("--output", type=Path, help="a folder for the curve (default: runs/NAME-find)")
    rate.set_defaults(main=learning_rate)
    size = kinds.add_parser("micro-batch", help="doubles the micro-batch until memory runs out")
    size.set_defaults(main=micro_batch)
    for kind in (rate, size):
        kind.add_argument("-f", "--filename", type=Path, required=True, help="a file with FineTuneJobs")
        kind.add_argument("--job", help="the name of a job in the file, where there are several")
        kind.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs of other jobs are")
        add_mount_argument(kind)


def _job(arguments: argparse.Namespace) -> tuple[FineTuneJob, Resolver]:
    """The job that is meant.

    Raises:
        InputError: the file holds several, or none of that name.
    """
    jobs = load_jobs(arguments.filename)
    names = [job.metadata.name for job in jobs]
    if arguments.job is None and len(jobs) > 1:
        raise InputError(Problem(f"choose one of the jobs in {arguments.filename}: {', '.join(names)}", "--job"))
    if arguments.job is not None and arguments.job not in names:
        raise InputError(Problem(f"{arguments.filename} holds no such job, but {', '.join(names)}", "--job"))
    job = jobs[0 if arguments.job is None else names.index(arguments.job)]
    if not job.spec.trains:
        raise InputError(Problem(f"{job.metadata.name} trains nothing: there is nothing to find", "spec.objective"))
    return job, Resolver(mounts=dict(arguments.mount), base=arguments.filename.parent, runs=arguments.runs)


def learning_rate(arguments: argparse.Namespace) -> int:
    """Prints a rate, why, and the line for the job."""
    if not 0 < arguments.low < arguments.high <= 100:
        raise InputError(Problem("should be positive, below --high, and that at most 100", "--low"))
    if arguments.steps < 20:
        raise InputError(Problem("should be at least 20: a shorter curve tells nothing", "--steps"))
    job, resolver = _job(arguments)
    quiet_libraries()
    from tunesmith.launch.rate_test import run_rate_test

    target = arguments.output or arguments.runs / f"{job.metadata.name}-find"
    curve = run_rate_test(job, resolver, target, arguments.steps, arguments.low, arguments.high)
    console = Console(highlight=False, soft_wrap=True)
    rates, smooth = curve.rates, curve.smooth
    console.print(
        f"{len(rates)} steps: the loss falls fastest at {rates[curve.steepest]:.1e} (loss {smooth[curve.steepest]:.4f})"
        f" and is lowest at {rates[curve.lowest]:.1e} (loss {smooth[curve.lowest]:.4f})"
    )
    if curve.lowest >= len(rates) - 2:
        console.print("the loss still fell at the highest rate: try again with a higher --high", style="yellow")
    console.print(
        f"suggested: {curve.suggested:.1e}, a tenth of the rate with the lowest loss: just beyond that one training "
        "diverges, and a run of many steps at a rate near it would; the steepest descent is the bolder choice"
    )
    console.print(f"curve: {target / 'learning-rate.png'}\n\ntraining:\n  learningRate: {curve.suggested:.1e}")
    return 0


def micro_batch(arguments: argparse.Namespace) -> int:
    """Prints a line for each size, and the line for the job; 1 where not even one row fits."""
    job, resolver = _job(arguments)
    quiet_libraries()
    import torch

    from tunesmith.launch.micro_batch import Tried, find_micro_batch, memory_limit

    limit = None if torch.cuda.is_available() else memory_limit(job)
    console = Console(highlight=False, soft_wrap=True)
    if limit is not None:
        console.print(f"at most {limit / GIB:,.1f} GiB for a worker, on the longest rows of the data")
    with console.status("tries the size of the job") as status:

        def tell(result: Tried) -> None:
            status.update(f"{result.size} rows {'fit' if result.peak is not None else 'do not fit'}")

        tried = find_micro_batch(job, resolver, limit, tell)
    table = Table("microBatchSize", "peak", "tokens/s", box=None, pad_edge=False)
    for column in table.columns:
        column.justify = "right"
    for result in tried:
        peak = f"{result.peak / GIB:,.2f} GiB" if result.peak is not None else "does not fit"
        table.add_row(str(result.size), peak, f"{result.tokens_per_second:,.0f}" if result.peak is not None else "")
    console.print(table)
    fitting = [result for result in tried if result.peak is not None]
    if not fitting:
        console.print("not even one row fits: `tunesmith estimate` says what would help")
        return 1
    fastest = max(fitting, key=lambda result: result.tokens_per_second)
    if fastest is not fitting[-1]:
        console.print(f"{fastest.size} is the fastest; the result of training is the same with each")
    console.print(f"\ntraining:\n  microBatchSize: {fitting[-1].size}")
    return 0
