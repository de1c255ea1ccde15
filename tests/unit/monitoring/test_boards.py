"""The boards keep Grafana's own rules and ours; a damaged board does not."""

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from monitoring import generate
from monitoring.boards import BOARDS
from tunesmith.training.series import SERIES as OF_TRAINER
from tunesmith_operator.series import SERIES as OF_OPERATOR

from .grafana_rules import SET_BY_CHART, expressions, problems

Damage = Callable[[Any], object]


def board(name: str) -> Any:
    text = BOARDS[name]()
    for token, value in SET_BY_CHART.items():
        text = text.replace(token, value)
    return json.loads(text)


@pytest.fixture(scope="module")
def sound() -> Any:
    return board("job")


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_keeps_all_rules(name: str) -> None:
    assert problems(board(name)) == []


def panel(board: Any, title: str) -> Any:
    return next(each for each in board["panels"] if each["title"] == title)


def query(title: str, old: str, new: str) -> Damage:
    """Changes the query of a panel."""

    def damage(board: Any) -> None:
        target = panel(board, title)["targets"][0]
        assert old in target["expr"]
        target["expr"] = target["expr"].replace(old, new)

    return damage


@pytest.mark.parametrize(
    ("rule", "damage"),
    [
        ("uneditable-dashboard", lambda board: board.update(editable=True)),
        ("ids", lambda board: panel(board, "Loss").update(id=panel(board, "Steps")["id"])),
        ("template-datasource-rule", lambda board: board["templating"]["list"][0].update(label="Source")),
        ("template-on-time-change-reload-rule", lambda board: board["templating"]["list"][1].update(refresh=1)),
        ("variables", lambda board: board["templating"]["list"][1].update(allValue="")),
        ("variables", query("Loss", '"$name"', '"$job"')),
        ("variables", lambda board: board["templating"]["list"].append({"name": "unused", "type": "custom"})),
        ("layout", lambda board: panel(board, "Loss")["gridPos"].update(x=1)),
        ("layout", lambda board: panel(board, "Loss")["gridPos"].update(w=11)),
        ("panel-title-description-rule", lambda board: panel(board, "Loss").pop("title")),
        ("panel-title-description-rule", lambda board: panel(board, "Loss").update(description="")),
        ("panel-units-rule", lambda board: panel(board, "Loss")["fieldConfig"]["defaults"].update(unit="nats")),
        ("panels", lambda board: panel(board, "Loss")["fieldConfig"]["defaults"].pop("noValue")),
        ("panel-no-targets-rule", lambda board: panel(board, "Loss").pop("targets")),
        ("panel-datasource-rule", lambda board: panel(board, "Loss")["datasource"].update(uid="P1809F7CD0C75ACF3")),
        ("panel-datasource-rule", lambda board: panel(board, "Loss")["targets"][1].pop("datasource")),
        ("target-rate-interval-rule", query("Steps a second", "$__rate_interval", "5m")),
        ("target-counter-agg-rule", query("Loss", "tunesmith_training_loss", "tunesmith_training_steps_total")),
        ("target-counter-agg-rule", query("GPU-hours", "increase", "max_over_time")),
    ],
)
def test_a_damaged_board_does_not(rule: str, damage: Damage, sound: Any) -> None:
    broken = copy.deepcopy(sound)
    damage(broken)
    found = problems(broken)
    assert found
    assert all(re.search(rf"(^|: ){rule}: ", problem) for problem in found), found


@pytest.mark.parametrize("name", BOARDS)
def test_boards_ask_for_metrics_that_are_served(name: str) -> None:
    served = {series.name for series in (*OF_OPERATOR, *OF_TRAINER)}
    parts = {f"{series.name}_{part}" for series in (*OF_OPERATOR, *OF_TRAINER) for part in ("bucket", "sum", "count")}
    for title, expr in expressions(board(name)):
        asked = set(re.findall(r"\btunesmith_(?!dev_)\w+", expr))
        assert asked <= served | parts, title


@pytest.mark.parametrize("name", BOARDS)
def test_pages_that_a_board_links_are_there(name: str) -> None:
    pages = [link["url"] for link in json.loads(BOARDS[name]())["links"] if link["type"] == "link"]
    assert pages
    for page in pages:
        assert (generate.ROOT / page.removeprefix("@docsBase@")).is_file(), page


def test_generated_files_are_up_to_date_and_damage_is_seen(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert generate.main(["--check"]) == 0, "run `make generate`"
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert generate.main(["--check"]) == 1
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    next(tmp_path.rglob("fleet.json")).write_text("{}", encoding="utf-8")
    assert generate.main(["--check"]) == 1
