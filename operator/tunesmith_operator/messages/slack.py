"""A message for Slack's incoming webhooks, and for what takes the same: Mattermost shows `text` and knows no blocks.

https://docs.slack.dev/reference/block-kit/blocks, https://docs.slack.dev/messaging/formatting-message-text
"""

import json
from typing import Any

from tunesmith.api.outcome import MetricResult
from tunesmith_operator.messages.summary import Summary, shortened

_LONGEST_HEADER = 150
_LONGEST_SECTION, _LONGEST_FIELD = 3000, 2000
_MOST_FIGURES = 5
_WORST_ESCAPE = len("&amp;")


def slack(summary: Summary) -> tuple[str, bytes]:
    """Content type and body."""
    look = f"`kubectl describe {summary.kind.lower()} {summary.name} -n {summary.namespace}`"
    figures = "\n".join(_figures(summary))
    why = _escaped(summary.message, _LONGEST_SECTION)
    facts = [_markup(f"*{name}*\n{value}") for name, value in _facts(summary)]
    blocks = [
        {"type": "header", "text": {"type": "plain_text", "text": shortened(_title(summary), _LONGEST_HEADER)}},
        {"type": "section", "text": _markup(why)} if why else None,
        {"type": "section", "fields": facts} if facts else None,
        {"type": "section", "text": _markup(figures)} if figures else None,
        {"type": "context", "elements": [_markup(look)]},
    ]
    first = f"*{_title(summary)}*"
    first += f" in {_duration(summary.seconds)}" if summary.seconds is not None else ""
    first += f", {_gpu_hours(summary)} GPU-hours" if summary.gpu_seconds else ""
    text = "\n".join(filter(None, (first, why, figures, look)))
    return "application/json", json.dumps({"text": text, "blocks": [b for b in blocks if b]}).encode()


def _title(summary: Summary) -> str:
    mark, why = ("✅", "") if summary.phase == "Succeeded" else ("❌", f": {summary.reason}")
    return f"{mark} {summary.kind} {summary.namespace}/{summary.name} {summary.phase.lower()}{why}"


def _facts(summary: Summary) -> list[tuple[str, str]]:
    """What stands beside the message, names first."""
    found = list[tuple[str, str]]()
    if summary.seconds is not None:
        found.append(("Time", _duration(summary.seconds)))
    if summary.gpu_seconds:
        found.append(("GPU-hours", _gpu_hours(summary)))
    if len(summary.attempts) > 1:
        found.append(("Attempts", str(summary.attempts[-1].number)))
    found += [(f"Stage {stage.name}", stage.phase or "Pending") for stage in summary.stages]
    if summary.artifacts is not None and summary.artifacts.model is not None and summary.phase == "Succeeded":
        found.append(("Model", _escaped(summary.artifacts.model, _LONGEST_FIELD - len("*Model*\n"))))
    return found


def _figures(summary: Summary) -> list[str]:
    """The evaluation, a line for each of its first metrics."""
    if summary.evaluation is None:
        return []
    shown = [_figure(metric) for metric in summary.evaluation.metrics[:_MOST_FIGURES]]
    left = len(summary.evaluation.metrics) - len(shown) + summary.evaluation.omitted
    return shown + ([f"and {left} more"] if left else [])


def _figure(metric: MetricResult) -> str:
    tuned, base = metric.tuned, metric.base
    text = f"{_escaped(metric.name, 300)} {tuned.value:.4g} [{tuned.low:.4g}, {tuned.high:.4g}]"
    text += f", base {base.value:.4g} [{base.low:.4g}, {base.high:.4g}]" if base is not None else ""
    return text + (f": {_escaped(metric.verdict, 300)}" if metric.verdict else "")


def _gpu_hours(summary: Summary) -> str:
    return f"{summary.gpu_seconds / 3600:.2f}"


def _duration(seconds: int) -> str:
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


def _escaped(text: str, longest: int) -> str:
    """A text that is shown as it is: no markup of Slack's, no links, nobody called by @."""
    short = shortened(text, longest // _WORST_ESCAPE)
    return short.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "@\u200b")


def _markup(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}
