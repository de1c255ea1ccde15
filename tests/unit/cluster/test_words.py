"""Lines of logs, spans of time, and rows, as people read them."""

import json
from datetime import UTC, datetime

import pytest

from tunesmith.cluster.kinds import JOBS
from tunesmith.cluster.log_lines import parse_line
from tunesmith.cluster.rows import in_state, row_of, summary
from tunesmith.cluster.words import span

NOW = datetime(2026, 11, 27, 10, 0, tzinfo=UTC)
RECORD = {"time": NOW.isoformat(), "level": "ERROR", "message": "no room", "rank": 3, "step": 7}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (-3, "0s"), (59.9, "59s"), (200, "3m20s"), (7500, "2h05m"), (442800, "5d3h"), (1e6, "11d")],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize("prefix", ["", "(RayTrainWorker pid=7, ip=10.0.0.1) ", "\x1b[36m(driver pid=7)\x1b[0m "])
def test_a_record_is_read_with_and_without_rays_words(prefix: str) -> None:
    line = parse_line(prefix + json.dumps(RECORD))
    when = NOW.astimezone().strftime("%H:%M:%S")
    assert line.to_text(NOW, colours=False) == f"{when} ERROR [3] step 7: no room"
    assert "\x1b[31mERROR" in line.to_text(NOW, colours=True)
    assert json.loads(line.to_json()) == RECORD


@pytest.mark.parametrize(
    "text", ["", "{", "{}", '{"message"', "[1]", "(RayTrainWorker pid=7) plain", "12:00 INFO loss 0.5"]
)
def test_any_other_line_stays_as_it_is(text: str) -> None:
    assert parse_line(text).to_text(NOW, colours=True) == text
    assert json.loads(parse_line(text).to_json()) == {"message": text}


def test_a_job_that_no_operator_has_seen_is_pending() -> None:
    meta = {"namespace": "team", "name": "new", "creationTimestamp": "2026-11-27T10:00:00Z"}
    scaling = {"workers": 4, "resources": {"nvidia.com/gpu": 1}}
    row = row_of(JOBS, {"metadata": meta, "spec": {"scaling": scaling}})
    assert (row.phase, row.gpus, row.gpus_held, row.percentage, row.loss) == ("Pending", 4, 0, None, None)
    later = row_of(JOBS, {"metadata": meta, "spec": {}, "status": {"phase": "OfALaterRelease"}})
    assert sorted([later, row], key=in_state) == [row, later]
    assert summary([row, later]) == (0, {"Pending": 1, "OfALaterRelease": 1})
