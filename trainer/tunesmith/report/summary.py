"""A run in three sentences: what was done, what came of it, what to heed. They claim no more than the tests show."""

from tunesmith.api.source import Location
from tunesmith.evaluation.figures import interval_text, number_text
from tunesmith.evaluation.report import Comparison, EvaluationReport, FailureGroup, FailuresReport, MetricReport
from tunesmith.report.read import Run
from tunesmith.report.samples import lead_of
from tunesmith.report.words import counted, duration, listed, many, sentence, title_of

_LEARNT = {
    "causalLM": "to continue texts",
    "maskedLM": "to fill in hidden words",
    "seq2seq": "to turn one text into another",
    "instruction": "to answer prompts",
    "reward": "to score answers as people would",
    "ppo": "to give answers that earn more",
}
_METHODS = {
    "full": "all weights",
    "lora": "a LoRA adapter",
    "adalora": "an AdaLoRA adapter",
    "prefix": "a prefix",
    "ptuning": "a soft prompt",
}
_SHARES = ("exactMatch", "numericMatch", "accuracy")
"""Metrics that are the share of right rows."""
_FEW = 0.02
_LAST = {"validation/reward": "reward on validation prompts", "reward/accuracy": "accuracy on validation pairs"}
_NOT_SHOWN = ("no difference shown", "too few rows to tell")


def summary_of(run: Run) -> list[str]:
    """Three sentences."""
    return [sentence(text) for text in (what_was_done(run), what_came_of_it(run), what_to_heed(run))]


def start_of(run: Run) -> str:
    """What training started from, in words."""
    source = (run.spec.get("model") or {}).get("source")
    if source is None:
        return "a new model with random weights"
    location = Location.parse(source)
    return f"the model of job {location.name}" if location.scheme == "job" else source


def method_of(run: Run) -> str:
    """What was trained, in words."""
    settings = (run.spec.get("method") or {}).get(run.method) or {}
    rank = settings.get("rank") or settings.get("initialRank")
    how = _METHODS.get(run.method, run.method) + (f" of rank {rank}" if rank else "")
    trained, total = run.data.get("trainable_parameters", 0), run.data.get("total_parameters", 0)
    if run.method != "full" and trained and total:
        how += f" ({many(trained)} weights beside {many(total)})"
    return how + (f" ({many(total)})" if run.method == "full" and total else "")


def what_was_done(run: Run) -> str:
    """What was trained on what, and how far it came."""
    if not run.trains:
        return f"this job trains nothing: it evaluates {start_of(run)}"
    done, planned = run.steps
    rows, tokens = run.data.get("train_rows", 0), run.data.get("train_tokens", 0)
    what = f"{method_of(run)} {'of' if run.method == 'full' else 'on'} {start_of(run)} {_LEARNT.get(run.objective, '')}"
    what += f", on {counted(rows, 'row')} ({many(tokens)} tokens)" if rows else ""
    if run.running:
        return f"this run trains {what}, and stands at step {done:,}" + (f" of {planned:,}" if planned else "")
    if run.outcome is None:
        return f"this run trains {what}; it has left no result: it was ended without a word, or has not begun"
    took = counted(done, "step")
    if run.outcome.reason in ("Succeeded", "GateFailed"):
        return f"this run trained {what}, in {took}" + (f" that took {duration(run.seconds)}" if run.seconds else "")
    how = "was interrupted" if run.outcome.reason == "Interrupted" else f"failed with {run.outcome.reason}"
    why = f": {run.outcome.message}" if run.outcome.message else ""
    return f"this run was to train {what}, but {how} after {took}{why}"


def what_came_of_it(run: Run) -> str:
    """What the model can do beside the base, else beside the first other job, with the verdicts of the tests."""
    report = run.evaluation
    lead = lead_of(report) if report is not None else None
    if report is None or lead is None:
        return _without_evaluation(run)
    text = f"on {counted(report.rows, 'test row')} it reaches {title_of(lead.name)} {interval_text(lead.tuned)}"
    beside = lead.base or next(iter(lead.comparisons), None)
    if beside is not None:
        text += f", {_beside(beside)}"
    elif lead.name == "winRate":
        text += f", {lead.verdict or 'no verdict'} against the base"
    else:
        text += ", beside which nothing was evaluated"
    others = [metric for metric in report.metrics if metric is not lead]
    to = beside.to if beside is not None else "base"
    told = [told for verdict in ("worse", "better") if (told := _others(others, to, verdict))]
    return "; ".join([text, *told])


