"""`spec.notifications` and what the status says of them: who hears of the end of a job or pipeline."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith.api.base import Record, Rule, Schema, exactly_one
from tunesmith.api.source import DnsLabel

MessageFormat = Literal["slack", "cloudEvents"]
End = Literal["Succeeded", "Failed"]

WEBHOOK_URL = r"https?://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?([/?][A-Za-z0-9._~:/?@!$&()*+,;=%-]*)?"
"""Narrower than RFC 3986, so that no two parsers take it for two hosts: no user, password or fragment, no IPv6 address,
and a host of another script only as xn--."""


def is_webhook_url(text: str) -> bool:
    """Whether a text has the form that a receiver's URL must have."""
    return re.fullmatch(WEBHOOK_URL, text) is not None


class Notification(Schema):
    """A message that the operator sends when the job or pipeline has ended."""

    webhook: DnsLabel | None = None
    """The name of a URL that whoever runs the operator keeps for all; it is not shown."""
    url: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    """A URL, on a host that the operator's settings allow; whoever may read the job sees it."""
    format: MessageFormat
    """slack for Slack and what takes its messages, such as Mattermost; cloudEvents for programs: one CloudEvent 1.0 as
    application/cloudevents+json."""
    when: Annotated[list[End], Field(min_length=1, max_length=2)] = ["Succeeded", "Failed"]
    """The ends that are told."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one("webhook", "url"),
        Rule(
            cel=f"!has(self.url) || self.url.matches('^{WEBHOOK_URL}$')",
            message="should be https://HOST/PATH, without user, password and #; another script's host as xn--",
            holds=lambda n: n.url is None or is_webhook_url(n.url),
            field="url",
        ),
    )


Notifications = Annotated[list[Notification], Field(max_length=8)]


class NotificationStatus(Record):
    """What became of a message about the end."""

    to: str
    """webhook/NAME, or HOST#DIGEST of a URL."""
    format: MessageFormat
    """As in the spec."""
    event: str
    """The id of the CloudEvent, the same at each try: by it a receiver tells what it has had already."""
    state: Literal["Pending", "Delivered", "Failed"]
    """Failed once it is not tried again."""
    tries: int = 0
    """How often it was sent so far."""
    last_try_time: str | None = None
    """When it was sent last, RFC 3339."""
    next_try_time: str | None = None
    """When it is sent again."""
    message: str | None = None
    """What went wrong last."""


NotificationStatuses = Annotated[list[NotificationStatus], Field(max_length=8)]
