"""How strong each of several models is, from who was preferred to whom (Bradley & Terry 1952)."""

import choix
import numpy as np

from tunesmith.evaluation.statistics import Floats


def strengths(wins: Floats, start: Floats | None = None) -> Floats:
    """The most likely log-strengths, with mean 0: one model is preferred to another with probability
    1 / (1 + exp(the other's strength - its own)).

    They would be infinite where some models have won, or lost, everything against the others. Every model then gets
    half a win, and half a loss, against every other.

    Args:
        wins: how often each was preferred to each; a tie is half a win for both; [models, models].
        start: strengths that are near already: of all rows, where these are drawn from them. Fitted to four digits
            only, which is far less than draws differ by.

    Returns:
        [models].
    """
    wins = np.where(np.eye(len(wins), dtype=bool), 0.0, wins)
    if is_separated(wins):
        wins = wins + 0.5 * (1 - np.eye(len(wins)))
    found: Floats = choix.ilsr_pairwise_dense(
        wins, initial_params=start, max_iter=10_000, tol=1e-8 if start is None else 1e-4
    )
    centred: Floats = found - found.mean()
    return centred


def is_separated(wins: Floats) -> bool:
    """Whether no finite strengths fit best: some model cannot be reached from another by who was preferred to whom."""
    steps = np.eye(len(wins)) + (wins > 0)
    return not np.linalg.matrix_power(steps, len(wins)).all()
