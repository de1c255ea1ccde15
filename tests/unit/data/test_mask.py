"""Which tokens are hidden from an encoder: how many, in what way, and that nothing but seed, epoch and row decides."""

from math import sqrt
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tests.unit.data.specs import bert_tokenizer, masked_spec
from tunesmith.api.load import InputError
from tunesmith.data.collate import Collator
from tunesmith.data.encode import encode, examples_of
from tunesmith.data.examples import FIXED, Example, Examples
from tunesmith.data.mask import special_tokens, words_of
from tunesmith.data.tokenized import TokenizedRows, join_rows

WORDS = ["king", "queen", "the", "crown", "unkind", "kindness", "7531"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return bert_tokenizer(["the kind king and the queen, unkind"] * 3)


def many_rows(tokenizer: PreTrainedTokenizerBase, tokens: int) -> TokenizedRows:
    """Rows of 5 to 200 random tokens that stand for text, between a start and an end, with so many in all."""
    draw = np.random.default_rng(0)
    ordinary = np.setdiff1d(np.arange(len(tokenizer)), special_tokens(tokenizer))
    rows: list[tuple[Any, Any]] = []
    while tokens > 0:
        middle = draw.choice(ordinary, min(tokens, int(draw.integers(5, 200))))
        row = [tokenizer.cls_token_id, *middle, tokenizer.sep_token_id]
        rows.append((row, [True] * len(row)))
        tokens -= len(middle)
    return join_rows(rows, 0, 0)


def drawn(examples: Examples, data: TokenizedRows, epoch: int = 0) -> list[Example]:
    return [examples.of(data, row, epoch) for row in range(len(data))]


def within(count: int, total: int, probability: float) -> bool:
    """Whether a count is what a binomial draw gives, within four standard deviations."""
    return abs(count - total * probability) < 4 * sqrt(total * probability * (1 - probability))


@pytest.mark.parametrize("whole_words", [False, True])
def test_rates_over_a_hundred_thousand_tokens(whole_words: bool, tokenizer: PreTrainedTokenizerBase) -> None:
    """15% of the tokens are chosen; of these 80% are masked, 10% are random and 10% stay."""
    spec = masked_spec(objective={"maskedLM": {"wholeWords": whole_words}})
    data = many_rows(tokenizer, 100_000)
    rows = drawn(examples_of(spec, tokenizer), data)
    shown = np.concatenate([row.inputs for row in rows])
    chosen = np.concatenate([row.keep for row in rows if row.keep is not None])
    mask = int(tokenizer.mask_token_id)
    count = int(chosen.sum())
    ordinary = len(tokenizer) - len(special_tokens(tokenizer))

    # words are chosen as a whole, and so there are fewer draws, which spread more
    assert within(count, 100_000, 0.15) or (whole_words and abs(count / 100_000 - 0.15) < 0.01)
    assert within(int((shown[chosen] == mask).sum()), count, 0.8)
    changed = (shown != data.tokens) & chosen & (shown != mask)
    assert within(int(changed.sum()), count, 0.1 * (1 - 1 / ordinary)), "a random token may be the same one"
    assert (shown == data.tokens)[~chosen].all(), "nothing else is touched"
    assert np.concatenate([row.targets for row in rows]).tolist() == data.tokens[chosen].tolist()


def test_special_tokens_are_never_chosen_and_never_stand_in(tokenizer: PreTrainedTokenizerBase) -> None:
    spec = masked_spec(objective={"maskedLM": {"probability": 0.99}})
    data = many_rows(tokenizer, 20_000)
    special = special_tokens(tokenizer)
    for row, example in enumerate(drawn(examples_of(spec, tokenizer), data)):
        tokens, _ = data.row(row)
        assert example.keep is not None
        assert not example.keep[np.isin(tokens, special)].any()
        shown = example.inputs[example.keep]
        assert not np.isin(shown[shown != tokenizer.mask_token_id], special).any()


def test_the_draw_is_a_function_of_seed_epoch_and_row(tokenizer: PreTrainedTokenizerBase) -> None:
    data = many_rows(tokenizer, 2_000)
    examples = examples_of(masked_spec(), tokenizer)

    def shown(examples: Examples, epoch: int) -> list[list[int]]:
        return [row.inputs.tolist() for row in drawn(examples, data, epoch)]

    assert shown(examples, 0) == shown(examples_of(masked_spec(), tokenizer), 0)
    assert shown(examples, 0) != shown(examples, 1)
    assert shown(examples, FIXED) not in (shown(examples, 0), shown(examples, 1))
    assert shown(examples, 0) != shown(examples_of(masked_spec(training={"seed": 1, "maxLength": 32}), tokenizer), 0)
    alone = [examples.of(data, row, 0).inputs.tolist() for row in reversed(range(len(data)))]
    assert alone[::-1] == shown(examples, 0), "in whatever order rows come"


def test_each_worker_counts_what_all_of_them_learn(tokenizer: PreTrainedTokenizerBase) -> None:
    data = many_rows(tokenizer, 2_000)
    examples = examples_of(masked_spec(), tokenizer)
    collator = Collator(int(tokenizer.pad_token_id), packed=True, kind="encoder", examples=examples)
    rows = np.arange(len(data))
    learned = sum(len(collator.batch(data, [row], 3).targets) for row in rows.tolist())
    assert int(examples.targets(data, rows, 3).sum()) == learned > 0


def wordpiece() -> PreTrainedTokenizerBase:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##kind", "##ness", "king", "the", ",", "kind"]
    model = Tokenizer(models.WordPiece({entry: i for i, entry in enumerate(vocabulary)}, unk_token="[UNK]"))
    model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def sentencepiece() -> PreTrainedTokenizerBase:
    vocabulary = ["<pad>", "<mask>", "▁un", "kind", "ness", "▁king", "▁the", ",", "▁"]
    model = Tokenizer(models.Unigram([(entry, -float(i)) for i, entry in enumerate(vocabulary)], unk_id=0))
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=model, pad_token="<pad>", mask_token="<mask>")


