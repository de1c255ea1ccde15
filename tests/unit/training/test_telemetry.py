"""What a run tells while it runs."""

import json
import socket
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tunesmith.api.status import Progress
from tunesmith.training.telemetry import Telemetry, forget_after


def record(step: int, **more: float) -> dict[str, Any]:
    return {"step": step, "loss": 2.5, "learning_rate": 1e-3, "gradient_norm": 0.5, "tokens_per_second": 100.0, **more}


def tell(telemetry: Telemetry, step: int, write: bool = True, validation: float | None = None) -> None:
    more = {} if validation is None else {"validation/loss": validation}
    telemetry.step(record(step, **more), seconds=0.3, tokens=50, samples=4, write=write)


def get(port: int, path: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
    return port


def test_metrics_and_progress_are_served(tmp_path: Path) -> None:
    telemetry = Telemetry(tmp_path / "metrics.jsonl", total_steps=8, first_step=0)
    port = free_port()
    telemetry.serve(port)
    with pytest.raises(HTTPError) as early:
        get(port, "/progress")
    early.value.close()
    assert early.value.code == 404

    tell(telemetry, 1)
    tell(telemetry, 2, validation=3.0)
    tell(telemetry, 3)
    progress = Progress.model_validate_json(get(port, "/progress"))
    assert (progress.step, progress.total_steps, progress.percentage) == (3, 8, 37)
    assert (progress.loss, progress.validation_loss, progress.tokens_per_second) == (2.5, 3.0, 100.0)
    assert progress.remaining_seconds is not None

    families = {family.name: family for family in text_string_to_metric_families(get(port, "/metrics"))}
    samples = [sample for family in families.values() for sample in family.samples if not sample.labels]
    values = {sample.name: sample.value for sample in samples}
    assert values["tunesmith_training_loss"] == 2.5
    assert values["tunesmith_training_validation_loss"] == 3.0
    assert values["tunesmith_training_learning_rate"] == 1e-3
    assert values["tunesmith_training_gradient_norm"] == 0.5
    assert values["tunesmith_training_tokens_per_second"] == 100
    assert values["tunesmith_training_steps_total"] == 3
    assert values["tunesmith_training_steps_planned"] == 8
    assert values["tunesmith_training_tokens_total"] == 150
    assert values["tunesmith_training_samples_total"] == 12
    assert values["tunesmith_training_step_duration_seconds_count"] == 3
    assert values["tunesmith_training_peak_memory_bytes"] > 1e6
    ours = [family for name, family in families.items() if name.startswith("tunesmith_")]
    assert all(family.documentation for family in ours)


def test_every_written_step_is_a_line(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    telemetry = Telemetry(file, total_steps=4, first_step=0)
    for step in (1, 2, 3, 4):
        tell(telemetry, step, write=step % 2 == 0)
    assert [json.loads(line) for line in file.read_text().splitlines()] == [record(2), record(4)]


def test_a_resumed_run_forgets_the_steps_that_it_does_again(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps(record(step)) + "\n" for step in range(1, 7)) + '{"step": 7, "lo')
    forget_after(file, 4)
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2, 3, 4]
    Telemetry(file, total_steps=8, first_step=0)
    assert file.read_text() == ""
