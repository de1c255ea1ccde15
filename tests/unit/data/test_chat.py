"""What of a conversation is learned: each turn of the assistant with its end, token by token, and nothing else."""

from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from tests.unit.data.specs import MODEL, spec_of, tokenizer_of
from tunesmith.api.load import InputError
from tunesmith.api.model import NewModel
from tunesmith.data.encode import encode, encode_prompts, prompt_of, response_of
from tunesmith.data.rows import Row
from tunesmith.data.tokenized import TokenizedRows

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "<|begin|>{% for m in messages %}<|header|>{{ m.role }}<|/header|>\n\n{{ m.content | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|header|>assistant<|/header|>\n\n{% endif %}"
)
FORGETFUL = (  # the reasoning is shown in the last turn only, as by Qwen3
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content if loop.last else m.content.split('/')[-1] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKS = ["<|im_start|>", "<|im_end|>", "<|begin|>", "<|header|>", "<|/header|>", "<|eot|>"]

CHAT: Row = {
    "messages": [
        {"role": "system", "content": "add"},
        {"role": "user", "content": "1 1"},
        {"role": "assistant", "content": " 2 "},
        {"role": "tool", "content": "ok"},
        {"role": "user", "content": "2 9"},
        {"role": "assistant", "content": "11"},
        {"role": "user", "content": "thanks"},
    ]
}


def chatting(template: str) -> PreTrainedTokenizerBase:
    tokenizer = tokenizer_of(["0123456789"])
    tokenizer.add_tokens(MARKS, special_tokens=True)
    tokenizer.chat_template = template
    return tokenizer


def chat_spec(max_length: int = 128, column: str = "messages") -> Any:
    dataset = {"train": {"source": "rows.jsonl"}, "columns": {"messages": column}}
    return spec_of(objective={"instruction": {}}, dataset=dataset, training={"maxLength": max_length})


def encoded(*rows: Row, template: str = CHATML, max_length: int = 128) -> tuple[TokenizedRows, PreTrainedTokenizerBase]:
    tokenizer = chatting(template)
    return encode(rows, chat_spec(max_length), tokenizer), tokenizer


def learned(data: TokenizedRows, row: int, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The learned tokens, one by one."""
    tokens, mask = data.row(row)
    return [tokenizer.decode([token]) for token in tokens[mask]]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (CHATML, [" ", "2", " ", "<|im_end|>", "1", "1", "<|im_end|>"]),
        (LLAMA, ["2", "<|eot|>", "1", "1", "<|eot|>"]),
    ],
    ids=["ChatML", "Llama"],
)
def test_each_turn_of_the_assistant_is_learned_with_its_end(template: str, expected: list[str]) -> None:
    data, tokenizer = encoded(CHAT, template=template)
    assert learned(data, 0, tokenizer) == expected


@pytest.mark.parametrize("template", [CHATML, LLAMA], ids=["ChatML", "Llama"])
def test_the_whole_is_what_the_template_makes_of_it(template: str) -> None:
    data, tokenizer = encoded(CHAT, template=template)
    messages = CHAT["messages"][:-1]  # what follows the assistant's last turn teaches nothing
    assert tokenizer.decode(data.row(0)[0]) == tokenizer.apply_chat_template(messages, tokenize=False)


def test_labels_of_a_conversation_token_by_token() -> None:
    """The picture in docs/objectives.md."""
    data, tokenizer = encoded({"messages": CHAT["messages"][1:3]})
    tokens, mask = data.row(0)
    shown = [(tokenizer.decode([token]), bool(label)) for token, label in zip(tokens, mask, strict=True)]
    prompt = ["<|im_start|>", *"user", "\n", "1", " ", "1", "<|im_end|>", "\n", "<|im_start|>", *"assistant", "\n"]
    said = [" ", "2", " ", "<|im_end|>"]
    assert shown == [*((token, False) for token in prompt), *((token, True) for token in said), ("\n", False)]


@pytest.mark.parametrize("template", [CHATML, LLAMA], ids=["ChatML", "Llama"])
def test_generation_starts_from_what_training_saw(template: str) -> None:
    """A prompt's tokens are the beginning of a training row, up to where the last turn is learned."""
    data, tokenizer = encoded(CHAT, template=template)
    spec = chat_spec()
    (prompt,) = encode_prompts([prompt_of(CHAT, spec, tokenizer)], spec, tokenizer)
    tokens, mask = data.row(0)
    assert tokens[: len(prompt)].tolist() == prompt
    assert tokenizer.decode(tokens[len(prompt) :][mask[len(prompt) :]]).startswith(response_of(CHAT, spec))


def test_a_template_that_forgets_makes_a_row_of_each_turn() -> None:
    chat: Row = {"messages": [dict(m) for m in CHAT["messages"]]}
    chat["messages"][2]["content"] = "one more/2"
    data, tokenizer = encoded(chat, template=FORGETFUL)
    assert len(data) == 2
    assert "".join(learned(data, 0, tokenizer)) == "one more/2<|im_end|>"
    assert "".join(learned(data, 1, tokenizer)) == "11<|im_end|>"
    assert "one more" not in tokenizer.decode(data.row(1)[0]), "as in generation, earlier reasoning is gone"


def test_a_new_models_tokenizer_can_chat() -> None:
    from tunesmith.models.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(
        ["0"], NewModel.model_validate(MODEL | {"tokenizer": {"vocabularySize": 270}}), chat=True
    )
    data = encode([CHAT], chat_spec(), tokenizer)
    assert learned(data, 0, tokenizer) == [" ", "2", " ", "<|endoftext|>", "1", "1", "<|endoftext|>"]
    assert tokenizer.decode(data.row(0)[0][:5]) == "<|system|>add<|endoftext|>"


def test_a_long_conversation_keeps_its_beginning() -> None:
    whole, tokenizer = encoded(CHAT)
    first_end = int(whole.row(0)[1].nonzero()[0][3])
    data, _ = encoded(CHAT, max_length=first_end + 2)
    assert learned(data, 0, tokenizer) == [" ", "2", " ", "<|im_end|>"]
    assert (len(data), data.truncated, data.dropped) == (1, 1, 0)
    data, _ = encoded(CHAT, max_length=first_end - 3)
    assert (len(data), data.truncated, data.dropped) == (0, 0, 1), "nothing is left to learn"


def test_columns_of_parquet_hold_nulls() -> None:
    nulls = {"messages": [message | {"name": None, "tool_calls": None} for message in CHAT["messages"]]}
    assert encoded(nulls)[0].tokens.tolist() == encoded(CHAT)[0].tokens.tolist()


START = "in the row that starts "


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a"}, "there is no column 'messages'; the data has: text"),
        ({"messages": "hi"}, f"'messages' should be a list of objects with role and content, {START}"),
        ({"messages": ["hi"]}, f"'messages' should be a list of objects with role and content, {START}"),
        ({"messages": [{"from": "human", "value": "a"}]}, "message 1 has the role None; known are system, developer, "),
        (
            {"messages": [{"role": "bot", "content": "a"}]},
            "message 1 has the role 'bot'; known are system, developer, ",
        ),
        ({"messages": [{"role": "user", "content": ["a"]}]}, f"message 1 has no text as its content, {START}"),
        ({"messages": []}, f"there is no turn of the assistant to learn from, {START}"),
        (
            {"messages": [{"role": "user", "content": "a"}]},
            f'there is no turn of the assistant to learn from, {START}{{"messages": [{{"role": "user"',
        ),
    ],
)
def test_a_row_that_is_no_conversation_is_named(row: Row, message: str) -> None:
    with pytest.raises(InputError) as refused:
        encoded(CHAT, row)
    assert str(refused.value).startswith(f"spec.dataset.columns.messages: {message}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "the chat template refuses it: roles must alternate, "),
        ("{% for m in messages %}{{ m.nothing.at.all }}{% endfor %}", "the chat template refuses it: "),
    ],
)
def test_a_template_that_refuses_a_row_names_it(template: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        encoded(CHAT, template=template)
    assert str(refused.value).startswith(f"spec.dataset.columns.messages: {message}")
    assert START in str(refused.value)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{{ m.content }}\n{% endfor %}", "ends the assistant's turns without a special token"),
        (CHATML + "{% if not add_generation_prompt %}{% endif %}!", "shows the assistant's turns otherwise"),
    ],
)
def test_a_template_that_cannot_be_learned_from_is_refused(template: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        encoded(CHAT, template=template)
    assert str(refused.value).startswith(f"spec.model.source: its chat template {message}")


def test_without_a_chat_template_there_are_no_conversations() -> None:
    with pytest.raises(InputError, match=r"^spec\.model\.source: its tokenizer has no chat template, which conversat"):
        encode([CHAT], chat_spec(), tokenizer_of(["0"]))
