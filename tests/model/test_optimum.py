"""The closed form that PPO is held to, against what is found without it."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from tests.model.optimum import (
    Floats,
    Policy,
    Reward,
    Task,
    Tokens,
    policy_of,
    reward_of,
    table_llama,
    tiny_llama,
    tiny_reward_model,
)

PROMPTS: tuple[Tokens, ...] = ((2,), (3, 4), (5,), (2, 5))
VOCABULARY, END, PAD = 6, 0, 1


def any_reward(prompt: Tokens, answers: Sequence[Tokens]) -> Floats:
    """A number for each prompt and answer, without rhyme or reason."""
    return np.array([np.random.default_rng([*prompt, 99, *answer]).normal() for answer in answers])


def task_of(reward: Reward = any_reward, longest: int = 3, beta: float = 0.5) -> Task:
    return Task(PROMPTS, VOCABULARY, END, longest, reward, beta)


def tables(seed: int) -> Policy:
    """A tabular policy: logits of their own for each prompt and prefix."""

    def logits(prompt: Tokens, prefixes: Sequence[Tokens]) -> Floats:
        return np.array([np.random.default_rng([seed, *prompt, 99, *p]).normal(size=VOCABULARY) for p in prefixes])

    return logits


def chances_by_brute_force(policy: Policy, prompt: Tokens, longest: int) -> dict[Tokens, float]:
    """Writes `longest` tokens whatever they are, and then cuts each sequence after its end."""
    found: dict[Tokens, float] = {}
    for sequence in product(range(VOCABULARY), repeat=longest):
        answer = sequence[: sequence.index(END) + 1] if END in sequence else sequence
        chance = 1.0
        for at, token in enumerate(sequence):
            weights = np.exp(policy(prompt, [sequence[:at]])[0])
            chance *= weights[token] / weights.sum()
        found[answer] = found.get(answer, 0.0) + chance
    return found


def test_the_answers_are_all_that_can_be_written_and_their_chances_sum_to_one() -> None:
    task, policy = task_of(), tables(0)
    for prompt in PROMPTS:
        expected = chances_by_brute_force(policy, prompt, task.longest)
        found = dict(zip(task.answers, np.exp(task.log_probabilities(policy, prompt)), strict=True))
        assert len(task.answers) == len(expected) == 1 + 5 + 25 * 6
        assert found == pytest.approx(expected)
        assert sum(found.values()) == pytest.approx(1.0)


def test_the_objective_is_the_mean_reward_less_the_divergence() -> None:
    task, policy, reference = task_of(), tables(0), tables(1)
    total = divergence = 0.0
    for prompt in PROMPTS:
        ours, theirs = (chances_by_brute_force(p, prompt, task.longest) for p in (policy, reference))
        for answer, chance in ours.items():
            divergence += chance * np.log(chance / theirs[answer]) / len(PROMPTS)
            total += chance * any_reward(prompt, [answer])[0] / len(PROMPTS)
    assert task.divergence(policy, reference) == pytest.approx(divergence)
    assert task.objective(policy, reference) == pytest.approx(total - task.beta * divergence)


def searched(reference_logs: Floats, rewards: Floats, beta: float) -> tuple[Floats, float]:
    """The best chances of the answers and their J, by gradient ascent, which knows nothing of the closed form."""
    theirs, scores = torch.tensor(reference_logs), torch.tensor(rewards)
    free = theirs.clone().requires_grad_()
    search = torch.optim.LBFGS([free], max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def loss() -> torch.Tensor:
        search.zero_grad()
        ours = free.log_softmax(0)
        negative = -(ours.exp() * (scores - beta * (ours - theirs))).sum()
        negative.backward()  # type: ignore[no-untyped-call]
        return negative

    for _ in range(5):
        search.step(loss)  # type: ignore[no-untyped-call]
    return free.detach().softmax(0).numpy(), -loss().item()


def test_no_search_finds_better_than_the_optimum_and_a_long_one_finds_it() -> None:
    task, reference = task_of(longest=2), tables(1)
    reached = []
    for prompt in PROMPTS:
        logs = task.log_probabilities(reference, prompt)
        chances, objective = searched(logs, task.reward(prompt, task.answers), task.beta)
        reached.append(objective)
        np.testing.assert_allclose(chances, np.exp(task.optimum(reference, prompt)), atol=1e-4)
    assert np.mean(reached) == pytest.approx(task.best(reference), abs=1e-7)
    assert all(task.objective(tables(seed), reference) < task.best(reference) for seed in range(20))


def test_the_optimum_closes_the_whole_gap_and_the_reference_none() -> None:
    task, reference = task_of(), tables(1)

    def optimum(prompt: Tokens, prefixes: Sequence[Tokens]) -> Floats:
        """Token by token: a token's chance is that of all answers that go on with it."""
        chances = np.exp(task.optimum(reference, prompt))
        found = np.zeros((len(prefixes), VOCABULARY))
        for row, prefix in enumerate(prefixes):
            for answer, chance in zip(task.answers, chances, strict=True):
                if answer[: len(prefix)] == prefix and len(answer) > len(prefix):
                    found[row, answer[len(prefix)]] += chance
        return np.log(found)

    assert task.gap_closed(optimum, reference) == pytest.approx(1.0)
    assert task.gap_closed(reference, reference) == 0.0
    assert task.objective(optimum, reference) == pytest.approx(task.best(reference))


