"""The metrics of an evaluation: their names, and what each needs."""

from typing import Literal

MetricName = Literal[
    "loss",
    "perplexity",
    "exactMatch",
    "numericMatch",
    "tokenF1",
    "accuracy",
    "macroF1",
    "microF1",
    "bleu",
    "chrf",
    "rouge1",
    "rouge2",
    "rougeL",
    "rougeLsum",
    "rougeW",
    "meteor",
    "bertScore",
    "judge",
    "answerTokens",
    "pairAccuracy",
    "reward",
    "winRate",
    "divergence",
]

OF_TEXTS: tuple[MetricName, ...] = (
    "exactMatch",
    "numericMatch",
    "tokenF1",
    "accuracy",
    "macroF1",
    "microF1",
    "bleu",
    "chrf",
    "rouge1",
    "rouge2",
    "rougeL",
    "rougeLsum",
    "rougeW",
    "meteor",
    "bertScore",
)
"""Compare an answer with the right one."""
OF_ANSWERS: tuple[MetricName, ...] = (*OF_TEXTS, "judge", "answerTokens")
"""Need answers."""
JUDGE_ANSWERS: tuple[MetricName, ...] = (*OF_TEXTS, "judge", "reward")
"""Say how good an answer is."""
OF_CLASSES: frozenset[MetricName] = frozenset({"accuracy", "macroF1", "microF1"})
"""For answers that are one of a few."""
OF_REWARD_MODELS: tuple[MetricName, ...] = ("pairAccuracy",)
"""For the objective reward, and no other metric for it."""
ONLY_OF_POLICIES: tuple[MetricName, ...] = ("reward", "winRate", "divergence")
"""For the objective ppo alone."""
LOWER_IS_BETTER: frozenset[str] = frozenset({"loss", "perplexity"})
NEITHER_IS_BETTER: frozenset[str] = frozenset({"divergence", "answerTokens"})
