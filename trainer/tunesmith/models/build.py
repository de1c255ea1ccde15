"""Builds new models with random weights; the same seed gives the same weights.

None has dropout: a model that is built here gives the same losses however a step is cut.
"""

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
)

from tunesmith.api.model import NewModel


def build_model(config: NewModel, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """A model of the architecture that a spec names."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        match config.architecture:
            case "bert":
                return _bert(config, tokenizer)
            case "t5":
                return _t5(config, tokenizer)
            case _:
                return _llama(config, tokenizer)


def _llama(config: NewModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.attention_heads,
            num_key_value_heads=config.key_value_heads or config.attention_heads,
            intermediate_size=config.intermediate_size,
            max_position_embeddings=config.context_length,
            tie_word_embeddings=config.tie_embeddings,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _bert(config: NewModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    return BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.attention_heads,
            intermediate_size=config.intermediate_size,
            max_position_embeddings=config.context_length,
            tie_word_embeddings=config.tie_embeddings,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _t5(config: NewModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """As T5 1.1: gated GELU; unlike it, with the output tied to the embedding, as transformers always has it."""
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=config.hidden_size,
            d_kv=config.hidden_size // config.attention_heads,
            d_ff=config.intermediate_size,
            num_layers=config.layers,
            num_heads=config.attention_heads,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
        )
    )
