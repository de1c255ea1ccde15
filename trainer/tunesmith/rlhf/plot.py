"""A PPO run as a picture: what its answers earned, how far the policy went, and how well it learnt."""

import json
from collections.abc import Sequence
from typing import Any

from tunesmith.api.pod import RunFolder

_PANELS = (
    ("ppo/reward", "mean reward"),
    ("ppo/reward", "rewards, 10th to 90th percentile"),
    ("ppo/kl", "divergence from the start, nats an answer"),
    ("ppo/entropy", "entropy, nats a token"),
    ("ppo/answer_tokens", "tokens of an answer"),
    ("ppo/ended", "share of answers with an end"),
    ("ppo/clip_fraction", "share of tokens clipped"),
    ("ppo/value_loss", "value loss"),
    ("ppo/explained_variance", "explained variance of the returns"),
)
_FROM_ZERO = frozenset({"ppo/kl", "ppo/entropy", "ppo/clip_fraction", "ppo/value_loss", "ppo/answer_tokens"})
_AVERAGED = 20
"""Records from which on a curve is drawn pale, with its moving average over it."""


def plot_policy(run: RunFolder) -> None:
    """Leaves ppo.png in the run's folder; nothing where no step of PPO is told of in metrics.jsonl."""
    records = _records(run)
    if not records:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 9), layout="constrained")
    axes = figure.subplots(3, 3).flatten().tolist()
    for axis, (column, title) in zip(axes, _PANELS, strict=True):
        _curve(axis, records, column)
        axis.set(xlabel="step", title=title)
        axis.xaxis.get_major_locator().set_params(integer=True)
        if column in _FROM_ZERO:
            highest = max(record[column] for record in records)
            axis.set_ylim(0, 1.05 * highest if highest > 0 else 1)
    _validated(axes[0], records)
    _spread(axes[1], records)
    axes[5].set_ylim(-0.03, 1.03)
    axes[8].axhline(0, color="0.6", linewidth=1, linestyle="--")
    figure.savefig(run.policy_plot, dpi=100)


def _records(run: RunFolder) -> list[dict[str, Any]]:
    """The steps of PPO in metrics.jsonl; a line that was cut off by a kill is left out."""
    found = []
    try:
        lines = run.metrics.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if "ppo/reward" in record:
            found.append(record)
    return found


def _curve(axis: Any, records: Sequence[dict[str, Any]], column: str) -> None:
    steps, values = [r["step"] for r in records], [r[column] for r in records]
    if len(values) < _AVERAGED:
        axis.plot(steps, values, color="tab:blue", marker=".")
        return
    axis.plot(steps, values, color="tab:blue", alpha=0.3, linewidth=1)
    width = len(values) // 10
    averages = [_mean(values[max(0, i - width) : i + width + 1]) for i in range(len(values))]
    axis.plot(steps, averages, color="tab:blue", linewidth=2)


def _spread(axis: Any, records: Sequence[dict[str, Any]]) -> None:
    """Around the mean reward, what most answers earned."""
    low, high = [r["ppo/reward_p10"] for r in records], [r["ppo/reward_p90"] for r in records]
    axis.fill_between([r["step"] for r in records], low, high, color="tab:blue", alpha=0.12, linewidth=0)


def _validated(axis: Any, records: Sequence[dict[str, Any]]) -> None:
    """What answers to validation prompts earned."""
    validated = [record for record in records if "validation/reward" in record]
    if validated:
        points = [r["step"] for r in validated], [r["validation/reward"] for r in validated]
        axis.plot(*points, color="tab:orange", marker="o", markersize=4, label="validation")
        axis.legend(frameon=False)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
