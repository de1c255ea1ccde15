"""The curves of a run, each with what a bad one looks like."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunesmith.launch.trials import best_trial, curve, shown, trial_folder
from tunesmith.report.charts import Chart, Line, curve_chart, scatter_chart, shares_chart
from tunesmith.report.read import Run
from tunesmith.report.svg import SERIES
from tunesmith.report.words import is_number


@dataclass(frozen=True, eq=False)
class Panel:
    """A chart of some columns of metrics.jsonl."""

    title: str
    columns: dict[str, str]
    """Names in the legend by column; those that were validated are drawn with their points."""
    caption: str
    band: tuple[str, str] | None = None
    """The columns of the edges of an area around the first curve."""
    limits: tuple[float, float] | None = None
    zero: bool = False
    exact: bool = False
    """Whether the figures have no noise."""
    spread: float = math.inf
    """The vertical axis is logarithmic where the values are further apart than this factor."""
    factor: float = 1.0


_LOSS = Panel(
    "Loss, nats per token",
    {"loss": "training", "validation/loss": "validation"},
    "Should fall fast, then flatten. Bad: it rises, or jumps and stays up; validation turns up while training goes on "
    "falling (the rows are learnt by heart).",
    spread=50,
)
_PAIRS = (
    Panel(
        "Accuracy on pairs",
        {"train/reward/accuracy": "training", "reward/accuracy": "validation"},
        "Share of pairs in the right order; guessing reaches 0.5. Bad: validation stays there, or far below training.",
        limits=(0, 1.03),
    ),
    Panel(
        "Margin of the preferred answer",
        {"train/reward/margin": "training", "reward/margin": "validation"},
        "How much higher preferred answers score. Bad: it stays at 0, or grows in training alone.",
    ),
)
_POLICY = (
    Panel(
        "Reward",
        {"ppo/reward": "training", "validation/reward": "validation"},
        "Mean of a step's answers; the area holds the middle 80%. Should rise and level off. Bad: flat; or rising "
        "while the divergence runs away (the reward is being gamed).",
        band=("ppo/reward_p10", "ppo/reward_p90"),
    ),
    Panel(
        "Divergence (KL) from the start, nats an answer",
        {"ppo/kl": "divergence"},
        "How far the answers have moved from the starting model. Starts at 0. Bad: it shoots up, or never leaves 0.",
    ),
    Panel(
        "Entropy, nats a token",
        {"ppo/entropy": "entropy"},
        "How undecided the policy is. Bad: it falls to 0 early: the policy says one thing only.",
        zero=True,
    ),
    Panel(
        "Share of tokens clipped",
        {"ppo/clip_fraction": "clipped"},
        "Bad: above 0.3 for long: steps are too large. 0 all along: they are too small.",
        zero=True,
    ),
    Panel(
        "Value loss",
        {"ppo/value_loss": "value loss"},
        "Half the squared error of the predicted returns. Bad: it grows without end.",
        zero=True,
    ),
    Panel(
        "Explained variance of the returns",
        {"ppo/explained_variance": "explained variance"},
        "1 is perfect foresight, 0 no better than a constant. Bad: below 0 for long.",
    ),
    Panel(
        "Tokens of an answer",
        {"ppo/answer_tokens": "tokens"},
        "Bad: it runs to the limit (length is being rewarded), or falls to nothing.",
        zero=True,
    ),
    Panel(
        "Share of answers with an end",
        {"ppo/ended": "ended"},
        "Bad: it falls: answers run into the limit of their length.",
        limits=(0, 1.03),
    ),
)
_MACHINE = (
    Panel(
        "Learning rate",
        {"learning_rate": "rate"},
        "As planned: warm-up, then decay. Bad: it never leaves 0.",
        zero=True,
        exact=True,
    ),
    Panel(
        "Gradient norm, before clipping",
        {"gradient_norm": "norm"},
        "Should stay in one region. Bad: single leaps tenfold (odd rows), or steady growth (the rate is too high).",
        spread=30,
    ),
    Panel(
        "Throughput, tokens per second",
        {"tokens_per_second": "tokens"},
        "Without padding. Bad: it sinks as the run goes on, or dips at regular intervals.",
        zero=True,
    ),
    Panel(
        "Model FLOP utilisation",
        {"model_flop_utilization": "utilisation"},
        "What the model needs to compute, by what the devices reach at best. Bad: far below other runs of this model; "
        "it sinks as the run goes on.",
        zero=True,
    ),
    Panel(
        "Highest memory so far, GiB",
        {"peak_memory_bytes": "memory"},
        "Of the first worker: its GPU's where it has one, else resident. Bad: it climbs to the end.",
        zero=True,
        exact=True,
        factor=2**-30,
    ),
)
_TIME = "time/"
_OF_OBJECTIVES = {"reward": (_LOSS, *_PAIRS), "ppo": _POLICY}


def curves_of(run: Run) -> list[Chart]:
    """The curves that a run has left, those of its objective first."""
    found = [chart for panel in _OF_OBJECTIVES.get(run.objective, (_LOSS,)) if (chart := _chart(panel, [run]))]
    timeline = _timeline(run)
    machine = [chart for panel in _MACHINE if (chart := _chart(panel, [run]))]
    return [*found, *([timeline] if timeline else []), *machine]


def overlaid(runs: Sequence[Run], names: Sequence[str]) -> list[Chart]:
    """The curves of several runs over each other, where more than one has them."""
    panels = dict.fromkeys(panel for run in runs for panel in _OF_OBJECTIVES.get(run.objective, (_LOSS,)))
    single = [_of_column(panel, column) for panel in (*panels, *_MACHINE) for column in panel.columns]
    return [chart for panel in single if (chart := _chart(panel, runs, names))]


def _of_column(panel: Panel, column: str) -> Panel:
    title = panel.title if len(panel.columns) == 1 else f"{panel.title}: {panel.columns[column]}"
    return replace(panel, title=title, columns={column: column}, band=None)


def _chart(panel: Panel, runs: Sequence[Run], names: Sequence[str] = ("",)) -> Chart | None:
    lines = list[Line]()
    for name, run in zip(names, runs, strict=True):
        for column, label in panel.columns.items():
            points = _points(run.records, column, panel.factor)
            if points:
                validated = column.startswith(("validation/", "reward/"))
                band = _band(run.records, panel.band) if panel.band and not lines else ()
                lines.append(Line(name or label, points, validated, panel.exact, band))
    if not lines or (len(runs) > 1 and len(lines) < 2):
        return None
    values = [value for line in lines for _, value in line.points]
    log = min(values) > 0 and max(values) / min(values) > panel.spread
    zero = panel.zero and not log
    return curve_chart(panel.title, panel.caption, lines, log=log, limits=panel.limits, zero=zero)


def _points(records: Sequence[dict[str, Any]], column: str, factor: float) -> list[tuple[float, float]]:
    """Steps and finite values of a column."""
    known = (record for record in records if is_number(record.get(column)))
    return [(record["step"], record[column] * factor) for record in known]


def _band(records: Sequence[dict[str, Any]], columns: tuple[str, str]) -> list[tuple[float, float, float]]:
    known = (record for record in records if all(is_number(record.get(column)) for column in columns))
    return [(record["step"], record[columns[0]], record[columns[1]]) for record in known]


def _timeline(run: Run) -> Chart | None:
    """Where the time goes: the largest parts, the others together."""
    known = [record for record in run.records if any(name.startswith(_TIME) for name in record)]
    if not known:
        return None
    spent = [{n.removeprefix(_TIME): v for n, v in each.items() if n.startswith(_TIME)} for each in known]
    totals = Counter[str]()
    for each in spent:
        totals.update(each)
    totals.pop("other", None)
    named = [name for name, _ in totals.most_common(len(SERIES) - 1)]
    shares: dict[str, list[float]] = {name: [] for name in (*named, "other")}
    for each in spent:
        whole = sum(each.values()) or 1.0
        for name in named:
            shares[name].append(each.get(name, 0.0) / whole)
        shares["other"].append(sum(value for name, value in each.items() if name not in named) / whole)
    return shares_chart(
        "Where the time goes",
        "Of the first worker. Bad: data takes a share that one sees (the device waits for it); of PPO, answering takes "
        "nearly all: raise training.microBatchSize, or shorten answers.",
        [record["step"] for record in known],
        shares,
    )


def trial_charts(run: Run) -> list[Chart]:
    """The trials of a search: their curves, and the loss against each parameter."""
    best = best_trial(run.trials)
    lines = [
        Line(f"trial {trial.number}" + (" (best)" if trial is best else ""), points, marked=True)
        for trial in sorted(run.trials, key=lambda trial: trial is not best)
        if (points := curve(trial_folder(run.folder, trial.number)))
    ]
    found = []
    if lines:
        caption = "Bad: the best one is at an end of its range, or still falling when it stops."
        found.append(curve_chart("Validation loss of each trial", caption, lines[:8]))
    known = [trial for trial in run.trials if trial.loss is not None]
    for name in known[0].values if known else ():
        values = [trial.values[name] for trial in known]
        numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        all_numbers = len(numbers) == len(values)
        places: list[Any] = list(numbers) if all_numbers else [shown(value) for value in values]
        points = [(place, trial.loss or 0.0) for place, trial in zip(places, known, strict=True)]
        log = all_numbers and min(numbers) > 0 and max(numbers) / min(numbers) > 20
        best_place = known.index(best) if best in known else None
        caption = f"A dot is a trial, the coloured one the best. Bad: the best is at an end of the range of {name}."
        found.append(scatter_chart(name, caption, points, best_place, log))
    return found
