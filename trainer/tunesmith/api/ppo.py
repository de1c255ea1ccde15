"""`spec.objective.ppo`: answers that earn more, without straying from the model that training started from."""

from typing import Annotated, ClassVar

from pydantic import Field

from tunesmith.api.base import Rule, Schema
from tunesmith.api.reward import ENDS_IN_RESPONSE, RewardModel, RewardTerm, Template


class AdaptiveKL(Schema):
    """Steers the coefficient so that the divergence comes to a target (Ziegler et al. 2019, arXiv:1909.08593, section
    2.2)."""

    target: Annotated[float, Field(gt=0)] = 6.0
    """Mean divergence of an answer, in nats."""
    horizon: Annotated[int, Field(ge=1)] = 10_000
    """Answers over which the coefficient follows; more is slower."""


class Vllm(Schema):
    """Draws the answers with vLLM, an engine of which each worker runs one beside itself, on its own GPU. It needs the
    image tunesmith-trainer-vllm."""

    memory_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of a GPU's memory that is the engine's, for a copy of the weights and its cache."""


class PPOSettings(Schema):
    """How a policy learns from a reward."""

    reward: Annotated[list[RewardTerm], Field(min_length=1, max_length=16)] = [RewardTerm(model=RewardModel())]
    """What an answer earns: the weighted sum of these."""
    max_new_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 64
    """The longest answer; training.maxLength is that of prompt and answer together."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Of the sampling, and of every probability that is computed."""
    epochs: Annotated[int, Field(ge=1, le=100)] = 4
    """Passes over the answers of a step."""
    mini_batches: Annotated[int, Field(ge=1, le=10_000)] = 4
    """Updates of the weights in a pass."""
    clip_range: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """How far an update may move the probability of a token before it learns no more from it."""
    value_clip_range: Annotated[float, Field(gt=0)] = 0.2
    """The same for values."""
    value_coefficient: Annotated[float, Field(ge=0)] = 0.1
    """Factor of the value loss."""
    value_learning_rate: Annotated[float, Field(gt=0, le=100)] | None = None
    """The highest learning rate of the value function, where it differs from training.learningRate."""
    discount: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Gamma: what a reward one token later is worth now."""
    gae_lambda: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Lambda of generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438)."""
    kl_coefficient: Annotated[float, Field(ge=0)] = 0.05
    """Beta: what a nat of divergence from the starting model costs, token by token (the k1 estimate)."""
    adaptive_kl: AdaptiveKL | None = Field(default=None, alias="adaptiveKL")
    """Steers the coefficient; it then starts at klCoefficient."""
    kl_limit: Annotated[float, Field(gt=0)] = 50.0
    """Mean divergence of an answer in nats, over which the policy counts as collapsed and the run stops."""
    entropy_coefficient: Annotated[float, Field(ge=0)] = 0.0
    """Factor of the bonus for undecided tokens."""
    missing_end_penalty: Annotated[float, Field(ge=0)] = 0.0
    """Is taken from the reward of an answer that has no end within maxNewTokens."""
    shared_trunk: bool = True
    """Whether policy, reference, value function and, where it is an adapter of the same base, reward model are one
    model with an adapter for each; goes with method.lora. Otherwise each is a model of its own."""
    shared_value: bool = False
    """Whether the value function is a head on the policy itself: both come from one pass, which saves nearly half of
    the computing, and both pull at the same weights. Otherwise it has weights of its own, and starts as the reward
    model."""
    vllm: Vllm | None = None
    """Draws the answers with vLLM; without it the trainer draws them itself."""


class PPO(PPOSettings):
    """Proximal policy optimisation against a reward (Schulman et al. 2017, arXiv:1707.06347; Ouyang et al. 2022,
    arXiv:2203.02155). A step answers training.batchSize prompts, and then learns from these answers in epochs x
    miniBatches updates."""

    template: Template | None = None
    """The text of a prompt with an answer, ending in {response}; without it the tokenizer's chat template is used."""

    @property
    def compares(self) -> bool:
        """Whether a term of the reward compares with the right answer."""
        return any(term.exact_match is not None for term in self.reward)

    rules: ClassVar[tuple[Rule, ...]] = (ENDS_IN_RESPONSE,)