def bytes_level() -> PreTrainedTokenizerBase:
    return bert_tokenizer(["the king", "unkindness"])


@pytest.mark.parametrize("make", [wordpiece, sentencepiece, bytes_level])
def test_words_are_told_apart(make: Any) -> None:
    """Whatever a vocabulary marks words with; a comma is a word of its own."""
    tokenizer = make()
    tokens = np.array(tokenizer("the unkindness, king", add_special_tokens=False)["input_ids"], np.int32)
    special = np.isin(np.arange(len(tokenizer)), special_tokens(tokenizer))
    numbers = words_of(tokenizer, special).numbers(tokens)
    assert in_words(tokenizer, tokens, numbers) == ["the", "unkindness", ",", "king"]


def in_words(tokenizer: PreTrainedTokenizerBase, tokens: Any, numbers: Any) -> list[str]:
    texts = np.array(tokenizer.convert_ids_to_tokens(tokens.tolist()))
    words = ["".join(texts[np.array(numbers) == number]) for number in range(max(numbers) + 1)]
    return [word.replace("##", "").lstrip("▁Ġ") for word in words]


def test_letters_of_other_scripts_and_digits_are_within_words() -> None:
    tokenizer = bytes_level()
    tokens = np.array(tokenizer("naïve 天气 12\nthe", add_special_tokens=False)["input_ids"], np.int32)
    special = np.isin(np.arange(len(tokenizer)), special_tokens(tokenizer))
    numbers = words_of(tokenizer, special).numbers(tokens)
    words = [tokenizer.decode(tokens[numbers == number]).strip() for number in range(max(numbers) + 1)]
    assert [word for word in words if word] == ["naïve", "天气", "12", "the"]


def test_whole_words_are_chosen_together(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [{"text": " ".join(WORDS * 5)}] * 20
    spec = masked_spec(objective={"maskedLM": {"wholeWords": True}}, training={"maxLength": 256})
    data, examples = encode(rows, spec, tokenizer), examples_of(spec, tokenizer)
    special = np.isin(np.arange(len(tokenizer)), special_tokens(tokenizer))
    words = words_of(tokenizer, special)
    parted = 0
    for row, example in enumerate(drawn(examples, data)):
        numbers = words.numbers(data.row(row)[0])
        assert example.keep is not None
        for number in range(numbers.max() + 1):
            assert len(set(example.keep[numbers == number].tolist())) == 1
        parted += int((np.bincount(numbers) > 1).sum())
    assert parted > 100, "there are words of several tokens"


def test_texts_stand_between_start_and_end_and_long_ones_are_cut(tokenizer: PreTrainedTokenizerBase) -> None:
    text = "the king and the queen " * 9
    data = encode([{"text": text}, {"text": ""}], masked_spec(training={"maxLength": 12}), tokenizer)
    pieces = [data.row(row)[0].tolist() for row in range(len(data))]
    assert {piece[0] for piece in pieces} == {tokenizer.cls_token_id}
    assert {piece[-1] for piece in pieces} == {tokenizer.sep_token_id}
    assert data.lengths.max() == 12
    assert tokenizer.decode([token for piece in pieces for token in piece[1:-1]]) == text
    assert data.dropped == 1, "an empty text"


def test_a_tokenizer_without_a_mask_token_is_refused() -> None:
    from tests.unit.data.specs import tokenizer_of

    with pytest.raises(InputError) as refused:
        examples_of(masked_spec(), tokenizer_of(["the king"]))
    message = "spec.model.source: its tokenizer has no mask token; objective.maskedLM needs an encoder such as BERT"
    assert str(refused.value) == message


def test_a_tokenizer_that_does_not_mark_words_is_refused() -> None:
    model = Tokenizer(models.WordLevel({"a": 0, "<mask>": 1}, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, mask_token="<mask>")
    with pytest.raises(InputError, match=r"^spec\.objective\.maskedLM\.wholeWords: does not work with this tokenizer"):
        examples_of(masked_spec(objective={"maskedLM": {"wholeWords": True}}), tokenizer)
