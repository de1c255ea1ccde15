"""What is kept of one kind of text while another is learned: with l2Pull, with an adapter, with old text in the mix.

    python -m tests.benchmarks.forgetting_texts --old shakespeare.txt --new gsm8k/train.jsonl [--folder DIR]

A Llama of 2 million weights learns the old text, then goes on with questions and answers, with each method. Unlike
addition and subtraction (tests.benchmarks.forgetting) the two do not want different things of the same tokens. The
perplexities are those of a twentieth of each text, which none is trained on. Prints a table of docs/methods.md.
"""

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.forgetting import train
from tests.benchmarks.quantization import body_of
from tunesmith.api.dataset import DataSource
from tunesmith.api.job import FineTuneJob
from tunesmith.cli.terminal import quiet_libraries
from tunesmith.data.collate import Collator
from tunesmith.data.rows import read_rows
from tunesmith.evaluation.loss import encode_test, row_losses
from tunesmith.models.load import ModelLocation, load_model, load_tokenizer
from tunesmith.sources import Resolver

STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0)
RATE = 1e-3


def write_texts(old: Path, new: Path, folder: Path) -> None:
    """Both texts as rows of about 500 characters, each in a part to learn and a part that is held out."""
    lines = old.read_text(encoding="utf-8").split("\n\n")
    speeches = ["\n\n".join(lines[first : first + 4]) for first in range(0, len(lines), 4)]
    rows = [json.loads(line) for line in new.read_text(encoding="utf-8").split("\n") if line]
    for name, texts in (("old", speeches), ("new", [f"{row['question']}\n{row['answer']}" for row in rows])):
        held = len(texts) // 20
        for part, some in (("held", texts[:held]), ("train", texts[held:])):
            file = folder / f"{name}.{part}.jsonl"
            file.write_text("".join(json.dumps({"text": text}) + "\n" for text in some), encoding="utf-8")


def job_of(dataset: dict[str, Any], steps: int, changes: dict[str, Any], **training: Any) -> FineTuneJob:
    """The job of the table of exports on other data."""
    body = body_of(Path("unused"), None, steps)
    body["spec"] |= {"dataset": dataset} | changes
    body["spec"]["training"] |= training
    return FineTuneJob.model_validate(body)


def runs(folder: Path, steps: int) -> dict[str, tuple[Path, FineTuneJob]]:
    """What is trained after the base: name, folder, job."""
    old, new = {"source": str(folder / "old.train.jsonl")}, {"source": str(folder / "new.train.jsonl")}
    mixed = {"mixture": [new | {"weight": 9}, old | {"weight": 1}]}
    start = {"model": {"source": str(folder / "base" / "model")}}
    ways: dict[str, tuple[dict[str, Any], dict[str, Any], float]] = {"full": (new, {"full": {}}, RATE)}
    ways |= {f"full, l2Pull {strength:g}": (new, {"full": {"l2Pull": strength}}, RATE) for strength in STRENGTHS}
    ways["lora"] = (new, {"lora": {"rank": 8, "alpha": 16}}, 5 * RATE)
    ways["full, one row in ten of the old text"] = (mixed, {"full": {}}, RATE)
    return {
        name: (
            folder / name.replace(", ", "-").replace(" ", "-"),
            job_of({"train": data}, steps, start | {"method": method}, learningRate=rate),
        )
        for name, (data, method, rate) in ways.items()
    }


def perplexity(model: Path, text: Path, job: FineTuneJob) -> float:
    """Of a held-out part."""
    location = ModelLocation(str(model))
    tokenizer = load_tokenizer(location)
    source = DataSource.model_validate({"source": str(text)})
    rows = encode_test(read_rows(source, Resolver(), "spec.dataset.test"), job.spec, tokenizer)
    collator = Collator(int(tokenizer.pad_token_id), packed=False)
    losses = row_losses(load_model(location, torch.float32).eval(), rows, collator, 16, lambda done: None)
    return math.exp(losses.sum() / rows.tokens.sum())


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, required=True, help="a text file")
    parser.add_argument("--new", type=Path, required=True, help="rows with question and answer")
    parser.add_argument("--steps", type=int, default=400, help="of the base, and half as many after it")
    parser.add_argument("--folder", type=Path, help="where to; what was trained there is not trained again")
    arguments = parser.parse_args()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.folder or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        write_texts(arguments.old, arguments.new, folder)
        base = job_of({"train": {"source": str(folder / "old.train.jsonl")}}, arguments.steps, {})
        train(base, folder / "base")
        print("| method | old text | new text | distance |\n|---|---|---|---|")
        for name, (run, job) in {"before": (folder / "base", base), **runs(folder, arguments.steps // 2)}.items():
            train(job, run)
            last = json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").strip().split("\n")[-1])
            both = [perplexity(run / "model", folder / f"{text}.held.jsonl", job) for text in ("old", "new")]
            distance = f"{last['l2_distance']:.2f}" if "l2_distance" in last else ""
            print(f"| {name} | {both[0]:.1f} | {both[1]:.1f} | {distance} |", flush=True)


if __name__ == "__main__":
    main()
