"""Whether a difference between two models is more than chance, and how large it must be to show.

The test is the paired randomisation test (Riezler & Maxwell 2005; Dror et al. 2018): if two models are alike, each row
could as well have had its two outcomes the other way round. It asks nothing of a metric but that it comes from sums
over rows, so it is valid for BLEU as for a mean. Many tests are corrected as Holm (1979) has it.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from tunesmith.evaluation.statistics import SEED, Floats, RowScores

RANDOMISATIONS = 10_000
"""Exchanges that are drawn; more where there are many tests, so that their correction leaves something to be shown."""
ALPHA = 0.05
"""How often a difference is claimed where there is none, over all tests of an evaluation together."""
POWER = 0.8
"""How often a difference is claimed where there is one, of the size that is said to show."""

_CHUNK = 10_000_000
"""Rows exchanged at once; bounds the memory to some 100 MB."""

Pair = tuple[RowScores, RowScores]
"""Two models by one metric, on the same rows."""


def randomisation_tests(pairs: Sequence[Pair], draws: int = RANDOMISATIONS) -> list[float]:
    """How likely a difference at least as large, in either direction, is between models that are alike.

    All exchanges are tried where only few rows differ; else some are drawn, and the difference itself counts as one
    more, so that p is never 0 and never too small (Phipson & Smyth 2010).

    Args:
        pairs: to be tested; those with as many rows share what is drawn.
        draws: exchanges.

    Returns:
        p of each; 1 where no row differs.
    """
    found: dict[int, float] = {}
    by_rows: dict[int, list[int]] = {}
    for number, pair in enumerate(pairs):
        differs = _differing(pair)
        if 2 ** len(differs) <= draws:
            found[number] = float(_as_extreme(pair, _all_exchanges(len(differs)) @ _exchange(pair)[differs]).mean())
        else:
            by_rows.setdefault(len(pair[0].used), []).append(number)
    for rows, numbers in by_rows.items():
        exchanges = [_exchange(pairs[number]) for number in numbers]
        moved = _drawn_exchanges(np.concatenate(exchanges, axis=1), rows, draws)
        ends = np.cumsum([exchange.shape[1] for exchange in exchanges])
        for number, own in zip(numbers, np.split(moved, ends[:-1], axis=1), strict=True):
            found[number] = float((1 + _as_extreme(pairs[number], own).sum()) / (1 + draws))
    return [found[number] for number in range(len(pairs))]


def _differing(pair: Pair) -> NDArray[np.int64]:
    return np.flatnonzero((pair[0].parts != pair[1].parts).any(axis=1))


def _exchange(pair: Pair) -> Floats:
    """What a row adds to the first model's sums, and takes from the second's, when its outcomes change places."""
    exchange: Floats = pair[1].parts - pair[0].parts
    return exchange


def _all_exchanges(rows: int) -> Floats:
    """Each way to choose among so many rows; [2^rows, rows]."""
    ways: Floats = (np.arange(2**rows)[:, None] >> np.arange(rows) & 1).astype(np.float64)
    return ways


def _drawn_exchanges(exchange: Floats, rows: int, draws: int) -> Floats:
    """The sums over rows that are chosen with a coin each; [draws, sums]."""
    generator = np.random.default_rng(SEED)
    bytes_of_row, chunk = -(-rows // 8), max(1, _CHUNK // rows)
    found = []
    for start in range(0, draws, chunk):
        some = min(chunk, draws - start)
        coins = np.frombuffer(generator.bytes(some * bytes_of_row), np.uint8).reshape(some, bytes_of_row)
        found.append(np.unpackbits(coins, axis=1, count=rows).astype(np.float64) @ exchange)
    return np.concatenate(found)


def _as_extreme(pair: Pair, moved: Floats) -> NDArray[np.bool_]:
    """Whether exchanged models differ at least as much; what is no number counts as if they did.

    Args:
        pair: the models.
        moved: from the second model's sums to the first's; [exchanges, sums].
    """
    first, second = (score.parts.sum(axis=0) for score in pair)
    measures = pair[0].measure, pair[1].measure
    with np.errstate(invalid="ignore", divide="ignore"):
        values = [measure(sums) for measure, sums in zip(measures, (first, second), strict=True)]
        exchanged = measures[0](first + moved) - measures[1](second - moved)
    observed = abs(float(values[0] - values[1]))
    rounding = 1e-10 * (abs(float(values[0])) + abs(float(values[1])))
    as_extreme: NDArray[np.bool_] = ~(np.abs(exchanged) < observed - rounding)
    return as_extreme


def mirrored(wins: RowScores) -> RowScores:
    """The win rate of the other model: exchanging the two turns a win into a loss, and leaves a tie.

    Args:
        wins: a mean of 1, 0.5 and 0.
    """
    return RowScores(np.stack([wins.parts[:, 1] - wins.parts[:, 0], wins.parts[:, 1]], axis=1), wins.used, wins.measure)


def holm(p: Sequence[float]) -> list[float]:
    """Corrected p: where those of at most 0.05 are taken for real, the chance of any that is not is at most 0.05,
    however the tests depend on each other."""
    corrected, largest = [0.0] * len(p), 0.0
    for rank, number in enumerate(sorted(range(len(p)), key=lambda number: p[number])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[number]))
        corrected[number] = largest
    return corrected


def draws_for(tests: int) -> int:
    """How many exchanges to draw, so that the smallest p, corrected for so many tests, is well below 0.05."""
    return max(RANDOMISATIONS, 400 * tests)


def detectable_difference(error: float, tests: int = 1) -> float:
    """The smallest difference that is shown in four of five cases: (z(1 - alpha / (2 tests)) + z(power)) * error.

    With several tests it is that of the strictest step of the correction; what others show may be smaller.

    Args:
        error: the standard error of the difference.
        tests: of the evaluation.
    """
    normal = NormalDist()
    return (normal.inv_cdf(1 - ALPHA / (2 * tests)) + normal.inv_cdf(POWER)) * error


def rows_needed(rows: int, detectable: float, difference: float) -> int:
    """How many rows show a difference in four of five cases: errors shrink with the square root of the rows.

    Args:
        rows: that there are.
        detectable: the difference that these show so often.
        difference: that is asked for.
    """
    return math.ceil(round(rows * (detectable / difference) ** 2, 6))
