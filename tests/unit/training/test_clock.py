"""Where a run's time goes."""

import time

import pytest

from tunesmith.training.clock import Phase, StepClock


def lap_around(clock: StepClock) -> tuple[float, dict[Phase, float], float]:
    """A lap, and the moments before and after it: a busy machine may have stopped this process between them."""
    before = time.perf_counter()
    spent = clock.lap()
    return before, spent, time.perf_counter()


def test_the_parts_add_up_to_the_whole() -> None:
    clock = StepClock()
    earliest, _, started = lap_around(clock)
    with clock.phase("forward"):
        time.sleep(0.02)
    time.sleep(0.01)
    with clock.phase("backward"):
        time.sleep(0.01)
    with clock.phase("forward"):
        pass
    ended, spent, latest = lap_around(clock)
    assert ended - started <= sum(spent.values()) <= latest - earliest
    assert set(spent) == {"forward", "backward", "other"}
    assert spent["forward"] >= 0.02
    assert min(spent["other"], spent["backward"]) >= 0.01


def test_nothing_is_lost_between_laps() -> None:
    clock = StepClock()
    earliest, _, started = lap_around(clock)
    found = 0.0
    for _ in range(5):
        with clock.phase("data"):
            time.sleep(0.002)
        ended, spent, latest = lap_around(clock)
        found += sum(spent.values())
    assert ended - started <= found <= latest - earliest


def test_what_is_done_within_a_phase_is_its_own() -> None:
    clock = StepClock()
    clock.lap()
    with clock.phase("validation"), clock.phase("answer"):
        time.sleep(0.005)
    spent = clock.lap()
    assert "answer" not in spent
    assert spent["validation"] >= 0.005


def test_a_phase_ends_with_an_error() -> None:
    clock = StepClock()
    clock.lap()
    with pytest.raises(OSError), clock.phase("checkpoint"):
        raise OSError
    time.sleep(0.005)
    assert clock.lap()["other"] >= 0.005
