"""Every query of the boards parses, and those that add up say what is right; promtool judges."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from monitoring.boards import BOARDS
from tests.tools.build import build
from tests.unit.monitoring.grafana_rules import SET_BY_CHART, expressions, filled

TEAM = 'namespace="team-a", kind="FineTuneJob"'
OPERATOR, NEXT = 'instance="10.0.0.9:8080"', 'instance="10.0.0.12:8080"'


def promtool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([str(build("promtool")["promtool"]), *arguments], capture_output=True, text=True)


def board(name: str) -> Any:
    text = BOARDS[name]()
    for token, value in SET_BY_CHART.items():
        text = text.replace(token, value)
    return json.loads(text)


def selectors(board: Any) -> list[str]:
    """What the variables ask for."""
    asked = [each["query"] for each in board["templating"]["list"] if each["type"] == "query"]
    return [re.fullmatch(r"label_values\((.*), \w+\)", each)[1] for each in asked]  # type: ignore[index]


def parsed(queries: list[str], folder: Path) -> str:
    """What promtool says of queries that do not parse."""
    rules = [{"record": f"query:{number}", "expr": filled(each)} for number, each in enumerate(queries)]
    file = folder / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}), encoding="utf-8")
    done = promtool("check", "rules", "--lint=none", str(file))
    return "" if done.returncode == 0 else done.stderr


@pytest.mark.parametrize("name", BOARDS)
def test_every_query_parses(name: str, tmp_path: Path) -> None:
    queries = [expr for _, expr in expressions(board(name))] + selectors(board(name))
    assert parsed(queries, tmp_path) == ""
    assert "parse error" in parsed([queries[0] + ")"], tmp_path)


@dataclass(frozen=True)
class Case:
    """What a panel of the fleet's board shows at the end of six hours of samples, one a minute."""

    story: str
    panel: str
    series: dict[str, str]
    shows: dict[str, float]
    query: int = 0
    price: str = "2.5"


def seconds(labels: str, values: str, operator: str = OPERATOR) -> dict[str, str]:
    return {f"tunesmith_job_gpu_seconds_total{{{labels}, {operator}}}": values}


def phase(name: str, phase: str, values: str = "1x360", operator: str = OPERATOR) -> dict[str, str]:
    return {f'tunesmith_job_phase{{{TEAM}, name="{name}", phase="{phase}", {operator}}}': values}


def gpu(pod: str, number: int, values: str) -> dict[str, str]:
    """DCGM's exporter behind a scrape that keeps its own labels."""
    own = 'namespace="monitoring", pod="dcgm-1"'
    held = f'exported_namespace="team-a", exported_pod="{pod}"'
    return {f'DCGM_FI_DEV_GPU_UTIL{{{own}, {held}, gpu="{number}", UUID="{number}"}}': values}


def holds(name: str, gpus: int, operator: str = OPERATOR) -> dict[str, str]:
    pod = f'tunesmith_job_pod_info{{namespace="team-a", name="{name}", pod="{name}-1", component="head", {operator}}}'
    asked = f'tunesmith_job_requested_gpus{{{TEAM}, name="{name}", {operator}}}'
    return {pod: "1x360", asked: f"{gpus}x360"}


