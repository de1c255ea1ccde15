"""From rows to tokens: what is learned, what is cut, what is left out."""

from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from tests.unit.data.specs import bert_tokenizer, spec_of, tokenizer_of
from tunesmith.api.load import InputError
from tunesmith.data.encode import encode, token_ids
from tunesmith.data.tokenized import TokenizedRows

CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
CHAT += "{% if add_generation_prompt %}<assistant>{% endif %}"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return tokenizer_of(["0123456789 +=", "what is the sum of them"])


def instruction(max_length: int = 32, **columns: str) -> Any:
    return spec_of(training={"maxLength": max_length}, dataset={"train": {"source": "rows.jsonl"}, "columns": columns})


def causal(template: str = "{text}", max_length: int = 32) -> Any:
    return spec_of(objective={"causalLM": {"template": template}}, training={"maxLength": max_length})


def spoken(data: TokenizedRows, row: int, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """A row's whole text, and the part that is learned."""
    tokens, learned = data.row(row)
    return tokenizer.decode(tokens), tokenizer.decode(tokens[learned])


def test_the_response_and_its_end_are_learned_and_the_prompt_is_not(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [{"prompt": "1 + 1 =", "response": "2"}, {"prompt": "sum?", "response": "of 30"}]
    data = encode(rows, instruction(), tokenizer)
    assert spoken(data, 0, tokenizer) == ("1 + 1 = 2<|endoftext|>", "2<|endoftext|>")
    assert spoken(data, 1, tokenizer) == ("sum? of 30<|endoftext|>", "of 30<|endoftext|>")
    assert (len(data), data.truncated, data.dropped) == (2, 0, 0)
    assert data.targets.tolist() == [2, len(tokenizer("of 30")["input_ids"]) + 1]


def test_the_end_is_learned_where_it_is_the_padding_too(tokenizer: PreTrainedTokenizerBase) -> None:
    padding = tokenizer.pad_token
    tokenizer.pad_token = tokenizer.eos_token
    try:
        data = encode([{"prompt": "1", "response": "2"}], instruction(), tokenizer)
    finally:
        tokenizer.pad_token = padding
    tokens, learned = data.row(0)
    assert tokens[-1] == tokenizer.eos_token_id
    assert learned[-1]


def test_an_end_inside_a_prompt_is_not_learned(tokenizer: PreTrainedTokenizerBase) -> None:
    """Masks go by position: the same token is learned in one place and not in another."""
    data = encode([{"prompt": "1<|endoftext|>", "response": "2"}], instruction(), tokenizer)
    tokens, learned = data.row(0)
    ends = tokens == tokenizer.eos_token_id
    assert learned[ends].tolist() == [False, True]


def test_columns_play_the_parts_that_the_spec_gives_them(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [{"question": "1 + 1 =", "answer": 2, "prompt": "unused"}]
    data = encode(rows, instruction(prompt="question", response="answer"), tokenizer)
    assert spoken(data, 0, tokenizer)[0] == "1 + 1 = 2<|endoftext|>"


def test_braces_in_a_row_are_text(tokenizer: PreTrainedTokenizerBase) -> None:
    data = encode([{"prompt": "{response}", "response": "{prompt} {x}"}], instruction(), tokenizer)
    assert spoken(data, 0, tokenizer)[0] == "{response} {prompt} {x}<|endoftext|>"


def test_a_column_that_is_not_there_is_named_with_those_that_are(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(InputError) as refused:
        encode([{"question": "1", "answer": "2"}], instruction(prompt="question"), tokenizer)
    message = "spec.dataset.columns: there is no column 'response' for {response}; the data has: answer, question"
    assert str(refused.value) == message


def test_a_row_without_a_value_is_shown(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(InputError) as refused:
        encode([{"prompt": "1", "response": None}], instruction(), tokenizer)
    message = "spec.dataset.columns: column 'response' is null in the row that starts "
    assert str(refused.value) == message + '{"prompt": "1", "response": null}'


def test_a_long_response_loses_its_end_and_a_long_prompt_its_row(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [
        {"prompt": "1", "response": "2"},
        {"prompt": "1", "response": "9" * 50},
        {"prompt": "9" * 50, "response": "2"},
    ]
    data = encode(rows, instruction(max_length=10), tokenizer)
    assert (len(data), data.truncated, data.dropped) == (2, 1, 1)
    assert data.lengths.max() == 10
    _, learned = spoken(data, 1, tokenizer)
    assert set(learned) == {"9"}, "no end is learned where there was none"


def test_rows_all_over_the_limit_leave_nothing(tokenizer: PreTrainedTokenizerBase) -> None:
    data = encode([{"prompt": "9" * 50, "response": "2"}] * 3, instruction(max_length=10), tokenizer)
    assert (len(data), data.dropped) == (0, 3)
    assert not data.learned.any()


def test_chat_templates_are_followed_by_the_response(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = CHAT
    try:
        data = encode([{"prompt": "1 + 1", "response": "2"}], spec_of(objective={"instruction": {}}), tokenizer)
    finally:
        tokenizer.chat_template = None
    assert spoken(data, 0, tokenizer) == ("<user>1 + 1\n<assistant>2<|endoftext|>", "2<|endoftext|>")


def test_without_any_template_one_is_asked_for(tokenizer: PreTrainedTokenizerBase) -> None:
    place = r"^spec\.objective\.instruction\.template"
    with pytest.raises(InputError, match=f"{place}: is not set, and the model's tokenizer has no chat template"):
        encode([{"prompt": "1", "response": "2"}], spec_of(objective={"instruction": {}}), tokenizer)


def test_texts_are_learned_whole_and_end(tokenizer: PreTrainedTokenizerBase) -> None:
    data = encode([{"text": "what is"}, {"text": "sum"}], causal(), tokenizer)
    tokens, learned = data.row(0)
    assert tokenizer.decode(tokens) == "what is<|endoftext|>"
    assert learned.tolist() == [False, *[True] * (len(tokens) - 1)], "nothing comes before the first token"


def test_a_long_text_is_cut_into_rows_and_no_token_is_lost(tokenizer: PreTrainedTokenizerBase) -> None:
    text = "0123456789 " * 9
    data = encode([{"text": text}, {"text": "sum"}], causal(max_length=10), tokenizer)
    assert data.lengths.max() == 10
    assert tokenizer.decode(data.tokens) == f"{text}<|endoftext|>sum<|endoftext|>"
    assert (data.truncated, data.dropped) == (0, 0)


def test_a_template_of_other_columns(tokenizer: PreTrainedTokenizerBase) -> None:
    data = encode([{"a": "1", "b": 2}], causal("{a} + {b}"), tokenizer)
    assert spoken(data, 0, tokenizer)[0] == "1 + 2<|endoftext|>"


def test_an_empty_text_is_left_out_and_counted(tokenizer: PreTrainedTokenizerBase) -> None:
    data = encode([{"text": ""}, {"text": "sum"}], causal(), tokenizer)
    assert (len(data), data.dropped) == (1, 1)


@pytest.mark.parametrize("special", [True, False])
def test_tokens_are_those_of_the_tokenizer_whatever_its_file_says_of_length(special: bool) -> None:
    made = bert_tokenizer(["what is the sum of them"])
    texts = ["what is", "the sum of them [MASK]", "", "é"]
    expected = made(texts, add_special_tokens=special)["input_ids"]
    made.backend_tokenizer.enable_truncation(2)
    made.backend_tokenizer.enable_padding(length=9)
    assert token_ids(texts, made, special) == expected
    assert token_ids([], made) == []
