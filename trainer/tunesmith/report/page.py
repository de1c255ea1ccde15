"""The page of one run: RUN/report.html, one file that needs nothing else."""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from tunesmith import __version__
from tunesmith.api.source import Location
from tunesmith.evaluation.figures import interval_text, number_text, p_text
from tunesmith.evaluation.report import EvaluationReport
from tunesmith.launch.trials import best_trial
from tunesmith.report import words
from tunesmith.report.charts import Chart, Difference, forest_chart, histogram_chart
from tunesmith.report.curves import curves_of, trial_charts
from tunesmith.report.read import Run
from tunesmith.report.samples import Text, samples_of
from tunesmith.report.summary import method_of, start_of, summary_of

MODELS = {"tuned": "this model", "base": "base"}
_GROUP_SAMPLES, _WORST = 3, 10
"""Rows of a group of failures, and of the worst rows, that a page holds."""


@cache
def environment() -> Environment:
    """The templates of this package; what is put into a page is escaped."""
    found = Environment(
        loader=PackageLoader("tunesmith.report"),
        autoescape=lambda name: name is not None and name.endswith((".html", ".css")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "title_of": words.title_of,
        "interval": interval_text,
        "number": number_text,
        "p": p_text,
        "counted": words.counted,
        "sentence": words.sentence,
        "shown": words.shown,
        "plain": words.plain,
        "changes": words.changes,
        "cell": words.cell,
        "folded": Text.of,
    }
    return found


def render(template: str, **values: Any) -> str:
    """A page from a template, with what every page needs."""
    values |= {"version": __version__, "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"}
    return environment().get_template(template).render(**values)


def run_page(run: Run) -> str:
    """The page of one run, as HTML."""
    report = run.evaluation
    failures = report.failures if report is not None else None
    wanted: set[int] = set()
    if failures is not None:
        wanted |= {*failures.worst[:_WORST], *failures.regressed[:_WORST]}
        wanted.update(row for group in failures.groups for row in group.samples[:_GROUP_SAMPLES])
    return render(
        "run.html",
        run=run,
        status=status_of(run),
        summary=summary_of(run),
        glance=glance_of(run),
        report=report,
        forests=forests_of(report) if report is not None else [],
        samples=samples_of(run, MODELS, wanted),
        most_worst=_WORST,
        most_samples=_GROUP_SAMPLES,
        curves=curves_of(run),
        trials=run.trials,
        best=best_trial(run.trials),
        trial_charts=trial_charts(run),
        lengths=_lengths(run),
        data=_data(run),
        configuration=configuration_of(run),
        versions=dict(sorted({**(report.versions if report else {}), **run.versions}.items())),
        machine=_machine(run),
        attempts=_attempts(run),
        steps_to_repeat=repeat_of(run),
    )


def status_of(run: Run) -> tuple[str, str]:
    """How it stands in a word or two, and whether that is good, bad or neither."""
    report = run.evaluation
    if run.running:
        return "Running", "neutral"
    if report is not None and any(not gate.passed for gate in report.gates):
        return "Gate failed", "bad"
    if run.outcome is None:
        return ("Evaluated", "good") if report is not None else ("No result", "bad")
    if run.outcome.reason == "Succeeded":
        return "Succeeded", "good"
    return run.outcome.reason, "neutral" if run.outcome.reason == "Interrupted" else "bad"


def glance_of(run: Run) -> dict[str, str]:
    """The facts that a reader looks for first."""
    done, planned = run.steps
    facts = {"Starts from": start_of(run)}
    if run.trains:
        facts["Trains"] = method_of(run)
        facts["Objective"] = run.objective
        if run.data:
            facts["Training rows"] = f"{run.data.get('train_rows', 0):,}"
        facts["Steps"] = f"{done:,}" + (f" of {planned:,}" if planned > done else "")
    if run.seconds:
        facts["Time of the steps"] = words.duration(run.seconds)
    if run.evaluation is not None:
        facts["Test rows"] = f"{run.evaluation.rows:,}"
    if run.ended is not None:
        facts["Last step"] = f"{run.ended:%Y-%m-%d %H:%M} UTC"
    return facts


def forests_of(report: EvaluationReport) -> list[Chart]:
    """The differences from each other model, with their intervals."""
    others = dict.fromkeys(comparison.to for metric in report.metrics for comparison in metric.comparisons)
    return [_forest(report, other) for other in others]


def _forest(report: EvaluationReport, other: str) -> Chart:
    found = []
    for metric in report.metrics:
        for comparison in metric.comparisons:
            if comparison.to != other or metric.better == "neither":
                continue
            sign, shown = -1.0 if metric.better == "lower" else 1.0, comparison.difference
            low, high = sorted((sign * shown.low, sign * shown.high))
            text = interval_text(shown, "+")
            label = words.title_of(metric.name)
            found.append(Difference(label, sign * shown.value, low, high, text, comparison.verdict))
    caption = (
        "The square is the difference on the test rows, the line its 95% interval; each metric has a scale of its own, "
        "turned so that right is better. Bad: a line wholly on the left. A line across 0 shows no difference."
    )
    return forest_chart(f"Differences from {'the base' if other == 'base' else other}", caption, found)


def _lengths(run: Run) -> Chart | None:
    lengths = run.data.get("lengths")
    if not lengths or not lengths.get("counts"):
        return None
    limit = (run.spec.get("training") or {}).get("maxLength", 0)
    caption = (
        f"From {lengths['shortest']:,} to {lengths['longest']:,}, half of them up to {lengths['median']:,}; maxLength "
        f"is {limit:,}. Bad: a tower at maxLength, which are rows that were cut."
    )
    first, last = lengths["shortest"], lengths["longest"] + 1
    return histogram_chart("Tokens per training row", caption, first, last, lengths["counts"])


def _data(run: Run) -> dict[str, str]:
    """The counts of data.json, those that matter only where they are not 0."""
    data = run.data
    if not data:
        return {}
    learned = data.get("learned_tokens", 0)
    share = f" ({learned / data['train_tokens']:.0%})" if data.get("train_tokens") else ""
    found = {
        "Training rows": f"{data.get('train_rows', 0):,}",
        "Tokens in them": f"{data.get('train_tokens', 0):,}",
        "Tokens that are learnt": f"{learned:,}{share}",
        "Validation rows": f"{data.get('validation_rows', 0):,}",
        "Test rows": f"{data.get('test_rows', 0):,}",
        "Cut to maxLength": f"{data.get('truncated', 0):,}",
        "Left out: nothing to learn": f"{data.get('dropped', 0):,}",
        "Repeated": f"{data.get('repeated', 0):,}",
        "Also among validation or test rows": f"{data.get('overlapping', 0):,}",
    }
    if data.get("equal"):
        found["Pairs with the same answer twice"] = f"{data['equal']:,}"
    return found


def configuration_of(run: Run) -> str:
    """The job with every default filled in, as a file that runs again; without its pods, whose environment may hold
    what is not for every reader."""
    job = {name: run.job[name] for name in run.job if name in ("apiVersion", "kind")}
    job["metadata"] = {"name": run.name}
    spec = {name: value for name, value in run.spec.items() if name not in ("runtime", "storage")}
    return yaml.safe_dump(job | {"spec": spec}, sort_keys=False, allow_unicode=True, width=110)


def _machine(run: Run) -> dict[str, str]:
    found = {}
    if run.data.get("hardware"):
        found["Trained on"] = str(run.data["hardware"])
    if (peak := run.last.get("peak_memory_bytes")) is not None:
        found["Highest memory while training"] = words.size(peak)
    if run.evaluation is not None:
        for name, model in (("this model", run.evaluation.tuned), ("the base", run.evaluation.base)):
            if model is not None:
                text = f"{model.device}, {model.dtype}, {words.duration(model.seconds)}"
                found[f"Evaluation of {name}"] = text
    return found


def _attempts(run: Run) -> str:
    """What is known of interruptions."""
    last = run.attempts[-1].number if run.attempts else 1
    number = max(last, run.outcome.attempt if run.outcome is not None else 1)
    text = "It took one attempt" if number == 1 else f"The last one was attempt {number}"
    if run.resumed:
        steps = words.listed([f"{step:,}" for step in run.resumed], 6)
        return f"{text}; it was gone on with from the checkpoint of step {steps}."
    return f"{text}, without an interruption." if number == 1 else f"{text}."


def repeat_of(run: Run) -> list[str]:
    """The commands that do the same again."""
    spec = run.spec
    ppo = (spec.get("objective") or {}).get("ppo") or {}
    models = [spec.get("model"), *(term.get("model") for term in ppo.get("reward") or [])]
    locations = [Location.parse(uri) for uri in _addresses([*models, spec.get("dataset")])]
    mounts = dict.fromkeys(each.name for each in locations if each.scheme in ("pvc", "configmap"))
    jobs = dict.fromkeys(each.name for each in locations if each.scheme == "job")
    command = f"tunesmith run -f {run.name}.yaml" + "".join(f" --mount {name}=DIR" for name in mounts)
    first = [f"# first run the jobs {', '.join(jobs)}, whose models it reads"] if jobs else []
    install = [f"pip install tunesmith=={run.versions['tunesmith']}"] if "tunesmith" in run.versions else []
    return [*install, *first, command, f"tunesmith report runs/{run.name}"]


def _addresses(parts: Iterable[Any]) -> Iterable[str]:
    """Everything under `source`, however deep."""
    for part in parts:
        if isinstance(part, dict):
            if isinstance(part.get("source"), str):
                yield part["source"]
            yield from _addresses(part.values())
        elif isinstance(part, list):
            yield from _addresses(part)
