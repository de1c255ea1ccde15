"""Who hears of the end: once, again after a failure, never of anything else; and what stands in the status of it."""

from collections.abc import Callable
from typing import Any

import pytest

from tunesmith.api.notification import NotificationStatus
from tunesmith.api.status import JobStatus
from tunesmith_operator.observed import Answer
from tunesmith_operator.reconcile.notifications import TRIES
from tunesmith_operator.settings import Settings

from .pipeline_world import SPEC as PIPELINE
from .pipeline_world import PipelineWorld
from .world import SETTINGS, World

TEAM = {"webhook": "team", "format": "slack"}
URL = {"url": "https://hooks.example/x/secret", "format": "cloudEvents"}
ALLOWING = Settings(image="trainer:1", storage_claim="runs", notification_hosts=("hooks.example",))


def world(*notifications: dict[str, Any], **spec: Any) -> World:
    made = World(notifications=list(notifications), **spec)
    made.settings, made.webhooks = ALLOWING, {"team", "other"}
    return made


def succeeds(made: World) -> World:
    return made.look().trains().tells("Succeeded").look()


def fails(made: World) -> World:
    return made.look().tells("InvalidInput").look()


def lines(made: World | PipelineWorld) -> list[NotificationStatus]:
    return made.status.notifications or []


def sent(made: World | PipelineWorld) -> list[tuple[str, int]]:
    """What is to be sent now: to whom, and which try it is."""
    return [(delivery.attempt.to, delivery.attempt.number) for delivery in made.plan.notify]


def answer(made: World, *answers: Answer) -> World:
    """The receivers answer what is on its way."""
    made.answers = {d.attempt: a for d, a in zip(made.plan.notify, answers, strict=True)}
    return made.look()


DELIVERED, LATER = Answer("delivered"), Answer("again", "HTTP 500")


@pytest.mark.parametrize(
    ("when", "ends", "told"),
    [
        (["Succeeded", "Failed"], succeeds, True),
        (["Succeeded", "Failed"], fails, True),
        (["Failed"], succeeds, False),
        (["Failed"], fails, True),
        (["Succeeded"], fails, False),
    ],
)
def test_only_the_ends_that_were_asked_for_are_told(
    when: list[str], ends: Callable[[World], World], told: bool
) -> None:
    made = world(TEAM | {"when": when})
    assert not made.looks().plan.notify, "nothing has ended yet"
    assert made.status.notifications is None
    ends(made)
    assert sent(made) == ([("webhook/team", 1)] if told else [])
    assert [line.state for line in lines(made)] == (["Pending"] if told else [])


def test_without_notifications_nothing_is_said_of_them() -> None:
    assert "notifications" not in succeeds(World()).body["status"]


def test_what_is_sent_stands_in_the_status_first() -> None:
    made = succeeds(world(TEAM, URL))
    status = made.plan.status
    assert isinstance(status, JobStatus)
    assert status.notifications is not None
    assert [(line.to, line.tries, line.state) for line in status.notifications] == [
        ("webhook/team", 0, "Pending"),
        (lines(made)[1].to, 0, "Pending"),
    ]
    assert lines(made)[1].to.startswith("hooks.example#")
    assert "secret" not in str(made.body["status"])
    assert {line.event for line in lines(made)} == {delivery.attempt.event for delivery in made.plan.notify}


def test_a_restart_sends_the_same_again_and_what_was_delivered_never() -> None:
    made = succeeds(world(TEAM))
    first = made.plan.notify
    assert made.later(30).look().plan.notify == first, "nobody knows what came of it"
    answer(made, DELIVERED)
    assert (lines(made)[0].state, lines(made)[0].tries, made.plan.notify) == ("Delivered", 1, ())
    made.answers = {}
    assert made.later(3600).looks().plan.notify == ()
    assert made.plan.look_again is None


