"""Recording rules and alerts of the chart's PrometheusRule, and the page that lists them."""

from monitoring.rules import jobs, operator, page
from monitoring.rules.recordings import RECORDINGS
from monitoring.rules.rule import Alert, group

ALERTS: tuple[Alert, ...] = (*jobs.ALERTS, *operator.ALERTS)
_FOLDER = "charts/tunesmith/files/rules"


def files() -> dict[str, str]:
    """The text of each generated file by its path from the root of the repository."""
    return {
        f"{_FOLDER}/jobs.yaml": group("tunesmith-jobs", jobs.ALERTS),
        f"{_FOLDER}/operator.yaml": group("tunesmith-operator", operator.ALERTS),
        f"{_FOLDER}/recordings.yaml": group("tunesmith-recordings", RECORDINGS),
        "docs/alerts.md": page.page({"Of jobs": jobs.ALERTS, "Of the operator": operator.ALERTS}, RECORDINGS),
    }
