"""What the curves of PPO show, and that a good run shows nothing."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunesmith.api.pod import RunFolder
from tunesmith.training.coach import POLICY_SYMPTOMS, find_in, find_in_policy
from tunesmith.training.policy_curve import PolicyCurve

STEPS = 40
Shape = Callable[[float], float]


def rises(done: float) -> float:
    return 0.55 - 0.15 * math.exp(-4 * done)


def curve(
    reward: Shape = rises,
    divergence: Shape = lambda done: 0.6 * min(1.0, 3 * done),
    entropy: Shape = lambda done: 0.43 - 0.08 * done,
    explained: Shape = lambda done: 0.45 * min(1.0, 3 * done),
    length: Shape = lambda done: 20.0 + 2 * done,
    *,
    deviation: float = 0.49,
    steps: int = STEPS,
    seed: int = 0,
) -> PolicyCurve:
    """A run whose figures are functions of the share of it that is done, as noisy as 256 answers to a step."""
    draw, shares = random.Random(seed), [step / steps for step in range(steps)]
    return PolicyCurve(
        steps=range(1, steps + 1),
        rewards=[reward(share) + draw.gauss(0, deviation / 16) for share in shares],
        deviations=[deviation] * steps,
        divergences=[divergence(share) for share in shares],
        entropies=[entropy(share) for share in shares],
        explained=[explained(share) + draw.gauss(0, 0.02) for share in shares],
        clipped=[0.02] * steps,
        lengths=[length(share) for share in shares],
        ended=[0.99] * steps,
        kl_limit=50.0,
        max_new_tokens=64,
    )


CURVES: dict[str, tuple[PolicyCurve, list[str]]] = {
    "goes well": (curve(), []),
    "far from its start, as told": (curve(divergence=lambda done: 12 * done), []),
    "has learnt all there is": (
        curve(lambda done: min(1.0, 0.4 + done), entropy=lambda done: 0.4 * math.exp(-20 * done), deviation=0.02),
        [],
    ),
    "decides while it learns": (curve(lambda done: 0.3 + 0.5 * done, entropy=lambda d: 0.4 * math.exp(-9 * d)), []),
    "a few steps": (curve(lambda done: 0.4, steps=4), []),
    "nothing but noise": (curve(lambda done: 0.4), ["RewardDoesNotRise"]),
    "gets worse": (curve(lambda done: 0.5 - 0.3 * done), ["RewardDoesNotRise"]),
    "runs away": (curve(divergence=lambda done: 45 * done**2), ["PolicyStrays"]),
    "runs away at once": (curve(divergence=lambda done: 100 * done**2, steps=3), ["PolicyStrays"]),
    "always the same answer": (
        curve(lambda done: 0.42 if done > 0.1 else 0.4 + 0.2 * done, entropy=lambda done: 0.4 * math.exp(-60 * done)),
        ["EntropyCollapsed", "RewardDoesNotRise"],
    ),
    "talks for reward": (curve(length=lambda done: 20 + 30 * done), ["AnswersGrowLong"]),
    "updates too large": (replace(curve(), clipped=[0.4] * STEPS), ["MostlyClipped"]),
    "a blind value function": (curve(explained=lambda done: -0.05), ["ValuesForeseeNothing"]),
    "does not stop": (replace(curve(), ended=[0.3] * STEPS), ["AnswersWithoutEnd"]),
}


@pytest.mark.parametrize("name", CURVES)
def test_a_policy_that(name: str) -> None:
    shown, expected = CURVES[name]
    assert [finding.name for finding in find_in_policy(shown)] == expected


@pytest.mark.parametrize("seed", range(20))
def test_chance_shows_nothing(seed: int) -> None:
    assert find_in_policy(curve(seed=seed)) == []


def test_every_symptom_is_seen_in_a_curve() -> None:
    assert {name for _, names in CURVES.values() for name in names} == {symptom.name for symptom in POLICY_SYMPTOMS}


def test_a_finding_has_its_figures() -> None:
    (finding,) = find_in_policy(CURVES["runs away"][0])
    assert finding.seen == "the answers diverged from the starting model by 42.8 nats by step 40; klLimit is 50"
    (finding,) = find_in_policy(CURVES["does not stop"][0])
    assert finding.seen == "70% of the last answers have no end within 64 tokens; of the first ones 70%"


def write_run(folder: RunFolder, objective: dict[str, Any], reward: Shape) -> None:
    """A run whose loss, as that of PPO often does, rises."""
    training = {"maxGradNorm": 1.0, "batchSize": 4}
    folder.config.write_text(json.dumps({"job": {"spec": {"objective": objective, "training": training}}}))
    folder.data.write_text(json.dumps({"train_rows": 40, "train_tokens": 4000, "learned_tokens": 40, "truncated": 30}))
    lines = []
    for step in range(1, STEPS + 1):
        figures = {"reward": reward(step / STEPS), "reward_deviation": 0.4, "kl": 0.5, "entropy": 0.4}
        figures |= {"explained_variance": 0.4, "clip_fraction": 0.02, "answer_tokens": 9.0, "ended": 1.0}
        record = {"step": step, "loss": 0.1 + 0.1 * step, "gradient_norm": 9.0}
        lines.append(json.dumps(record | {f"ppo/{name}": value for name, value in figures.items()}) + "\n")
    folder.metrics.write_text("".join(lines))


def test_a_ppo_run_is_told_nothing_of_losses_and_rows(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_run(folder, {"ppo": {"klLimit": 50.0, "maxNewTokens": 64}}, rises)
    assert find_in(folder) == []
    write_run(folder, {"ppo": {"klLimit": 50.0, "maxNewTokens": 64}}, lambda done: 0.4)
    assert [finding.name for finding in find_in(folder)] == ["RewardDoesNotRise"]
    write_run(folder, {"instruction": {}}, rises)
    assert "LossExplodes" in [finding.name for finding in find_in(folder)]