def test_what_was_delivered_stays_so_and_counts_for_its_own_end_alone() -> None:
    made = answer(succeeds(world(URL)), DELIVERED)
    made.settings = SETTINGS
    assert lines(made.look())[0].state == "Delivered", "though its host is not allowed any more"
    made.settings, made.answers = ALLOWING, {}
    made.body["status"]["notifications"][0]["event"] = "another end"
    assert [number for _, number in sent(made.look())] == [1]


def test_a_receiver_that_fails_is_tried_again_ever_later_and_then_given_up() -> None:
    made, waits = succeeds(world(TEAM)), list[float]()
    for number in range(1, TRIES):
        assert sent(made) == [("webhook/team", number)]
        answer(made, LATER)
        assert sent(made) == [], "not before its time"
        assert made.plan.look_again is not None
        waits.append(made.plan.look_again)
        assert (lines(made)[0].tries, lines(made)[0].message) == (number, "HTTP 500")
        made.later(waits[-1]).look()
    assert waits == [30 * 2**n for n in range(TRIES - 1)]
    assert "NotificationFailed" not in made.told
    answer(made, LATER)
    assert (lines(made)[0].state, sent(made)) == ("Failed", [])
    (event,) = [event for event in made.events if event.reason == "NotificationFailed"]
    assert event.warning
    assert event.message == f"webhook/team was not notified (slack, tries: {TRIES}): HTTP 500"
    made.later(3600).looks()
    assert made.told.count("NotificationFailed") == 1


def test_a_receiver_that_asks_for_time_gets_it() -> None:
    made = answer(succeeds(world(TEAM)), Answer("again", "HTTP 429", wait=600))
    assert made.plan.look_again == 600
    assert answer(succeeds(world(TEAM)), Answer("again", "HTTP 429", wait=1e9)).plan.look_again == 3600
    assert answer(succeeds(world(TEAM)), Answer("again", "HTTP 429", wait=1)).plan.look_again == 30


def test_what_was_refused_is_not_tried_again() -> None:
    made = answer(succeeds(world(TEAM, URL)), Answer("refused", "HTTP 404"), DELIVERED)
    assert [(line.state, line.message) for line in lines(made)] == [("Failed", "HTTP 404"), ("Delivered", None)]
    assert made.told[-1] == "NotificationFailed"
    assert made.later(3600).looks().plan.notify == ()
    assert made.phase == "Succeeded", "what becomes of a message changes nothing in the job"


@pytest.mark.parametrize(
    ("notification", "reason", "said", "final"),
    [
        (URL, "NotificationNotAllowed", "spec.notifications[0].url: leads to no host that is allowed here", True),
        (TEAM, "UnknownWebhook", "spec.notifications[0].webhook: there is no team here (known: other)", False),
    ],
)
def test_a_receiver_that_cannot_be_is_said_before_anything_runs(
    notification: dict[str, Any], reason: str, said: str, final: bool
) -> None:
    made = World(notifications=[notification])
    made.webhooks = {"other"}
    made.looks()
    assert (made.created, made.condition("Validated")) == ([], ("False", reason))
    assert said in made.message("Validated")
    assert reason in made.told
    assert made.phase == ("Failed" if final else "Pending")
    made.settings, made.webhooks = ALLOWING, {"team"}
    if final:
        made.spec(activeDeadlineSeconds=5)  # a spec that never started may be mended
    assert made.looks().phase == "Starting"


def test_a_receiver_that_is_gone_does_not_stop_what_runs() -> None:
    made = world(TEAM, URL).looks().trains()
    made.webhooks, made.settings = set(), SETTINGS
    made.tells("OutOfMemory").looks().later(60).releases().looks()
    assert made.created[-1] == "RayJob tune-2"
    made.trains().tells("Succeeded").looks()
    assert [(line.state, line.message) for line in lines(made)] == [
        ("Pending", None),
        ("Failed", "its host is not allowed here"),
    ]
    assert [delivery.webhook for delivery in made.plan.notify] == ["team"], "no URL that is not allowed is called"


