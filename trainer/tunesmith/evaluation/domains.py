"""loss and perplexity of each part of the test set, by `evaluation.domainColumn`."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tunesmith.api.load import InputError, Problem
from tunesmith.data.rows import Row
from tunesmith.evaluation.compare import Scored, metric_reports
from tunesmith.evaluation.report import MetricReport
from tunesmith.evaluation.statistics import Floats, RowScores, mean_score, perplexity

PLACE = "spec.evaluation.domainColumn"
MOST_DOMAINS = 50
"""With more, a table says nothing, and a column of free text was named."""
NO_DOMAIN = "(none)"
"""Where the column is empty."""


def domains_of(rows: Iterable[Row], column: str) -> list[str]:
    """The domain of each row.

    Raises:
        InputError: a row has no such column, it holds no plain value, or there are too many.
    """
    found = []
    for number, row in enumerate(rows, start=1):
        if column not in row:
            raise InputError(Problem(f"row {number} of the test set has no column {column!r}", PLACE))
        value = row[column]
        if not (value is None or isinstance(value, str | int)):
            raise InputError(Problem(f"row {number} holds no text or number in {column!r}; name another column", PLACE))
        found.append(NO_DOMAIN if value is None or value == "" else str(value))
    if (several := len(set(found))) > MOST_DOMAINS:
        message = f"column {column!r} has {several:,} different values, and at most {MOST_DOMAINS} are domains"
        raise InputError(Problem(f"{message}; name a column with fewer", PLACE))
    return found


def domain_reports(
    domains: Sequence[str], tokens: Floats, tuned: Floats, base: Floats | None
) -> tuple[dict[str, list[MetricReport]], list[str]]:
    """loss and perplexity of each domain, in the order of their names; tests are corrected over all of them.

    Args:
        domains: of each row.
        tokens: of each row, 0 for one that is left out.
        tuned: the losses of each row's tokens, in nats.
        base: the same of the base.

    Returns:
        The figures, and a sentence for each domain that has none.
    """
    scored, warnings = list[Scored](), list[str]()
    with_figures = []
    for domain in sorted(set(domains)):
        here = np.array([of_row == domain for of_row in domains]) & (tokens > 0)
        if not here.any():
            warnings.append(f"domain {domain}: no row has anything to predict within training.maxLength")
            continue
        with_figures.append(domain)
        mine, others = (_scores(losses, tokens, here) if losses is not None else {} for losses in (tuned, base))
        scored += [Scored(name, "lower", mine[name], {"base": others[name]} if others else {}) for name in mine]
    reports = iter(metric_reports(scored))
    return {domain: [next(reports), next(reports)] for domain in with_figures}, warnings


def _scores(
    losses: Floats, tokens: Floats, here: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> Mapping[str, RowScores]:
    counted = np.where(here, tokens, 0.0)
    return {"loss": mean_score(losses * here, counted), "perplexity": perplexity(losses * here, counted)}
