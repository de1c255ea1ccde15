"""Answers and losses of encoder-decoders do not depend on what else is in the batch."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch.nn.functional import log_softmax
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedModel, T5Config, T5ForConditionalGeneration
from transformers import PreTrainedTokenizerBase as Tokenizer

from tests.unit.data.specs import t5_spec, t5_tokenizer
from tunesmith.data.encode import encode, encode_prompts, prompt_of
from tunesmith.data.examples import FIXED
from tunesmith.evaluation.generate import generate_answers, stop_tokens
from tunesmith.evaluation.loss import encode_test, row_losses
from tunesmith.models.kind import start_token
from tunesmith.training.objective import collator_of, token_loss

CONTEXT = 24
TEXTS = ["9 + 9 =", "12 + 30 =", "a longer prompt =", "1 =", "7" * 20, "", "4 4"]
ROWS = [{"prompt": text, "response": "8" * (number % 4)} for number, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return t5_tokenizer(TEXTS)


def wild_model(kind: str, tokenizer: Tokenizer) -> PreTrainedModel:
    """A model whose answers wander, and end by chance."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": len(tokenizer), "d_model": 32, "pad_token_id": tokenizer.pad_token_id}
    sizes |= {"decoder_start_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    if kind == "t5":
        model: PreTrainedModel = T5ForConditionalGeneration(
            T5Config(d_kv=8, d_ff=64, num_layers=2, num_heads=4, initializer_factor=3.0, **sizes)
        )
    else:  # learned positions: there is none beyond the context
        layers: dict[str, Any] = {"encoder_layers": 2, "decoder_layers": 2, "forced_eos_token_id": None}
        layers |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": CONTEXT}
        layers |= {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "init_std": 0.5, "bos_token_id": None}
        model = BartForConditionalGeneration(BartConfig(**layers, **sizes))
    model.generation_config.eos_token_id = [int(tokenizer.eos_token_id), *range(110, 370, 20)]
    return model.eval()


def by_hand(model: PreTrainedModel, source: Sequence[int], room: int, stops: set[int]) -> list[int]:
    """An answer without batch, padding or cache."""
    tokens = [start_token(model)]
    while len(tokens) <= room:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([tokens])).logits
        following = int(logits[0, -1].argmax())
        if following in stops:
            break
        tokens.append(following)
    return tokens[1:]


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_batched_answers_are_those_of_each_row_alone(kind: str, tokenizer: Tokenizer) -> None:
    model, spec = wild_model(kind, tokenizer), t5_spec(training={"maxLength": CONTEXT})
    sources = encode_prompts([prompt_of(row, spec, tokenizer) for row in ROWS], spec, tokenizer)
    stops = stop_tokens(model.generation_config, tokenizer)
    room = 30 if kind == "t5" else CONTEXT - 1
    expected = [by_hand(model, source, room, stops) for source in sources]
    assert len(set(map(tuple, expected))) > 3
    for batch_size in (1, 3, 100):
        answers = generate_answers(model, tokenizer, sources, 30, batch_size, lambda done: None)
        assert answers.texts == tokenizer.batch_decode(expected, skip_special_tokens=True)
        assert answers.unfinished == sum(len(tokens) == room for tokens in expected)


def test_a_source_that_fills_more_than_the_context_is_not_answered(tokenizer: Tokenizer) -> None:
    model = wild_model("bart", tokenizer)
    answers = generate_answers(model, tokenizer, [[5] * CONTEXT, [5] * (CONTEXT + 1)], 5, 2, lambda done: None)
    assert answers.texts[0] is not None
    assert answers.texts[1] is None


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_losses_are_those_of_each_row_alone(kind: str, tokenizer: Tokenizer) -> None:
    model, spec = wild_model(kind, tokenizer), t5_spec(training={"maxLength": CONTEXT})
    data = encode(ROWS, spec, tokenizer)
    expected = []
    for row in range(len(data)):
        tokens, learned = data.row(row)
        source, target = torch.tensor(tokens[~learned])[None].long(), tokens[learned].tolist()
        with torch.no_grad():
            read = torch.tensor([[start_token(model), *target[:-1]]])
            logits = log_softmax(model(input_ids=source, decoder_input_ids=read).logits[0].double(), dim=-1)
        expected.append(-sum(float(logits[place, token]) for place, token in enumerate(target)))

    collator = collator_of(spec, model, tokenizer, packed=False)
    test = encode_test(ROWS, spec, tokenizer)
    for batch_size in (1, 3):
        assert row_losses(model, test, collator, batch_size, lambda done: None) == pytest.approx(expected, rel=1e-5)
    batch = collator.batch(data, list(range(len(data))), FIXED)
    with torch.no_grad():
        assert float(token_loss(model, batch)) == pytest.approx(sum(expected), rel=1e-5)
