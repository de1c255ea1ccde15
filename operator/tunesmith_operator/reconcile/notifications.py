"""Who hears of the end of a job or pipeline: what is to be sent, and what became of it, from the status alone."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from pydantic import ValidationError

from tunesmith.api.notification import Notification, NotificationStatus
from tunesmith.api.pipeline_status import PipelineStatus
from tunesmith.api.status import JobStatus
from tunesmith_operator.messages import message, summarize
from tunesmith_operator.names import digest
from tunesmith_operator.observed import Answer, Object, Observed, Try
from tunesmith_operator.pipeline import SeenPipeline
from tunesmith_operator.receivers import host_of, is_allowed
from tunesmith_operator.reconcile.decision import timestamp
from tunesmith_operator.reconcile.plan import Delivery, Event, Plan
from tunesmith_operator.reconcile.validation import Obstacle
from tunesmith_operator.settings import Settings

TRIES = 8
"""With the default of settings.notificationRetrySeconds the last is about an hour after the first."""
_LONGEST_WAIT = 3600.0
"""Seconds that a receiver may ask to be left alone."""
_STAYS = timedelta(seconds=300)
"""How much longer than its ttlSecondsAfterFinished a job stays for a message that nobody took yet."""

Seen = Observed | SeenPipeline
_Line = tuple[Notification, NotificationStatus]


def obstacle(seen: Seen, settings: Settings) -> Obstacle | None:
    """Why a message could not be sent; to be said before anything runs that costs something."""
    for index, each in enumerate(_wanted(seen.body)):
        place = f"spec.notifications[{index}]"
        if each.url is not None and not is_allowed(each.url, settings.notification_hosts):
            allowed = ", ".join(settings.notification_hosts) or "none"
            text = f"{place}.url: leads to no host that is allowed here (allowed: {allowed}); name a webhook, or ask "
            text += "whoever runs the operator to add it to settings.notificationHosts of the chart"
            return Obstacle("NotificationNotAllowed", text, final=True)
        if each.webhook is not None and each.webhook not in seen.receivers.webhooks:
            known = ", ".join(sorted(seen.receivers.webhooks)) or "none"
            text = (
                f"{place}.webhook: there is no {each.webhook} here (known: {known}); name another, or ask whoever runs "
            )
            text += "the operator to add it to the Secret of notifications.webhooksSecret of the chart"
            return Obstacle("UnknownWebhook", text)
    return None


def with_notifications(plan: Plan, seen: Seen, before: JobStatus | PipelineStatus, settings: Settings) -> Plan:
    """The plan, with what the end of the job or pipeline means for those who are to hear of it.

    Args:
        plan: what was decided without them.
        seen: what it was decided from.
        before: the status as it stands.
        settings: of the operator.
    """
    status = plan.status or before
    if plan.lookups or (status.completion_time is None and status.notifications is None):
        return plan
    left = (_time_to_go(status, seen.body) - seen.now).total_seconds() if plan.delete_itself else None
    last_chance = left is not None and left <= 0
    lines = list(_lines(status, seen, settings, last_chance)) if status.completion_time is not None else []
    pending = [line for _, line in lines if line.state == "Pending"]
    after = status.model_copy(update={"notifications": [line for _, line in lines] or None})
    again = [plan.look_again, left if pending else None]
    again += [_seconds_to(line.next_try_time, seen.now) for line in pending if line.next_try_time is not None]
    return replace(
        plan,
        events=(*plan.events, *_events(status.notifications or [], after.notifications or [])),
        status=after if after != before else None,
        notify=tuple(_deliveries(lines, after, seen)),
        delete_itself=plan.delete_itself and not pending,
        look_again=min((seconds for seconds in again if seconds is not None), default=None),
    )


def _wanted(body: Object) -> Iterator[Notification]:
    """Those of the spec that are valid, whatever else is wrong in it."""
    for each in body["spec"].get("notifications", ()):
        try:
            yield Notification.model_validate(each)
        except ValidationError:  # the CRD refuses it; a cluster without its rules does not
            continue


def _lines(status: JobStatus | PipelineStatus, seen: Seen, settings: Settings, last_chance: bool) -> Iterator[_Line]:
    """A line of the status for each receiver of this end."""
    event = digest(f"{seen.body['metadata']['uid']}/{status.phase}/{status.completion_time}", 32)
    former = {(line.to, line.format): line for line in status.notifications or () if line.event == event}
    told = set[tuple[str, str]]()
    for each in _wanted(seen.body):
        place = (_address(each), each.format)
        if status.phase in each.when and place not in told:
            told.add(place)
            new = NotificationStatus(to=place[0], format=each.format, event=event, state="Pending")
            yield each, _proceed(former.get(place, new), each, seen, settings, last_chance)


def _address(wanted: Notification) -> str:
    """A name for a receiver that tells nothing secret."""
    if wanted.url is None:
        return f"webhook/{wanted.webhook}"
    return f"{host_of(wanted.url)}#{digest(wanted.url, 8)}"


def _proceed(
    line: NotificationStatus, wanted: Notification, seen: Seen, settings: Settings, last_chance: bool
) -> NotificationStatus:
    if line.state != "Pending":
        return line
    if wanted.url is not None and not is_allowed(wanted.url, settings.notification_hosts):
        return line.model_copy(update={"state": "Failed", "message": "its host is not allowed here"})
    answer = seen.receivers.answers.get(Try(line.event, line.to, line.format, line.tries + 1))
    if answer is not None:
        line = _tried(line, answer, seen.now, settings)
    if line.state == "Pending" and last_chance:
        text = f"{line.message or 'nobody took it'}; not tried again, as spec.ttlSecondsAfterFinished is over"
        return line.model_copy(update={"state": "Failed", "message": text, "next_try_time": None})
    return line


def _tried(line: NotificationStatus, answer: Answer, now: datetime, settings: Settings) -> NotificationStatus:
    tries = line.tries + 1
    made = {"tries": tries, "last_try_time": timestamp(now), "next_try_time": None, "message": answer.message or None}
    if answer.result == "delivered":
        return line.model_copy(update=made | {"state": "Delivered"})
    if answer.result == "refused" or tries >= TRIES:
        return line.model_copy(update=made | {"state": "Failed"})
    wait = max(settings.notification_retry_seconds * 2 ** (tries - 1), min(answer.wait, _LONGEST_WAIT))
    return line.model_copy(update=made | {"next_try_time": timestamp(now + timedelta(seconds=wait))})


def _events(before: Sequence[NotificationStatus], after: Sequence[NotificationStatus]) -> Iterator[Event]:
    """A warning for each message that is given up."""
    known = {(line.event, line.to, line.format) for line in before if line.state == "Failed"}
    for line in after:
        key = (line.event, line.to, line.format)
        if line.state == "Failed" and key not in known:
            text = f"{line.to} was not notified ({line.format}, tries: {line.tries}): {line.message}"
            yield Event("NotificationFailed", text, True, "/".join(key))


def _deliveries(lines: Sequence[_Line], status: JobStatus | PipelineStatus, seen: Seen) -> Iterator[Delivery]:
    """What is due; what is on its way already is among it, until it is known what came of it."""
    for wanted, line in lines:
        if line.state == "Pending" and (line.next_try_time or "") <= timestamp(seen.now):
            whole = {**seen.body, "status": status.to_dict()}
            jobs = seen.jobs.values() if isinstance(seen, SeenPipeline) else [whole]
            content_type, body = message(summarize(line.event, whole, status, jobs), line.format)
            attempt = Try(line.event, line.to, line.format, line.tries + 1)
            yield Delivery(attempt, wanted.webhook, wanted.url, content_type, body)


def _time_to_go(status: JobStatus | PipelineStatus, body: Object) -> datetime:
    """When the job goes at the latest, whoever has not heard of its end."""
    assert status.completion_time is not None, "only what is over goes"
    ttl = timedelta(seconds=body["spec"]["ttlSecondsAfterFinished"])
    return datetime.fromisoformat(status.completion_time) + ttl + _STAYS


def _seconds_to(when: str, now: datetime) -> float | None:
    """None where that is past: then it is on its way."""
    left = (datetime.fromisoformat(when) - now).total_seconds()
    return left if left > 0 else None
