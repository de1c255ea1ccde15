"""A transformer's dimensions, and the number of weights that follow from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from tunesmith.api.model import NewModel


@dataclass(frozen=True)
class Architecture:
    """A transformer's dimensions."""

    hidden: int
    layers: int
    """Of both halves together, in an encoder-decoder."""
    heads: int
    key_value_heads: int
    head_size: int
    intermediate: int
    vocabulary: int
    positions: int = 0
    """Learned position embeddings; 0 for rotary ones."""
    tied: bool = True
    gated: bool = True
    """Three matrices in the feed-forward layer (SwiGLU) instead of two."""
    cross_layers: int = 0
    """Layers that also look at an encoder."""

    @property
    def query_width(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_size

    @property
    def key_width(self) -> int:
        """Width of all key heads, and of all value heads."""
        return self.key_value_heads * self.head_size

    @property
    def linear_shapes(self) -> list[tuple[int, int]]:
        """Inputs and outputs of the linear layers of a block."""
        q, k, h, f = self.query_width, self.key_width, self.hidden, self.intermediate
        return [(h, q), (h, k), (h, k), (q, h), *([(h, f)] * (2 if self.gated else 1)), (f, h)]

    @property
    def linear_weights(self) -> int:
        """Weights of the linear layers in all blocks."""
        q, k, h = self.query_width, self.key_width, self.hidden
        return self.layers * sum(i * o for i, o in self.linear_shapes) + self.cross_layers * (2 * h * q + 2 * h * k)

    @property
    def embedding_weights(self) -> int:
        """Weights of the embeddings and of the head."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2) + self.positions * self.hidden

    @property
    def weights(self) -> int:
        """All weights, norms included; biases are not worth counting."""
        return self.linear_weights + self.embedding_weights + (2 * self.layers + 1) * self.hidden

    @classmethod
    def of_new_model(cls, config: NewModel) -> Self:
        """Of a model that a job makes."""
        llama, t5 = config.architecture == "llama", config.architecture == "t5"
        return cls(
            hidden=config.hidden_size,
            layers=config.layers * (2 if t5 else 1),
            heads=config.attention_heads,
            key_value_heads=config.key_value_heads or config.attention_heads,
            head_size=config.hidden_size // config.attention_heads,
            intermediate=config.intermediate_size,
            vocabulary=config.tokenizer.vocabulary_size,
            positions=config.context_length if config.architecture == "bert" else 0,
            tied=config.tie_embeddings,
            gated=llama,
            cross_layers=config.layers if t5 else 0,
        )

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Self | None:
        """Of a model's config.json; None where its dimensions go by other names."""

        def first(*names: str) -> Any:
            return next((config[name] for name in names if config.get(name) is not None), None)

        hidden, heads = first("hidden_size", "n_embd", "d_model"), first("num_attention_heads", "n_head", "num_heads")
        layers = first("num_hidden_layers", "n_layer", "num_layers")
        vocabulary: Any = config.get("vocab_size")
        if not all(isinstance(value, int) for value in (hidden, heads, layers, vocabulary)):
            return None
        kind = str(config.get("model_type", ""))
        decoder = config.get("num_decoder_layers", layers) if config.get("is_encoder_decoder") else 0
        gated = kind not in ("gpt2", "gpt_neox", "opt", "bert", "roberta", "distilbert", "electra", "t5", "bloom")
        return cls(
            hidden=hidden,
            layers=layers + decoder,
            heads=heads,
            key_value_heads=first("num_key_value_heads") or heads,
            head_size=first("head_dim", "d_kv") or hidden // heads,
            intermediate=first("intermediate_size", "n_inner", "d_ff", "ffn_dim") or 4 * hidden,
            vocabulary=vocabulary,
            positions=first("n_positions", "max_position_embeddings") if kind in ("gpt2", "opt", "bert") else 0,
            tied=bool(config.get("tie_word_embeddings", kind in ("gpt2", "bert", "t5"))),
            gated=gated or "gated" in str(config.get("feed_forward_proj", "")),
            cross_layers=decoder,
        )
