"""The learning rate over a run."""

from typing import Any

import pytest

from tunesmith.api.training import Schedule
from tunesmith.training.schedule import rate_factor


def factors(steps: int, **schedule: Any) -> list[float]:
    return [rate_factor(Schedule.model_validate(schedule), step, steps) for step in range(steps)]


def test_constant() -> None:
    assert factors(5, type="constant", warmup=0.0) == [1.0] * 5


def test_linear_falls_to_zero_one_step_after_the_last() -> None:
    assert factors(4, type="linear", warmup=0.0) == [1.0, 0.75, 0.5, 0.25]


def test_cosine_is_half_way_down_in_the_middle() -> None:
    cosine = factors(8, type="cosine", warmup=0.0)
    assert cosine[0] == 1.0
    assert cosine[4] == pytest.approx(0.5)
    assert cosine == sorted(cosine, reverse=True)
    assert 0 < cosine[-1] < 0.05


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
def test_the_warmup_rises_from_above_zero_to_the_whole_rate(kind: str) -> None:
    rates = factors(20, type=kind, warmup=0.2)
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert max(rates) == 1.0


def test_a_run_of_one_step_trains_at_the_whole_rate() -> None:
    assert factors(1, type="cosine", warmup=0.03) == [1.0]
