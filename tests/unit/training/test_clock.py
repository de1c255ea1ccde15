"""Where a run's time goes."""

import time

import pytest

from tunesmith.training.clock import StepClock


def test_the_parts_add_up_to_the_whole() -> None:
    clock = StepClock()
    clock.lap()
    started = time.perf_counter()
    with clock.phase("forward"):
        time.sleep(0.02)
    time.sleep(0.01)
    with clock.phase("backward"):
        time.sleep(0.01)
    with clock.phase("forward"):
        pass
    spent = clock.lap()
    whole = time.perf_counter() - started
    assert sum(spent.values()) == pytest.approx(whole, abs=0.002)
    assert set(spent) == {"forward", "backward", "other"}
    assert spent["forward"] >= 0.02
    assert min(spent["other"], spent["backward"]) >= 0.01


def test_nothing_is_lost_between_laps() -> None:
    clock = StepClock()
    clock.lap()
    started = time.perf_counter()
    found = 0.0
    for _ in range(5):
        with clock.phase("data"):
            time.sleep(0.002)
        found += sum(clock.lap().values())
    assert found == pytest.approx(time.perf_counter() - started, abs=0.002)


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
