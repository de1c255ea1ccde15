"""Figures of parts of the test set."""

from typing import Any

import numpy as np
import pytest

from tunesmith.api.load import InputError
from tunesmith.evaluation.domains import MOST_DOMAINS, domain_reports, domains_of


def test_each_domain_has_its_own_loss_and_perplexity_beside_the_base() -> None:
    domains = ["law"] * 40 + ["news"] * 40
    tokens = np.full(80, 10.0)
    spread = np.random.default_rng(0).normal(0, 1, 80)
    tuned = np.where(np.arange(80) < 40, 10.0, 30.0) + spread
    reports, warnings = domain_reports(domains, tokens, tuned, tuned + 5)
    assert list(reports) == ["law", "news"]
    assert warnings == []
    loss, perplexity = reports["law"]
    assert (loss.name, loss.rows, perplexity.name) == ("loss", 40, "perplexity")
    assert loss.tuned.value == pytest.approx(tuned[:40].sum() / 400)
    assert perplexity.tuned.value == pytest.approx(np.exp(tuned[:40].sum() / 400))
    assert loss.base is not None
    assert loss.base.difference.value == pytest.approx(-0.5)
    assert loss.base.verdict == "better"
    assert reports["news"][0].tuned.value > 2 * loss.tuned.value


def test_a_small_domain_is_given_but_claims_nothing_and_an_empty_one_is_named() -> None:
    tokens = np.array([10.0] * 20 + [10.0, 10.0, 0.0])
    domains = ["large"] * 20 + ["small", "small", "empty"]
    reports, warnings = domain_reports(domains, tokens, np.arange(23.0), np.arange(23.0) + 5)
    assert list(reports) == ["large", "small"]
    small = reports["small"][0]
    assert small.rows == 2
    assert small.base is not None
    assert small.base.verdict == "too few rows to tell"
    assert warnings == ["domain empty: no row has anything to predict within training.maxLength"]


def test_domains_are_the_values_of_a_column() -> None:
    rows: list[dict[str, Any]] = [{"from": "law"}, {"from": 7}, {"from": None}, {"from": ""}]
    assert domains_of(rows, "from") == ["law", "7", "(none)", "(none)"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param([{"from": "law"}, {}], "row 2 of the test set has no column 'from'", id="missing"),
        pytest.param([{"from": ["law"]}], "row 1 holds no text or number in 'from'; name another column", id="a list"),
        pytest.param(
            [{"from": f"{row}"} for row in range(MOST_DOMAINS + 1)],
            "column 'from' has 51 different values, and at most 50 are domains; name a column with fewer",
            id="too many",
        ),
    ],
)
def test_a_column_that_gives_no_domains_is_refused(rows: list[dict[str, object]], message: str) -> None:
    with pytest.raises(InputError) as refused:
        domains_of(rows, "from")
    assert str(refused.value) == f"spec.evaluation.domainColumn: {message}"
