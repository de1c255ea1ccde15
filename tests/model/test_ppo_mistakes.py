"""What can be wrong with a PPO job ends in a line that says so."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.model.policies import policy_job
from tests.model.processes import train
from tunesmith.api.job import FineTuneJob
from tunesmith.api.pod import RunFolder
from tunesmith.training.checkpoint import all_checkpoints


def ended(job: FineTuneJob, folder: Path) -> tuple[str, str]:
    (outcome,) = train(job, RunFolder(folder))
    return outcome.reason, outcome.message


@pytest.fixture
def judge(base: Path, tmp_path: Path) -> Path:
    """A reward model of the policy's kind."""
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    model.save_pretrained(tmp_path / "judge")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "judge")
    return tmp_path / "judge"


def judged(rows: Path, base: Path, judge: Path, **ppo: Any) -> FineTuneJob:
    return policy_job(rows, base, {"reward": [{"model": {"source": str(judge)}}]} | ppo, {"full": {}})


def test_a_reward_that_is_no_number(rows: Path, base: Path, judge: Path, tmp_path: Path) -> None:
    weights = load_file(judge / "model.safetensors")
    weights["score.weight"] = torch.full_like(weights["score.weight"], float("nan"))
    save_file(weights, judge / "model.safetensors", {"format": "pt"})
    reason, message = ended(judged(rows, base, judge), tmp_path / "run")
    assert reason == "InvalidInput"
    assert message == (
        "spec.objective.ppo.reward[0].model: gives nan for an answer (the 1. of its step); mend or exchange the reward "
        "model"
    )


def test_a_reward_model_that_reads_other_tokens(rows: Path, base: Path, judge: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(judge)
    tokenizer.add_tokens(["elsewhere"])
    tokenizer.save_pretrained(judge)
    reason, message = ended(judged(rows, base, judge), tmp_path / "run")
    assert reason == "InvalidInput"
    assert message.startswith("spec.objective.ppo.reward[0].model.source: has another tokenizer than the model")


def test_a_language_model_is_no_reward_model(rows: Path, base: Path, tmp_path: Path) -> None:
    reason, message = ended(judged(rows, base, base), tmp_path / "run")
    assert reason == "InvalidInput"
    assert "spec.objective.ppo.reward[0].model.source" in message and "no reward model" in message


def test_a_policy_that_strays(rows: Path, base: Path, tmp_path: Path) -> None:
    """What was saved before stays."""
    job = policy_job(rows, base, {"klLimit": 1e-3}, learningRate=0.03, checkpoint={"everySteps": 1})
    reason, message = ended(job, tmp_path / "run")
    assert reason == "PolicyCollapsed"
    found = re.match(r"step (\d): the answers diverge from the starting model by [0-9.]+ nats", message)
    assert found is not None
    assert "Raise ppo.klCoefficient" in message
    newest = all_checkpoints(RunFolder(tmp_path / "run"))[-1]
    assert newest.name == f"step-{int(found[1]) - 1:08d}"


def test_prompts_that_leave_no_room(rows: Path, base: Path, tmp_path: Path) -> None:
    reason, message = ended(policy_job(rows, base, {"maxNewTokens": 46}), tmp_path / "run")
    assert reason == "InvalidInput"
    assert message == (
        "spec.training.maxLength: is that of prompt and answer together: no validation prompt leaves room for 46 "
        "tokens; raise it"
    )
