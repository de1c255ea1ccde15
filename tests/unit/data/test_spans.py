"""Text to text, and the spans that a T5 is to write out."""

from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from tests.unit.data.specs import t5_spec, t5_tokenizer, tokenizer_of
from tunesmith.api.load import InputError
from tunesmith.data.collate import Batch, Collator
from tunesmith.data.encode import encode, encode_prompts, examples_of, prompt_of
from tunesmith.data.examples import Examples
from tunesmith.data.spans import SpanMasking
from tunesmith.data.tokenized import TokenizedRows

SPANS: dict[str, Any] = {"seq2seq": {"spanCorruption": {}}}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return t5_tokenizer(["to sort: the king", "reverse"])


def sides(data: TokenizedRows, row: int, tokenizer: PreTrainedTokenizerBase, examples: Examples) -> tuple[str, str]:
    """What is read and what is written of a row."""
    example = examples.of(data, row, 0)
    return tokenizer.decode(example.inputs), tokenizer.decode(example.targets)


def test_the_prompt_is_read_with_its_prefix_and_the_response_written(tokenizer: PreTrainedTokenizerBase) -> None:
    spec = t5_spec(objective={"seq2seq": {"template": "{task}: {prompt}"}})
    rows = [{"task": "sort", "prompt": "cab", "response": "abc"}, {"task": "reverse", "prompt": "12", "response": ""}]
    data, examples = encode(rows, spec, tokenizer), examples_of(spec, tokenizer)
    assert sides(data, 0, tokenizer, examples) == ("sort: cab<|endoftext|>", "abc<|endoftext|>")
    assert sides(data, 1, tokenizer, examples) == ("reverse: 12<|endoftext|>", "<|endoftext|>")
    assert data.targets.tolist() == [4, 1]


def test_evaluation_reads_what_training_read(tokenizer: PreTrainedTokenizerBase) -> None:
    spec = t5_spec(training={"maxLength": 8})
    rows = [{"prompt": prompt, "response": "a"} for prompt in ("12", "1" * 30)]
    data, examples = encode(rows, spec, tokenizer), examples_of(spec, tokenizer)
    prompts = encode_prompts([prompt_of(row, spec, tokenizer) for row in rows], spec, tokenizer)
    assert prompts == [examples.of(data, row, 0).inputs.tolist() for row in range(2)]


def test_each_side_has_room_for_max_length(tokenizer: PreTrainedTokenizerBase) -> None:
    spec = t5_spec(training={"maxLength": 8})
    rows = [{"prompt": "1" * 7, "response": "2" * 7}, {"prompt": "1" * 8, "response": "2" * 9}]
    data, examples = encode(rows, spec, tokenizer), examples_of(spec, tokenizer)
    end = "<|endoftext|>"
    assert sides(data, 0, tokenizer, examples) == ("1" * 7 + end, "2" * 7 + end)
    assert sides(data, 1, tokenizer, examples) == ("1" * 7 + end, "2" * 8), "no end is learned where there was none"
    assert (data.truncated, data.dropped) == (1, 0)


def batch_of(data: TokenizedRows, rows: list[int], examples: Examples) -> Batch:
    return Collator(1, packed=False, kind="encoder-decoder", examples=examples, start_token=7).batch(data, rows, 0)


