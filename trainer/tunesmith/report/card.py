"""The card of a run's model: README.md beside its weights, in the format of the Hugging Face Hub."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunesmith.api.source import Location
from tunesmith.evaluation.report import EvaluationReport
from tunesmith.report import words
from tunesmith.report.page import configuration_of, environment, repeat_of
from tunesmith.report.read import Run
from tunesmith.report.summary import method_of, start_of, what_came_of_it, what_to_heed, what_was_done, wrong_kinds
from tunesmith.report.usage import usage_of
from tunesmith.whole_files import write_whole

MARK = "<!-- Written by Tunesmith, and written anew after each evaluation: delete this line to keep changes. -->"
_BLANK = "# Model Card for Model ID"
"""The form that peft leaves; nobody has filled it in."""
_PIPELINES = {"maskedLM": "fill-mask", "seq2seq": None, "reward": "text-classification"}
_METRICS = {
    "exactMatch": "exact_match",
    "tokenF1": "f1",
    "macroF1": "f1",
    "microF1": "f1",
    "rouge1": "rouge",
    "rouge2": "rouge",
    "rougeL": "rouge",
    "rougeLsum": "rouge",
    "bertScore": "bertscore",
}
"""What the Hub calls metrics whose names differ."""
_SETTINGS = {
    "epochs": "epochs",
    "maxSteps": "steps, at most",
    "batchSize": "rows a step",
    "learningRate": "learning rate",
    "weightDecay": "weight decay",
    "maxGradNorm": "gradient norm, at most",
    "maxLength": "tokens of a row, at most",
    "precision": "precision",
    "seed": "seed",
}


def write_cards(run: Run, tell: Callable[[str], None]) -> None:
    """Leaves README.md in model/, and in adapter/ where there is one; one that somebody else has written stays.

    Args:
        run: whose model it is.
        tell: is given a sentence where a card stays as it is.
    """
    for folder in (run.folder.model, run.folder.adapter):
        if not folder.is_dir() or not run.trains:
            continue
        target = folder / "README.md"
        if not _is_ours(target):
            tell(f"{target} is not of Tunesmith's making and stays as it is")
            continue
        write_whole(target, card_of(run, folder))


def _is_ours(card: Path) -> bool:
    try:
        text = card.read_text(encoding="utf-8")
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return MARK in text or _BLANK in text


def card_of(run: Run, folder: Path) -> str:
    """The card of the model, or of the adapter, in a folder."""
    from huggingface_hub import ModelCardData

    report, is_adapter = run.evaluation, (folder / "adapter_config.json").exists()
    source = (run.spec.get("model") or {}).get("source")
    base = _hub_name(source) if source else None
    tags = ["tunesmith", run.objective, run.method]
    if run.objective == "reward":
        tags.append("reward-model")
    data = ModelCardData(
        model_name=run.name,
        library_name="peft" if is_adapter else "transformers",
        base_model=base,
        base_model_relation=("adapter" if is_adapter else "finetune") if base else None,
        datasets=[name for uri in _train_sources(run) if (name := _hub_name(uri))] or None,
        pipeline_tag=_PIPELINES.get(run.objective, "text-generation"),
        tags=tags,
        eval_results=_results(run, report) if report is not None else None,
    )
    training = run.spec.get("training") or {}
    schedule = training.get("schedule") or {}
    given = {title: training.get(name) for name, title in _SETTINGS.items()}
    settings = {title: words.plain(value) for title, value in given.items() if value is not None}
    if schedule.get("type"):
        settings["schedule"] = f"{schedule['type']}, warm-up {words.plain(schedule.get('warmup', 0))}"
    return (
        environment()
        .get_template("card.md")
        .render(
            metadata=data.to_yaml(),
            mark=MARK,
            run=run,
            base=start_of(run),
            is_adapter=is_adapter,
            method=method_of(run),
            done=words.sentence(what_was_done(run)),
            came=words.sentence(what_came_of_it(run)),
            heed=words.sentence(what_to_heed(run)),
            usage=usage_of(run, folder),
            sources=[words.source_name(uri) for uri in _train_sources(run)],
            settings=settings,
            report=report,
            limits=_limits(run),
            versions=", ".join(f"{name} {number}" for name, number in sorted(run.versions.items())),
            commands="\n".join(repeat_of(run)),
            configuration=configuration_of(run).rstrip(),
        )
    )


def _train_sources(run: Run) -> list[str]:
    train = (run.spec.get("dataset") or {}).get("train") or {}
    return [part["source"] for part in train.get("mixture") or [train] if part.get("source")]


def _hub_name(uri: str) -> str | None:
    """The name of a repository on the Hub; None for what is elsewhere."""
    location = Location.parse(uri)
    return location.name if location.scheme == "hf" else None


def _results(run: Run, report: EvaluationReport) -> list[Any]:
    """The figures for the metadata; the Hub lists them, without intervals, which the text has."""
    from huggingface_hub import EvalResult

    test = (run.spec.get("dataset") or {}).get("test") or {}
    source = str(test.get("source") or "test")
    name = _hub_name(source) or words.source_name(source).rsplit("/", 1)[-1]
    task = _PIPELINES.get(run.objective, "text-generation") or "text2text-generation"
    return [
        EvalResult(
            task_type=task,
            dataset_type=re.sub(r"[^\w./-]", "-", name),
            dataset_name=name,
            dataset_split=str(test.get("split") or "test"),
            metric_type=_METRICS.get(metric.name, metric.name),
            metric_name=words.title_of(metric.name),
            metric_value=round(metric.tuned.value, 6),
        )
        for metric in report.metrics
    ]


def _limits(run: Run) -> list[str]:
    """What was found, a sentence each."""
    found = [f"{finding.name}: {finding.seen}" for finding in run.findings]
    report = run.evaluation
    if report is None:
        return [*found, "It has not been evaluated: nothing is known of how good it is"]
    found += [gate.message for gate in report.gates if not gate.passed]
    worse = [words.title_of(m.name) for m in report.metrics for c in m.comparisons if c.verdict == "worse"]
    found += [f"It is worse than another model in {words.listed(list(dict.fromkeys(worse)))}"] if worse else []
    rows = words.counted(report.rows, "test row")
    kinds = [f"{group.name} ({words.counted(group.rows, 'row')})" for group in wrong_kinds(report.failures)]
    found += [f"Of {rows} these went wrong: {words.listed(kinds, 8)}"] if kinds else []
    found += [*report.warnings, *report.remarks]
    return [*found, f"It was tested on {rows} of one test set: of other texts nothing is known"]
