"""`spec.objective` and `spec.method`: what is learnt, and which weights learn it."""

from typing import Annotated, ClassVar

from pydantic import Field

from tunesmith.api.base import OneOf, Rule, Schema

Template = Annotated[str, Field(min_length=1, max_length=65536)]


class CausalLM(Schema):
    """Next-token prediction over whole rows; a row over maxLength is cut into several."""

    template: Template = "{text}"
    """The text of a row; {text} stands for columns.text, any other {NAME} for that column."""


class Instruction(Schema):
    """Answering: next-token prediction on the response only."""

    template: Template | None = None
    """The text of a row, ending in {response}, for example "Q: {prompt} A: {response}"; without it the tokenizer's
    chat template is used."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.template) || (self.template.endsWith('{response}') && "
            "self.template.indexOf('{response}') == self.template.size() - 10)",
            message="should contain {response} once, at its end: generation stops there",
            holds=lambda o: o.template is None or o.template.find("{response}") == len(o.template) - 10 >= 0,
            field="template",
        ),
    )


class Objective(OneOf):
    """What the model learns: exactly one of the members."""

    causal_lm: CausalLM | None = Field(default=None, alias="causalLM")
    """Next-token prediction over whole texts."""
    instruction: Instruction | None = None
    """Responses to prompts."""


class FullMethod(Schema):
    """All weights are trained."""


class LoraMethod(Schema):
    """Low-rank adapters are trained, the base is frozen (Hu et al. 2021, arXiv:2106.09685)."""

    rank: Annotated[int, Field(ge=1, le=4096)] = 16
    """Rank of the update of each weight."""
    alpha: Annotated[float, Field(gt=0)] = 32
    """The update is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on the adapter's input."""
    target_modules: Annotated[str, Field(min_length=1, max_length=1024)] = "all-linear"
    """all-linear (every linear layer but the head), or a regular expression that the whole name of a module matches,
    for example .*[.](q_proj|v_proj)."""
    merge: bool = False
    """Whether model/ holds the adapter merged into its full-precision base; the adapter itself is then in adapter/."""


class Method(OneOf):
    """Which weights are trained: exactly one of the members."""

    full: FullMethod | None = None
    """All weights."""
    lora: LoraMethod | None = None
    """Low-rank adapters."""