def test_a_notification_that_is_taken_out_is_not_sent_any_more() -> None:
    made = answer(succeeds(world(TEAM, URL)), LATER, LATER).later(30)
    made.spec(notifications=[URL]).look()
    assert [delivery.url for delivery in made.plan.notify] == [URL["url"]]
    assert [line.tries for line in lines(made)] == [1]
    made.spec(notifications=[]).looks()
    assert (made.plan.notify, made.status.notifications) == ((), None)


def test_the_same_receiver_twice_is_told_once() -> None:
    assert sent(succeeds(world(TEAM, TEAM, TEAM | {"webhook": "other"}))) == [("webhook/team", 1), ("webhook/other", 1)]


def test_a_job_whose_time_is_over_waits_for_its_messages_but_not_for_ever() -> None:
    made = succeeds(world(TEAM, ttlSecondsAfterFinished=0))
    assert made.plan.look_again == 0
    assert not made.look().plan.delete_itself
    assert made.plan.look_again == 300
    answer(made, LATER)
    assert (made.plan.delete_itself, made.plan.look_again) == (False, 30)
    assert not made.later(30).look().plan.delete_itself
    assert sent(made) == [("webhook/team", 2)]
    made.later(270).look()
    assert made.plan.delete_itself
    assert made.told[-1] == "NotificationFailed"
    assert "ttlSecondsAfterFinished is over" in made.events[-1].message

    taken = answer(succeeds(world(TEAM, ttlSecondsAfterFinished=0)).look(), DELIVERED)
    assert taken.plan.delete_itself, "no longer than it takes"


def test_a_pipeline_tells_of_itself_and_its_stages_do_not() -> None:
    made = PipelineWorld(notifications=[TEAM])
    made.webhooks = {"team"}
    made.runs_to("ppo")
    assert all(job["spec"]["notifications"] == [] for job in made.jobs.values())
    made.fails("helpful-ppo", "LossDiverged").look()
    (first,) = made.plan.notify
    made.spec(ppo=PIPELINE["ppo"] | {"training": {"learningRate": 1e-5}}).looks()
    assert (made.status.notifications, made.plan.notify) == (None, ()), "it is not over any more"
    made.later(60).fails("helpful-ppo-2", "LossDiverged").look()
    (second,) = made.plan.notify
    assert first.attempt.event != second.attempt.event, "another end is another event"
    made.answers = {second.attempt: DELIVERED}
    made.looks()
    assert [(line.state, line.tries) for line in lines(made)] == [("Delivered", 1)]


def test_a_pipeline_with_a_receiver_that_cannot_be_begins_nothing() -> None:
    waits = PipelineWorld(notifications=[TEAM]).looks()
    assert (waits.created, waits.phase, waits.condition("Running")) == ([], "Pending", ("False", "UnknownWebhook"))
    assert waits.plan.look_again == SETTINGS.recheck_seconds
    assert waits.told == ["UnknownWebhook"]
    waits.webhooks = {"team"}
    assert waits.looks().created == ["helpful-sft"]
    waits.webhooks = set()
    assert waits.succeeds("helpful-sft").looks().created[-1] == "helpful-reward", "what has begun goes on"
    refused = PipelineWorld(notifications=[URL]).looks()
    assert (refused.created, refused.condition("Failed")) == ([], ("True", "NotificationNotAllowed"))


def test_the_id_of_an_end_is_its_own_and_stays() -> None:
    def event(uid: str, ends: Callable[[World], World]) -> str:
        made = world(TEAM)
        made.body["metadata"]["uid"] = uid
        (delivery,) = ends(made).plan.notify
        return delivery.attempt.event

    def is_not_valid(made: World) -> World:
        made.body["spec"]["training"] = {"epochs": -1}
        return made.look()

    assert event("one", is_not_valid) == event("one", is_not_valid)
    assert event("one", is_not_valid) != event("two", is_not_valid)
