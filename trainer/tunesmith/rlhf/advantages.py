"""From what an answer earned to what each of its tokens is worth: numpy over ragged rows.

A ragged array holds one number for each answered token, row after row; `starts` says where each row begins, and where
the last one ends, shape [rows + 1].
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def token_rewards(scores: Floats, log_ratios: Floats, starts: Indices, kl_coefficient: float) -> Floats:
    """The score of an answer at its last token, less what each token costs that the reference finds less likely: the k1
    estimate of the divergence (Ziegler et al. 2019, arXiv:1909.08593, equation 2).

    Args:
        scores: of each answer; [rows].
        log_ratios: log policy - log reference of each token; ragged.
        starts: of the rows.
        kl_coefficient: beta.

    Returns:
        Ragged.
    """
    rewards = -kl_coefficient * log_ratios
    rewards[starts[1:] - 1] += scores
    return rewards


def estimate_advantages(
    rewards: Floats, values: Floats, starts: Indices, discount: float, gae_lambda: float
) -> tuple[Floats, Floats]:
    """Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438, equation 16).

    After an answer's last token there is nothing left to earn.

    Returns:
        Advantages and returns (advantage + value); both ragged.
    """
    lengths = np.diff(starts)
    advantages = np.zeros(len(rewards))
    following = np.zeros(len(lengths))  # of the token after, for each row
    value_after = np.zeros(len(lengths))
    for back in range(1, int(lengths.max(initial=0)) + 1):  # from the last token on
        rows = np.flatnonzero(lengths >= back)
        at = starts[1:][rows] - back
        delta = rewards[at] + discount * value_after[rows] - values[at]
        following[rows] = advantages[at] = delta + discount * gae_lambda * following[rows]
        value_after[rows] = values[at]
    return advantages, advantages + values


def whiten(values: Floats) -> Floats:
    """Shifted and scaled to mean 0 and variance 1."""
    white: Floats = (values - values.mean()) / (values.std() + 1e-8)
    return white


def explained_variance(values: Floats, returns: Floats) -> float:
    """The share of the returns' variance that the values foresee; 0 is no better than a constant, below 0 worse."""
    spread = float(returns.var())
    return 1 - float((returns - values).var()) / spread if spread > 0 else 0.0


def adapted(kl_coefficient: float, divergence: float, target: float, answers: int, horizon: int) -> float:
    """The coefficient of the next step (Ziegler et al. 2019, arXiv:1909.08593, section 2.2).

    Args:
        kl_coefficient: of this step.
        divergence: mean of an answer in this step, in nats.
        target: what it should be.
        answers: in this step.
        horizon: answers over which the coefficient follows.
    """
    error = min(max(divergence / target - 1, -0.2), 0.2)
    return kl_coefficient * (1 + error * answers / horizon)
