"""What notifications say: the end of a job or pipeline, as a CloudEvent for programs or a Slack message for people."""

from tunesmith.api.notification import MessageFormat
from tunesmith_operator.messages.cloud_event import cloud_event
from tunesmith_operator.messages.slack import slack
from tunesmith_operator.messages.summary import Summary, summarize

__all__ = ["Summary", "message", "summarize"]


def message(summary: Summary, form: MessageFormat) -> tuple[str, bytes]:
    """Content type and body."""
    return cloud_event(summary) if form == "cloudEvents" else slack(summary)
