"""What a run tells while it runs."""

import json
import math
import socket
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tunesmith.api.pod import RunFolder
from tunesmith.api.status import Progress
from tunesmith.training.series import COLUMNS, SERIES
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


def test_a_port_that_is_taken_is_told_and_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as holder:
        holder.bind(("", 0))
        holder.listen()
        port = holder.getsockname()[1]
        Telemetry(RunFolder(tmp_path), total_steps=8, first_step=0).serve(port)
    assert caplog.messages == [
        f"port {port} cannot be served (Address already in use): this run has no metrics and no live progress"
    ]


def test_metrics_and_progress_are_served(tmp_path: Path) -> None:
    telemetry = Telemetry(RunFolder(tmp_path), total_steps=8, first_step=0)
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


def values_of(telemetry: Telemetry) -> dict[str, float]:
    families = list(text_string_to_metric_families(generate_latest(telemetry.meters.registry).decode()))
    ours = [family for family in families if family.name.startswith("tunesmith_")]
    assert all(family.documentation for family in ours)
    return {s.name + "".join(s.labels.values()): s.value for family in ours for s in family.samples}


def test_a_ppo_run_serves_what_ppo_has(tmp_path: Path) -> None:
    telemetry = Telemetry(RunFolder(tmp_path), total_steps=8, first_step=0)
    figures = {"reward": 0.5, "reward_p10": 0.0, "kl": 0.75, "entropy": 0.25, "reward_0": 0.4, "reward_1": -0.1}
    of_policy = {f"ppo/{name}": value for name, value in figures.items()} | {"validation/reward": 0.375}
    telemetry.step(record(1, **of_policy), seconds=0.3, tokens=50, samples=4, write=True)
    values = values_of(telemetry)
    assert values["tunesmith_ppo_reward"] == 0.5
    assert values["tunesmith_ppo_reward_low"] == 0.0
    assert values["tunesmith_ppo_divergence_nats"] == 0.75
    assert values["tunesmith_ppo_entropy_nats"] == 0.25
    assert values["tunesmith_ppo_validation_reward"] == 0.375
    assert (values["tunesmith_ppo_reward_term0"], values["tunesmith_ppo_reward_term1"]) == (0.4, -0.1)
    assert telemetry.progress is not None
    assert telemetry.progress.reward == 0.5


def test_a_reward_run_serves_accuracy_and_margin_and_others_neither(tmp_path: Path) -> None:
    telemetry = Telemetry(RunFolder(tmp_path), total_steps=8, first_step=0)
    tell(telemetry, 1)
    assert not any(name.startswith(("tunesmith_ppo", "tunesmith_reward")) for name in values_of(telemetry))
    assert telemetry.progress is not None
    assert telemetry.progress.reward is None
    figures = {"train/reward/accuracy": 0.875, "train/reward/margin": 1.5, "reward/accuracy": 0.75}
    telemetry.step(record(2, **figures), seconds=0.3, tokens=50, samples=4, write=True)
    values = values_of(telemetry)
    assert values["tunesmith_reward_accuracy_ratio"] == 0.875
    assert values["tunesmith_reward_margin"] == 1.5
    assert values["tunesmith_reward_validation_accuracy_ratio"] == 0.75


def test_every_written_step_is_a_line(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    telemetry = Telemetry(RunFolder(tmp_path), total_steps=4, first_step=0)
    for step in (1, 2, 3, 4):
        tell(telemetry, step, write=step % 2 == 0)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert all(line.pop("peak_memory_bytes") > 2**20 for line in lines)
    assert lines == [record(2), record(4)]


def test_a_resumed_run_forgets_the_steps_that_it_does_again(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps(record(step)) + "\n" for step in range(1, 7)) + '{"step": 7, "lo')
    forget_after(file, 4)
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2, 3, 4]
    Telemetry(RunFolder(tmp_path), total_steps=8, first_step=0)
    assert file.read_text() == ""


def test_a_gauge_is_served_from_its_first_value_on_and_a_counter_from_the_start(tmp_path: Path) -> None:
    telemetry = Telemetry(RunFolder(tmp_path), total_steps=8, first_step=0)
    early = values_of(telemetry)
    assert early["tunesmith_training_checkpoints_total"] == 0
    assert early["tunesmith_training_skipped_steps_total"] == 0
    never_yet = ("loss", "last_step_timestamp_seconds", "last_checkpoint_timestamp_seconds", "checkpoint_bytes")
    assert not any(f"tunesmith_training_{name}" in early for name in never_yet)
    assert 0 < early["tunesmith_training_storage_free_bytes"] < early["tunesmith_training_storage_size_bytes"]
    assert "tunesmith_training_memory_reserved_bytes" not in early  # there is no GPU

    tell(telemetry, 1)
    assert values_of(telemetry)["tunesmith_training_last_step_timestamp_seconds"] == pytest.approx(time.time(), abs=60)


