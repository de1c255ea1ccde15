"""PPO comes to the optimum that is known in closed form, by the real loop."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.model.optimum import Task, policy_of, table_llama, tiny_llama
from tests.model.policies import policy_job, trainer_of
from tunesmith.data.collate import Batch

END, PAD = 0, 1
PROMPTS = (2, 3, 4)
VOCABULARY = 9
BETA = 0.4


def save_tokenizer(folder: Path) -> None:
    words = {"<end>": END, "<pad>": PAD} | {f"w{index}": index for index in range(2, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>").save_pretrained(folder)


def task_of(seed: int, longest: int) -> tuple[Task, Any]:
    """Rewards that hang on the last two tokens of prompt and answer together, and what gives them to a batch."""
    table = np.random.default_rng(seed).normal(size=(VOCABULARY, VOCABULARY))

    def reward(prompt: tuple[int, ...], answers: Any) -> Any:
        return np.array([table[(*prompt, *answer)[-2], answer[-1]] for answer in answers])

    def score(batch: Batch) -> torch.Tensor:
        ends = batch.keep[0].nonzero().squeeze(1)
        ids = batch.input_ids[0]
        return torch.from_numpy(table)[ids[ends - 1], ids[ends]]

    return Task(tuple((prompt,) for prompt in PROMPTS), VOCABULARY, END, longest, reward, BETA), score


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", ["table"])
def test_the_gap_is_closed(kind: str, seed: int, tmp_path: Path) -> None:
    never = {PAD, *PROMPTS}
    table = kind == "table"
    new = table_llama(VOCABULARY, END, PAD, never, seed) if table else tiny_llama(VOCABULARY, END, PAD, seed, 1, 64)
    new.save_pretrained(tmp_path / "base")
    save_tokenizer(tmp_path / "base")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"w{PROMPTS[i % 3]}"}) + "\n" for i in range(768)))
    task, score = task_of(seed, 2)
    ppo: dict[str, Any] = {
        "klCoefficient": BETA,
        "maxNewTokens": 2,
        "epochs": 4,
        "miniBatches": 2,
        "valueLearningRate": 0.02,
    }
    ppo |= {"template": "{prompt}{response}", "valueCoefficient": 1.0, "valueClipRange": 10.0, "gaeLambda": 1.0}
    job = policy_job(
        rows,
        tmp_path / "base",
        ppo,
        {"full": {}},
        validation=False,
        maxSteps=40 if table else 60,
        batchSize=768,
        microBatchSize=768,
        maxLength=8,
        learningRate=0.1 if table else 0.003,
        schedule={"type": "cosine" if table else "constant", "warmup": 0.0},
        checkpoint={"everySteps": 1000},
    )
    trainer, position = trainer_of(job, tmp_path / "run")
    trainer = replace(
        trainer, collector=replace(trainer.collector, rules={}, models={0: score}, ppo=_one_term(trainer))
    )
    reference = policy_of(new)
    trainer.run(position)
    policy = policy_of(trainer.collector.roles.policy)
    print(kind, seed, task.objective(reference, reference), task.best(reference), task.gap_closed(policy, reference))
    assert task.gap_closed(policy, reference) >= 0.99


def _one_term(trainer: Any) -> Any:
    return trainer.ppo.model_copy(update={"reward": trainer.ppo.reward[:1]})
