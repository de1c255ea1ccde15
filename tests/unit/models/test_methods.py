"""Methods on an encoder-decoder: the same as on a decoder, answers included."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from tunesmith.api.method import Method
from tunesmith.models.adapters import attach
from tunesmith.models.methods import add_adapter

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
METHODS: list[dict[str, Any]] = [
    {"lora": {"rank": 4, "dora": True}},
    {"adalora": {}},
    {"prefix": {"tokens": 3}},
    {"prefix": {"tokens": 3, "projection": 16}},
    {"ptuning": {"tokens": 3, "encoder": "lstm", "hiddenSize": 16}},
]


def new_model() -> T5ForConditionalGeneration:
    """Its heads together are narrower than the model, as in some T5."""
    config = T5Config(
        vocab_size=60, d_model=32, d_kv=4, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0, pad_token_id=0
    )
    torch.manual_seed(0)
    return T5ForConditionalGeneration(config).eval()


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_an_encoder_decoder_answers_as_it_was_trained(method: dict[str, Any], tmp_path: Path) -> None:
    """Two rows at once, one of them padded, with a cache; against a loop over each alone, as the adapter is loaded."""
    model: Any = add_adapter(new_model(), Method.model_validate(method), seed=0).eval()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:  # no longer the identity
            parameter.data.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    loaded: Any = attach(new_model(), "base", tmp_path).eval()
    ids = torch.tensor([[5, 6, 7, 8, 9], [11, 12, 13, 0, 0]])
    answers = model.generate(input_ids=ids, attention_mask=(ids > 0).long(), max_new_tokens=6, eos_token_id=None)
    for row, length in enumerate((5, 3)):
        tokens = torch.zeros(1, 1, dtype=torch.int64)
        for _ in range(6):
            with torch.no_grad():
                logits = loaded(
                    input_ids=ids[row : row + 1, :length],
                    attention_mask=torch.ones(1, length, dtype=torch.bool),
                    decoder_input_ids=tokens,
                    use_cache=False,
                ).logits
            tokens = torch.cat([tokens, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
        assert answers[row].tolist() == tokens[0].tolist()
