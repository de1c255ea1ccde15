"""The learning rate as a function of the step, so that there is no state to save."""

import math

from tunesmith.api.training import Schedule


def rate_factor(schedule: Schedule, step: int, total_steps: int) -> float:
    """The factor of the learning rate in a step.

    Args:
        schedule: its shape.
        step: the optimizer step, counted from 0.
        total_steps: of the whole run.

    Returns:
        Rises from above 0 to 1 during the warmup, then stays, or falls towards 0, which it would reach one step after
        the last.
    """
    warmup = math.ceil(schedule.warmup * total_steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, total_steps - warmup)
    match schedule.type:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - done
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * done))