@pytest.mark.parametrize("model", [table_llama(VOCABULARY, END, PAD, (), 0), tiny_llama(VOCABULARY, END, PAD, 0)])
def test_a_model_samples_as_often_as_is_computed(model: Any) -> None:
    """Through generate, with its cache; at another temperature than 1."""
    task, prompt, draws = task_of(longest=2), (3, 4), 4000
    chances = dict(
        zip(task.answers, np.exp(task.log_probabilities(policy_of(model, temperature=2.0), prompt)), strict=True)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ids = torch.tensor([prompt] * draws)
        settings = GenerationConfig(
            max_new_tokens=2, do_sample=True, temperature=2.0, top_k=0, eos_token_id=END, pad_token_id=PAD
        )
        rows = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    seen: dict[Tokens, int] = {}
    for row in rows[:, 2:].tolist():
        answer = (END,) if row[0] == END else tuple(row)
        seen[answer] = seen.get(answer, 0) + 1
    for answer, chance in chances.items():
        deviation = (chance * (1 - chance) / draws) ** 0.5
        assert abs(seen.get(answer, 0) / draws - chance) < 4 * deviation + 1e-9, answer


def test_a_table_holds_the_optimum_where_the_reward_looks_no_further_than_it() -> None:
    """Rows 6 to 9 are those of prompts."""
    scores = reward_of(tiny_reward_model(10, END, PAD, 1, layers=0))
    task = Task(((6,), (3, 7), (2, 8), (9,)), 10, END, 2, scores, 0.5)
    reference = policy_of(table_llama(10, END, PAD, (PAD, 6, 7, 8, 9), 0))
    assert np.exp(task.log_probabilities(reference, (6,)))[[PAD in a for a in task.answers]].sum() < 1e-10
    table = np.zeros((10, 10))
    for prompt in task.prompts:
        chances = dict(zip(task.answers, np.exp(task.optimum(reference, prompt)), strict=True))
        for first in range(10):
            after = np.array([chances[answer] for answer in task.answers if answer[0] == first])
            table[prompt[-1], first] = np.log(after.sum())
            if first in range(2, 6):  # the same after any prompt
                table[first] = np.log(after)

    def optimum(prompt: Tokens, prefixes: Sequence[Tokens]) -> Floats:
        return np.array([table[(*prompt, *prefix)[-1]] for prefix in prefixes])

    assert task.gap_closed(optimum, reference) == pytest.approx(1.0)
    assert task.best(reference) - task.objective(reference, reference) > 0.1


def test_to_a_tiny_llama_the_whole_prompt_counts_and_the_whole_answer() -> None:
    model, scores = tiny_llama(VOCABULARY, END, PAD, 0), tiny_reward_model(VOCABULARY, END, PAD, 0)
    task = task_of(reward_of(scores))
    rewards = np.array([task.reward(prompt, task.answers) for prompt in PROMPTS])
    assert rewards.std() > 0.3 and rewards.std(axis=0).mean() > 0.1
    gap = task.best(policy_of(model)) - task.objective(policy_of(model), policy_of(model))
    assert gap > 0.1
