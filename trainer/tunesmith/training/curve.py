"""The curves of a run, and what can be seen in them; `coach` says what to do about it.

Every detector returns what it has seen, in figures, or None. They are tuned to stay silent on a run that goes well: an
advice that is given for nothing makes the others worthless.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Any


@dataclass(frozen=True)
class Curve:
    """A run as its records show it; a record for each step, or for each so many."""

    steps: Sequence[int]
    losses: Sequence[float]
    norms: Sequence[float]
    """Of the gradient, before clipping."""
    rates: Sequence[float]
    validations: Sequence[tuple[int, float]] = ()
    """Step and loss."""
    max_norm: float = 1.0
    batch_size: int = 1
    rows: int = 0
    """Training rows; 0 where it is not known."""
    tokens: int = 0
    learned: int = 0
    truncated: int = 0
    dropped: int = 0
    pairs: bool = False
    """Whether rows are pairs, of which each counts as one token that is learned."""


def loss_curve(records: Sequence[dict[str, Any]]) -> Curve:
    """The losses alone, as far as a run has come; a step that was left out has none."""
    whole = [record for record in records if "loss" in record]
    return Curve([r["step"] for r in whole], [r["loss"] for r in whole], norms=(), rates=())


def curve_of(records: Sequence[dict[str, Any]], data: dict[str, Any], training: dict[str, Any]) -> Curve:
    """A curve from the lines of metrics.jsonl, the counts in data.json, and spec.training as in YAML."""
    whole = [record for record in records if "loss" in record]
    return Curve(
        steps=[record["step"] for record in whole],
        losses=[record["loss"] for record in whole],
        norms=[record.get("gradient_norm", 0.0) for record in whole],
        rates=[record.get("learning_rate", 0.0) for record in whole],
        validations=[(r["step"], r["validation/loss"]) for r in records if "validation/loss" in r],
        max_norm=training["maxGradNorm"],
        batch_size=training["batchSize"],
        rows=data.get("train_rows", 0),
        tokens=data.get("train_tokens", 0),
        learned=data.get("learned_tokens", 0),
        truncated=data.get("truncated", 0),
        dropped=data.get("dropped", 0),
        pairs=any("train/reward/accuracy" in record for record in records),
    )


def explodes(curve: Curve) -> str | None:
    """The loss stays far above what it had come down to (or had started from)."""
    if len(curve.losses) < 6:
        return None
    levels = [median(curve.losses[max(0, i - 2) : i + 3]) for i in range(len(curve.losses) - 2)]
    lowest = min(range(len(levels)), key=levels.__getitem__)
    now = median(curve.losses[-5:])
    if now <= levels[lowest] + max(1.0, 0.3 * levels[lowest]):
        return None
    return f"the loss rose from {levels[lowest]:.2f} at step {curve.steps[lowest]} to {now:.2f} at {curve.steps[-1]}"


def does_not_fall(curve: Curve) -> str | None:
    """The loss at the end is within 1% of that of the beginning, or above it."""
    ends = _ends(curve)
    if ends is None or explodes(curve):
        return None
    first, last, _ = ends
    if first < 0.1 or first - last > 0.01 * first:
        return None
    return f"the loss was {first:.3f} in the first steps and is {last:.3f} in the last ones"


def rate_too_low(curve: Curve) -> str | None:
    """The loss falls by little, and as much late as early: there was no way left to go, only time."""
    ends = _ends(curve)
    if ends is None or does_not_fall(curve) or explodes(curve):
        return None
    first, last, noise = ends
    half = _half_way(curve)
    window = max(3, len(curve.losses) // 10)
    middle = fmean(curve.losses[max(0, half - window) : half + window])
    if first - last > 0.1 * first or middle - last < max(0.2 * (first - last), 3 * noise):
        return None
    if median(curve.norms[-window:]) < 0.8 * median(curve.norms[:window]):
        return None
    return (
        f"the loss fell from {first:.3f} to {last:.3f}, evenly to the end, with gradients as large as at the start; "
        f"the highest learning rate was {max(curve.rates):.1e}"
    )


def still_falling(curve: Curve) -> str | None:
    """The last fifth of the steps, or more, still brought much."""
    if rate_too_low(curve) or does_not_fall(curve) or explodes(curve):
        return None
    if curve.validations:
        earlier = [pair for pair in curve.validations if pair[0] <= 0.8 * curve.steps[-1]]
        step, last = curve.validations[-1]
        if not earlier or last > min(loss for _, loss in curve.validations) or step < curve.steps[-1]:
            return None
        since, before = earlier[-1]
        what = "the validation loss"
    else:
        window = len(curve.losses) // 10
        if window < 5:
            return None
        since, before = curve.steps[-3 * window], median(curve.losses[-4 * window : -2 * window])
        last, what = median(curve.losses[-2 * window :]), "the loss"
        if before - last < 3 * _noise(curve) * (1 / window) ** 0.5:
            return None
    in_a_fifth = (before - last) * 0.2 * curve.steps[-1] / (curve.steps[-1] - since)
    if in_a_fifth < max(0.05, 0.015 * last):
        return None
    return f"{what} still fell from {before:.3f} at step {since} to {last:.3f} at the end"


def spikes(curve: Curve) -> str | None:
    """Single steps whose loss stands out from their neighbours' and is gone again."""
    found = []
    for i in range(10, len(curve.losses) - 4):
        around = [*curve.losses[i - 6 : i], *curve.losses[i + 1 : i + 5]]
        level = median(around)
        spread = 1.4826 * median(abs(loss - level) for loss in around)
        if curve.losses[i] - level > max(0.5, 0.5 * level, 8 * spread):
            found.append((curve.steps[i], curve.losses[i], level))
    if len(found) < 2:  # one odd batch is no matter
        return None
    step, loss, level = max(found, key=lambda spike: spike[1] - spike[2])
    return f"the loss of {len(found)} steps leapt, most at step {step}: {loss:.2f} among losses of {level:.2f}"


