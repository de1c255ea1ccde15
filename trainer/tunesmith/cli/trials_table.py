"""The trials of a search as a table."""

from rich.table import Table

from tunesmith.api.pod import RunFolder
from tunesmith.launch.trials import best_trial, read_trials, shown


def trials_table(folder: RunFolder) -> Table:
    """One line for each trial, the best first; * is the one that is kept."""
    trials = read_trials(folder)
    best = best_trial(trials)
    table = Table("trial", box=None, pad_edge=False)
    for field in trials[0].values if trials else ():
        table.add_column(field.split(".", 1)[1], justify="right")
    for name in ("validation loss", "at step", "steps"):
        table.add_column(name, justify="right")
    table.add_column("ended")
    for trial in sorted(trials, key=lambda t: (t.loss is None, t.loss, t.number)):
        table.add_row(
            f"{trial.number}{' *' if trial is best else ''}",
            *map(shown, trial.values.values()),
            f"{trial.loss:.4f}" if trial.loss is not None else "",
            str(trial.best_step or ""),
            str(trial.steps),
            trial.ended or "not yet",
        )
    return table
