"""Answers and losses of real models: in batches they are those of each row alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import log_softmax
from transformers import PreTrainedTokenizerBase as Tokenizer

from tests.model.wild import CONTEXT, PROMPTS, ROWS, by_hand, make_job, wild_model
from tunesmith.data.examples import FIXED
from tunesmith.evaluation.generate import generate_answers, stop_tokens
from tunesmith.evaluation.loss import encode_test, row_losses
from tunesmith.training.objective import collator_of, token_loss

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_batched_answers_are_those_of_each_row_alone(kind: str, tokenizer: Tokenizer) -> None:
    """Whatever the padding, and up to the last position of the context."""
    model = wild_model(kind, tokenizer)
    prompts: list[list[int]] = tokenizer(PROMPTS)["input_ids"]
    stops = stop_tokens(model.generation_config, tokenizer)
    rooms = [min(20, CONTEXT - len(prompt)) for prompt in prompts]
    expected = [by_hand(model, prompt, room, stops) for prompt, room in zip(prompts, rooms, strict=True)]
    ended = [len(tokens) < room for tokens, room in zip(expected, rooms, strict=True)]
    assert any(ended) and not all(ended) and len(set(map(tuple, expected))) > 5 and min(rooms) < 10

    for batch_size in (1, 4, 100):
        done: list[int] = []
        answers = generate_answers(model, tokenizer, prompts, 20, batch_size, done.append)
        assert answers.texts == tokenizer.batch_decode(expected, skip_special_tokens=True)
        assert answers.unfinished == ended.count(False)
        assert done == sorted(done) and done[-1] == len(PROMPTS)


def test_settings_that_sample_or_punish_play_no_part_and_stay_as_they_were(tokenizer: Tokenizer) -> None:
    model = wild_model("llama", tokenizer)
    prompts: list[list[int]] = tokenizer(PROMPTS)["input_ids"]
    plain = generate_answers(model, tokenizer, prompts, 10, 4, lambda done: None)
    model.generation_config.update(do_sample=True, temperature=5.0, top_k=3, repetition_penalty=9.0, num_beams=2)
    before = model.generation_config.to_dict()
    assert generate_answers(model, tokenizer, prompts, 10, 4, lambda done: None) == plain
    assert model.generation_config.to_dict() == before


def test_batches_shrink_where_memory_runs_out(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    model = wild_model("llama", tokenizer)
    prompts: list[list[int]] = tokenizer(PROMPTS)["input_ids"]
    plain = generate_answers(model, tokenizer, prompts, 20, 2, lambda done: None)
    forward, widths = model.forward, []

    def limited(*arguments: Any, **named: Any) -> Any:
        rows = len(named["input_ids"])
        widths.append(rows)
        if rows > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*arguments, **named)

    monkeypatch.setattr(model, "forward", limited)
    assert generate_answers(model, tokenizer, prompts, 20, 9, lambda done: None) == plain
    assert widths[:2] == [9, 4]


@pytest.mark.parametrize("objective", ["instruction", "causalLM"])
@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_losses_are_those_of_a_plain_loop(
    objective: str, batch_size: int, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Rows over the limit included: an answer is cut, a text goes on in a piece of its own."""
    model = wild_model("llama", tokenizer)
    rows = [*ROWS[:4], {"prompt": "long", "response": "ab" * 40}, *ROWS[4:]]
    job = make_job(tmp_path, rows, objective={objective: {"template": "{prompt} {response}"}}, evaluation=None)
    expected, counts = [], []
    for row in rows:
        prompt, response = (tokenizer(text)["input_ids"] for text in (row["prompt"] + " ", row["response"]))
        tokens = [*prompt, *response, tokenizer.eos_token_id]
        whole = objective == "causalLM"
        starts = range(0, len(tokens), CONTEXT) if whole else [0]
        loss, count = 0.0, 0
        for piece in (tokens[start : start + CONTEXT] for start in starts):
            with torch.no_grad():
                logits = log_softmax(model(torch.tensor([piece])).logits[0].double(), dim=-1)
            learned = range(1 if whole else len(prompt), len(piece))
            loss -= sum(float(logits[place - 1, piece[place]]) for place in learned)
            count += len(learned)
        expected.append(loss)
        counts.append(count)

    test = encode_test(rows, job.spec, tokenizer)
    assert test.tokens.tolist() == counts
    collator = collator_of(job.spec, model, tokenizer, packed=False)
    losses = row_losses(model, test, collator, batch_size, lambda done: None)
    assert losses == pytest.approx(expected, rel=1e-5)
    batch = collator.batch(test.pieces, list(range(len(test.pieces))), FIXED)
    with torch.no_grad():
        assert float(token_loss(model, batch)) == pytest.approx(losses.sum(), rel=1e-5)
