"""Answers that vLLM draws are the policy's, as it is at that step.

vLLM stands on other releases than the trainer, and has a Python of its own: `make vllm` makes one and runs this.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.benchmarks.ppo_problem import word_tokenizer
from tests.model.policies import LORA, policy_job, trainer_of
from tunesmith.api.load import InputError
from tunesmith.models.folded import folded_weights
from tunesmith.rlhf.answering import OwnDecoding
from tunesmith.rlhf.loop import PolicyTrainer
from tunesmith.rlhf.vllm_client import PYTHON_VARIABLE, VllmAnswering
from tunesmith.training.checkpoint import Position

needs_vllm = pytest.mark.skipif(
    PYTHON_VARIABLE not in os.environ, reason="vLLM needs an environment of its own, of 5 GB: `make vllm`"
)
WORDS = [str(number) for number in range(100)] + list("abcdefgh") + ["+", "="]
ALMOST_SURE = 0.01
"""A temperature at which answers are those that are likeliest."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new Llama whose heads are as wide as vLLM wants them at least, with tied embeddings."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = word_tokenizer(WORDS)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dora", [False, True])
def test_folded_weights_say_what_the_adapter_says(dora: bool, rows: Path, base: Path, tmp_path: Path) -> None:
    method = {"lora": {"rank": 4, "alpha": 8, "dora": dora}}
    job = policy_job(rows, base, method=method, learningRate=1e-2)
    trainer, position = trainer_of(job, tmp_path)
    trainer._step(position)
    plain = LlamaForCausalLM.from_pretrained(base)
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    with trainer.collector.roles.playing("policy") as policy, torch.no_grad():
        before = {name: value.clone() for name, value in policy.state_dict().items()}
        folded = folded_weights(policy, "default", torch.float32)
        assert all(torch.equal(before[name], value) for name, value in policy.state_dict().items())
        plain.load_state_dict(folded)
        said = policy(input_ids=ids).logits
    with torch.no_grad():
        assert torch.allclose(plain(input_ids=ids).logits, said, atol=1e-5)
    assert not torch.allclose(LlamaForCausalLM.from_pretrained(base)(input_ids=ids).logits, said, atol=1e-2)


def test_without_a_python_that_has_it(rows: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"spec\.objective\.ppo\.vllm: needs a Python with vLLM, and there is none at"):
        trainer_of(policy_job(rows, base, ppo={"vllm": {}}), tmp_path)
    monkeypatch.setenv(PYTHON_VARIABLE, sys.executable)
    with pytest.raises(InputError, match=r"did not start: vLLM: ModuleNotFoundError: No module named 'vllm'"):
        trainer_of(policy_job(rows, base, ppo={"vllm": {}}), tmp_path)


@pytest.fixture(params=["full", "lora"])
def trainer(
    rows: Path, base: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[PolicyTrainer, Position]]:
    """PPO in fp32, whose answers vLLM draws."""
    method = {"full": {}} if request.param == "full" else LORA
    job = policy_job(rows, base, ppo={"vllm": {}, "temperature": ALMOST_SURE}, method=method, learningRate=3e-2)
    trainer, position = trainer_of(job, tmp_path)
    with closing(trainer.collector.answering):
        yield trainer, position


def _alike(some: list[list[int]], others: list[list[int]]) -> float:
    """The share of answers that are the same."""
    return sum(one == other for one, other in zip(some, others, strict=True)) / len(some)


def _process(trainer: PolicyTrainer) -> "subprocess.Popen[str]":
    answering = trainer.collector.answering
    assert isinstance(answering, VllmAnswering)
    return answering._process


@needs_vllm
def test_the_answers_are_those_of_the_policy_as_it_is(trainer: tuple[PolicyTrainer, Position]) -> None:
    ours, position = trainer
    collector = ours.collector
    own = OwnDecoding(0, collector.accelerator, collector.layout, collector.roles, collector.sampling, 12)
    prompts, _ = ours.prompts(ours.data.train, ours.plan.step(0))
    before = own.answer(prompts, 0)
    assert _alike(collector.answering.answer(prompts, 0), before) > 0.75  # where two tokens are as likely, draws decide
    _, record, _ = ours._step(position)
    assert record["ppo/kl"] == pytest.approx(0.0, abs=1e-6)
    after = own.answer(prompts, 0)
    assert _alike(collector.answering.answer(prompts, 0), after) > 0.75 > 0.25 > _alike(before, after)


@needs_vllm
def test_what_is_drawn_follows_from_seed_step_and_row(rows: Path, base: Path, tmp_path: Path) -> None:
    trainer, _ = trainer_of(policy_job(rows, base, ppo={"vllm": {}}), tmp_path)
    answering = trainer.collector.answering
    with closing(answering):
        prompts, _ = trainer.prompts(trainer.data.train, trainer.plan.step(0))
        answers = answering.answer(prompts, 0)
        assert answering.answer(prompts, 0) == answers
        assert answering.answer(prompts[:3], 0) == answers[:3]
        assert answering.answer(prompts, 1) != answers
        stops, longest = trainer.collector.sampling.stops, trainer.collector.sampling.max_new_tokens
        assert all(stops.isdisjoint(answer[:-1]) and 0 < len(answer) <= longest for answer in answers)
        assert all(answer[-1] in stops or len(answer) == longest for answer in answers)

        _process(trainer).send_signal(signal.SIGKILL)
        with pytest.raises(RuntimeError, match="vLLM's process ended with code -9; its last words are in the log"):
            answering.answer(prompts, 0)
    assert not list(Path(tempfile.gettempdir()).glob("tunesmith-vllm-*"))
