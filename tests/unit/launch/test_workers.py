"""Of several workers' outcomes one is the run's."""

from typing import get_args

import pytest

from tunesmith.api.outcome import Outcome, Reason
from tunesmith.launch.workers import outcome_of_all

OF_EVALUATIONS = {"GateFailed"}


@pytest.mark.parametrize("reason", sorted({*get_args(Reason)} - OF_EVALUATIONS))
def test_however_a_worker_ends_it_is_told(reason: Reason) -> None:
    assert outcome_of_all([Outcome(reason=reason)]).reason == reason
    assert outcome_of_all([Outcome(reason="Succeeded"), Outcome(reason=reason)]).reason == reason


def test_a_worker_that_failed_explains_those_that_lost_it() -> None:
    lost, failed = Outcome(reason="WorkerLost"), Outcome(reason="PolicyCollapsed")
    assert outcome_of_all([lost, failed, lost]) is failed
