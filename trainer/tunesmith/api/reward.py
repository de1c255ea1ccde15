"""What an answer is worth: the objective that learns it from preferences, and the terms that PPO adds up."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from tunesmith.api.base import Rule, Schema, exactly_one
from tunesmith.api.source import MODEL_SCHEMES, Uri, check_uri, cluster_rule

Template = Annotated[str, Field(min_length=1, max_length=65536)]
RESPONSE = "{response}"


def ends_in_response(template: str) -> bool:
    """Whether a template has the response once, at its end."""
    return template.find(RESPONSE) == len(template) - len(RESPONSE) >= 0


ENDS_IN_RESPONSE = Rule(
    cel="!has(self.template) || (self.template.endsWith('{response}') && "
    "self.template.indexOf('{response}') == self.template.size() - 10)",
    message="should contain {response} once, at its end: generation stops there",
    holds=lambda o: o.template is None or ends_in_response(o.template),
    field="template",
)


class RewardSettings(Schema):
    """How a score for answers is learnt."""

    margin: Annotated[float, Field(ge=0)] = 0.0
    """How far apart the scores of a pair should be at least, for each unit of columns.margin or of the difference in
    columns.rating (Touvron et al. 2023, arXiv:2307.09288, equation 2)."""
    centring_prompts: Annotated[int, Field(ge=0, le=1_000_000)] = 256
    """After training, the scores are shifted and scaled so that the answers of the model that training started from, to
    so many prompts of the training rows, have mean 0 and variance 1 (Ziegler et al. 2019, arXiv:1909.08593); 0 leaves
    them as they are."""
    centring_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    """The longest of these answers."""


class RewardObjective(RewardSettings):
    """A score for answers, learnt from pairs of which one is preferred (Bradley & Terry 1952; Ouyang et al. 2022,
    arXiv:2203.02155, equation 1)."""

    template: Template | None = None
    """The text of a prompt with an answer, ending in {response}; without it the tokenizer's chat template is used."""

    rules: ClassVar[tuple[Rule, ...]] = (ENDS_IN_RESPONSE,)


class RewardModel(Schema):
    """The score of a reward model."""

    source: Annotated[Uri, AfterValidator(check_uri(*MODEL_SCHEMES))] | None = None
    """As for model.source; in an RLHFPipeline, by default the model of its reward stage."""

    rules: ClassVar[tuple[Rule, ...]] = (cluster_rule("source", optional=True),)


class ExactMatch(Schema):
    """1 where the answer is the text in columns.response, else 0; white space around both is ignored."""


class Pattern(Schema):
    """1 where the whole answer matches, else 0."""

    regex: Annotated[str, Field(min_length=1, max_length=4096)]
    """A regular expression of Python, which has 0.1 s for an answer."""


class LengthLimit(Schema):
    """0 up to a length, and -1 beyond it."""

    tokens: Annotated[int, Field(ge=1, le=1_000_000)]
    """The longest answer that costs nothing, in tokens."""


class RewardTerm(Schema):
    """One term of a reward: exactly one of model, exactMatch, pattern and length."""

    model: RewardModel | None = None
    """A reward model's score."""
    exact_match: ExactMatch | None = None
    """Whether the answer is the right one."""
    pattern: Pattern | None = None
    """Whether the answer has a form."""
    length: LengthLimit | None = None
    """Whether the answer is too long."""
    weight: float = 1.0
    """The term's factor."""

    rules: ClassVar[tuple[Rule, ...]] = (exactly_one("model", "exactMatch", "pattern", "length"),)