CHAT = f'{TEAM}, name="chat"'
CASES = (
    Case(
        "one that began and ended in the time shown",
        "By namespace",
        # 8 GPUs for an hour from the 60th minute; an hour later its series goes
        seconds(CHAT, "_x59 0x10 0+480x60 28800x60 stale"),
        {'{namespace="team-a"}': 8},
    ),
    Case(
        "one that runs on",
        "By namespace",
        seconds(CHAT, "100000+480x360"),
        {'{namespace="team-a"}': 48},
    ),
    Case(
        "one whose operator was replaced, after ten minutes in which none was scraped",
        "By namespace",
        seconds(CHAT, "0+480x100 stale") | seconds(CHAT, "_x111 53280+480x249", NEXT),
        {'{namespace="team-a"}': 48},
    ),
    Case(
        "one that was made again under the same name",
        "By namespace",
        seconds(CHAT, "0+480x60 28800x30 stale _x29 0x5 0+480x60 28800x60 stale"),
        {'{namespace="team-a"}': 16},
    ),
    Case(
        "cost",
        "By namespace",
        seconds(CHAT, "100000+480x360"),
        {'{namespace="team-a"}': 120},
        query=1,
    ),
    Case("no cost without a price", "By namespace", seconds(CHAT, "0+480x360"), {}, query=1, price="0"),
    Case(
        "two of four GPUs idle, while two operators are up",
        "Jobs that hold idle GPUs",
        phase("chat", "Training")
        | phase("chat", "Training", operator=NEXT)
        | holds("chat", 4)
        | holds("chat", 4, NEXT)
        | gpu("chat-1", 0, "90x360")
        | gpu("chat-1", 1, "1x360")
        | gpu("chat-1", 2, "0x360")
        | gpu("chat-1", 3, "50x360")
        | gpu("other-1", 4, "0x360"),
        {'{namespace="team-a", name="chat"}': 2},
    ),
    Case(
        "busy GPUs are no idle ones",
        "Idle GPUs",
        phase("chat", "Training") | holds("chat", 1) | gpu("chat-1", 0, "90x360"),
        {"{}": 0},
    ),
    Case(
        "a job that began ten minutes ago still loads its model",
        "Idle GPUs",
        phase("chat", "Training") | holds("chat", 1) | gpu("chat-1", 0, "_x350 0x10"),
        {"{}": 0},
    ),
    Case("without metrics of GPUs nothing is said to be idle", "Idle GPUs", phase("chat", "Training"), {}),
    Case(
        "a failure long ago, a stage told by its pipeline, none of a job that succeeded",
        "Failures by reason",
        {
            f'tunesmith_job_failure{{{CHAT}, reason="OutOfMemory", {OPERATOR}}}': "_x30 1x60 stale",
            f'tunesmith_job_failure{{{TEAM}, name="rl-ppo", reason="LossDiverged", {OPERATOR}}}': "1x60",
            'tunesmith_job_failure{namespace="team-a", kind="RLHFPipeline", name="rl", reason="StageFailed"}': "1x60",
            'tunesmith_job_stage_info{namespace="team-a", name="rl-ppo", pipeline="rl", stage="ppo"}': "1x60",
        },
        {'{reason="OutOfMemory"}': 1, '{reason="StageFailed"}': 1},
    ),
    Case(
        "one waits, and has waited for an hour and a half",
        "Jobs that wait",
        phase("chat", "Pending", "_x269 1x30 stale") | phase("chat", "Starting", "_x300 1x60") | holds("chat", 4),
        {'{namespace="team-a", name="chat"}': 92 * 60},
        query=2,
    ),
    Case("its phase", "Jobs that wait", phase("chat", "Starting"), {'{namespace="team-a", name="chat"}': 3}),
    Case("no operator", "Operator", {}, {"{}": 0}),
)


def test_the_fleet_says_what_is_right(tmp_path: Path) -> None:
    found = {panel["title"]: panel for panel in board("fleet")["panels"]}
    groups = []
    for case in CASES:
        expr = filled(found[case.panel]["targets"][case.query]["expr"].replace("$gpu_hour_price", case.price))
        # in percent of the largest, rounded: an increase guesses what came before the first sample and after the last
        largest = max(case.shows.values(), default=0) or 1
        shows = [{"labels": labels, "value": round(100 * value / largest)} for labels, value in case.shows.items()]
        rounded = f"round(({expr}) * 100 / {largest})"
        groups.append(
            {
                "name": case.story,
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
                "promql_expr_test": [{"expr": rounded, "eval_time": "6h", "exp_samples": shows}],
            }
        )
    file, junit = tmp_path / "cases.yaml", tmp_path / "junit.xml"
    file.write_text(yaml.safe_dump({"tests": groups}, width=10_000), encoding="utf-8")
    done = promtool("test", "rules", f"--junit={junit}", str(file))
    told = {each.attrib["name"]: "".join(each.itertext()) for each in ElementTree.parse(junit).iter("testcase")}
    assert len(told) == len(CASES), done.stderr
    assert {story: text for story, text in told.items() if text} == {}
