"""Every query of every board and rule is asked of a Prometheus that has seen real jobs."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from monitoring.expressions import GPU_UTILIZATION, of_job
from monitoring.reference import page

from .boards import Board, filled
from .conftest import Seen
from .prometheus import Found
from .promql import in_seconds, without_conditions

NO_GPU = "PyTorch tells it of a GPU, and there is none"
EMPTY = {
    ("Tunesmith / Job: Memory of the first worker", "A"): NO_GPU,
    ("Tunesmith / Job: Memory of the first worker", "B"): NO_GPU,
}
"""Panel and letter of the queries that may find nothing, and why."""
UNSEEN = {
    "tunesmith_training_memory_allocated_bytes": NO_GPU,
    "tunesmith_training_memory_reserved_bytes": NO_GPU,
}
"""Series that need not be there, and why."""
QUIET = {"TunesmithApiErrors": "the API server refuses nothing"}
"""Alerts of which not even the figures need be there, and why."""
COUNTED = {
    "Operator A": 1,
    "Failed A": 2,  # drafts and gated
    "Waiting A": 2,  # large and night
    "Idle GPUs A": 4,  # of embeddings
    "GPUs A": 14,  # held: 4 of sums, 2 of helpful and of polite, 4 of embeddings, 2 of ranker
    "GPUs B": 12,  # asked for: 8 of large, 4 of night
}
"""What the first line of the board of the fleet says of the play."""
FIRING = {
    ("TunesmithGpuIdle", "embeddings"),
    ("TunesmithJobStuckStarting", "large"),
    ("TunesmithNoProgress", "embeddings"),
    ("TunesmithNoProgress", "ranker"),
    ("TunesmithJobFailed", "drafts"),
    ("TunesmithEvaluationGateFailed", "gated"),
}
"""The alerts of the play, with the job that each is about."""


def answer(seen: Seen, expr: str, instant: bool = False) -> list[Found]:
    """The series that a panel would show; those without a single figure are not shown.

    What is asked of now is asked of the last ten seconds: a scrape that a busy machine answers late is not tested.
    """
    found = seen.prometheus.over(expr, seen.end - 10 if instant else seen.began, seen.end, 1)
    return [each for each in found if each.figures]


def queries(seen: Seen, boards: Iterable[Board]) -> Iterator[tuple[str, str, str, bool]]:
    """Panel and letter of each query, the query as Grafana would send it, and whether it asks for now alone."""
    minutes = round(seen.end - seen.began)  # which are seconds here
    shown = {"__rate_interval": "5m", "__interval": "1m", "__range": f"{minutes}m", "__range_s": str(60 * minutes)}
    for board in boards:
        values = board.values(seen.prometheus) | shown
        for panel in board.panels():
            for query in panel.queries:
                yield str(panel), query.ref, in_seconds(filled(query.expr, values)), query.instant


def unanswered(seen: Seen, boards: Iterable[Board]) -> set[tuple[str, str]]:
    """Panel and letter of the queries without an answer."""
    asked = queries(seen, boards)
    return {(panel, ref) for panel, ref, expr, now in asked if not answer(seen, expr, now)}


def test_every_target_is_scraped(seen: Seen) -> None:
    """What the PodMonitors choose is there to be scraped, except for what only the first worker serves."""
    up = seen.prometheus.over("up == 1", seen.end - 10, seen.end, 1)
    answering = {each.labels["instance"] for each in up}
    mute = [each["labels"] for each in seen.prometheus.targets() if each["labels"]["instance"] not in answering]
    assert [labels for labels in mute if labels.get("endpoint") != "tunesmith"] == []
    served = [each.labels.get("endpoint") for each in up]
    assert [served.count(endpoint) for endpoint in ("http", "tunesmith")] == [1, 3]
    assert served.count("metrics") > 10


def test_a_gpu_is_its_jobs_whoever_tells_of_it(seen: Seen) -> None:
    """DCGM's exporter with labels of its own (gpu-1) and of the scrape (gpu-2), and Ray (gpu-3)."""
    busy = {each.labels["name"] for each in answer(seen, of_job(GPU_UTILIZATION), True)}
    assert busy == {"sums", "helpful-ppo", "polite-reward", "embeddings", "ranker"}


def test_every_query_of_every_panel_returns_data(seen: Seen) -> None:
    assert [board.body["uid"] for board in seen.boards] == [
        f"tunesmith-{name}" for name in ("fleet", "job", "operator", "rlhf")
    ]
    assert unanswered(seen, seen.boards) - EMPTY.keys() == set()


def test_the_board_of_the_fleet_counts_right(seen: Seen) -> None:
    fleet = [board for board in seen.boards if board.body["uid"] == "tunesmith-fleet"]
    seen_lately = {
        f"{name} {ref}": answer(seen, expr, now)[-1].figures for name, ref, expr, now in queries(seen, fleet)
    }
    wrong = {name for name, value in COUNTED.items() if value not in seen_lately[f"Tunesmith / Fleet: {name}"]}
    assert wrong == set()


def test_a_misspelt_metric_is_found(seen: Seen) -> None:
    (fleet,) = (board for board in seen.boards if board.body["uid"] == "tunesmith-fleet")
    text = json.dumps(fleet.body).replace("tunesmith_job_requested_gpus", "tunesmith_job_requested_gpu")
    wrong = replace(fleet, body=json.loads(text))
    assert len(unanswered(seen, [wrong]) - EMPTY.keys()) > 3


def test_every_rule_is_evaluated(seen: Seen) -> None:
    rules = seen.prometheus.rules()
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}
    recorded = [rule["name"] for rule in rules if rule["type"] == "recording"]
    assert len(recorded) == 4
    assert [name for name in recorded if not answer(seen, name, True)] == []


def test_every_alert_finds_its_figures(seen: Seen) -> None:
    asked = {name: in_seconds(without_conditions(expr)) for name, expr in seen.alerts.items()}
    nothing = {name for name, expr in asked.items() if not answer(seen, expr, True)}
    assert nothing - QUIET.keys() == set()


def test_what_is_wrong_is_alerted_and_nothing_else(seen: Seen) -> None:
    firing = {
        (rule["name"], alert["labels"].get("name", ""))
        for rule in seen.prometheus.rules()
        for alert in rule.get("alerts", [])
        if alert["state"] == "firing" and rule["name"] != "TunesmithThroughputHalved"  # this machine has other work
    }
    assert firing == FIRING


def test_every_metric_is_documented_and_seen(seen: Seen) -> None:
    exprs = [expr for _, _, expr, _ in queries(seen, seen.boards)] + [in_seconds(each) for each in seen.alerts.values()]
    read = {each["name"] for expr in set(exprs) for each in seen.prometheus.selectors(expr)}
    documented = set(re.findall(r"`(\w+)`", page()))
    recorded = {rule["name"] for rule in seen.prometheus.rules()} | {"ALERTS"}
    families = {name: re.sub(r"_(bucket|sum|count)$", "", name) for name in read}
    unknown = {name for name, family in families.items() if not {name, family} & (documented | recorded)}
    assert {name for name in unknown if not name.startswith("process_")} == set()
    unseen = {name for name in read if not answer(seen, name)}
    assert unseen - UNSEEN.keys() == set()
