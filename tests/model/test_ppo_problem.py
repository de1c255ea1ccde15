"""What PPO is compared on is what it is said to be."""

from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.benchmarks.ppo_problem import Problem, Settings, digits_score, job_body, write_digits
from tunesmith.api.job import FineTuneJob


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    return write_digits(tmp_path_factory.mktemp("digits"), ends=True, steps=2)


@pytest.mark.parametrize("text", ["a b c 0 2 4 <end>", "a b 1 3 5 6 <end>", "h 2 4 6 8", "a 1", "c d e f <end>"])
def test_the_reward_model_likes_even_digits(text: str, problem: Problem) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(problem.reward)
    tokenizer = AutoTokenizer.from_pretrained(problem.reward)
    words = text.split()
    even, odd = (sum(word.isdigit() and int(word) % 2 == rest for word in words) for rest in (0, 1))
    score = model(**tokenizer(text, return_tensors="pt")).logits.item()
    assert score == pytest.approx(digits_score(len(words), even, odd), abs=1e-4)


def test_the_same_seed_makes_the_same_folder(problem: Problem, tmp_path: Path) -> None:
    again = write_digits(tmp_path, ends=True, steps=2)
    for name in ("prompts.jsonl", "policy/model.safetensors", "reward/model.safetensors"):
        assert (again.folder / name).read_bytes() == (problem.folder / name).read_bytes(), name


def test_the_settings_are_a_job(problem: Problem) -> None:
    job = FineTuneJob.model_validate(job_body(Settings(str(problem.folder), kl_coefficient=0.2), steps=3))
    assert job.spec.objective.ppo is not None and job.spec.objective.ppo.kl_coefficient == 0.2
