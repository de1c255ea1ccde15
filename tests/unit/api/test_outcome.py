"""What follows a failure, and the message that passes between pods."""

import json

import pytest

from tunesmith.api.outcome import (
    TERMINATION_MESSAGE_LIMIT,
    EvaluationResult,
    Interval,
    MetricResult,
    Outcome,
    Overrides,
    Reason,
    next_attempt,
)

HALVED = Overrides(micro_batch_size=4)
LOWERED = Overrides(learning_rate_scale=0.5)


@pytest.mark.parametrize(
    ("reason", "before", "after", "counts"),
    [
        ("OutOfMemory", Overrides(), HALVED, True),
        ("OutOfMemory", HALVED, Overrides(micro_batch_size=2), True),
        ("OutOfMemory", Overrides(micro_batch_size=1), None, None),
        ("OutOfMemory", LOWERED, Overrides(micro_batch_size=4, learning_rate_scale=0.5), True),
        ("LossDiverged", HALVED, Overrides(micro_batch_size=4, learning_rate_scale=0.5), True),
        ("LossDiverged", LOWERED, None, None),
        ("WorkerLost", HALVED, HALVED, False),
        ("Interrupted", Overrides(), Overrides(), False),
        ("OutcomeUnknown", HALVED, HALVED, True),
        ("InternalError", Overrides(), Overrides(), True),
        ("InvalidInput", Overrides(), None, None),
        ("StorageFull", Overrides(), None, None),
        ("GateFailed", Overrides(), None, None),
        ("Succeeded", Overrides(), None, None),
    ],
)
def test_what_follows_a_failure(
    reason: Reason, before: Overrides, after: Overrides | None, counts: bool | None
) -> None:
    retry = next_attempt(reason, before, micro_batch_size=8)
    assert (retry and retry.overrides) == after
    assert (retry and retry.counts) == counts


def test_a_long_message_is_cut_and_the_figures_stay() -> None:
    outcome = Outcome(reason="InternalError", message="ä" * 9000, step=7, metrics={"loss": 1.5})
    text = outcome.to_termination_message()
    assert len(text.encode()) <= TERMINATION_MESSAGE_LIMIT
    read = Outcome.model_validate_json(text)
    assert (read.step, read.metrics, read.message[:50], read.message[-1]) == (7, {"loss": 1.5}, "ä" * 50, "…")


def test_the_end_of_the_log_stays_as_far_as_there_is_room() -> None:
    outcome = Outcome(reason="InternalError", message="m" * 1024, log_tail='"' * 1000 + "end", metrics={"loss": 1.5})
    assert Outcome.model_validate_json(outcome.to_termination_message()) == outcome
    wide = {f"metric {number}": 1 / 3 for number in range(40)}
    text = outcome.model_copy(update={"message": "m" * 9000, "metrics": wide}).to_termination_message()
    assert len(text.encode()) <= TERMINATION_MESSAGE_LIMIT
    read = Outcome.model_validate_json(text)
    assert (read.metrics, read.message[:1000]) == (wide, "m" * 1000)
    assert read.log_tail is not None
    assert (read.log_tail[0], read.log_tail[-4:]) == ("…", '"end')


@pytest.mark.parametrize(("metrics", "name_length"), [(32, 10), (64, 10), (64, 128), (1, 4000)])
@pytest.mark.parametrize("message", ["met", "ä" * 9000, '"' * 9000])
def test_what_has_no_room_is_counted_and_the_first_metrics_stay(metrics: int, name_length: int, message: str) -> None:
    value = Interval(value=0.512345, low=0.491234, high=0.534567)
    results = [
        MetricResult(name=f"{number}".zfill(name_length), tuned=value, base=value, verdict="no difference shown")
        for number in range(metrics)
    ]
    evaluation = EvaluationResult(rows=10_000, metrics=results)
    text = Outcome(reason="GateFailed", message=message, evaluation=evaluation).to_termination_message()
    assert len(text.encode()) <= TERMINATION_MESSAGE_LIMIT
    read = Outcome.model_validate_json(text)
    assert read.message[:50] == message[:50]
    assert read.evaluation is not None
    kept = read.evaluation.metrics
    assert kept == results[: len(kept)]
    assert len(kept) + read.evaluation.omitted == metrics
    if message == "met" and name_length == 10:
        assert len(kept) >= 20


def test_a_short_message_passes_whole() -> None:
    outcome = Outcome(reason="Succeeded", message="done", step=7)
    assert Outcome.model_validate_json(outcome.to_termination_message()) == outcome


def test_a_field_of_another_release_does_no_harm() -> None:
    text = json.dumps({"reason": "Succeeded", "mood": "good"})
    assert Outcome.model_validate_json(text).reason == "Succeeded"


def test_what_is_told_has_no_colon_with_nothing_after_it() -> None:
    assert Outcome(reason="Succeeded").told == "Succeeded"
    assert Outcome(reason="WorkerLost", message="a worker went away").told == "WorkerLost: a worker went away"
