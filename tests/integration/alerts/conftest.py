"""The rules as a cluster gets them."""

from typing import Any

import pytest

from tests.integration.test_chart import of_kind, render

from .cases import DOCS_BASE, verdicts


@pytest.fixture(scope="session")
def groups() -> Any:
    """What Helm makes of the rules with the chart's own thresholds."""
    (rule,) = of_kind(render({"prometheusRules": {"enabled": True}, "docsBase": DOCS_BASE}), "PrometheusRule")
    return rule["spec"]["groups"]


@pytest.fixture(scope="module")
def told(request: pytest.FixtureRequest, groups: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What promtool says of each of a module's CASES."""
    return verdicts(request.module.CASES, groups, tmp_path_factory.mktemp("alerts"))
