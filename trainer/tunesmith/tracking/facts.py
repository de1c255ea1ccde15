"""What a tracker is told of a run, read from the run's folder."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.api.load import InputError, Problem
from tunesmith.api.pod import RunFolder

_PARTS = ("model", "dataset", "objective", "method", "training", "search", "evaluation", "scaling")
"""Of the spec; the pods' environment, for one, is nobody's business."""


@dataclass(frozen=True)
class Facts:
    """What is known of a run before its first step."""

    name: str
    """Of the job; of a trial with its number."""
    parameters: dict[str, Any]
    """The spec with its defaults, and the versions of the libraries, as JSON-compatible data."""
    tags: dict[str, str]
    """The job, its namespace, and the model that training starts from."""
    group: str | None = None
    """The job whose search a trial belongs to."""


def read_facts(folder: RunFolder, group: str | None = None) -> Facts:
    """The facts of a run.

    Args:
        folder: the run's, or a trial's.
        group: of a trial the job's name.

    Raises:
        InputError: it is not a run's folder.
    """
    try:
        config = json.loads(folder.config.read_text(encoding="utf-8"))
        job, spec = config["job"], config["job"]["spec"]
        model, name = spec["model"].get("source"), str(job["metadata"]["name"])
        parameters = {part: spec[part] for part in _PARTS if part in spec} | {"versions": config["versions"]}
    except OSError:
        raise InputError(Problem("is not a run's folder: it holds no config.json", file=str(folder.root))) from None
    except (ValueError, KeyError, TypeError):
        raise InputError(Problem("is damaged; run the job again", file=str(folder.config))) from None
    tags = {
        "tunesmith.job": group or name,
        "tunesmith.namespace": job["metadata"].get("namespace"),
        "tunesmith.baseModel": model or f"new {spec['model']['config']['architecture']}",
    }
    return Facts(name, parameters, {tag: value for tag, value in tags.items() if value}, group)


Scalar = str | int | float | bool


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Scalar]]:
    """Every value of nested data that is set with its path, such as training.batchSize; a list of values is one."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for index, inner in enumerate(value):
            yield from flat(inner, f"{path}.{index}")
    elif isinstance(value, Scalar):
        yield path, value
    elif value is not None:
        yield path, json.dumps(value)


@dataclass(frozen=True)
class Evaluation:
    """The figures of an evaluation."""

    figures: dict[str, float]
    """By name: evaluation/METRIC, the ends of its interval as METRIC_low and METRIC_high, and the base's as
    METRIC_base, METRIC_base_low and METRIC_base_high."""
    digest: str
    """Tells one evaluation from another."""


def read_evaluation(folder: RunFolder) -> Evaluation | None:
    """The evaluation in a run's folder; None where there is none that can be read."""
    from tunesmith.evaluation.report import read_report

    try:
        report = read_report(folder)
    except InputError:
        return None
    figures: dict[str, float] = {}
    for metric in report.metrics:
        sides = {"": metric.tuned} | ({"_base": metric.base.value} if metric.base is not None else {})
        for side, interval in sides.items():
            name = f"evaluation/{metric.name}{side}"
            figures |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return Evaluation(figures, hashlib.sha256(json.dumps(figures).encode()).hexdigest()[:16])


def attachments(folder: RunFolder, into: Path) -> list[Path]:
    """Copies of the files that go along, as far as they are there; not the weights.

    Args:
        folder: of the run.
        into: the copies' folder.
    """
    config = json.loads(folder.config.read_text(encoding="utf-8"))
    for part in ("runtime", "notifications"):  # whose variables and addresses may not be for everybody
        config["job"]["spec"].pop(part, None)
    (into / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    for file, name in ((folder.report, "report.html"), (folder.model / "README.md", "model_card.md")):
        if file.exists():
            shutil.copyfile(file, into / name)
    return sorted(into.iterdir())
