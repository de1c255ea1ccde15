"""What a run's curves say of its settings, as a good coach would: what was seen, in figures, and what usually helps.

`troubleshooting` makes a page of the table.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tunesmith.api.pod import RunFolder
from tunesmith.training.curve import (
    Curve,
    always_clipped,
    curve_of,
    does_not_fall,
    explodes,
    few_learned,
    idle_warmup,
    many_truncated,
    overfits,
    rate_too_low,
    spikes,
    still_falling,
    validates_far_above,
)

MOST = 3
"""At most so many findings are told; the first ones explain the others."""


@dataclass(frozen=True)
class Symptom:
    """Something that a curve may show."""

    name: str
    meaning: str
    """What usually causes it."""
    remedies: tuple[str, ...]
    """What usually helps, the first to try first."""
    detect: Callable[[Curve], str | None]


@dataclass(frozen=True)
class Finding:
    """A symptom of one run."""

    name: str
    seen: str
    """What was seen, with its figures."""
    remedies: tuple[str, ...]


SYMPTOMS = (
    Symptom(
        "LossExplodes",
        "Steps are too large: each overshoots, and the next starts from a worse place.",
        (
            "lower training.learningRate to a third",
            "lengthen training.schedule.warmup",
            "lower training.maxGradNorm",
            "look at the rows of the step where it began",
        ),
        explodes,
    ),
    Symptom(
        "LossDoesNotFall",
        "Nothing is learnt: steps are too small or much too large, the rows hold nothing to learn, or the model knows "
        "them already.",
        (
            "raise training.learningRate tenfold; if the gradient norm grew, lower it tenfold",
            "look at some rows as they are trained: the template, the columns, what is learned of them",
            "evaluate the base: it may know the answers already",
        ),
        does_not_fall,
    ),
    Symptom(
        "LearningRateTooLow",
        "The model is on its way, in steps that are too small for the number that it has.",
        ("raise training.learningRate three to ten times", "train longer"),
        rate_too_low,
    ),
    Symptom(
        "Overfitting",
        "The model learns its rows by heart.",
        (
            "set training.earlyStopping (model/ holds the best checkpoint, not the last one)",
            "add rows, or lower training.epochs",
            "train fewer weights: method.lora, or a lower rank",
            "raise training.weightDecay, or the dropout of the adapter",
        ),
        overfits,
    ),
    Symptom(
        "ValidationFarAbove",
        "The validation rows are of another kind than those that are trained on, or training rows repeat each other.",
        (
            "draw the validation rows from the same source (dataset.validation.fraction)",
            "compare some rows of both by eye",
            "look for copies within the training rows",
        ),
        validates_far_above,
    ),
    Symptom(
        "LossSpikes",
        "Some rows are unlike the others, or single steps are too large.",
        (
            "look at the rows of those steps",
            "raise training.batchSize",
            "lower training.learningRate, or training.optimizer.adamw.beta2 to 0.95",
        ),
        spikes,
    ),
    Symptom(
        "AlwaysClipped",
        "maxGradNorm sets the size of the steps, rather than the gradients; with sgd that is a lower learning rate.",
        (
            "raise training.batchSize: small batches have large, noisy gradients",
            "lower training.learningRate if the loss is uneven",
            "else raise training.maxGradNorm to the usual norm",
        ),
        always_clipped,
    ),
    Symptom(
        "WarmupTooLong",
        "The rate is so low for so long that the first steps are wasted.",
        ("lower training.schedule.warmup",),
        idle_warmup,
    ),
    Symptom(
        "StillFalling",
        "The run ended before the model had learnt what it can.",
        ("raise training.epochs or maxSteps (with --fresh, as the schedule changes)", "raise training.learningRate"),
        still_falling,
    ),
    Symptom(
        "RowsTruncated",
        "The end of a row is where its answer is.",
        ("raise training.maxLength", "shorten the prompts", "leave such rows out"),
        many_truncated,
    ),
    Symptom(
        "FewLearnedTokens",
        "A step is a mean over few tokens, and so is noisy; most of the work goes into reading prompts.",
        ("raise training.batchSize", "shorten the prompts, or learn from whole texts (objective.causalLM)"),
        few_learned,
    ),
)


def find(curve: Curve) -> list[Finding]:
    """What a curve shows, the gravest first."""
    seen = ((symptom, symptom.detect(curve)) for symptom in SYMPTOMS)
    return [Finding(symptom.name, text, symptom.remedies) for symptom, text in seen if text is not None][:MOST]


def find_in(folder: RunFolder) -> list[Finding]:
    """What the curves in a run's folder show; nothing where they cannot be read."""
    try:
        training = json.loads(folder.config.read_text(encoding="utf-8"))["job"]["spec"]["training"]
        data = json.loads(folder.data.read_text(encoding="utf-8"))
        records = [json.loads(line) for line in folder.metrics.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return find(curve_of(records, data, training))


def write_findings(folder: RunFolder) -> list[Finding]:
    """Leaves what the curves show in findings.json."""
    found = find_in(folder)
    partial = folder.findings.with_suffix(".partial")
    partial.write_text(json.dumps([asdict(finding) for finding in found], indent=1), encoding="utf-8")
    partial.replace(folder.findings)
    return found


def read_findings(file: Path) -> list[Finding]:
    """What was found; nothing where there is no such file."""
    try:
        return [
            Finding(found["name"], found["seen"], tuple(found["remedies"]))
            for found in json.loads(file.read_text(encoding="utf-8"))
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []
