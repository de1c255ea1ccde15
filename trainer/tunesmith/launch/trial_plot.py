"""A search as a picture: the loss against each parameter, and the curves of all trials."""

from typing import Any

from tunesmith.api.pod import RunFolder
from tunesmith.launch.trials import Trial, best_trial, curve, shown, trial_folder


def plot_trials(run: RunFolder, trials: list[Trial]) -> None:
    """Leaves trials.png in the run's folder."""
    from matplotlib.figure import Figure

    fields = list(trials[0].values)
    best = best_trial(trials)
    columns = min(3, len(fields) + 1)
    rows = -(-(len(fields) + 1) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    _curves(axes[0], run, trials, best)
    for axis, field in zip(axes[1:], fields, strict=False):
        _against(axis, field, trials, best)
    for axis in axes[len(fields) + 1 :]:
        axis.set_visible(False)
    figure.savefig(run.trials_plot, dpi=110)


def _curves(axis: Any, run: RunFolder, trials: list[Trial], best: Trial | None) -> None:
    for trial in trials:
        points = curve(trial_folder(run, trial.number))
        style: dict[str, Any] = {"color": "tab:blue", "linewidth": 2, "zorder": 3, "label": f"trial {trial.number}"}
        if trial is not best:
            style = {"color": "0.6" if trial.ended == "Succeeded" else "tab:orange", "linewidth": 1}
        axis.plot([step for step, _ in points], [loss for _, loss in points], marker=".", **style)
    axis.set(xlabel="step", ylabel="validation loss", title="curves (orange: ended early)")
    axis.xaxis.get_major_locator().set_params(integer=True)
    if best is not None:
        axis.legend(frameon=False)


def _against(axis: Any, field: str, trials: list[Trial], best: Trial | None) -> None:
    known = [trial for trial in trials if trial.loss is not None]
    values = [trial.values[field] for trial in known]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    places: list[Any] = values if numbers else [shown(value) for value in values]
    colors = ["tab:blue" if t is best else "0.6" if t.ended == "Succeeded" else "tab:orange" for t in known]
    axis.scatter(places, [trial.loss for trial in known], c=colors, zorder=2)
    axis.set(xlabel=field, ylabel="lowest validation loss")
    spread = [float(value) for value in values if isinstance(value, int | float)]
    if numbers and spread and min(spread) > 0 and max(spread) / min(spread) > 20:
        axis.set_xscale("log")
