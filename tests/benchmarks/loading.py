"""Whether making the next step's batches in a thread pays on a CPU: the same run with and without it, alternately.

python -m tests.benchmarks.loading [--rounds 5]
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from tests.model.jobs import body_of, write_rows
from tests.model.plants import make_batches_ahead
from tests.model.processes import train
from tunesmith.api.job import FineTuneJob
from tunesmith.api.pod import RunFolder


def speed(folder: Path, ahead: bool) -> float:
    """Tokens per second of a run's median step."""
    rows = folder.parent / "rows.jsonl"
    write_rows(rows, 4000)
    body = body_of(rows, epochs=1, batchSize=128, microBatchSize=32)
    body["spec"]["model"]["config"] |= {"hiddenSize": 128, "layers": 3, "intermediateSize": 384}
    run = RunFolder(folder)
    (outcome,) = train(FineTuneJob.model_validate(body), run, plant=make_batches_ahead if ahead else None)
    if outcome.reason != "Succeeded":
        raise SystemExit(outcome.message)
    records = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return float(statistics.median(record["tokens_per_second"] for record in records))


def main() -> None:
    """Prints tokens per second of both in each round, and their median ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            order = (False, True) if number % 2 == 0 else (True, False)
            speeds = {ahead: speed(Path(folder) / f"{number}-{ahead}", ahead) for ahead in order}
            ratios.append(speeds[True] / speeds[False])
            print(f"in the loop {speeds[False]:,.0f}, in a thread {speeds[True]:,.0f} tokens/s", flush=True)
    print(f"in a thread is {statistics.median(ratios):.2f} times as fast (median of {arguments.rounds} pairs)")


if __name__ == "__main__":
    main()
