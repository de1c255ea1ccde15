"""What the benchmarks of methods share: a small Llama that has learnt to add, and jobs that teach it to subtract."""

import json
import math
from pathlib import Path
from typing import Any

import yaml

from tunesmith.api.cluster import Resources
from tunesmith.api.dataset import DataSource
from tunesmith.api.job import FineTuneJob
from tunesmith.api.load import load_jobs
from tunesmith.data.collate import Collator
from tunesmith.data.encode import encode_prompts
from tunesmith.data.rows import read_rows
from tunesmith.evaluation.generate import generate_answers
from tunesmith.evaluation.loss import encode_test, row_losses
from tunesmith.models.load import ModelLocation, load_tokenizer
from tunesmith.sources import Resolver

ROOT = Path(__file__).parents[2]
DATA = ROOT / "examples/arithmetic"
RESOLVER = Resolver(mounts={"arithmetic": DATA})


def addition_job() -> FineTuneJob:
    """The first job of the sample, without its evaluation."""
    return _alone(load_jobs(ROOT / "manifests/samples/arithmetic.yaml")[0])


def subtraction_job(base: Path, method: dict[str, Any], epochs: float, rate: float, **model: Any) -> FineTuneJob:
    """Its second job with another method."""
    text = (ROOT / "manifests/samples/arithmetic.yaml").read_text(encoding="utf-8")
    body = list(yaml.safe_load_all(text))[1]
    body["spec"] |= {"model": {"source": str(base)} | model, "method": method}
    body["spec"]["training"] |= {"epochs": epochs, "learningRate": rate}
    return _alone(FineTuneJob.model_validate(body))


def exact_match(model: Any, tokenizer_folder: Path, task: str) -> float:
    """The share of a task's 500 held-out problems that a model solves."""
    lines = (DATA / f"{task}.test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    tokenizer = load_tokenizer(ModelLocation(str(tokenizer_folder)))
    prompts = encode_prompts([f"{row['prompt']} " for row in rows], addition_job().spec, tokenizer)
    answers = generate_answers(model.eval(), tokenizer, prompts, 8, 250, lambda done: None).texts
    right: list[bool] = [a is not None and a.strip() == row["response"] for a, row in zip(answers, rows, strict=True)]
    return sum(right) / len(right)


def perplexity(model: Any, tokenizer_folder: Path, task: str) -> float:
    """The perplexity of the answers to a task's 500 held-out problems."""
    job = addition_job()
    tokenizer = load_tokenizer(ModelLocation(str(tokenizer_folder)))
    source = DataSource.model_validate({"source": str(DATA / f"{task}.test.jsonl")})
    rows = encode_test(read_rows(source, RESOLVER, "spec.dataset.test"), job.spec, tokenizer)
    losses = row_losses(model.eval(), rows, Collator(int(tokenizer.pad_token_id), packed=False), 250, lambda done: None)
    return math.exp(losses.sum() / rows.tokens.sum())


def _alone(job: FineTuneJob) -> FineTuneJob:
    """The job without its evaluation, on one core."""
    scaling = job.spec.scaling.model_copy(update={"resources": Resources(cpu="1")})
    return job.model_copy(update={"spec": job.spec.model_copy(update={"evaluation": None, "scaling": scaling})})