def test_all_that_is_served_is_declared(tmp_path: Path) -> None:
    telemetry = Telemetry(RunFolder(tmp_path), total_steps=8, first_step=0, peak_flops=1e12)
    telemetry.spend({"forward": 0.5})
    columns = dict.fromkeys(COLUMNS, 1.0) | {"ppo/reward_0": 1.0}
    telemetry.step(record(1, **columns), seconds=0.3, tokens=50, samples=4, write=True, flops=1e9)
    (tmp_path / "checkpoints" / "step-00000001").mkdir(parents=True)
    with telemetry.saving(1):
        pass
    families = list(text_string_to_metric_families(generate_latest(telemetry.meters.registry).decode()))
    ours = {family.name: family for family in families if family.name.startswith("tunesmith_")}
    declared = {series.name.removesuffix("_total"): series for series in SERIES}
    of_gpu = {"tunesmith_training_memory_allocated_bytes", "tunesmith_training_memory_reserved_bytes"}
    assert ours.keys() == declared.keys() - of_gpu
    for name, family in ours.items():
        assert (family.type, family.documentation) == (declared[name].kind, declared[name].text)
        own = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert own == set(declared[name].labels)


def test_time_is_told_by_phase_and_since_the_line_before(tmp_path: Path) -> None:
    telemetry = Telemetry(RunFolder(tmp_path), total_steps=8, first_step=0)
    telemetry.spend({"forward": 0.5, "other": 0.25})
    tell(telemetry, 1, write=False)
    telemetry.spend({"checkpoint": 2.0})
    telemetry.spend({"forward": 0.5})
    tell(telemetry, 2)
    telemetry.spend({"forward": 0.125})
    tell(telemetry, 3)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    times = [{name: value for name, value in line.items() if name.startswith("time/")} for line in lines]
    assert times == [{"time/forward": 1.0, "time/other": 0.25, "time/checkpoint": 2.0}, {"time/forward": 0.125}]
    values = values_of(telemetry)
    assert values["tunesmith_training_phase_seconds_totalforward"] == 1.125
    assert values["tunesmith_training_phase_seconds_totalcheckpoint"] == 2


def test_utilisation_is_of_the_time_without_validation(tmp_path: Path) -> None:
    telemetry = Telemetry(RunFolder(tmp_path), total_steps=8, first_step=0, peak_flops=1e12)
    # 50 tokens at 100 a second took half a second
    telemetry.step(record(1), seconds=9.0, tokens=50, samples=4, write=True, flops=2e11)
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["model_flop_utilization"] == pytest.approx(0.4)
    values = values_of(telemetry)
    assert values["tunesmith_training_model_flop_utilization_ratio"] == pytest.approx(0.4)
    assert values["tunesmith_training_model_flops_total"] == 2e11
    assert values["tunesmith_training_peak_flops_per_second"] == 1e12


def test_a_step_that_is_not_finite_is_counted_and_its_loss_shown_as_nan_until_the_next(tmp_path: Path) -> None:
    telemetry = Telemetry(RunFolder(tmp_path), total_steps=8, first_step=0)
    tell(telemetry, 1)
    telemetry.leave_out(math.inf)
    left_out = {name: value for name, value in record(2).items() if name not in ("loss", "gradient_norm")}
    telemetry.step(left_out, seconds=0.3, tokens=50, samples=4, write=True)
    values = values_of(telemetry)
    assert math.isnan(values["tunesmith_training_loss"])
    assert values["tunesmith_training_skipped_steps_total"] == 1
    tell(telemetry, 3)
    assert values_of(telemetry)["tunesmith_training_loss"] == 2.5
    telemetry.leave_out(2.0)  # of which only the gradient was not finite
    assert values_of(telemetry)["tunesmith_training_loss"] == 2.5
    assert values_of(telemetry)["tunesmith_training_skipped_steps_total"] == 2


def test_checkpoints_are_counted_and_so_are_those_that_fail(tmp_path: Path) -> None:
    telemetry = Telemetry(RunFolder(tmp_path), total_steps=8, first_step=0)
    with pytest.raises(OSError, match="no space"), telemetry.saving(4):
        raise OSError("no space")
    values = values_of(telemetry)
    assert values["tunesmith_training_checkpoint_failures_total"] == 1
    assert values["tunesmith_training_checkpoints_total"] == 0
    assert "tunesmith_training_last_checkpoint_timestamp_seconds" not in values

    with telemetry.saving(8):
        written = tmp_path / "checkpoints" / "step-00000008"
        written.mkdir(parents=True)
        (written / "weights.safetensors").write_bytes(bytes(1000))
        (written / "checkpoint.json").write_bytes(bytes(24))
    values = values_of(telemetry)
    assert values["tunesmith_training_checkpoints_total"] == 1
    assert values["tunesmith_training_checkpoint_failures_total"] == 1
    assert values["tunesmith_training_checkpoint_bytes"] == 1024
    assert 0 < values["tunesmith_training_checkpoint_duration_seconds"] < 60
    assert values["tunesmith_training_last_checkpoint_timestamp_seconds"] == pytest.approx(time.time(), abs=60)
