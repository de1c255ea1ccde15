"""The curves of a PPO run, and what can be seen in them; `coach` says what to do about it.

As in `curve`, every detector returns what it has seen, in figures, or None, and stays silent on a run that goes well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Any

_ENOUGH = 15
"""Records from which on a beginning and an end can be told apart."""


@dataclass(frozen=True)
class PolicyCurve:
    """A PPO run as its records show it; a record for each step, or for each so many."""

    steps: Sequence[int]
    rewards: Sequence[float]
    """Mean of a step's answers."""
    deviations: Sequence[float]
    """Of the rewards within a step."""
    divergences: Sequence[float]
    """Mean of an answer, in nats."""
    entropies: Sequence[float]
    """Mean of a token, in nats."""
    explained: Sequence[float]
    """Share of the returns' variance that the value function foresees."""
    clipped: Sequence[float]
    """Share of the tokens that clipping held back."""
    lengths: Sequence[float]
    """Mean tokens of an answer."""
    ended: Sequence[float]
    """Share of the answers that have an end."""
    kl_limit: float
    """ppo.klLimit."""
    max_new_tokens: int
    """ppo.maxNewTokens."""


def policy_curve_of(records: Sequence[dict[str, Any]], ppo: dict[str, Any]) -> PolicyCurve:
    """A curve from the lines of metrics.jsonl, and spec.objective.ppo as in YAML."""
    whole = [record for record in records if "ppo/reward" in record]

    def column(name: str) -> list[float]:
        return [record[f"ppo/{name}"] for record in whole]

    return PolicyCurve(
        steps=[record["step"] for record in whole],
        rewards=column("reward"),
        deviations=column("reward_deviation"),
        divergences=column("kl"),
        entropies=column("entropy"),
        explained=column("explained_variance"),
        clipped=column("clip_fraction"),
        lengths=column("answer_tokens"),
        ended=column("ended"),
        kl_limit=ppo["klLimit"],
        max_new_tokens=ppo["maxNewTokens"],
    )


def strays(curve: PolicyCurve) -> str | None:
    """The divergence has come near the limit."""
    far = max(curve.divergences[-3:], default=0.0)
    if far < 0.4 * curve.kl_limit:
        return None
    return (
        f"the answers diverged from the starting model by {far:.1f} nats by step {curve.steps[-1]}; klLimit is "
        f"{curve.kl_limit:g}"
    )


def entropy_collapses(curve: PolicyCurve) -> str | None:
    """The policy decided for good in the first half of the run, and has earned no more since, though it could."""
    if len(curve.steps) < _ENOUGH or curve.entropies[0] < 0.05:
        return None
    floor = 0.05 * curve.entropies[0]
    gone = next((index for index, entropy in enumerate(curve.entropies) if entropy < floor), len(curve.steps))
    if 2 * gone > len(curve.steps) or median(_end(curve.entropies)) > floor or fmean(_end(curve.deviations)) < 0.05:
        return None
    then = curve.rewards[max(0, gone - 1) : gone + 2]
    if fmean(_end(curve.rewards)) - fmean(then) > 2 * _error(curve.rewards, len(then)):
        return None
    return (
        f"the entropy fell from {curve.entropies[0]:.2f} to {curve.entropies[gone]:.4f} nats by step "
        f"{curve.steps[gone]}, and the reward has not risen since: it was {fmean(then):.3f} and is "
        f"{fmean(_end(curve.rewards)):.3f}"
    )


def does_not_rise(curve: PolicyCurve) -> str | None:
    """The reward at the end is that of the beginning, as far as chance lets see, or below it."""
    if len(curve.steps) < _ENOUGH:
        return None
    start, end = _start(curve.rewards), _end(curve.rewards)
    if fmean(end) - fmean(start) > 2 * _error(curve.rewards, len(start)):
        return None
    return f"the reward was {fmean(start):.3f} in the first steps and is {fmean(end):.3f} in the last ones"


def does_not_end(curve: PolicyCurve) -> str | None:
    """A good part of the answers runs into the limit."""
    if len(curve.steps) < 3 or fmean(_end(curve.ended)) > 0.8:
        return None
    return (
        f"{1 - fmean(_end(curve.ended)):.0%} of the last answers have no end within {curve.max_new_tokens} tokens; of "
        f"the first ones {1 - curve.ended[0]:.0%}"
    )


def grows_long(curve: PolicyCurve) -> str | None:
    """Answers have become much longer, and earn more."""
    if len(curve.steps) < _ENOUGH or does_not_rise(curve):
        return None
    start, end = fmean(_start(curve.lengths)), fmean(_end(curve.lengths))
    if end < 1.5 * start or end - start < 10:
        return None
    return (
        f"answers grew from {start:.0f} to {end:.0f} tokens while the reward rose from "
        f"{fmean(_start(curve.rewards)):.3f} to {fmean(_end(curve.rewards)):.3f}"
    )


def mostly_clipped(curve: PolicyCurve) -> str | None:
    """Many tokens are held back: updates would go further than the answers can tell."""
    if len(curve.steps) < 5 or median(curve.clipped) < 0.25:
        return None
    return f"in half of the steps {median(curve.clipped):.0%} of the tokens or more were clipped"


def foresees_nothing(curve: PolicyCurve) -> str | None:
    """The value function is no better than a constant, though answers earn differently."""
    if len(curve.steps) < _ENOUGH or fmean(_end(curve.deviations)) < 1e-3 or fmean(_end(curve.explained)) > 0.02:
        return None
    return f"at the end the values explain {fmean(_end(curve.explained)):.3f} of the variance of the returns"


def _start(values: Sequence[float]) -> Sequence[float]:
    return values[: max(3, len(values) // 10)]


def _end(values: Sequence[float]) -> Sequence[float]:
    return values[-max(3, len(values) // 5) :]


def _error(values: Sequence[float], count: int) -> float:
    """The standard error of the difference between the mean of `count` values and that of the end, by the leaps between
    neighbours: so a steep rise is not taken for noise."""
    noise = 1.4826 * median(abs(a - b) for a, b in pairwise(values)) / 2**0.5
    error: float = noise * (1 / count + 1 / len(_end(values))) ** 0.5
    return error
