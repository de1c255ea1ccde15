"""What an evaluation demands of the rest of a FineTuneJob's spec, above all one that nothing is trained for."""

from collections.abc import Callable
from typing import Any

from tunesmith.api.base import Rule
from tunesmith.api.metric import OF_ANSWERS, OF_REWARD_MODELS, ONLY_OF_POLICIES

_MEMBERS = ("causalLM", "maskedLM", "seq2seq", "instruction", "reward", "ppo")
_METHODS = ("full", "lora", "adalora", "prefix", "ptuning")
TRAINS = "(" + " || ".join(f"has(self.objective.{name})" for name in _MEMBERS) + ")"
"""That something is trained, in CEL."""
_HAS_METHOD = "(" + " || ".join(f"has(self.method.{name})" for name in _METHODS) + ")"
_ALONE = "an evaluation alone (without objective and method) "


def _alone(cel: str, holds: Callable[[Any], bool], message: str, field: str) -> Rule:
    """A rule for a job that trains nothing."""
    return Rule(cel=f"{TRAINS} || {cel}", message=message, holds=lambda spec: spec.trains or holds(spec), field=field)


def _asks_answers(evaluation: Any) -> bool:
    return bool(evaluation.prompts or evaluation.own or not set(OF_ANSWERS).isdisjoint(evaluation.metrics))


def _one_kind_of_metric(evaluation: Any) -> bool:
    asked = set(evaluation.metrics)
    return asked.isdisjoint(ONLY_OF_POLICIES) and (asked.isdisjoint(OF_REWARD_MODELS) or asked <= set(OF_REWARD_MODELS))


EVALUATION_RULES = (
    Rule(
        cel=f"{TRAINS} || !{_HAS_METHOD}",
        message="required; without it and method the model is evaluated as it is",
        holds=lambda s: s.trains or not s.method.is_set,
        field="objective",
    ),
    Rule(
        cel=f"!{TRAINS} || {_HAS_METHOD}",
        message=f"set exactly one of {', '.join(_METHODS)}",
        holds=lambda s: not s.trains or s.method.is_set,
        field="method",
    ),
    Rule(
        cel=f"!{TRAINS} || has(self.dataset.train)",
        message="required",
        holds=lambda s: not s.trains or s.dataset.train is not None,
        field="dataset.train",
    ),
    _alone(
        cel="has(self.evaluation)",
        holds=lambda s: s.evaluation is not None,
        message="set objective and method to train, or evaluation to evaluate model.source as it is",
        field="objective",
    ),
    Rule(
        cel="!has(self.evaluation) || has(self.dataset.test)",
        message="evaluation needs dataset.test",
        holds=lambda s: s.evaluation is None or s.dataset.test is not None,
    ),
    _alone(
        cel="has(self.model.source)",
        holds=lambda s: s.model.source is not None,
        message=f"{_ALONE}needs model.source",
        field="model",
    ),
    _alone(
        cel="!has(self.model.quantization)",
        holds=lambda s: s.model.quantization is None,
        message=f"{_ALONE}loads the model as its files are",
        field="model.quantization",
    ),
    _alone(
        cel="(!has(self.dataset.train) && !has(self.dataset.validation))",
        holds=lambda s: s.dataset.train is None and s.dataset.validation is None,
        message=f"{_ALONE}reads dataset.test only: leave out train and validation",
        field="dataset",
    ),
    _alone(
        cel="!has(self.search)",
        holds=lambda s: s.search is None,
        message=f"{_ALONE}has nothing to search for",
        field="search",
    ),
    _alone(
        cel="(self.scaling.workers == 1 && self.scaling.tensorParallel == 1 && !has(self.scaling.deepspeed) && "
        "!has(self.scaling.fsdp))",
        holds=lambda s: s.scaling.workers == 1 and not s.scaling.is_sharded,
        message=f"{_ALONE}takes only resources from it; evaluation.workers says how many share the rows",
        field="scaling",
    ),
    Rule(
        cel=f"!{TRAINS} || !has(self.evaluation) || !has(self.evaluation.template)",
        message="is for an evaluation without an objective: prompts look as they do in training",
        holds=lambda s: not s.trains or s.evaluation is None or s.evaluation.template is None,
        field="evaluation.template",
    ),
    _alone(
        cel="!has(self.evaluation) || self.evaluation.gates.all(g, !has(g.notWorseThan) || g.notWorseThan != 'base')",
        holds=lambda s: s.evaluation is None or all(gate.not_worse_than != "base" for gate in s.evaluation.gates),
        message=f"{_ALONE}has no base: compare with an earlier job (compareWith)",
        field="evaluation.gates",
    ),
    _alone(
        cel=f"!has(self.evaluation) || (self.evaluation.metrics.all(m, !(m in {list(ONLY_OF_POLICIES)})) && "
        f"(self.evaluation.metrics.all(m, m in {list(OF_REWARD_MODELS)}) || "
        f"self.evaluation.metrics.all(m, !(m in {list(OF_REWARD_MODELS)}))))",
        holds=lambda s: s.evaluation is None or _one_kind_of_metric(s.evaluation),
        message="reward, winRate and divergence go with ppo only; pairAccuracy, of a reward model, goes with no other",
        field="evaluation.metrics",
    ),
    Rule(
        cel=f"!has(self.evaluation) || !{TRAINS} || has(self.objective.instruction) || has(self.objective.ppo) || "
        "(has(self.objective.seq2seq) && !has(self.objective.seq2seq.spanCorruption)) || "
        f"(self.evaluation.metrics.all(m, !(m in {list(OF_ANSWERS)})) && !has(self.evaluation.prompts) && "
        "self.evaluation.own.size() == 0)",
        message="only loss and perplexity go without objective.instruction, seq2seq or ppo: there are no answers to "
        "compare otherwise",
        holds=lambda s: s.evaluation is None or not s.trains or s.objective.answers or not _asks_answers(s.evaluation),
        field="evaluation.metrics",
    ),
    Rule(
        cel="!has(self.dataset.columns.messages) || !has(self.evaluation) || !has(self.evaluation.prompts) || "
        "self.evaluation.prompts.templates.size() == 0",
        message="conversations have no other templates than the tokenizer's; use changes",
        holds=lambda s: (
            s.evaluation is None
            or s.evaluation.prompts is None
            or not s.evaluation.prompts.templates
            or s.dataset.columns.messages is None
        ),
        field="evaluation.prompts.templates",
    ),
)
