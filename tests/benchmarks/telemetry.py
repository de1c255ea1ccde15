"""What the metrics of a run cost, as a share of its steps' time.

    python -m tests.benchmarks.telemetry [--pairs 200] [--block 2] [--layers 4] [--hidden 256] [--scrape-seconds 15]

One process trains a new Llama with telemetry and without it by turns, in blocks of steps: with it, time is divided
among phases, operations are counted, each step gets a line in metrics.jsonl, and another process scrapes /metrics as
often as Prometheus would; without it, there is nothing of these. The figure is the median of the pairs' differences,
with its 95% interval by bootstrap; in CPU time of the process, which other programs disturb less, and in elapsed time.
"""

import argparse
import json
import random
import socket
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.benchmarks.memory import ROW_TOKENS, body_of


def scrape(port: int, wanted: Any, seconds: float) -> None:
    """Asks for /metrics again and again for as long as it is wanted."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while wanted.wait():
        with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            answer.read()
        time.sleep(seconds)


@dataclass(frozen=True)
class Block:
    """Some steps."""

    cpu: float
    """Seconds of all threads of the process."""
    elapsed: float


def measure(steps: Callable[[], None]) -> Block:
    """What some steps take."""
    cpu, started = time.process_time(), time.perf_counter()
    steps()
    return Block(time.process_time() - cpu, time.perf_counter() - started)


def probe_of(pairs: int, block: int, wanted: Any, found: list[tuple[Block, Block]], costs: list[float]) -> Any:
    """What a worker does instead of training."""
    from tunesmith.api.outcome import Outcome
    from tunesmith.training.checkpoint import Position
    from tunesmith.training.clock import StepClock
    from tunesmith.training.flops import ModelFlops
    from tunesmith.training.loop import Trainer

    class NoClock(StepClock):
        @contextmanager
        def phase(self, name: Any) -> Iterator[None]:
            yield

    class NoFlops(ModelFlops):
        def batch(self, batch: Any) -> float:
            return 0.0

    def probe(trainer: Trainer, position: Position) -> Outcome:
        telling = trainer
        silent = replace(trainer, telemetry=None, clock=NoClock(), flops=NoFlops(0, (), 0, 0, False))
        place = [position]

        def run(each: Trainer) -> None:
            for _ in range(block):
                started = time.perf_counter()
                place[0], record = each._step(place[0])
                del record["stop"]
                flops = record.pop("flops")
                if each.telemetry is not None:
                    told = time.thread_time()
                    each._tell(place[0], record, flops, time.perf_counter() - started, False)
                    costs.append(time.thread_time() - told)

        with closing(telling.ahead), closing(silent.ahead):
            run(telling)
            run(silent)
            for pair in range(pairs):
                blocks = {}
                for each in (telling, silent) if pair % 2 else (silent, telling):
                    (wanted.set if each is telling else wanted.clear)()
                    blocks[each is telling] = measure(lambda each=each: run(each))  # type: ignore[misc]
                found.append((blocks[True], blocks[False]))
        return Outcome(reason="Succeeded")

    return probe


def shares(pairs: list[tuple[Block, Block]], of: str) -> tuple[float, float, float]:
    """The median of what telemetry adds, and its 95% interval."""
    added = [getattr(told, of) / getattr(silent, of) - 1 for told, silent in pairs]
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(added, k=len(added))) for _ in range(2000))
    return statistics.median(added), medians[50], medians[-50]


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--block", type=int, default=2, help="steps")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--scrape-seconds", type=float, default=15, help="between two, as Prometheus is set")
    arguments = parser.parse_args()

    from tunesmith.api.job import FineTuneJob
    from tunesmith.api.pod import RunFolder
    from tunesmith.launch.folder import open_folder
    from tunesmith.sources import Resolver
    from tunesmith.training.assignment import Assignment
    from tunesmith.training.worker import run_worker

    model = {
        "hiddenSize": arguments.hidden,
        "layers": arguments.layers,
        "attentionHeads": 8,
        "intermediateSize": 4 * arguments.hidden * 2 // 3 // 64 * 64,
        "contextLength": ROW_TOKENS,
        "tokenizer": {"vocabularySize": 2048},
    }
    with tempfile.TemporaryDirectory() as name, socket.socket() as free:
        folder = Path(name)
        with (folder / "rows.jsonl").open("w") as lines:
            for i in range(64):
                text = " ".join(f"item{(i * 31 + j) % 997}" for j in range(ROW_TOKENS))
                lines.write(json.dumps({"text": text}) + "\n")
        steps = 2 * (arguments.pairs + 1) * arguments.block + 1
        body = body_of({"training": {"batchSize": 4, "microBatchSize": 4}}, model, folder / "rows.jsonl", folder, steps)
        body["spec"]["training"]["logEverySteps"] = 1
        free.bind(("", 0))
        port = free.getsockname()[1]
        free.close()
        spawn = get_context("spawn")
        wanted, found, costs = spawn.Event(), list[tuple[Block, Block]](), list[float]()
        scraper = spawn.Process(target=scrape, args=(port, wanted, arguments.scrape_seconds), daemon=True)
        scraper.start()
        probe = probe_of(arguments.pairs, arguments.block, wanted, found, costs)
        job, run = FineTuneJob.model_validate(body), RunFolder(folder / "run")
        with open_folder(run, job):
            outcome = run_worker(Assignment(job, run, Resolver(), metrics_port=port, probe=probe))
        scraper.terminate()
        if outcome.reason != "Succeeded":
            raise SystemExit(f"{outcome.reason}: {outcome.message}")
    step = statistics.median(silent.elapsed for _, silent in found) / arguments.block
    print(
        f"a step without telemetry: {1000 * step:.1f} ms; to note one: {1e6 * statistics.median(costs):.0f} us of CPU"
    )
    print("| added by telemetry | median | 95% interval |\n|---|---|---|")
    for of in ("cpu", "elapsed"):
        middle, low, high = shares(found, of)
        print(f"| {of} time | {100 * middle:+.2f}% | {100 * low:+.2f}% to {100 * high:+.2f}% |")


if __name__ == "__main__":
    main()
