"""What objectives that learn from preferences and rewards demand of the rest of a FineTuneJob's spec."""

from typing import Any

from tunesmith.api.base import Rule
from tunesmith.api.evaluation_rules import TRAINS
from tunesmith.api.metric import OF_ANSWERS, OF_REWARD_MODELS, ONLY_OF_POLICIES

_OF_POLICIES = (*OF_ANSWERS, *ONLY_OF_POLICIES)
_OF_NO_OTHER = (*OF_REWARD_MODELS, *ONLY_OF_POLICIES)


def _preference(spec: Any) -> bool:
    return spec.objective.reward is not None or spec.objective.ppo is not None


def _metrics_fit(spec: Any) -> bool:
    asked = set(spec.evaluation.metrics) if spec.evaluation is not None else set()
    if not spec.trains:
        return True
    if spec.objective.reward is not None:
        return asked <= set(OF_REWARD_MODELS)
    return asked <= set(_OF_POLICIES) if spec.objective.ppo is not None else asked.isdisjoint(_OF_NO_OTHER)


def _listing(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"


_NEITHER = "(!has(self.objective.reward) && !has(self.objective.ppo))"

PREFERENCE_RULES = (
    Rule(
        cel=f"{_NEITHER} || has(self.model.source)",
        message="reward and ppo start from a language model: set model.source",
        holds=lambda s: not _preference(s) or s.model.source is not None,
        field="model",
    ),
    Rule(
        cel=f"{_NEITHER} || has(self.method.full) || has(self.method.lora)",
        message="reward and ppo go with full and lora",
        holds=lambda s: not _preference(s) or s.method.full is not None or s.method.lora is not None,
        field="method",
    ),
    Rule(
        cel=f"{_NEITHER} || self.scaling.tensorParallel == 1",
        message="does not go with reward and ppo; use deepspeed to share weights among workers",
        holds=lambda s: not _preference(s) or s.scaling.tensor_parallel == 1,
        field="scaling.tensorParallel",
    ),
    Rule(
        cel=f"{_NEITHER} || !has(self.training.quantizationAware)",
        message="does not go with reward and ppo",
        holds=lambda s: not _preference(s) or s.training.quantization_aware is None,
        field="training.quantizationAware",
    ),
    Rule(
        cel=f"has(self.objective.reward) || !{TRAINS} || (!has(self.dataset.columns.margin) && "
        "!has(self.dataset.columns.ranking) && !has(self.dataset.columns.rating))",
        message="margin, ranking and rating go with objective.reward",
        holds=lambda s: (
            s.objective.reward is not None
            or not s.trains
            or s.dataset.columns.members_present().isdisjoint({"margin", "ranking", "rating"})
        ),
        field="dataset.columns",
    ),
    Rule(
        cel="!has(self.objective.ppo) || !has(self.scaling.fsdp)",
        message="does not go with ppo; use deepspeed to share weights among workers",
        holds=lambda s: s.objective.ppo is None or s.scaling.fsdp is None,
        field="scaling.fsdp",
    ),
    Rule(
        cel="!has(self.objective.ppo) || (!has(self.training.average) && self.training.skipNonFiniteSteps == 0 && "
        "!has(self.search))",
        message="training.average, training.skipNonFiniteSteps and search do not go with ppo",
        holds=lambda s: (
            s.objective.ppo is None
            or (s.training.average is None and s.training.skip_non_finite_steps == 0 and s.search is None)
        ),
    ),
    Rule(
        cel="!has(self.objective.ppo) || !has(self.method.full) || self.method.full.l2Pull == 0.0",
        message="does not go with ppo, which is held to its starting model by ppo.klCoefficient",
        holds=lambda s: s.objective.ppo is None or s.method.full is None or s.method.full.l2_pull == 0,
        field="method.full.l2Pull",
    ),
    Rule(
        cel="!has(self.objective.ppo) || self.objective.ppo.reward.all(r, !has(r.model) || has(r.model.source))",
        message="should say each reward model's source",
        holds=lambda s: (
            s.objective.ppo is None
            or all(term.model is None or term.model.source is not None for term in s.objective.ppo.reward)
        ),
        field="objective.ppo.reward",
    ),
    Rule(
        cel="!has(self.objective.ppo) || self.objective.ppo.maxNewTokens < self.training.maxLength",
        message="should be below training.maxLength, which is that of prompt and answer together",
        holds=lambda s: s.objective.ppo is None or s.objective.ppo.max_new_tokens < s.training.max_length,
        field="objective.ppo.maxNewTokens",
    ),
    Rule(
        cel="!has(self.objective.ppo) || !has(self.objective.ppo.vllm) || (!has(self.model.quantization) && "
        "(!has(self.scaling.deepspeed) || self.scaling.deepspeed.zeroStage < 3))",
        message="needs whole weights: use deepspeed.zeroStage 1 or 2, and no model.quantization",
        holds=lambda s: (
            s.objective.ppo is None
            or s.objective.ppo.vllm is None
            or (s.model.quantization is None and (s.scaling.deepspeed is None or s.scaling.deepspeed.zero_stage < 3))
        ),
        field="objective.ppo.vllm",
    ),
    Rule(
        cel="!has(self.objective.ppo) || !has(self.objective.ppo.vllm) || self.objective.ppo.temperature >= 0.01",
        message="should be at least 0.01 with ppo.vllm, which takes lower ones for that",
        holds=lambda s: s.objective.ppo is None or s.objective.ppo.vllm is None or s.objective.ppo.temperature >= 0.01,
        field="objective.ppo.temperature",
    ),
    Rule(
        cel="!has(self.objective.ppo) || self.objective.ppo.miniBatches <= self.training.batchSize",
        message="should be at most training.batchSize: a mini-batch has an answer at least",
        holds=lambda s: s.objective.ppo is None or s.objective.ppo.mini_batches <= s.training.batch_size,
        field="objective.ppo.miniBatches",
    ),
    Rule(
        cel=f"!has(self.evaluation) || !{TRAINS} || (has(self.objective.reward) ? self.evaluation.metrics.all(m, m in "
        f"{_listing(OF_REWARD_MODELS)}) : has(self.objective.ppo) ? self.evaluation.metrics.all(m, m in "
        f"{_listing(_OF_POLICIES)}) : self.evaluation.metrics.all(m, !(m in {_listing(_OF_NO_OTHER)})))",
        message="only pairAccuracy goes with reward; loss and perplexity do not go with ppo; reward, winRate and "
        "divergence go with ppo only",
        holds=_metrics_fit,
        field="evaluation.metrics",
    ),
    Rule(
        cel=f"!has(self.evaluation) || !{TRAINS} || self.evaluation.compareWithBase || "
        "!self.evaluation.metrics.exists(m, m in ['winRate', 'divergence'])",
        message="should be true for winRate and divergence, which compare with the base",
        holds=lambda s: (
            s.evaluation is None
            or not s.trains
            or s.evaluation.compare_with_base
            or {"winRate", "divergence"}.isdisjoint(s.evaluation.metrics)
        ),
        field="evaluation.compareWithBase",
    ),
)
