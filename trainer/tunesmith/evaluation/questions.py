"""The part of a row that is its question: what a user wrote, without the template around it."""

import re
from collections.abc import Callable, Sequence

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.reward import RESPONSE
from tunesmith.data.chat import messages_of
from tunesmith.data.rows import Row

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def question_of(row: Row, spec: FineTuneJobSpec) -> str:
    """What a row asks; of a conversation, the user's last turn before the answer."""
    messages = spec.dataset.columns.messages
    if messages is not None:
        conversation = messages_of(row, messages)
        turn = _last_user(conversation)
        return "" if turn is None else str(conversation[turn].get("content") or "")
    return "\n".join(str(row[column]) for column in _columns(row, spec))


def with_question(row: Row, spec: FineTuneJobSpec, change: Callable[[str], str]) -> Row:
    """A copy of a row in which what it asks is changed, and nothing else."""
    messages = spec.dataset.columns.messages
    if messages is None:
        return row | {column: change(str(row[column])) for column in _columns(row, spec)}
    conversation = messages_of(row, messages)
    turn = _last_user(conversation)
    if turn is None:
        return row
    asked = conversation[turn]
    copy = [*conversation[:turn], asked | {"content": change(str(asked.get("content") or ""))}]
    return row | {messages: [*copy, *conversation[turn + 1 :]]}


def _last_user(conversation: Sequence[Row]) -> int | None:
    turns = [number for number, message in enumerate(conversation[:-1]) if message["role"] == "user"]
    return turns[-1] if turns else None


def _columns(row: Row, spec: FineTuneJobSpec) -> list[str]:
    """The prompt's column; where the template has no place for it, all columns that it names."""
    objective, columns = spec.objective, spec.dataset.columns
    template = objective.template or (objective.seq2seq.template if objective.seq2seq is not None else None)
    named = _PLACEHOLDER.findall((template or "{prompt}").removesuffix(RESPONSE))
    asked = ["prompt"] if "prompt" in named else list(dict.fromkeys(named))
    found = [columns.to_dict().get(name, name) for name in asked]
    return [column for column in found if row.get(column) is not None]