def test_the_decoder_reads_its_targets_one_place_on(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [{"prompt": "1", "response": "234"}, {"prompt": "12", "response": "5"}]
    data = encode(rows, t5_spec(), tokenizer)
    batch = batch_of(data, [0, 1], examples_of(t5_spec(), tokenizer))
    one, two, three, four, five = (int(tokenizer.convert_tokens_to_ids(digit)) for digit in "12345")
    end = int(tokenizer.eos_token_id)
    assert batch.input_ids.tolist() == [[one, end, 1], [one, two, end]]
    assert batch.real is not None and batch.decoder_ids is not None
    assert batch.real.tolist() == [[True, True, False], [True, True, True]]
    assert batch.decoder_ids.tolist() == [[7, two, three, four], [7, five, 1, 1]]
    assert batch.keep.tolist() == [[True] * 4, [True, True, False, False]]
    assert batch.targets.tolist() == [two, three, four, end, five, end]
    assert batch.tokens == 2 + 4 + 3 + 2


def test_a_worker_without_rows_reads_a_token_and_writes_none(tokenizer: PreTrainedTokenizerBase) -> None:
    data = encode([{"prompt": "1", "response": "2"}], t5_spec(), tokenizer)
    batch = batch_of(data, [], examples_of(t5_spec(), tokenizer))
    assert batch.decoder_ids is not None
    assert (batch.input_ids.tolist(), batch.decoder_ids.tolist()) == ([[1]], [[7]])
    assert (batch.tokens, batch.targets.tolist(), bool(batch.keep.any())) == (0, [], False)


def together(source: list[int], target: list[int], sentinels: list[int]) -> list[int]:
    """The text that a source and a target hold together."""
    spans: dict[int, list[int]] = {}
    for token in target:
        if token in sentinels:
            spans[token] = []
            current = spans[token]
        else:
            current.append(token)
    return [t for token in source for t in spans.get(token, [token])]


@pytest.mark.parametrize("length", [2, 3, 7, 20, 113, 568])
@pytest.mark.parametrize(("density", "mean"), [(0.15, 3.0), (0.5, 1.0), (0.9, 10.0), (0.01, 100.0)])
def test_spans_leave_the_text_whole(length: int, density: float, mean: float) -> None:
    sentinels, end = list(range(5000, 6000)), 4999
    drawing = SpanMasking(density, mean, np.array(sentinels, np.int32), end)
    tokens = np.arange(length, dtype=np.int32)
    lost, count = drawing.counts(length)
    assert lost == min(max(1, round(length * density)), length - 1)
    for seed in range(20):
        example = drawing(tokens, np.random.default_rng(seed))
        source, target = example.inputs.tolist(), example.targets.tolist()
        assert source.pop() == target.pop() == end
        assert together(source, target, sentinels) == tokens.tolist()
        used = [token for token in source if token in sentinels]
        assert used == [token for token in target if token in sentinels] == sentinels[:count], "each once, in order"
        assert len(target) == lost + count
        spans = np.flatnonzero(np.isin(source, sentinels))
        assert (np.diff(spans) > 1).all(), "two spans never meet"


def test_every_place_is_replaced_as_often_as_its_neighbours() -> None:
    drawing = SpanMasking(0.15, 3.0, np.arange(5000, 5100, dtype=np.int32), 4999)
    lost = np.zeros(100)
    for seed in range(4000):
        target = drawing(np.arange(100, dtype=np.int32), np.random.default_rng(seed)).targets
        lost[target[target < 100]] += 1
    assert lost.sum() == 15 * 4000
    rates = lost / 4000
    assert rates[3:-3] == pytest.approx(0.15, abs=0.03)
    assert rates.min() > 0.04, "a span has less room at the very ends"
    assert rates[:10].mean() == pytest.approx(rates[-10:].mean(), abs=0.01), "either end is as likely as the other"


@pytest.mark.parametrize("limit", [4, 10, 64, 512])
@pytest.mark.parametrize("density", [0.15, 0.5, 0.95])
def test_the_longest_row_fills_the_limit_and_no_more(limit: int, density: float) -> None:
    drawing = SpanMasking(density, 3.0, np.arange(5000, 6000, dtype=np.int32), 4999)
    longest = drawing.longest(limit)
    both = [drawing(np.arange(n, dtype=np.int32), np.random.default_rng(0)) for n in (longest, longest + 1)]
    sizes = [max(len(example.inputs), len(example.targets)) for example in both]
    assert sizes[0] <= limit < sizes[1]


def test_t5s_own_numbers() -> None:
    """512 tokens of source hold 568 of text, and 114 of target (Raffel et al. 2019, section 3.1.4)."""
    drawing = SpanMasking(0.15, 3.0, np.arange(5000, 5100, dtype=np.int32), 4999)
    example = drawing(np.arange(drawing.longest(512), dtype=np.int32), np.random.default_rng(0))
    assert (drawing.longest(512), len(example.inputs), len(example.targets)) == (568, 512, 114)


def test_texts_are_cut_so_that_both_sides_fit(tokenizer: PreTrainedTokenizerBase) -> None:
    spec = t5_spec(objective=SPANS, training={"maxLength": 16})
    text = "the king sorts the crown " * 5
    data, examples = encode([{"text": text}, {"text": "a"}], spec, tokenizer), examples_of(spec, tokenizer)
    assert tokenizer.decode(data.tokens) == text
    assert data.dropped == 1, "of one token nothing can be replaced"
    rows = [examples.of(data, row, 0) for row in range(len(data))]
    assert max(max(len(row.inputs), len(row.targets)) for row in rows) <= 16
    again = [examples.of(data, row, 1) for row in range(len(data))]
    assert [row.inputs.tolist() for row in rows] != [row.inputs.tolist() for row in again]
    assert [len(row.targets) for row in rows] == [len(row.targets) for row in again]


def test_sentinels_are_needed_and_enough_of_them(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(InputError, match=r"^spec\.objective\.seq2seq\.spanCorruption: needs a tokenizer with the sent"):
        examples_of(t5_spec(objective=SPANS), tokenizer_of(["king"]))
    many = t5_spec(objective={"seq2seq": {"spanCorruption": {"meanLength": 1}}}, training={"maxLength": 1024})
    with pytest.raises(InputError, match="spans of a row, but the tokenizer has 100 sentinels; raise meanLength"):
        examples_of(many, tokenizer)
    with pytest.raises(InputError, match=r"^spec\.training\.maxLength: is 2, which leaves no room for a span"):
        examples_of(t5_spec(objective=SPANS, training={"maxLength": 2}), tokenizer)
