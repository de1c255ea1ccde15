"""The learning rate over a run."""

from typing import Any, get_args

import pytest

from tunesmith.api.optimizer import Schedule
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


@pytest.mark.parametrize("kind", list(get_args(Schedule.model_fields["type"].annotation)))
def test_the_warmup_rises_from_above_zero_to_the_whole_rate(kind: str) -> None:
    rates = factors(20, type=kind, warmup=0.2)
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert max(rates) == 1.0


@pytest.mark.parametrize("kind", ["linear", "cosine", "cosineWithRestarts", "polynomial", "warmupStableDecay"])
def test_the_rate_ends_at_the_floor(kind: str) -> None:
    rates = factors(1000, type=kind, warmup=0.0, floor=0.1)
    assert rates[-1] == pytest.approx(0.1, abs=0.005)
    assert min(rates) >= 0.1


def test_restarts_come_back_to_the_whole_rate() -> None:
    rates = factors(90, type="cosineWithRestarts", warmup=0.0, cycles=3)
    assert [step for step, rate in enumerate(rates) if rate == pytest.approx(1.0)] == [0, 30, 60]
    assert rates[29] == pytest.approx(0, abs=0.01)


def test_the_inverse_square_root_halves_when_the_steps_are_four_times_as_many() -> None:
    rates = factors(100, type="inverseSquareRoot", warmup=0.1)
    assert rates[9] == 1.0
    assert rates[39] == pytest.approx(0.5)


def test_a_stable_rate_falls_in_its_last_share() -> None:
    rates = factors(100, type="warmupStableDecay", warmup=0.1, decay=0.2)
    assert rates[9:80] == [1.0] * 71
    assert rates[80:] == pytest.approx([1 - step / 20 for step in range(20)])


def test_a_power_falls_faster_at_first() -> None:
    assert factors(4, type="polynomial", warmup=0.0, power=2.0) == [1.0, 0.5625, 0.25, 0.0625]


def test_a_run_of_one_step_trains_at_the_whole_rate() -> None:
    assert factors(1, type="cosine", warmup=0.03) == [1.0]
