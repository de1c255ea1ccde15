"""How many floating-point operations a model needs for some rows, whatever the hardware does to get there.

A weight takes one multiplication and one addition for each token that passes it, and in the backward pass as many for
the gradient of its input and as many for its own, if it is trained: 6 for each weight and token (Kaplan et al. 2020,
arXiv:2001.08361, section 2.1), 4 for one that is frozen. Attention adds to both sides of each token a product with
every token of its row: 12 x layers x heads x head size for each pair of tokens, forward and backward, not halved where
it looks back only (Chowdhery et al. 2022, PaLM, arXiv:2204.02311, appendix B; the same count in Narayanan et al. 2021,
arXiv:2104.04473, whose factor of 4 for the weights has what gradient checkpointing computes a second time; here that is
left out). Counted are real tokens, padding is not; logits only where a token is learned. Left out: norms, activations,
softmax, rotations, products with single vectors, convolutions, what DoRA and trained prompts compute beside the tokens.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from tunesmith.data.collate import Batch

_CROSS = re.compile(r"(EncDecAttention|encoder_attn)\.(k|v)(_proj)?\.")
"""Weights of a decoder that the encoder's tokens pass: of T5, and of BART and its kin."""


@dataclass
class _Cost:
    """Operations for each token."""

    forward: float = 0.0
    training: float = 0.0

    def of(self, training: bool) -> float:
        return self.training if training else self.forward


@dataclass(frozen=True)
class ModelFlops:
    """The operations of a model, as a function of the lengths of rows."""

    width: int
    """Heads x head size."""
    windows: Sequence[int | None]
    """For each layer that attends to the tokens read, how far it sees; None for the whole row."""
    decoder_layers: int
    """Of a decoder beside an encoder."""
    prompt: int
    """Trained tokens before each row that are attended to."""
    embedded_prompt: bool
    """Whether they pass the weights, too."""
    read: _Cost = field(default_factory=_Cost)
    """For a token that an encoder, or a decoder alone, reads."""
    written: _Cost = field(default_factory=_Cost)
    """For a token that a decoder beside an encoder reads."""
    learned: _Cost = field(default_factory=_Cost)
    """For a token that is predicted."""

    @classmethod
    def of(cls, model: Any, adapter: str | None = None, head: bool = True) -> "ModelFlops":
        """Counts a model that is not wrapped or cut yet.

        Args:
            model: transformers' or peft's.
            adapter: the only one that is on, where it carries several; "" where none is on.
            head: whether it predicts tokens.
        """
        bare = model.get_base_model() if hasattr(model, "peft_config") else model
        config = bare.config if bare.config.is_encoder_decoder else bare.config.get_text_config()
        heads = _number(config, "num_attention_heads")
        size = _number(config, "head_dim", "d_kv") or _number(config, "hidden_size") // max(1, heads)
        prompting: Any = getattr(model, "active_peft_config", None)
        prompt = int(prompting.num_virtual_tokens) if prompting is not None and prompting.is_prompt_learning else 0
        flops = cls(
            width=heads * size,
            windows=_windows(config),
            decoder_layers=_number(config, "num_decoder_layers", "decoder_layers") if config.is_encoder_decoder else 0,
            prompt=prompt,
            embedded_prompt=prompt > 0 and prompting.peft_type == "P_TUNING",
        )
        flops._count(model, bare, adapter, head)
        return flops

    def _count(self, model: nn.Module, bare: Any, adapter: str | None, head: bool) -> None:
        output = bare.get_output_embeddings() if hasattr(bare, "get_output_embeddings") else None
        predicting = {id(p) for p in output.parameters()} if isinstance(output, nn.Module) else set()
        looked_up = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
        for name, parameter in model.named_parameters():
            weights = _weights(name, parameter, bare.config)
            if not weights or "prompt_encoder." in name or not _is_on(name, adapter):
                continue
            if id(parameter) in predicting:
                cost, weights = self.learned, weights * head
            elif id(parameter) in looked_up:
                continue
            elif bare.config.is_encoder_decoder and ".decoder." in f".{name}" and not _CROSS.search(name):
                cost = self.written
            else:
                cost = self.read
            cost.forward += 2 * weights
            cost.training += (6 if parameter.requires_grad else 4) * weights

    def batch(self, batch: Batch) -> float:
        """The operations of training on a micro-batch."""
        return self.rows(batch.lengths, len(batch.targets), batch.decoder_lengths, training=True)

    def rows(
        self, lengths: Sequence[int], learned: int, decoder_lengths: Sequence[int] = (), *, training: bool
    ) -> float:
        """The operations of some rows.

        Args:
            lengths: real tokens of each.
            learned: tokens that are predicted in all of them.
            decoder_lengths: what a decoder beside an encoder reads of each.
            training: with the backward pass.
        """
        extra = self.prompt if self.embedded_prompt else 0
        rows = [length + extra for length in lengths]
        pairs = sum(self._pairs(rows, window) for window in self.windows)
        if self.decoder_layers:
            crossed = sum(read * written for read, written in zip(lengths, decoder_lengths, strict=True))
            pairs += self.decoder_layers * (self._pairs(decoder_lengths, None) + crossed)
        of_weights = self.read.of(training) * sum(rows) + self.written.of(training) * sum(decoder_lengths)
        return of_weights + self.learned.of(training) * learned + (12 if training else 4) * self.width * pairs

    def _pairs(self, rows: Sequence[int], window: int | None) -> int:
        """How often a token meets another."""
        prefix = 0 if self.embedded_prompt else self.prompt
        return sum(row * ((row if window is None else min(row, window)) + prefix) for row in rows)


def _weights(name: str, parameter: nn.Parameter, config: Any) -> float:
    """Weights of a matrix that tokens pass, on average of those where only some experts are asked; 0 for any other."""
    packed = getattr(parameter, "quant_state", None)  # 4 bits: two weights share a byte
    shape = packed.shape if packed is not None else parameter.shape
    experts = re.search(r"\bexperts\b", name) is not None
    if min(shape, default=0) <= 1 or len(shape) != 2 + (experts and len(shape) == 3):
        return 0
    if not experts:
        return math.prod(shape)
    count = _number(config.get_text_config(), "num_local_experts", "num_experts", "n_routed_experts")
    asked = _number(config.get_text_config(), "num_experts_per_tok")
    return math.prod(shape) * (asked / count if asked and count else 1)


def _is_on(name: str, adapter: str | None) -> bool:
    return adapter is None or ".lora_" not in name or (adapter != "" and f".{adapter}." in f"{name}.")


def _windows(config: Any) -> list[int | None]:
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    if kinds:  # beside these there are layers without a quadratic part
        far = {"full_attention": None, "sliding_attention": window}
        return [far[kind] for kind in kinds if kind in far]
    own = _number(config, "encoder_layers") if config.is_encoder_decoder else 0
    return [window] * (own or _number(config, "num_hidden_layers"))


def _number(config: Any, *names: str) -> int:
    """The first of some settings that is there; 0 for want of all."""
    return next((value for name in names if isinstance(value := getattr(config, name, None), int)), 0)
