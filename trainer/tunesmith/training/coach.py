"""What a run's curves say of its settings, as a good coach would: what was seen, in figures, and what usually helps.

`troubleshooting` makes a page of the table.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TypeVar

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
from tunesmith.training.policy_curve import (
    PolicyCurve,
    does_not_end,
    does_not_rise,
    entropy_collapses,
    foresees_nothing,
    grows_long,
    mostly_clipped,
    policy_curve_of,
    strays,
)
from tunesmith.whole_files import write_whole

C = TypeVar("C", Curve, PolicyCurve)

MOST = 3
"""At most so many findings are told; the first ones explain the others."""


@dataclass(frozen=True)
class Symptom(Generic[C]):
    """Something that a curve may show."""

    name: str
    meaning: str
    """What usually causes it."""
    remedies: tuple[str, ...]
    """What usually helps, the first to try first."""
    detect: Callable[[C], str | None]


@dataclass(frozen=True)
class Finding:
    """A symptom of one run."""

    name: str
    seen: str
    """What was seen, with its figures."""
    remedies: tuple[str, ...]


SYMPTOMS: tuple[Symptom[Curve], ...] = (
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


POLICY_SYMPTOMS: tuple[Symptom[PolicyCurve], ...] = (
    Symptom(
        "PolicyStrays",
        "The policy leaves the model that it started from faster than the reward is worth; far from it, its answers "
        "are mostly nonsense that the reward happens to like.",
        (
            "raise objective.ppo.klCoefficient, or steer it with adaptiveKL",
            "lower training.learningRate to a third, or objective.ppo.epochs",
            "read answers.jsonl: does it earn what it should?",
        ),
        strays,
    ),
    Symptom(
        "EntropyCollapsed",
        "The policy always gives the same answer to a prompt, so there is nothing left to compare, and nothing to "
        "learn.",
        (
            "lower training.learningRate to a third",
            "raise objective.ppo.entropyCoefficient, for example to 0.01",
            "raise objective.ppo.klCoefficient",
        ),
        entropy_collapses,
    ),
    Symptom(
        "RewardDoesNotRise",
        "Nothing is learnt: the reward tells too few answers apart, steps are too small or too large, or there is "
        "nothing left to earn.",
        (
            "read answers.jsonl: if nearly all earn the same, tune the starting model further first, or choose a "
            "reward that tells answers apart",
            "raise training.batchSize: rewards are noisy",
            "raise training.learningRate threefold; if the divergence leapt in the first steps, lower it instead",
            "lower objective.ppo.klCoefficient if the divergence stays near 0",
        ),
        does_not_rise,
    ),
    Symptom(
        "AnswersWithoutEnd",
        "Such an answer is judged though it is not complete, and the policy is not told where to stop.",
        (
            "raise objective.ppo.maxNewTokens",
            "set objective.ppo.missingEndPenalty",
            "tune the starting model further: its answers should end",
        ),
        does_not_end,
    ),
    Symptom(
        "AnswersGrowLong",
        "Reward models often like long answers; the policy may have found that out, rather than how to answer well.",
        (
            "read answers.jsonl: are the longer ones better?",
            "add a length term to objective.ppo.reward",
            "raise objective.ppo.klCoefficient",
            "train the reward model on pairs of like length",
        ),
        grows_long,
    ),
    Symptom(
        "MostlyClipped",
        "Updates go further than the answers of a step can tell; the rest of their work is thrown away.",
        (
            "lower training.learningRate to a third",
            "lower objective.ppo.epochs or miniBatches",
            "raise training.batchSize",
        ),
        mostly_clipped,
    ),
    Symptom(
        "ValuesForeseeNothing",
        "The value function is no better than a constant, so that advantages are as noisy as the rewards.",
        (
            "raise objective.ppo.valueLearningRate three to ten times",
            "raise objective.ppo.valueCoefficient",
            "raise training.batchSize, or train longer",
        ),
        foresees_nothing,
    ),
)


def find(curve: Curve) -> list[Finding]:
    """What the curves of a run that learns from rows or pairs show, the gravest first."""
    return _found(SYMPTOMS, curve)


def find_in_policy(curve: PolicyCurve) -> list[Finding]:
    """What the curves of a PPO run show, the gravest first."""
    return _found(POLICY_SYMPTOMS, curve)


def _found(symptoms: tuple[Symptom[C], ...], curve: C) -> list[Finding]:
    seen = ((symptom, symptom.detect(curve)) for symptom in symptoms)
    return [Finding(symptom.name, text, symptom.remedies) for symptom, text in seen if text is not None][:MOST]


def find_in(folder: RunFolder) -> list[Finding]:
    """What the curves in a run's folder show; nothing where they cannot be read."""
    try:
        spec = json.loads(folder.config.read_text(encoding="utf-8"))["job"]["spec"]
        data = json.loads(folder.data.read_text(encoding="utf-8"))
        records = [json.loads(line) for line in folder.metrics.read_text(encoding="utf-8").splitlines()]
        ppo = spec["objective"].get("ppo")
        curve = policy_curve_of(records, ppo) if ppo else curve_of(records, data, spec["training"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return find_in_policy(curve) if isinstance(curve, PolicyCurve) else find(curve)


def write_findings(folder: RunFolder) -> list[Finding]:
    """Leaves what the curves show in findings.json."""
    found = find_in(folder)
    write_whole(folder.findings, json.dumps([asdict(finding) for finding in found], indent=1))
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
