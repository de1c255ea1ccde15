"""What the terminal says of wordings and failures, beside the table: a line each."""

from collections.abc import Iterator

from tunesmith.evaluation.figures import interval_text, number_text
from tunesmith.evaluation.report import EvaluationReport, FailuresReport, PromptsReport

_ROWS = 5


def highlights(report: EvaluationReport) -> Iterator[str]:
    """At most a line on wordings, and one on failures."""
    if report.prompts is not None:
        yield _of_prompts(report.prompts)
    if report.failures is not None and (line := _of_failures(report.failures)):
        yield line


def _of_prompts(report: PromptsReport) -> str:
    """The wording that costs most, and how alike answers are."""
    sign = -1 if report.better == "lower" else 1
    worst = min(report.variants, key=lambda variant: sign * variant.difference.value)
    shown = f": {worst.verdict}" if worst.verdict else ""
    text = (
        f"wording: {report.metric} {number_text(report.own.value)} with the job's own prompts; worst with "
        f"{worst.kind} {worst.name}, {number_text(worst.tuned.value)}, a difference of "
        f"{interval_text(worst.difference, '+')}{shown}"
    )
    if report.consistency is not None:
        text += f"; two templates get the same answer in {interval_text(report.consistency)} of cases"
    return text


def _of_failures(report: FailuresReport) -> str:
    """How many rows went wrong in which way; of metrics without answers, which rows are worst."""
    kinds = [group for group in report.groups if group.by == "kind" and group.name != "right" and group.rows]
    parts = [", ".join(f"{group.rows:,} {group.name}" for group in kinds)] if kinds else []
    if report.worst:
        some = ", ".join(map(str, report.worst[:_ROWS]))
        parts.append(f"worst by {report.metric}: rows {some}")
    if report.regressed:
        some = ", ".join(map(str, report.regressed[:_ROWS]))
        parts.append(f"worse than the base: rows {some}")
    return f"failures: {'; '.join(parts)}" if parts else ""
