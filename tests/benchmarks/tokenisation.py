"""Time to tokenize a data set, side by side with `datasets.map(batched=True, num_proc=all cores)`.

    python -m tests.benchmarks.tokenisation [--data FILE.jsonl] [--repeat 8] [--rounds 3]

Both read the same JSONL, put prompt and answer together, tokenize them with the same tokenizer of 8,192 tokens, and
leave the result on the disk, ready to be trained on; alternately, each in a process of its own. Ours does more: it
splits, hashes each row to find duplicates, and notes which tokens are learned. In brackets is what all processors
together spent, which says more where other work shares them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.sft import synthetic_rows

SPEC = {
    "model": {"source": "tokenizer"},
    "dataset": {
        "train": {"source": "rows.jsonl"},
        "validation": {"fraction": 0.01},
        "columns": {"prompt": "question", "response": "answer"},
    },
    "objective": {"instruction": {"template": "Question: {prompt}\nAnswer: {response}"}},
    "method": {"full": {}},
    "training": {"maxLength": 1024},
}
NEW_MODEL = {"hiddenSize": 32, "layers": 1, "attentionHeads": 2, "intermediateSize": 64, "contextLength": 1024}


def ours(folder: Path) -> int:
    """Prepares the rows as a run does; returns how many tokens there are."""
    from transformers import AutoTokenizer

    from tunesmith.api.job import FineTuneJobSpec
    from tunesmith.data.parts import RunRows
    from tunesmith.data.prepare import prepare_data
    from tunesmith.sources import Resolver

    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    rows = RunRows(FineTuneJobSpec.model_validate(SPEC), Resolver(base=folder))
    data = prepare_data(rows, tokenizer, folder / f"tokens-{os.getpid()}")
    return data.summary.train_tokens


def theirs(folder: Path) -> int:
    """The same with datasets, as TRL and most scripts do it."""
    import datasets
    from transformers import AutoTokenizer

    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")

    def tokenize(batch: dict[str, list[str]]) -> dict[str, Any]:
        pairs = zip(batch["question"], batch["answer"], strict=True)
        return {"input_ids": tokenizer([f"Question: {q}\nAnswer: {a}" for q, a in pairs])["input_ids"]}

    cache = str(folder / f"cache-{os.getpid()}")
    rows = datasets.load_dataset("json", data_files=str(folder / "rows.jsonl"), split="train", cache_dir=cache)
    cores = len(os.sched_getaffinity(0))
    mapped = rows.map(tokenize, batched=True, num_proc=cores, remove_columns=rows.column_names)
    return sum(len(ids) for ids in mapped[:1000]["input_ids"]) * len(mapped) // 1000  # only to show that it is there


def processor_seconds() -> float:
    """Of this process and those that it has waited for."""
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system


def measure(contender: str, folder: Path) -> tuple[float, float]:
    """Seconds of one contender, and those of all processors; imports and start of Python not counted."""
    command = [sys.executable, "-m", "tests.benchmarks.tokenisation", "--contender", contender, "--folder", str(folder)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{contender} failed:\n{done.stderr[-3000:]}")
    wall, processors = map(float, done.stdout.split()[-2:])
    return wall, processors


def prepare(folder: Path, data: Path | None, repeat: int) -> int:
    """Writes the rows, `repeat` times with a number of their own, and a tokenizer; returns the number of rows."""
    from tunesmith.api.model import NewModel
    from tunesmith.models.tokenizer import train_tokenizer

    text = data.read_text(encoding="utf-8") if data else "".join(json.dumps(r) + "\n" for r in synthetic_rows(4000))
    rows = [json.loads(line) for line in text.split("\n") if line]
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        for number in range(repeat):
            file.writelines(json.dumps(row | {"question": f"{number}. {row['question']}"}) + "\n" for row in rows)
    config = NewModel.model_validate(NEW_MODEL | {"tokenizer": {"vocabularySize": 8192}})
    train_tokenizer((f"{row['question']} {row['answer']}" for row in rows), config).save_pretrained(
        folder / "tokenizer"
    )
    return len(rows) * repeat


def main() -> None:
    """Prints the seconds of both in each round, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="JSONL with question and answer (default: made up)")
    parser.add_argument("--repeat", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contender", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        import datasets  # noqa: F401  # what both import is not counted
        import transformers

        import tunesmith.data.prepare  # noqa: F401

        transformers.AutoTokenizer.from_pretrained(arguments.folder / "tokenizer")  # imports more
        started, before = time.perf_counter(), processor_seconds()
        (ours if arguments.contender == "ours" else theirs)(arguments.folder)
        print(time.perf_counter() - started, processor_seconds() - before)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = prepare(folder, arguments.data, arguments.repeat)
        megabytes = (folder / "rows.jsonl").stat().st_size / 1e6
        print(f"{rows:,} rows, {megabytes:.0f} MB of JSONL, {len(os.sched_getaffinity(0))} cores")
        seen: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
        for _ in range(arguments.rounds):
            for contender in seen:
                seen[contender].append(measure(contender, folder))
            print("  ".join(f"{name} {seen[name][-1][0]:.1f} s ({seen[name][-1][1]:.1f})" for name in seen), flush=True)
    for index, kind in enumerate(("time", "time of processors")):
        pairs = [(a[index], b[index]) for a, b in zip(seen["ours"], seen["theirs"], strict=True)]
        own, other = (statistics.median(values) for values in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"median {kind}: ours {own:.1f} s, datasets.map {other:.1f} s; ours is {ratio:.2f} times as fast")


if __name__ == "__main__":
    main()
