"""The trainer's metrics are as Prometheus wants them."""

import subprocess
from pathlib import Path

from prometheus_client import generate_latest

from tests.tools.build import build
from tunesmith.api.pod import RunFolder
from tunesmith.training.series import COLUMNS
from tunesmith.training.telemetry import Telemetry


def test_promtool_finds_no_fault_with_any_of_them(tmp_path: Path) -> None:
    telemetry = Telemetry(RunFolder(tmp_path), total_steps=8, first_step=0, peak_flops=1e12)
    telemetry.spend({"forward": 0.5})
    record = {"step": 1} | dict.fromkeys(COLUMNS, 1.0) | {"ppo/reward_0": 1.0}
    telemetry.step(record, seconds=0.3, tokens=50, samples=4, write=False, flops=1e9)
    (tmp_path / "checkpoints" / "step-00000001").mkdir(parents=True)
    with telemetry.saving(1):
        pass
    text = generate_latest(telemetry.meters.registry)
    checked = subprocess.run([build("promtool")["promtool"], "check", "metrics"], input=text, capture_output=True)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
