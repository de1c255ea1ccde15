"""Answers per second and peak memory of the evaluation, beside transformers' `generate` and lm-evaluation-harness.

    python -m tests.benchmarks.evaluation GSM8K_FOLDER [--rows 64] [--rounds 3] [--batch 32]

All let the same new Llama of 17M parameters answer the same questions of GSM8K (test.jsonl) in fp32, each in a process
of its own, alternately: ours, `generate` row by row, lm-evaluation-harness's own HFLM (generate_until, batches of the
same size), and the harness's requests answered by ours. The model's weights are wild and some of its tokens are ends,
so that answers end at varied places as real ones do, up to 256 tokens. Answers must be the same for all, but where
two tokens are as likely to within rounding. On a CPU seconds are those of one thread's computing, whatever else the
machine does; memory is what the process grew by while it answered, at its peak.
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

CONTENDERS = ("tunesmith", "row by row", "lm-eval", "lm-eval on ours")
LONGEST = 256
_ENDS = 60
"""Tokens that end an answer; of a vocabulary of 8,192 this makes answers of 60 to 130 tokens on average."""


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def prepare(data: Path, folder: Path) -> None:
    """Leaves a new model with a tokenizer trained on the questions and answers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tunesmith.api.model import NewModel
    from tunesmith.models.tokenizer import train_tokenizer

    rows = _rows(data / "train.jsonl")
    sizes: dict[str, Any] = {"hiddenSize": 384, "layers": 8, "attentionHeads": 6, "intermediateSize": 1024}
    sizes |= {"contextLength": 1024, "tokenizer": {"vocabularySize": 8192}}
    tokenizer = train_tokenizer(
        (row[c] for row in rows for c in ("question", "answer")), NewModel.model_validate(sizes)
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=384,
        num_hidden_layers=8,
        num_attention_heads=6,
        intermediate_size=1024,
        max_position_embeddings=1024,
        initializer_range=0.3,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    ends = torch.randperm(len(tokenizer) - 300)[:_ENDS] + 300
    model.generation_config.eos_token_id = [int(tokenizer.eos_token_id), *ends.tolist()]
    model.save_pretrained(folder)


def contend(name: str, data: Path, folder: Path, rows: int, batch: int) -> dict[str, Any]:
    """Answers the questions; seconds, memory and answers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().to(device)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [row["question"] for row in _rows(data / "test.jsonl")[:rows]]
    work = {"tunesmith": _ours, "row by row": _row_by_row, "lm-eval": _harness, "lm-eval on ours": _harness_on_ours}
    answer = work[name](model, tokenizer, batch)
    answer(texts[:2])  # what is loaded once does not count
    before = _memory("VmRSS")
    # on one thread of a busy machine, what this process computed says more than what a clock shows
    clock = time.monotonic if device == "cuda" else time.process_time
    started = clock()
    answers = answer(texts)
    seconds = clock() - started
    return {"seconds": seconds, "mebibytes": _memory("VmHWM") - before, "answers": answers}


def _ours(model: Any, tokenizer: Any, batch: int) -> Any:
    from tunesmith.evaluation.generate import generate_answers

    def answer(texts: list[str]) -> list[str | None]:
        prompts = tokenizer(texts, add_special_tokens=False)["input_ids"]
        return generate_answers(model, tokenizer, prompts, LONGEST, batch, lambda done: None).texts

    return answer


def _row_by_row(model: Any, tokenizer: Any, batch: int) -> Any:
    def answer(texts: list[str]) -> list[str]:
        found = []
        for text in texts:
            inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt").to(model.device)
            new = model.generate(**inputs, max_new_tokens=LONGEST, do_sample=False)[0, inputs["input_ids"].shape[1] :]
            found.append(tokenizer.decode(_cut(model, new.tolist()), skip_special_tokens=True))
        return found

    return answer


def _cut(model: Any, tokens: list[int]) -> list[int]:
    """Without the token that ends an answer; those that end it here are ordinary ones to the tokenizer."""
    return tokens[:-1] if tokens and tokens[-1] in model.generation_config.eos_token_id else tokens


def _requests(texts: list[str]) -> list[Any]:
    from lm_eval.api.instance import Instance

    settings = {"until": ["Question:", "</s>", "<|im_end|>"], "do_sample": False, "max_gen_toks": LONGEST}
    return [
        Instance(request_type="generate_until", doc={}, arguments=(text, dict(settings)), idx=index)
        for index, text in enumerate(texts)
    ]


def _harness(model: Any, tokenizer: Any, batch: int) -> Any:
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch, max_length=1024)

    def answer(texts: list[str]) -> list[str]:
        return list(harness.generate_until(_requests(texts), disable_tqdm=True))

    return answer


def _harness_on_ours(model: Any, tokenizer: Any, batch: int) -> Any:
    from tunesmith.evaluation.harness_model import HarnessModel
    from tunesmith.evaluation.outputs import Outputs
    from tunesmith.evaluation.work import Here, Source

    outputs = Outputs(Source("benchmark", "", lambda: model), tokenizer, Here())
    harness = HarnessModel(outputs, batch, context=1024)

    def answer(texts: list[str]) -> list[str]:
        return list(harness.generate_until(_requests(texts)))

    return answer


def _memory(field: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def measure(name: str, data: Path, folder: Path, rows: int, batch: int) -> dict[str, Any]:
    """Runs one contender in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.evaluation", str(data), "--contender", name]
    command += ["--folder", str(folder), "--rows", str(rows), "--batch", str(batch)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train.jsonl and test.jsonl of GSM8K")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--contenders", nargs="+", default=CONTENDERS)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        found = contend(arguments.contender, arguments.data, arguments.folder, arguments.rows, arguments.batch)
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(arguments.data, folder)
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments.contenders}
        for _ in range(arguments.rounds):
            for contender, rounds in results.items():
                rounds.append(measure(contender, arguments.data, folder, arguments.rows, arguments.batch))
        _print(results, _lengths(folder, results))


def _lengths(folder: Path, results: dict[str, list[dict[str, Any]]]) -> list[int]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    first = next(iter(results.values()))[0]["answers"]
    return sorted(len(tokenizer(answer, add_special_tokens=False)["input_ids"]) for answer in first)


def _print(results: dict[str, list[dict[str, Any]]], lengths: list[int]) -> None:
    ours, mine = results["tunesmith"], results["tunesmith"][0]["answers"]
    spread = f"shortest {lengths[0]}, median {lengths[len(lengths) // 2]}, longest {lengths[-1]}"
    print(f"{len(mine)} answers; tokens: {spread}")
    print(f"{'contender':16} {'seconds (min-max)':>24} {'ours is faster by':>18} {'MiB':>7} {'same answers':>13}")
    for name, rounds in results.items():
        seconds = [r["seconds"] for r in rounds]
        ratio = statistics.median(r["seconds"] / o["seconds"] for r, o in zip(rounds, ours, strict=True))
        memory = statistics.median(r["mebibytes"] for r in rounds)
        # the harness leaves the token that ends an answer in the text
        same = sum(a.startswith(b) for a, b in zip(rounds[0]["answers"], mine, strict=True))
        span = f"{statistics.median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f})"
        print(f"{name:16} {span:>24} {ratio:>17.2f}x {memory:>7.0f} {same:>6} of {len(mine)}")


if __name__ == "__main__":
    main()