def overfits(curve: Curve) -> str | None:
    """The validation loss rises while the training loss falls."""
    if len(curve.validations) < 3 or explodes(curve):
        return None
    best_step, best = min(curve.validations, key=lambda pair: pair[1])
    last_step, last = curve.validations[-1]
    if last - best < max(0.05, 0.05 * best):
        return None
    around = [loss for step, loss in zip(curve.steps, curve.losses, strict=True) if step <= best_step][-10:]
    since = [loss for step, loss in zip(curve.steps, curve.losses, strict=True) if step > best_step][-10:]
    if not around or not since or fmean(since) >= fmean(around):
        return None
    return (
        f"the validation loss rose from {best:.3f} at step {best_step} to {last:.3f} at {last_step}, while the "
        f"training loss fell from {fmean(around):.3f} to {fmean(since):.3f}"
    )


def validates_far_above(curve: Curve) -> str | None:
    """The first validation is far above the training loss before any row was seen twice."""
    if not curve.validations or not curve.rows:
        return None
    step, loss = curve.validations[0]
    if step * curve.batch_size > curve.rows:
        return None
    before = [value for at, value in zip(curve.steps, curve.losses, strict=True) if at <= step][-10:]
    if len(before) < 3 or loss - fmean(before) < max(0.3, 0.25 * fmean(before)):
        return None
    return f"at step {step}, within the first epoch, validation is at {loss:.2f} and training at {fmean(before):.2f}"


def always_clipped(curve: Curve) -> str | None:
    """Nearly every gradient is scaled down, and by much."""
    if len(curve.norms) < 20:
        return None
    over = sum(norm > curve.max_norm for norm in curve.norms) / len(curve.norms)
    middle = median(curve.norms)
    if over < 0.95 or middle < 4 * curve.max_norm:
        return None
    return (
        f"{over:.0%} of the gradients were scaled down to the norm {curve.max_norm:g}; half of them had more than "
        f"{middle:.1f}"
    )


def idle_warmup(curve: Curve) -> str | None:
    """Nothing is learnt in the first half of a long warmup."""
    peak = max(range(len(curve.rates)), key=curve.rates.__getitem__) if curve.rates else 0
    ends = _ends(curve)
    if ends is None or peak < 20 or curve.rates[0] > 0.1 * curve.rates[peak] or does_not_fall(curve):
        return None
    start, half = fmean(curve.losses[:3]), fmean(curve.losses[peak // 2 - 2 : peak // 2 + 1])
    if start - ends[1] < 0.1 * start or start - half > 0.03 * (start - ends[1]):
        return None
    return (
        f"the loss went from {start:.3f} to {half:.3f} in the first {curve.steps[peak // 2]} of "
        f"{curve.steps[peak]} steps of warmup, and to {ends[1]:.3f} in the end"
    )


def many_truncated(curve: Curve) -> str | None:
    """A good part of the rows lost their end, or was left out."""
    rows = curve.rows + curve.dropped
    if not curve.rows or (curve.truncated < 0.1 * curve.rows and curve.dropped < 0.05 * rows):
        return None
    return f"of {rows:,} rows {curve.truncated:,} lost their end to maxLength, and {curve.dropped:,} were left out"


def few_learned(curve: Curve) -> str | None:
    """The loss of a step stands on a handful of tokens."""
    if not curve.rows or not curve.tokens or curve.pairs:
        return None
    share, in_step = curve.learned / curve.tokens, curve.learned / curve.rows * min(curve.batch_size, curve.rows)
    if share >= 0.03 and in_step >= 32:
        return None
    return f"{share:.1%} of the tokens are learned, {in_step:,.0f} in a step"


def _ends(curve: Curve) -> tuple[float, float, float] | None:
    """The mean loss of the first tenth and of the last fifth, and the standard error of their difference."""
    if len(curve.losses) < 20:
        return None
    few, many = max(4, len(curve.losses) // 10), len(curve.losses) // 5
    error = _noise(curve) * (1 / few + 1 / many) ** 0.5
    return fmean(curve.losses[:few]), fmean(curve.losses[-many:]), error


def _noise(curve: Curve) -> float:
    """The standard deviation of a loss, from the leaps between neighbours: so a steep fall is not taken for noise."""
    return 1.4826 * median(abs(a - b) for a, b in pairwise(curve.losses)) / 2**0.5


def _half_way(curve: Curve) -> int:
    """The record at which half of the learning rates, summed up, were spent."""
    total, spent = sum(curve.rates), 0.0
    for index, rate in enumerate(curve.rates):
        spent += rate
        if 2 * spent >= total:
            return index
    return len(curve.rates) - 1
