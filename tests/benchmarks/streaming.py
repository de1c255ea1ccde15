"""Peak memory and time of preparing a text set that is far larger than what the process may hold.

    python -m tests.benchmarks.streaming [--megabytes 2000] [--compare 20] [--folder DIR]

`tunesmith run` trains a tiny new model for a few steps on a text file of each size, with a share of the rows set aside,
so that the set is split, a tokenizer is trained on it, and everything is tokenized. The memory of its process is read
from /proc all the while: what it holds itself (anonymous), and with it the mapped pages of files, which the kernel
takes back when it wants to. Files are removed afterwards.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

JOB = {
    "apiVersion": "tunesmith.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "streaming"},
    "spec": {
        "model": {
            "config": {
                "hiddenSize": 32,
                "layers": 1,
                "attentionHeads": 2,
                "intermediateSize": 64,
                "contextLength": 256,
                "tokenizer": {"vocabularySize": 8192},
            }
        },
        "dataset": {"train": {"source": "text.txt"}, "validation": {"fraction": 0.001}},
        "objective": {"causalLM": {}},
        "method": {"full": {}},
        "training": {"maxSteps": 5, "batchSize": 16, "maxLength": 256, "precision": "fp32"},
    },
}
DISK_PER_BYTE = 4
"""Bytes on the disk for a byte of text, at most: the text, and its tokens in 5 bytes each."""


@dataclass
class Watched:
    """What was seen of a run."""

    megabytes: float
    seconds_preparing: float
    tokens: int
    peak: float
    """MiB, mapped files included."""
    peak_anonymous: float
    """MiB."""


def write_text(file: Path, megabytes: float) -> None:
    """Writes random lines of made-up words, some far more common than others."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(30_000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    lines = [" ".join(draw.choices(words, weights, k=12)) + "\n" for _ in range(50_000)]
    left = int(megabytes * 1e6)
    with file.open("w", encoding="ascii") as text:
        while left > 0:
            block = "".join(draw.choices(lines, k=20_000))[:left]
            left -= len(block)
            text.write(block)


def watch(megabytes: float, folder: Path) -> Watched:
    """Runs the command on a text of a size, and looks at its memory ten times a second."""
    write_text(folder / "text.txt", megabytes)
    (folder / "job.yaml").write_text(yaml.safe_dump(JOB), encoding="utf-8")
    run = folder / "runs" / "streaming"
    log = folder / "log"
    peak = anonymous = began = ended = 0.0
    with log.open("w") as output:
        command = [sys.executable, "-m", "tunesmith.cli.main", "run", "-f", "job.yaml"]
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
        while process.poll() is None:
            memory = _memory(process.pid)
            peak, anonymous = max(peak, memory.get("VmHWM", 0.0)), max(anonymous, memory.get("RssAnon", 0.0))
            began = began or (time.monotonic() if (run / ".partial-tokens").exists() else 0.0)
            ended = ended or (time.monotonic() if (run / "data.json").exists() else 0.0)
            time.sleep(0.1)
    if process.returncode != 0:
        raise SystemExit(log.read_text())
    summary = json.loads((run / "data.json").read_text())
    print(log.read_text(), file=sys.stderr)
    return Watched(megabytes, ended - began, summary["train_tokens"], peak, anonymous)


def _memory(process: int) -> dict[str, float]:
    """The figures of /proc/PID/status that are in kB, in MiB."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return {}
    return {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.endswith(" kB")}


def main() -> None:
    """Prints a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=2000)
    parser.add_argument("--compare", type=float, default=20)
    parser.add_argument("--folder", type=Path, help="where to put the text and the run (default: the system's)")
    arguments = parser.parse_args()
    print(f"{'text MB':>8} {'tokens':>13} {'prepared in s':>14} {'MB/s':>6} {'peak MiB':>9} {'of it anonymous':>16}")
    for megabytes in (arguments.compare, arguments.megabytes):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            if shutil.disk_usage(folder).free < megabytes * 1e6 * DISK_PER_BYTE:
                raise SystemExit(f"{megabytes:,.0f} MB of text need {megabytes * DISK_PER_BYTE:,.0f} MB of free disk")
            seen = watch(megabytes, Path(folder))
        speed = megabytes / seen.seconds_preparing
        print(
            f"{megabytes:8,.0f} {seen.tokens:13,} {seen.seconds_preparing:14.1f} {speed:6.1f} {seen.peak:9,.0f} "
            f"{seen.peak_anonymous:16,.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
