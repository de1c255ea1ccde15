"""Makes the four models of PPO from a spec: one trunk with adapters, or a model for each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.data.collate import Batch
from tunesmith.models.attention import use_packed_attention
from tunesmith.models.load import locate
from tunesmith.models.methods import add_adapter, add_twin
from tunesmith.models.start import DTYPES, base_model, trainable_model
from tunesmith.rlhf.roles import Player, Role, Roles, Switch, bare_of, switch_off_dropout
from tunesmith.sources import Resolver

POLICY, VALUE, REWARD = "default", "value", "reward"
"""Names of the trunk's adapters; the policy's is the one that an export looks for."""


@dataclass(frozen=True)
class Cast:
    """The roles, and the terms of the reward that models play."""

    roles: Roles
    scorers: dict[int, Callable[[Batch], Tensor]]
    """By the place of the term: scores of a batch's rows, fp32 [rows]."""


def build_roles(
    spec: FineTuneJobSpec, resolver: Resolver, tokenizer: PreTrainedTokenizerBase, device: torch.device
) -> Cast:
    """The models of a run, each with what of it learns in fp32; frozen ones are on the device.

    Raises:
        InputError: one cannot be loaded, or does not fit the others.
    """
    ppo = spec.objective.ppo
    assert ppo is not None
    if spec.method.lora is not None and ppo.shared_trunk:
        return _one_trunk(spec, resolver, tokenizer, device)
    return _separate(spec, resolver, tokenizer, device)


def _one_trunk(
    spec: FineTuneJobSpec, resolver: Resolver, tokenizer: PreTrainedTokenizerBase, device: torch.device
) -> Cast:
    trunk: Any = _ready(trainable_model(spec, resolver, tokenizer), spec)
    add_twin(trunk, VALUE, spec.method, spec.training.seed)
    head = _head(bare_of(trunk))
    switch = Switch(trunk, {POLICY, VALUE})
    players: dict[Role, Player] = {
        "policy": Player(trunk, switch, POLICY),
        "reference": Player(trunk, switch, None),
        "value": Player(trunk, switch, VALUE, head),
    }
    roles = Roles(trunk, None, head, players)
    switch(POLICY)
    return Cast(roles, {})


def _separate(
    spec: FineTuneJobSpec, resolver: Resolver, tokenizer: PreTrainedTokenizerBase, device: torch.device
) -> Cast:
    policy = _ready(trainable_model(spec, resolver, tokenizer), spec)
    frozen = _ready(base_model(spec, resolver, tokenizer, DTYPES[spec.training.precision]), spec)
    frozen.requires_grad_(False).to(device)
    value = _ready(_value_model(spec, resolver), spec)
    players: dict[Role, Player] = {
        "policy": Player(policy),
        "reference": Player(frozen),
        "value": Player(value),
    }
    return Cast(Roles(policy, value, None, players), {})


def _value_model(spec: FineTuneJobSpec, resolver: Resolver) -> Any:
    """A value function that starts from the policy's model, and expects 0."""
    location = locate(spec.model, resolver)
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        location.name, revision=location.revision, dtype=torch.float32, num_labels=1, use_safetensors=True
    )
    nn.init.zeros_(model.score.weight)
    return add_adapter(model, spec.method, spec.training.seed) if spec.method.lora is not None else model


def _ready(model: Any, spec: FineTuneJobSpec) -> Any:
    """Without dropout, packed and checkpointed as the spec says."""
    switch_off_dropout(model)
    if spec.packed:
        use_packed_attention(bare_of(model))
    if spec.training.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return model.eval()


def is_of_value(name: str) -> bool:
    """Whether a parameter of the roles belongs to the value function."""
    return name.startswith(("value.", "value_head.")) or f".{VALUE}." in name


def policy_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a checkpoint's weights those of the policy, by their names in its own model."""
    prefix = "policy."
    return {
        name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix) and not is_of_value(name)
    }


def _head(model: PreTrainedModel) -> nn.Linear:
    """From hidden states to a value; says 0 until it has learnt."""
    head = nn.Linear(model.config.get_text_config().hidden_size, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head
