"""Where the workers of a run on this machine are."""

from typing import Any

import pytest

from tests.unit.data.specs import spec_of
from tunesmith.launch.workers import Placement


@pytest.mark.parametrize(
    ("scaling", "own_process"),
    [
        ({}, True),
        ({"fsdp": {}}, True),
        ({"workers": 2}, False),
        ({"deepspeed": {"zeroStage": 3, "offload": True}}, False),  # it wants a process group
    ],
)
def test_a_single_worker_needs_no_process_of_its_own_but_for_deepspeed(
    scaling: dict[str, Any], own_process: bool
) -> None:
    assert Placement.here(spec_of(scaling=scaling)).own_process == own_process
