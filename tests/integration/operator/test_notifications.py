"""Who hears of the end of a job: a real operator, a real API server, a real receiver."""

import time
from typing import Any

from cloudevents.core.bindings.http import HTTPMessage, from_http_event

from ..kube import Kube, Object, eventually
from .ray import JOB, RAY, Ray, fine_tune_job, told
from .receiver import Receiver
from .running import Operator
from .test_kill_anywhere import is_told, phase, play
from .test_operator import condition

NAME = "tune"
TEAM = {"webhook": "team", "format": "slack"}


def to_url(receiver: Receiver) -> dict[str, Any]:
    return {"url": f"{receiver.host}/events", "format": "cloudEvents"}


def states(job: Object) -> list[tuple[str, int, str]]:
    """State, tries and message of each receiver."""
    return [(line["state"], line["tries"], line.get("message", "")) for line in job["status"]["notifications"]]


def test_each_end_is_told_once_to_all_who_asked(
    kube: Kube, namespace: str, operator: Operator, receiver: Receiver
) -> None:
    (operator.webhooks / "team").write_text(receiver.url)
    operator.start(notification_hosts=receiver.host).wait_until_healthy()
    only_failures = {"webhook": "team", "format": "cloudEvents", "when": ["Failed"]}
    for name in ("good", "bad"):
        kube.create(fine_tune_job(name, namespace, notifications=[TEAM, to_url(receiver), only_failures]))
    ray = Ray(kube, namespace, hopeless=("bad",))
    assert states(play(kube, namespace, ray, is_told, "good")) == [("Delivered", 1, "")] * 2
    assert states(play(kube, namespace, ray, is_told, "bad")) == [("Delivered", 1, "")] * 3

    sent = [HTTPMessage({"content-type": got.content_type}, got.body) for got in receiver.got]
    events = [from_http_event(each) for each in sent if each.headers["content-type"] != "application/json"]
    ends = sorted((event.get_type(), event.get_subject()) for event in events)
    failed, succeeded = "dev.tunesmith.finetunejob.failed", "dev.tunesmith.finetunejob.succeeded"
    assert ends == [(failed, f"{namespace}/bad")] * 2 + [(succeeded, f"{namespace}/good")]
    assert len({event.get_id() for event in events}) == 2, "one end is one event, whoever hears of it"
    evaluated = [body["data"].get("evaluation") for body in receiver.bodies() if body.get("type") == succeeded]
    assert evaluated[0]["metrics"][0]["tuned"] == {"value": 2.0, "low": 1.5, "high": 2.5}
    assert len([body for body in receiver.bodies() if "blocks" in body]) == 2

    operator.start(notification_hosts=receiver.host).wait_until_healthy()
    time.sleep(2)
    assert len(receiver.got) == 5, "a restart tells nobody again"


def test_a_receiver_that_fails_and_hangs_is_tried_again_beside_everything_else(
    kube: Kube, namespace: str, operator: Operator, receiver: Receiver, ray: Ray
) -> None:
    (operator.webhooks / "team").write_text(receiver.url)
    operator.start().wait_until_healthy()
    receiver.answer = lambda number: {1: (500, {}), 2: None}.get(number, (200, {}))
    kube.create(fine_tune_job(NAME, namespace, notifications=[TEAM]))
    play(kube, namespace, ray, lambda job: len(receiver.got) == 2)
    hangs_since = time.monotonic()
    kube.create(fine_tune_job("beside", namespace))
    eventually(lambda: kube.find(*RAY, "beside-1", namespace), "another job's start", 4)
    assert time.monotonic() - hangs_since < 4, "nobody waits for the receiver"
    (operator.webhooks / "team").write_text(f"{receiver.host}/another-secret")
    job = play(kube, namespace, ray, is_told)
    assert states(job) == [("Delivered", 3, "")]
    assert [got.path for got in receiver.got] == ["/secret", "/secret", "/another-secret"], "the URL is read anew"
    assert len({got.body for got in receiver.got}) == 1
    for result, number in (("retried", 2), ("delivered", 1)):
        series = f'tunesmith_operator_notifications_total{{format="slack",result="{result}"}} {number}.0'
        assert series in operator.metrics()
    assert "no answer within 5 s" in operator.log()
    assert "secret" not in operator.log() + str(job["status"])


def test_an_operator_that_is_killed_before_it_knows_sends_the_same_again(
    kube: Kube, namespace: str, operator: Operator, receiver: Receiver, ray: Ray
) -> None:
    def killed_first(number: int) -> tuple[int, dict[str, str]]:
        if number == 1:
            operator.kill()
        return 200, {}

    receiver.answer = killed_first
    (operator.webhooks / "team").write_text(receiver.url)
    operator.start().wait_until_healthy()
    kube.create(fine_tune_job(NAME, namespace, notifications=[TEAM | {"format": "cloudEvents"}]))
    play(kube, namespace, ray, lambda job: receiver.got and not operator.alive)
    assert states(kube.get(*JOB, NAME, namespace)) == [("Pending", 0, "")]
    operator.start()
    assert states(play(kube, namespace, ray, is_told)) == [("Delivered", 1, "")]
    first, second = receiver.bodies()
    assert first == second, "and its id tells the receiver so"


def test_no_redirect_is_followed_and_no_other_host_is_called(
    kube: Kube, namespace: str, operator: Operator, receiver: Receiver, ray: Ray
) -> None:
    operator.start(notification_hosts=receiver.host).wait_until_healthy()
    receiver.answer = lambda number: (302, {"Location": "/elsewhere"})
    kube.create(fine_tune_job(NAME, namespace, notifications=[to_url(receiver)]))
    job = play(kube, namespace, ray, is_told)
    assert states(job) == [("Failed", 1, "HTTP 302, a redirect, which is not followed")]
    assert "NotificationFailed" in told(kube, namespace, NAME)
    elsewhere = {"url": "https://169.254.169.254/latest", "format": "slack"}
    kube.create(fine_tune_job("refused", namespace, notifications=[elsewhere]))
    refused = play(kube, namespace, ray, lambda job: phase(job) == "Failed", "refused")
    assert "spec.notifications[0].url: leads to no host that is allowed here" in refused["status"]["message"]
    assert not refused["status"]["attempts"], "before anything runs"
    assert [got.path for got in receiver.got] == ["/events"]


def test_a_job_that_goes_at_once_is_told_of_first(
    kube: Kube, namespace: str, operator: Operator, receiver: Receiver, ray: Ray
) -> None:
    operator.start().wait_until_healthy()
    kube.create(fine_tune_job(NAME, namespace, notifications=[TEAM], ttlSecondsAfterFinished=0))
    eventually(lambda: condition(kube, namespace, "Validated").get("reason") == "UnknownWebhook", "the condition")
    assert not kube.find(*RAY, f"{NAME}-1", namespace)
    (operator.webhooks / "team").write_text(receiver.url)

    def gone() -> bool:
        ray.step()
        return kube.find(*JOB, NAME, namespace) is None

    eventually(gone, "the end of the job")
    assert len(receiver.got) == 1
