"""`spec.objective`: what is learnt."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith.api.base import OneOf, Rule, Schema
from tunesmith.api.ppo import PPO
from tunesmith.api.reward import ENDS_IN_RESPONSE, RESPONSE, RewardObjective, Template

ModelKind = Literal["decoder", "encoder", "encoder-decoder"]
"""What a model is built of."""


class CausalLM(Schema):
    """Next-token prediction over whole rows; a row over maxLength is cut into several."""

    template: Template = "{text}"
    """The text of a row; {text} stands for columns.text, any other {NAME} for that column."""


class MaskedLM(Schema):
    """Filling in hidden tokens from both sides (BERT, Devlin et al. 2018, arXiv:1810.04805); a row over maxLength is
    cut into several. Of the chosen tokens 80% become the mask, 10% a random token, 10% stay; they are drawn anew in
    each epoch."""

    template: Template = "{text}"
    """The text of a row; {text} stands for columns.text, any other {NAME} for that column."""
    probability: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """The share of tokens that are to be predicted."""
    whole_words: bool = False
    """Whether all tokens of a word are chosen together."""


class SpanCorruption(Schema):
    """Spans of a text are replaced by sentinels and are to be written out (T5, Raffel et al. 2019, arXiv:1910.10683);
    drawn anew in each epoch."""

    density: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """The share of tokens that are replaced."""
    mean_length: Annotated[float, Field(ge=1, le=100)] = 3.0
    """Mean length of a span, in tokens."""


READS_NO_RESPONSE = Rule(
    cel="!has(self.template) || has(self.spanCorruption) || !self.template.contains('{response}')",
    message="should not contain {response}, which the encoder would read; it is what the decoder writes",
    holds=lambda o: o.template is None or o.span_corruption is not None or RESPONSE not in o.template,
    field="template",
)


class Seq2Seq(Schema):
    """Text to text with an encoder-decoder: the response is written while the prompt is read (T5)."""

    template: Template | None = None
    """What the encoder reads, with a task prefix where one model learns several tasks, for example
    "translate to French: {prompt}"; by default {prompt}, and {text} under spanCorruption."""
    span_corruption: SpanCorruption | None = None
    """Pretraining on plain text instead of responses."""

    rules: ClassVar[tuple[Rule, ...]] = (READS_NO_RESPONSE,)


class Instruction(Schema):
    """Answering: next-token prediction on the response only. With columns.messages the rows are conversations, of which
    every turn of the assistant is learnt."""

    template: Template | None = None
    """The text of a row, ending in {response}, for example "Q: {prompt} A: {response}"; without it the tokenizer's
    chat template is used."""

    rules: ClassVar[tuple[Rule, ...]] = (ENDS_IN_RESPONSE,)


class Objective(OneOf):
    """What the model learns: exactly one of the members; none where nothing is trained."""

    may_be_empty: ClassVar[bool] = True

    causal_lm: CausalLM | None = Field(default=None, alias="causalLM")
    """Next-token prediction over whole texts."""
    masked_lm: MaskedLM | None = Field(default=None, alias="maskedLM")
    """Filling in hidden tokens, for encoders."""
    seq2seq: Seq2Seq | None = Field(default=None, alias="seq2seq")
    """Text to text, for encoder-decoders."""
    instruction: Instruction | None = None
    """Responses to prompts."""
    reward: RewardObjective | None = None
    """A score for answers, from preferences."""
    ppo: PPO | None = None
    """Answers that earn a reward."""

    @property
    def template(self) -> str | None:
        """The text of a prompt with an answer, where there are any; None stands for the chat template."""
        answering = self.instruction or self.reward or self.ppo
        return answering.template if answering is not None else None

    @property
    def answers(self) -> bool:
        """Whether a model that has learnt this answers prompts."""
        text_to_text = self.seq2seq is not None and self.seq2seq.span_corruption is None
        return self.instruction is not None or self.ppo is not None or text_to_text

    @property
    def kind(self) -> ModelKind:
        """The kind of model that can learn this."""
        return "encoder" if self.masked_lm else "encoder-decoder" if self.seq2seq else "decoder"
