"""What PPO computes, written again from the papers' equations: for one token or one answer, in plain loops.

Nothing here is shared with what is tested against it: no torch, no arrays, no recursion where the paper has a sum.
Logits, log-probabilities, values and rewards are floats; a row is what is known of the tokens of one answer.
"""

import math
from collections.abc import Sequence

Row = Sequence[float]


def log_probability(logits: Row, token: int, temperature: float = 1.0) -> float:
    """log softmax(logits / temperature)[token], of one position."""
    largest = max(logits) / temperature
    total = 0.0
    for logit in logits:
        total += math.exp(logit / temperature - largest)
    return logits[token] / temperature - largest - math.log(total)


def entropy(logits: Row, temperature: float = 1.0) -> float:
    """-sum p log p of one position, p = softmax(logits / temperature), in nats."""
    total = 0.0
    for token in range(len(logits)):
        log = log_probability(logits, token, temperature)
        total -= math.exp(log) * log
    return total


def token_rewards(log_policy: Row, log_reference: Row, score: float, beta: float) -> list[float]:
    """The reward of each token of an answer: R = r - beta log(pi / rho) (Ziegler et al. 2019, arXiv:1909.08593,
    equation 2), with the logarithm falling to the token that it is of, and the score to the last one."""
    rewards = []
    for ours, theirs in zip(log_policy, log_reference, strict=True):
        rewards.append(-beta * (ours - theirs))
    rewards[-1] += score
    return rewards


def advantages(rewards: Row, values: Row, discount: float, gae_lambda: float) -> list[float]:
    """A_t = sum over l of (gamma lambda)^l delta_(t+l), delta_t = r_t + gamma V_(t+1) - V_t (Schulman et al. 2016,
    arXiv:1506.02438, equations 11 and 16). V is 0 after the last token: there the episode ends."""
    length = len(rewards)
    result = []
    for t in range(length):
        total = 0.0
        for i in range(t, length):
            following = values[i + 1] if i + 1 < length else 0.0
            delta = rewards[i] + discount * following - values[i]
            total += (discount * gae_lambda) ** (i - t) * delta
        result.append(total)
    return result


def returns(rewards: Row, values: Row, discount: float, gae_lambda: float) -> list[float]:
    """What the values learn: A_t + V_t, with the advantages before they are whitened."""
    result = []
    for advantage, value in zip(advantages(rewards, values, discount, gae_lambda), values, strict=True):
        result.append(advantage + value)
    return result


def whitened(rows: Sequence[Row], epsilon: float = 1e-8) -> list[list[float]]:
    """All tokens of all rows with mean 0 and variance 1: (x - mean) / sqrt(variance + epsilon), the variance being the
    mean square of the deviations (divided by n, not n - 1)."""
    total, count = 0.0, 0
    for row in rows:
        for x in row:
            total += x
            count += 1
    mean = total / count
    squares = 0.0
    for row in rows:
        for x in row:
            squares += (x - mean) ** 2
    deviation = math.sqrt(squares / count + epsilon)
    return [[(x - mean) / deviation for x in row] for row in rows]


def surrogate_loss(log_new: float, log_old: float, advantage: float, clip_range: float) -> float:
    """-L^CLIP of one token: L = min(r A, clip(r, 1 - epsilon, 1 + epsilon) A), r = exp(log_new - log_old) (Schulman et
    al. 2017, arXiv:1707.06347, equation 7)."""
    ratio = math.exp(log_new - log_old)
    clipped = min(max(ratio, 1.0 - clip_range), 1.0 + clip_range)
    return -min(ratio * advantage, clipped * advantage)


def is_clipped(log_new: float, log_old: float, advantage: float, clip_range: float) -> bool:
    """Whether the loss of a token is that of the clipped ratio, so that it has no gradient."""
    ratio = math.exp(log_new - log_old)
    if advantage > 0:
        return ratio > 1.0 + clip_range
    if advantage < 0:
        return ratio < 1.0 - clip_range
    return False


def value_loss(value: float, old: float, target: float, clip_range: float) -> float:
    """Half the larger of (V - R)^2 and (clip(V, V_old - epsilon, V_old + epsilon) - R)^2, of one token (Engstrom et al.
    2020, arXiv:2005.12729, section 3; the half makes the gradient V - R)."""
    clipped = min(max(value, old - clip_range), old + clip_range)
    return 0.5 * max((value - target) ** 2, (clipped - target) ** 2)


def next_coefficient(beta: float, divergence: float, target: float, answers: int, horizon: float) -> float:
    """The coefficient of the next step: beta (1 + K e), e = clip((KL - target) / target, -0.2, 0.2) (Ziegler et al.
    2019, section 2.2). K, 0.1 in the paper, is the share that the answers of a step have in the horizon."""
    error = (divergence - target) / target
    error = min(max(error, -0.2), 0.2)
    return beta * (1.0 + answers / horizon * error)
