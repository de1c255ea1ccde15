"""Alerts of the operator, with promtool, and what holds of all alerts."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.generate import ROOT, files
from monitoring.rules import ALERTS
from tests.tools.build import build
from tunesmith_operator.series import BY_NAME

from . import test_jobs, test_runs, test_storage
from .cases import OPERATOR, Case, Fires, of_operator, then

HOME = {"namespace": OPERATOR["namespace"]}
DOWN = Fires(
    "No operator of Tunesmith is at work",
    "For 10 minutes Prometheus has seen none that has read its jobs: it is down, or is not scraped. Running jobs go "
    "on, but nothing follows their end, and alerts of jobs are blind.",
    HOME,
)
SLOW = "The operator of Tunesmith in tunesmith-system does not keep up"


def waited(jobs: int) -> str:
    return (
        f"At any time of the last 15 minutes at least {jobs} jobs waited to be looked after (20 are too many), or each "
        "waited for more than 30 seconds on average."
    )


def reconciles(failed: str, kind: str = "FineTuneJob") -> dict[str, str]:
    done = of_operator("reconciles_total", "0+100x600", kind=kind, result="done")
    return {**done, **of_operator("reconciles_total", failed, kind=kind, result="failed")}


def requests(code: str, values: str) -> dict[str, str]:
    fine = of_operator("api_requests_total", "0+90x600", verb="patch", code="200")
    return {**fine, **of_operator("api_requests_total", values, verb="patch", code=code)}


HEALTH = [
    Case("TunesmithOperatorDown", "nothing is there", 15, {}, DOWN),
    Case(
        "TunesmithOperatorDown",
        "gone since a quarter of an hour",
        40,
        of_operator("resync_timestamp_seconds", "9x25 stale"),
        DOWN,
    ),
    Case(
        "TunesmithOperatorDown",
        "begins, and never has read its jobs",
        15,
        of_operator("resync_timestamp_seconds", "0x60"),
        DOWN,
    ),
    Case(
        "TunesmithOperatorDown",
        "another release's is there",
        15,
        of_operator("resync_timestamp_seconds", "9x60", namespace="team-b"),
        DOWN,
    ),
    Case(
        "TunesmithOperatorDown",
        "replaced within five minutes",
        40,
        {
            **of_operator("resync_timestamp_seconds", "9x30 stale"),
            **of_operator("resync_timestamp_seconds", "_x35 2100x60", pod="tunesmith-2"),
        },
    ),
    Case(
        "TunesmithOperatorStale",
        "for 20 minutes",
        30,
        of_operator("resync_timestamp_seconds", "600x60"),
        Fires(
            "The operator of Tunesmith in tunesmith-system may act on old information",
            "It compared what it knows with the API server 20m 0s ago; it should every 5m 0s.",
            HOME,
        ),
    ),
    Case("TunesmithOperatorStale", "for ten minutes", 20, of_operator("resync_timestamp_seconds", "600x60")),
    Case("TunesmithOperatorStale", "it has just begun", 20, of_operator("resync_timestamp_seconds", "0x60")),
]

WORK = [
    Case(
        "TunesmithOperatorQueueGrows",
        "never below 50",
        30,
        of_operator("queue_depth", "50+10x60"),
        Fires(SLOW, waited(210), HOME),
    ),
    Case(
        "TunesmithOperatorQueueGrows",
        "short, but each waits for a minute",
        30,
        {
            **of_operator("queue_depth", "5x60"),
            **of_operator("queue_wait_seconds_sum", "0+600x60"),
            **of_operator("queue_wait_seconds_count", "0+10x60"),
        },
        Fires(SLOW, waited(5), HOME),
    ),
    Case(
        "TunesmithOperatorQueueGrows",
        "all jobs at once, every five minutes",
        30,
        {
            **of_operator("queue_depth", "1000 0 0 0 0 " * 12),
            **of_operator("queue_wait_seconds_sum", "0+600x60"),
            **of_operator("queue_wait_seconds_count", "0+200x60"),
        },
    ),
    Case("TunesmithOperatorQueueGrows", "nothing to do", 30, of_operator("queue_depth", "0x60")),
    Case(
        "TunesmithReconcilesFailing",
        "one job every five minutes",
        60,
        reconciles("1 1 1 1 1 2 2 2 2 2 3 3 3 3 3 4 4 4 4 4 5 5 5 5 5 6 6 6 6 6 7 7 7 7 7 8 8 8 8 8 " + "8+0.2x60"),
        Fires(
            "The operator of Tunesmith in tunesmith-system fails to look after some FineTuneJob",
            "Looking after a FineTuneJob has failed for 30 minutes, 3 times in the last 15; its log names the job and "
            "the error.",
            {**HOME, "kind": "FineTuneJob"},
        ),
    ),
    Case(
        "TunesmithReconcilesFailing", "the API server was away for five minutes", 48, reconciles("0x29 0+20x5 100x60")
    ),
    Case("TunesmithReconcilesFailing", "the operator begins anew", 60, reconciles("100x29 0x60")),
    Case(
        "TunesmithWatchMissesChanges",
        "in both half hours",
        70,
        of_operator("watch_repairs_total", "0x19 2x29 4x60"),
        Fires(
            "The watches of Tunesmith's operator in tunesmith-system miss changes",
            "2 changes reached it only by its comparison in the last 30 minutes, and some in the 30 before: jobs are "
            "looked after minutes late.",
            HOME,
        ),
    ),
    Case("TunesmithWatchMissesChanges", "once", 70, of_operator("watch_repairs_total", "0x49 5x60")),
    Case(
        "TunesmithApiErrors",
        "a tenth is forbidden",
        60,
        requests("403", "0+10x600"),
        Fires(
            "The API server refuses requests of Tunesmith's operator in tunesmith-system",
            "10% of its answers in the last 30 minutes were 403, 429 or 5xx.",
            HOME,
        ),
    ),
    Case("TunesmithApiErrors", "a tenth are conflicts", 60, requests("409", "0+10x600")),
    Case("TunesmithApiErrors", "it is over", 60, requests("503", f"{then((40, '0'), (1, '2000'), (60, '2000'))}")),
    Case(
        "TunesmithApiErrors",
        "three of a few",
        60,
        {
            **of_operator("api_requests_total", "0+0.1x600", verb="get", code="200"),
            **of_operator("api_requests_total", "0+0.1x600", verb="get", code="500"),
        },
    ),
    Case(
        "TunesmithNotificationsFailing",
        "one is given up",
        40,
        of_operator("notifications_total", "0x29 1x60", format="slack", result="failed"),
        Fires(
            "Notifications of Tunesmith's operator in tunesmith-system do not arrive",
            "1 in the format slack were given up in the last hour: somebody waits for news of a job that do not come.",
            {**HOME, "format": "slack"},
        ),
    ),
    Case(
        "TunesmithNotificationsFailing",
        "later tries succeed",
        40,
        {
            **of_operator("notifications_total", "0x29 3x60", format="slack", result="retried"),
            **of_operator("notifications_total", "0x33 1x60", format="slack", result="delivered"),
        },
    ),
]

CASES = [*HEALTH, *WORK]
ALL = [*CASES, *test_jobs.CASES, *test_runs.CASES, *test_storage.CASES]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_alert(case: Case, told: dict[str, str]) -> None:
    assert told[str(case)] == ""


@pytest.mark.parametrize("name", [alert.name for alert in ALERTS])
def test_every_alert_is_seen_firing_and_not_firing_and_has_its_runbook(name: str) -> None:
    fires = [case.fires is not None for case in ALL if case.alert == name]
    assert any(fires) and not all(fires)
    page = (ROOT / "docs" / "runbooks" / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {name}\n")


def test_no_runbook_is_left_of_an_alert_that_is_gone() -> None:
    assert {page.stem for page in (ROOT / "docs" / "runbooks").iterdir()} == {alert.name for alert in ALERTS}


def test_promtool_takes_all_rules_and_finds_nothing_to_mend(groups: Any, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
    command = [str(build("promtool")["promtool"]), "check", "rules", "--lint=all", "--lint-fatal", str(file)]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert not re.search(r"@\w+@", file.read_text(encoding="utf-8")), "a value of the chart was not put in"


def test_what_is_asked_of_the_operator_is_declared(groups: Any) -> None:
    asked = re.findall(r"\btunesmith_(?:job|operator)_\w+", " ".join(r["expr"] for g in groups for r in g["rules"]))
    assert {re.sub("_(sum|count)$", "", name) for name in asked} <= BY_NAME.keys()


def test_what_is_generated_is_up_to_date() -> None:
    drifted = [name for name, text in files().items() if (ROOT / name).read_text(encoding="utf-8") != text]
    assert not drifted, "run `make generate`"
