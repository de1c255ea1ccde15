"""Makes the models of PPO from a spec: one trunk with adapters, or a model for each role."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.data.collate import Batch
from tunesmith.models.attention import use_packed_attention
from tunesmith.models.load import ModelLocation, locate, locate_source, refuse_other_tokenizer
from tunesmith.models.methods import add_adapter, add_copy, add_twin
from tunesmith.models.reward import (
    RewardAdapter,
    load_reward_model,
    read_reward_adapter,
    with_reward_head,
)
from tunesmith.models.start import DTYPES, base_model, trainable_model
from tunesmith.rlhf.rewards import PLACE
from tunesmith.rlhf.roles import Player, Role, Roles, Switch, bare_of, score_with, switch_off_dropout
from tunesmith.sources import Resolver

POLICY, VALUE = "default", "value"
"""Names of the trunk's adapters; the policy's is the one that an export looks for."""


@dataclass(frozen=True)
class Cast:
    """The roles, and the terms of the reward that models play."""

    roles: Roles
    judges: dict[int, Player]
    """By the place of the term."""

    @property
    def scorers(self) -> dict[int, Callable[[Batch], Tensor]]:
        """By the place of the term: scores of a batch's rows, fp32 [rows]."""
        return {index: score_with(player, POLICY) for index, player in self.judges.items()}


@dataclass(frozen=True)
class _Setting:
    """What everything is made from."""

    spec: FineTuneJobSpec
    resolver: Resolver
    tokenizer: PreTrainedTokenizerBase
    device: torch.device

    def rewards(self) -> dict[int, ModelLocation]:
        """Where the reward models are, by the place of their term."""
        ppo = self.spec.objective.ppo
        assert ppo is not None
        found = {}
        for index, term in enumerate(ppo.reward):
            if term.model is not None and term.model.source is not None:
                place = _place(index)
                found[index] = locate_source(term.model.source, self.resolver, place)
                refuse_other_tokenizer(self.tokenizer, found[index], place)
        return found

    @property
    def shares_value(self) -> bool:
        """Whether the value function is a head on the policy."""
        ppo = self.spec.objective.ppo
        assert ppo is not None
        return ppo.shared_value

    def weight(self, index: int) -> float:
        """The factor of a term of the reward."""
        ppo = self.spec.objective.ppo
        assert ppo is not None
        return ppo.reward[index].weight


def build_roles(
    spec: FineTuneJobSpec, resolver: Resolver, tokenizer: PreTrainedTokenizerBase, device: torch.device
) -> Cast:
    """The models of a run, each with what of it learns in fp32; frozen ones are on the device.

    The value function starts as the first reward model, where there is one, else as the policy's model that expects 0;
    as a head on the policy it always expects 0 at first.

    Raises:
        InputError: one cannot be loaded, or does not fit the others.
    """
    setting = _Setting(spec, resolver, tokenizer, device)
    ppo = spec.objective.ppo
    assert ppo is not None
    return _one_trunk(setting) if spec.method.lora is not None and ppo.shared_trunk else _separate(setting)


def _one_trunk(setting: _Setting) -> Cast:
    spec = setting.spec
    trunk: Any = trainable_model(spec, setting.resolver, setting.tokenizer)
    head = _head(bare_of(trunk))
    base = locate(spec.model, setting.resolver)
    guests, others = dict[int, RewardAdapter](), dict[int, ModelLocation]()
    for index, location in setting.rewards().items():
        if location.adapter_base == base:
            guests[index] = read_reward_adapter(Path(location.name), _place(index))
            add_copy(trunk, f"reward{index}", guests[index].config, guests[index].tensors)
        else:
            others[index] = location
    if setting.shares_value:
        pass
    elif guests:
        index, first = next(iter(guests.items()))
        add_copy(trunk, VALUE, first.config, first.tensors)
        scale = setting.weight(index)
        with torch.no_grad():
            head.weight.copy_(scale * first.centring.gain * first.head)
            head.bias.fill_(scale * first.centring.bias)
    else:
        add_twin(trunk, VALUE, spec.method, spec.training.seed)
    _ready(trunk, spec)
    switch = Switch(trunk, {POLICY, VALUE})
    value = Player(trunk, switch, POLICY if setting.shares_value else VALUE, head)
    players: dict[Role, Player] = {
        "policy": Player(trunk, switch, POLICY),
        "reference": Player(trunk, switch, None),
        "value": value,
    }
    if setting.shares_value:
        players["both"] = value
    switch(POLICY)
    judges = {index: _whole(setting, location, index) for index, location in others.items()}
    for index, guest in guests.items():
        mine = nn.Linear(guest.head.shape[1], 1, bias=False, device=setting.device)
        mine.weight = nn.Parameter(guest.head.float().to(setting.device), requires_grad=False)
        judges[index] = Player(trunk, switch, f"reward{index}", mine, guest.centring.gain, guest.centring.bias)
    return Cast(Roles(trunk, None, head, players), judges)


def _separate(setting: _Setting) -> Cast:
    spec, locations = setting.spec, setting.rewards()
    policy = _ready(trainable_model(spec, setting.resolver, setting.tokenizer), spec)
    frozen = _ready(base_model(spec, setting.resolver, setting.tokenizer, DTYPES[spec.training.precision]), spec)
    frozen.requires_grad_(False).to(setting.device)
    value = Player(policy, head=_head(bare_of(policy))) if setting.shares_value else _value(setting, locations)
    players: dict[Role, Player] = {"policy": Player(policy), "reference": Player(frozen), "value": value}
    if setting.shares_value:
        players["both"] = value
    judges = {index: _whole(setting, location, index) for index, location in locations.items()}
    return Cast(Roles(policy, None if setting.shares_value else value.model, value.head, players), judges)


def _value(setting: _Setting, locations: dict[int, ModelLocation]) -> Player:
    """A value function of its own."""
    spec, gain, bias = setting.spec, 1.0, 0.0
    dtype = torch.float32 if spec.method.full is not None else DTYPES[spec.training.precision]
    if locations:
        index, location = next(iter(locations.items()))
        reward = load_reward_model(location, dtype, _place(index))
        model, scale = reward.model.requires_grad_(True), setting.weight(index)
        gain, bias = scale * reward.centring.gain, scale * reward.centring.bias
    else:
        pad = int(setting.tokenizer.pad_token_id)
        model = with_reward_head(base_model(spec, setting.resolver, setting.tokenizer, dtype), pad)
    if spec.method.lora is not None:
        model = add_adapter(model, spec.method, spec.training.seed)
    return Player(_ready(model, spec), gain=gain, bias=bias)


def _whole(setting: _Setting, location: ModelLocation, index: int) -> Player:
    """A reward model with a trunk of its own."""
    reward = load_reward_model(location, DTYPES[setting.spec.training.precision], _place(index))
    model = _ready(reward.model, setting.spec).to(setting.device)
    return Player(model, gain=reward.centring.gain, bias=reward.centring.bias)


def _place(index: int) -> str:
    return f"{PLACE}[{index}].model.source"


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
