"""PPO comes to the optimum that is known in closed form, by the real loop: at least 99% of the way."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.benchmarks.ppo_problem import word_tokenizer
from tests.model.optimum import Task, policy_of, table_llama, tiny_llama
from tests.model.policies import policy_job, trainer_of
from tunesmith.data.collate import Batch

END, PAD = 0, 1
pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS: dict[str, list[tuple[int, ...]]] = {"table": [(2,), (3,), (4,)], "transformer": [(2, 8), (3, 8), (4, 8)]}
"""A transformer is shown two tokens: of one, and of the same token twice, attention makes the same."""
VOCABULARY = 9
BETA = 0.4


def task_of(kind: str, seed: int) -> tuple[Task, Any]:
    """Rewards that hang on the last two tokens of prompt and answer together, and what gives them to a batch."""
    table = np.random.default_rng(seed).normal(size=(VOCABULARY, VOCABULARY))

    def reward(prompt: tuple[int, ...], answers: Any) -> Any:
        return np.array([table[(*prompt, *answer)[-2], answer[-1]] for answer in answers])

    def score(batch: Batch) -> torch.Tensor:
        ends = batch.keep[0].nonzero().squeeze(1)
        ids = batch.input_ids[0]
        return torch.from_numpy(table)[ids[ends - 1], ids[ends]]

    return Task(tuple(PROMPTS[kind]), VOCABULARY, END, 2, reward, BETA), score


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", ["table", "transformer"])
def test_the_gap_is_closed(kind: str, seed: int, tmp_path: Path) -> None:
    assert gap_closed(kind, seed, tmp_path) >= 0.99


def gap_closed(kind: str, seed: int, folder: Path) -> float:
    """How much of the way to the optimum PPO goes."""
    table = kind == "table"
    if table:
        new = table_llama(VOCABULARY, END, PAD, {PAD, *(prompt[0] for prompt in PROMPTS[kind])}, seed)
    else:
        new = tiny_llama(VOCABULARY, END, PAD, seed, layers=2, hidden=64)
    new.save_pretrained(folder / "base")
    word_tokenizer([f"w{token}" for token in range(2, VOCABULARY)]).save_pretrained(folder / "base")
    prompts = [" ".join(f"w{token}" for token in prompt) for prompt in PROMPTS[kind]]
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": prompts[i % 3]}) + "\n" for i in range(768)))
    task, score = task_of(kind, seed)
    ppo: dict[str, Any] = {"klCoefficient": BETA, "maxNewTokens": 2, "epochs": 4, "miniBatches": 2}
    ppo |= {"template": "{prompt}{response}", "gaeLambda": 1.0}
    ppo |= {"valueLearningRate": 0.02, "valueCoefficient": 1.0, "valueClipRange": 10.0}
    job = policy_job(
        rows,
        folder / "base",
        ppo,
        {"full": {}},
        validation=False,
        maxSteps=40 if table else 60,
        batchSize=768,
        microBatchSize=768,
        maxLength=8,
        learningRate=0.1 if table else 0.002,
        schedule={"type": "cosine", "warmup": 0.0},
        checkpoint={"everySteps": 1000},
    )
    trainer, position = trainer_of(job, folder / "run")
    trainer = replace(
        trainer, collector=replace(trainer.collector, rules={}, models={0: score}, ppo=_one_term(trainer))
    )
    reference = policy_of(new)
    trainer.run(position)
    return task.gap_closed(policy_of(trainer.collector.roles.policy), reference)


def _one_term(trainer: Any) -> Any:
    return trainer.ppo.model_copy(update={"reward": trainer.ppo.reward[:1]})
