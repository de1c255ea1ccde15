"""`spec.evaluation`: what follows a successful training."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith.api.base import Rule, Schema

MetricName = Literal[
    "perplexity", "exactMatch", "tokenF1", "pairAccuracy", "reward", "winRate", "divergence", "answerTokens"
]


class EvaluationSpec(Schema):
    """Metrics of the trained model on dataset.test, side by side with the base model."""

    metrics: Annotated[list[MetricName], Field(min_length=1, max_length=16)] = ["perplexity"]
    """perplexity for every objective; of maskedLM and spanCorruption, of what one fixed draw hides. exactMatch and
    tokenF1 compare generated answers with the test responses. pairAccuracy goes with reward. reward, winRate (against
    the base, by the reward), divergence (from the base, in nats) and answerTokens go with ppo."""
    compare_with_base: bool = True
    """Whether the model that training started from is evaluated too."""
    max_new_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 256
    """The longest answer in tokens."""
    batch_size: Annotated[int, Field(ge=1, le=100_000)] = 32
    """Rows that are evaluated at once."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.metrics.all(m, self.metrics.exists_one(n, n == m))",
            message="should name each metric once",
            holds=lambda e: len(set(e.metrics)) == len(e.metrics),
            field="metrics",
        ),
    )
