"""The models of PPO: policy, reference, value function and reward models, as one trunk or several."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.data.collate import Batch
from tunesmith.models.reward import scores_at
from tunesmith.training.objective import next_token_logits

Role = Literal["policy", "reference", "value", "both"]
"""`both` is policy and value function in one pass, where the one is a head on the other."""


class Switch:
    """Chooses which adapter of a trunk is on; what learns stays so, on or off."""

    def __init__(self, trunk: nn.Module, learned: set[str]) -> None:
        from peft.tuners.tuners_utils import BaseTunerLayer

        self._layers = [module for module in trunk.modules() if isinstance(module, BaseTunerLayer)]
        adapters = {name: p for name, p in trunk.named_parameters() if ".lora_" in name}
        self._learned = [p for name, p in adapters.items() if learned & set(name.split("."))]
        self._frozen = [p for name, p in adapters.items() if not learned & set(name.split("."))]

    def __call__(self, adapter: str | None) -> None:
        """Turns this adapter on and all others off; None turns all off."""
        for layer in self._layers:
            layer.enable_adapters(adapter is not None)
            if adapter is not None:
                layer.set_adapter([adapter])
        for parameter in self._learned:
            parameter.requires_grad_(True)
        for parameter in self._frozen:
            parameter.requires_grad_(False)


@dataclass(frozen=True)
class Player:
    """What plays a role."""

    model: Any
    """A decoder, with or without adapters, or a reward model."""
    switch: Switch | None = None
    adapter: str | None = None
    """The adapter that is on while it plays; None for the bare trunk."""
    head: nn.Linear | None = None
    """From a decoder's hidden states to a number; a reward model has its own."""
    gain: float = 1.0
    bias: float = 0.0
    """A number is gain x what the head says + bias."""


class Roles(nn.Module):
    """Policy and value function as one module to be trained; the others beside them.

    Args:
        policy: the policy's model, or the trunk of several roles.
        value: the value function's own model; None where it is an adapter of the trunk, or a head on the policy.
        value_head: where it has no model of its own.
        players: who plays what.
    """

    def __init__(
        self, policy: nn.Module, value: nn.Module | None, value_head: nn.Linear | None, players: Mapping[Role, Player]
    ) -> None:
        super().__init__()
        self.policy, self.value, self.value_head = policy, value, value_head
        self.players = dict(players)  # no submodules: what does not learn is nobody's to wrap

    @contextmanager
    def playing(self, role: Role) -> Iterator[Any]:
        """The model of a role with its adapter on; the policy's is on again afterwards."""
        player = self.players[role]
        if player.switch is not None:
            player.switch(player.adapter)
        try:
            yield player.model
        finally:
            if player.switch is not None:
                player.switch(self.players["policy"].adapter)

    def forward(self, batch: Batch, role: Role) -> Tensor | tuple[Tensor, Tensor]:
        """What a role says of a batch; the caller holds `playing(role)` while it computes and learns.

        Returns:
            Of policy and reference the logits [kept, vocabulary]; of the value function values, fp32 [kept]; of both,
            both.
        """
        player = self.players[role]
        if role in ("policy", "reference"):
            return next_token_logits(player.model, batch)
        if role == "both":
            return logits_and_numbers(player, batch)
        return numbers(player, batch)


def logits_and_numbers(player: Player, batch: Batch) -> tuple[Tensor, Tensor]:
    """What a decoder with a head says in one pass: logits [kept, vocabulary] and values, fp32 [kept]."""
    seen: list[Tensor] = []
    body: nn.Module = bare_of(player.model).base_model
    hook = body.register_forward_hook(lambda module, inputs, output: seen.append(output.last_hidden_state))
    try:
        logits = next_token_logits(player.model, batch)
    finally:
        hook.remove()
    return logits, _by_head(player, seen[0], batch)


def numbers(player: Player, batch: Batch) -> Tensor:
    """Values or scores at the kept positions; fp32 [kept]."""
    if player.head is None:
        return player.gain * scores_at(player.model, batch) + player.bias
    bare: PreTrainedModel = bare_of(player.model)
    packing = {} if batch.row_lengths is None else {"row_lengths": batch.row_lengths}
    hidden = bare.base_model(
        input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False, **packing
    ).last_hidden_state
    return _by_head(player, hidden, batch)


def _by_head(player: Player, hidden: Tensor, batch: Batch) -> Tensor:
    assert player.head is not None
    with torch.autocast(hidden.device.type, enabled=False):  # in half precision neighbouring numbers would be the same
        said: Tensor = player.head(hidden[batch.keep].to(player.head.weight.dtype)).squeeze(-1).float()
    return player.gain * said + player.bias


def score_with(player: Player, back_to: str | None) -> Callable[[Batch], Tensor]:
    """How a reward model scores a batch: fp32 [rows].

    Args:
        player: the reward model; an adapter that shares a trunk is turned on for it.
        back_to: the adapter that is on otherwise.
    """

    def score(batch: Batch) -> Tensor:
        if player.switch is None:
            return numbers(player, batch)
        player.switch(player.adapter)
        try:
            return numbers(player, batch)
        finally:
            player.switch(back_to)

    return score


def bare_of(model: Any) -> Any:
    """The model within a PeftModel, adapters and all; any other is itself."""
    return model.get_base_model() if hasattr(model, "peft_config") and hasattr(model, "get_base_model") else model


def switch_off_dropout(model: nn.Module) -> None:
    """Sets every dropout to 0: a token's probability must be the same when it is drawn and when it is learned from."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
