"""What the API server demands of an RLHFPipeline's stages: the rules of the FineTuneJobs that they become.

Offline the jobs are made and checked (`load.check`). CEL cannot make them, so here the rules of a FineTuneJob are put
into the pipeline's terms: what a stage fixes becomes a constant, every other field the pipeline's own.
"""

import re
from collections.abc import Iterator

from tunesmith.api.base import Rule
from tunesmith.api.evaluation_rules import TRAINS
from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.pipeline import STAGES, StageName

_GUARDS = {  # what other rules demand; without it a rule would fail for want of a field
    "sft": "!has(self.sft.dataset) || !has(self.sft.method) || !has(self.model)",
    "reward": "!has(self.reward) || !has(self.reward.dataset) || !has(self.reward.method)",
    "ppo": "",
}
_OBJECTIVES = {"sft": "instruction", "reward": "reward", "ppo": "ppo"}
_TRUE, _FALSE = ("true", "!false", "(!false && !false)"), ("false", "!true", "(!true && !false)", "(!false && !true)")


def stage_rules() -> Iterator[tuple[str, str, str]]:
    """CEL over a pipeline's spec, the message and the field, for each rule of a FineTuneJob that a stage may break."""
    for stage in STAGES:
        for rule in FineTuneJobSpec.all_rules():
            cel = _translated(stage, rule)
            if cel is not None:
                yield cel, rule.message, _field(stage, rule.field)


def _translated(stage: StageName, rule: Rule) -> str | None:
    """The rule's CEL for a stage; None where the stage cannot break it."""
    cel = rule.cel
    for pattern, replacement in _translations(stage):
        cel = re.sub(pattern, replacement, cel)
    parts = [part for part in _alternatives(cel) if part not in _FALSE]
    if any(part in _TRUE for part in parts):
        return None
    return " || ".join(filter(None, (_GUARDS[stage], *parts)))


def _translations(stage: StageName) -> Iterator[tuple[str, str]]:
    """Patterns and what they become, in their order."""
    yield re.escape(TRAINS), "true"
    objective = _OBJECTIVES[stage]
    if stage == "ppo":  # where a term names no source, the job's has one
        yield r"self\.objective\.ppo\.reward\.all\(.*\)$", "true"
    yield rf"has\(self\.objective\.{objective}\)", "true"
    yield rf"self\.objective\.{objective}\.template\b", "self.template"
    yield rf"self\.objective\.{objective}\b", f"self.{stage}.{stage}"
    yield r"has\(self\.objective\.\w+(\.\w+)?\)", "false"
    yield r"has\(self\.search\)", "false"
    if stage != "sft":
        yield r"has\(self\.model\.source\)", "true"
        yield r"has\(self\.model\.\w+\)", "false"
    if stage != "ppo":
        yield r"self\.evaluation\b", f"self.{stage}.evaluation"
    yield r"self\.(dataset|method|training)\b", rf"self.{stage}.\1"
    own = (
        f"self.{stage}.scaling"  # CEL takes two objects for two types, though their schema is the same: ask each field
    )
    yield r"(?<!has\()self\.scaling(\.[\w.]+)", rf"(has({own}) ? {own}\1 : self.scaling\1)"
    yield r"has\(self\.scaling(\.[\w.]+)\)", rf"(has({own}) ? has({own}\1) : has(self.scaling\1))"


def _alternatives(cel: str) -> list[str]:
    """The parts of an expression between ors that stand in no brackets."""
    parts, depth, start = list[str](), 0, 0
    for at, letter in enumerate(cel):
        depth += (letter in "([") - (letter in ")]")
        if depth == 0 and cel.startswith(" || ", at):
            parts.append(cel[start:at])
            start = at + 4
    return [*parts, cel[start:]]


def _field(stage: StageName, field: str) -> str:
    """The field that the message is about, in the pipeline's spec."""
    part, _, rest = field.partition(".")
    if part == "objective":
        return f"{stage}.{rest}"
    if part == "model":
        return field if stage == "sft" else "sft.source"
    own = part == "evaluation" and stage == "ppo"
    return field if own else ".".join(filter(None, (stage, field)))
