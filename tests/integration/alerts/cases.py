"""Series as promtool writes them (https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/), one
value a minute, and what an alert makes of them."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from monitoring.rules import ALERTS
from tests.tools.build import build

Series = Mapping[str, str]
Group = Mapping[str, Any]
DOCS_BASE = "https://git.example.com"
TEAM = {"namespace": "team-a", "name": "chat", "kind": "FineTuneJob"}
POD = "chat-1-abcde-head-x2x9z"
OPERATOR = {"namespace": "tunesmith-system", "pod": "tunesmith-1", "instance": "10.0.0.9:8080"}


@dataclass(frozen=True)
class Fires:
    """How an alert is seen; its severity and its runbook are known by its name."""

    summary: str
    description: str
    labels: Mapping[str, str] = field(default_factory=lambda: TEAM)


@dataclass(frozen=True)
class Case:
    """A minute, and whether the alert fires then."""

    alert: str
    story: str
    minute: int
    series: Series
    fires: Fires | None = None

    def __str__(self) -> str:
        return f"{self.alert.removeprefix('Tunesmith')}: {self.story}"

    def as_group(self) -> dict[str, Any]:
        """A group of tests in promtool's words."""
        expected = []
        if self.fires is not None:
            alert = next(each for each in ALERTS if each.name == self.alert)
            annotations = {"summary": self.fires.summary, "description": self.fires.description}
            annotations["runbook_url"] = f"{DOCS_BASE}/{alert.runbook}"
            labels = {**self.fires.labels, "severity": alert.severity}
            expected = [{"exp_labels": labels, "exp_annotations": annotations}]
        asked = {"eval_time": f"{self.minute}m", "alertname": self.alert, "exp_alerts": expected}
        return {
            "name": str(self),
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in self.series.items()],
            "alert_rule_test": [asked],
        }


def verdicts(cases: Sequence[Case], groups: Sequence[Group], folder: Path) -> dict[str, str]:
    """What promtool says of each case; nothing where the alert does as it should.

    Each alert is tried alone, with what it is made from: all rules at each minute take ten times as long.
    """
    junit = folder / "junit.xml"
    files = [_write(name, [case for case in cases if case.alert == name], groups, folder) for name in _alerts(cases)]
    command = [str(build("promtool")["promtool"]), "test", "rules", f"--junit={junit}", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True)
    told = {each.attrib["name"]: "".join(each.itertext()) for each in ElementTree.parse(junit).iter("testcase")}
    assert told.keys() == {str(case) for case in cases}, done.stdout + done.stderr
    return told


def _alerts(cases: Sequence[Case]) -> list[str]:
    return list(dict.fromkeys(case.alert for case in cases))


def _write(alert: str, cases: Sequence[Case], groups: Sequence[Group], folder: Path) -> Path:
    """A file of tests of an alert, and one of the rules that it needs."""
    (rule,) = (rule for group in groups for rule in group["rules"] if rule.get("alert") == alert)
    made = [rule for group in groups for rule in group["rules"] if "record" in rule]
    needed = {"name": "needed", "rules": [*(each for each in made if each["record"] in rule["expr"]), rule]}
    rules, test = folder / f"{alert}.rules.yaml", folder / f"{alert}.yaml"
    rules.write_text(yaml.safe_dump({"groups": [needed]}, width=10_000), encoding="utf-8")
    tests = {"rule_files": [str(rules)], "tests": [case.as_group() for case in cases]}
    test.write_text(yaml.safe_dump(tests, width=10_000), encoding="utf-8")
    return test


def series(metric: str, values: str, /, **labels: str) -> dict[str, str]:
    """One series with its samples."""
    inside = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return {f"{metric}{{{inside}}}": values}


def of_operator(metric: str, values: str, /, **labels: str) -> dict[str, str]:
    """A series of the operator itself."""
    return series(f"tunesmith_operator_{metric}", values, **{**OPERATOR, **labels})


def of_job(metric: str, values: str, /, **labels: str) -> dict[str, str]:
    """A series that the operator serves of the job; it bears the operator's address."""
    return series(f"tunesmith_job_{metric}", values, **{"instance": OPERATOR["instance"], **TEAM, **labels})


def phase(name: str, values: str = "1x600", **labels: str) -> dict[str, str]:
    """The job's phase."""
    return of_job("phase", values, phase=name, **labels)


def pod(values: str = "1x600", name: str = POD) -> dict[str, str]:
    """A pod that the job holds."""
    labels = {"namespace": TEAM["namespace"], "pod": name, "name": TEAM["name"], "component": "head"}
    return series("tunesmith_job_pod_info", values, **labels)


def trainer(name: str, values: str, pod: str = POD) -> dict[str, str]:
    """A series of the trainer in one of the job's pods."""
    labels = {"namespace": TEAM["namespace"], "pod": pod, "tunesmith_dev_job": "chat", "container": "head"}
    return series(name if name.startswith("process") else f"tunesmith_training_{name}", values, **labels)


def training(values: str = "1x600") -> dict[str, str]:
    """A job that trains in one pod."""
    return {**phase("Training", values), **pod(values)}


def then(*parts: tuple[int, str]) -> str:
    """Samples from spans of so many minutes; a gap is written as _."""
    return " ".join(f"{value}x{minutes - 1}" if value != "_" else f"_x{minutes}" for minutes, value in parts)