def _beside(base: Comparison) -> str:
    name = "the base" if base.to == "base" else base.to
    value = number_text(base.value.value)
    match base.verdict:
        case "better" | "worse" | "longer" | "shorter":
            return f"{base.verdict} than {name}'s {value} by {interval_text(base.difference)}"
        case "too few rows to tell":
            return f"{name}'s is {value}, but these are too few rows to tell them apart"
        case "no difference shown":
            return f"and no difference from {name}'s {value} is shown"
    return f"{name}'s is {value}"


def _others(metrics: list[MetricReport], to: str, verdict: str) -> str:
    names = [
        title_of(metric.name) for metric in metrics for c in metric.comparisons if (c.to, c.verdict) == (to, verdict)
    ]
    return f"it is also {verdict} in {listed(names)}" if names else ""


def _without_evaluation(run: Run) -> str:
    if run.evaluation_problem:
        return f"its evaluation cannot be read ({run.evaluation_problem}), so nothing is said of how good it is"
    text = "it was not evaluated, so nothing is known of how good it is but its curves"
    last = run.last
    for column, name in _LAST.items():
        if column in last:
            return f"{text}: {name} {number_text(last[column])} at the end"
    if "validation/loss" in last:
        return f"{text}: validation loss {number_text(last['validation/loss'])} nats per token at the end"
    if "loss" in last and run.objective != "ppo":
        return f"{text}: training loss {number_text(last['loss'])} nats per token at the end"
    return text


def what_to_heed(run: Run) -> str:
    """The gravest thing that is known, and what to do next."""
    report = run.evaluation
    for text in (_failure(run), *(_of_report(report) if report is not None else ())):
        if text:
            return str(text)
    if run.findings:
        found = run.findings[0]
        return f"to heed: {found.seen}; try this first: {found.remedies[0]}"
    if report is not None and (doubt := _doubt(run, report)):
        return doubt
    if report is None and run.trains:
        return "next: set spec.evaluation with test rows, and run it again: the training is not repeated"
    return "nothing in its curves or its rows asks for a change; read the samples before you rely on it"


def wrong_kinds(failures: FailuresReport | None) -> list[FailureGroup]:
    """The kinds of what went wrong, without the rows that are right."""
    groups = failures.groups if failures is not None else []
    return [group for group in groups if group.by == "kind" and group.name != "right" and group.rows]


def _failure(run: Run) -> str:
    if run.running:
        return "figures are those of the moment this page was made; make it again when the run has ended"
    if run.outcome is None and run.trains:
        return "next: run it again; it goes on from its last checkpoint, if it has one"
    if run.outcome is not None and run.outcome.reason == "Interrupted":
        return "next: run it again; it goes on from its last checkpoint"
    if run.outcome is not None and run.outcome.reason not in ("Succeeded", "GateFailed"):
        if run.findings:
            return f"what its curves show: {run.findings[0].seen}; try this first: {run.findings[0].remedies[0]}"
        return f"next: mend what the message names; docs/troubleshooting.md tells what {run.outcome.reason} means"
    return ""


def _of_report(report: EvaluationReport) -> list[str]:
    """What stands in the way, the gravest first."""
    found = []
    failed = [gate.message for gate in report.gates if not gate.passed]
    if failed:
        found.append(f"it does not pass: {listed(failed)}")
    worse = [title_of(m.name) for m in report.metrics if m.base is not None and m.base.verdict == "worse"]
    if worse:
        found.append(f"it became worse than the base in {listed(worse)}: read those rows before you use it")
    if report.warnings:
        found.append(report.warnings[0])
    return found


def _doubt(run: Run, report: EvaluationReport) -> str:
    """What the figures cannot show, or where the model is still wrong."""
    lead = lead_of(report)
    if lead is not None and lead.base is not None and lead.base.verdict in _NOT_SHOWN:
        return "more test rows would show smaller differences; on these, do not prefer one model to the other"
    groups = wrong_kinds(report.failures)
    largest = max(groups, key=lambda group: group.rows, default=None)
    if largest is not None and largest.name != "wrong":  # which says no more than the metric does
        rows = counted(largest.rows, "row")
        return f"most of what goes wrong is of the kind “{largest.name}” ({rows}): read these first"
    if report.tuned.unfinished > report.rows // 20:
        return f"{counted(report.tuned.unfinished, 'answer')} did not end within evaluation.maxNewTokens: raise it"
    if lead is not None and lead.name in _SHARES and lead.tuned.value <= 1 - _FEW:
        share = f"{1 - lead.tuned.value:.0%}"
        return f"{share} of the test rows are still wrong by {title_of(lead.name)}: read some before you rely on it"
    if groups:
        rows = counted(sum(group.rows for group in groups), "row")
        return f"{rows} of {report.rows:,} went wrong: read some before you rely on it"
    if (run.spec.get("model") or {}).get("source") is None and lead is not None and lead.base is not None:
        return "its base knew nothing, since it is the same model before training: being better than that says little"
    return ""
