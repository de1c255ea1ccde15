"""The learning rate as a function of the step, so that there is no state to save."""

import math

from tunesmith.api.optimizer import Schedule


def rate_factor(schedule: Schedule, step: int, total_steps: int) -> float:
    """The factor of the learning rate in a step.

    Args:
        schedule: its shape.
        step: the optimizer step, counted from 0.
        total_steps: of the whole run.

    Returns:
        Rises from above 0 to 1 during the warmup, then stays, or falls towards `floor`, which it would reach one step
        after the last (inverseSquareRoot: never goes below it).
    """
    warmup = math.ceil(schedule.warmup * total_steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, total_steps - warmup)
    return schedule.floor + (1.0 - schedule.floor) * _shape(schedule, done, step, warmup, total_steps)


def _shape(schedule: Schedule, done: float, step: int, warmup: int, total_steps: int) -> float:
    """From 1 down to 0; `done` is the share of the steps after the warmup that are finished."""
    match schedule.type:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - done
        case "cosine":
            return _half_cosine(done)
        case "cosineWithRestarts":  # Loshchilov & Hutter 2017, arXiv:1608.03983
            return _half_cosine(done * schedule.cycles % 1.0)
        case "polynomial":
            return math.pow(1.0 - done, schedule.power)
        case "inverseSquareRoot":  # Vaswani et al. 2017, arXiv:1706.03762
            return math.sqrt(max(1, warmup) / max(1, step + 1))
        case "warmupStableDecay":  # Hu et al. 2024, arXiv:2404.06395
            falling = schedule.decay * total_steps
            return min(1.0, (total_steps - step) / falling)


def _half_cosine(done: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * done))
