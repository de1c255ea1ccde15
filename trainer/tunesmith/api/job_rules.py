"""What the parts of a FineTuneJob's spec demand of each other."""

from tunesmith.api.base import Rule
from tunesmith.api.evaluation_rules import TRAINS

JOB_RULES = (
    Rule(
        cel="!has(self.model.quantization) || !has(self.method.full)",
        message="needs an adapter (method.lora): quantized weights cannot be trained themselves",
        holds=lambda s: s.model.quantization is None or s.method.full is None,
        field="model.quantization",
    ),
    Rule(
        cel="!has(self.model.config) || has(self.method.full)",
        message="needs method.full: adapters on random weights learn nothing useful",
        holds=lambda s: s.model.config is None or s.method.full is not None,
        field="model.config",
    ),
    Rule(
        cel="!has(self.model.config) || self.training.maxLength <= self.model.config.contextLength",
        message="should be at most model.config.contextLength",
        holds=lambda s: s.model.config is None or s.training.max_length <= s.model.config.context_length,
        field="training.maxLength",
    ),
    Rule(
        cel="!has(self.model.config) || self.model.config.architecture == (has(self.objective.maskedLM) ? 'bert' : "
        "has(self.objective.seq2seq) ? 't5' : 'llama')",
        message="should be bert for maskedLM, t5 for seq2seq, and llama for causalLM and instruction",
        holds=lambda s: s.model.config is None or s.model.config.architecture == s.architecture,
        field="model.config.architecture",
    ),
    Rule(
        cel="!has(self.objective.maskedLM) || (!has(self.method.prefix) && !has(self.method.ptuning))",
        message="maskedLM does not go with prefix and ptuning; use full, lora or adalora",
        holds=lambda s: s.objective.masked_lm is None or (s.method.prefix is None and s.method.ptuning is None),
        field="method",
    ),
    Rule(
        cel="!has(self.dataset.columns.messages) || "
        "(has(self.objective.instruction) && !has(self.objective.instruction.template)) || "
        f"(!{TRAINS} && has(self.evaluation) && !has(self.evaluation.template))",
        message="conversations need objective.instruction without a template: they take the chat template's form",
        holds=lambda s: (
            s.dataset.columns.messages is None
            or (s.objective.instruction is not None and s.objective.instruction.template is None)
            or (not s.trains and s.evaluation is not None and s.evaluation.template is None)
        ),
        field="dataset.columns.messages",
    ),
    Rule(
        cel="(!has(self.scaling.deepspeed) && !has(self.scaling.fsdp) && self.scaling.tensorParallel == 1) || "
        "has(self.training.optimizer.sgd) || (has(self.training.optimizer.adamw) && "
        "self.training.optimizer.adamw.bits == 32 && !self.training.optimizer.adamw.paged)",
        message="deepspeed, fsdp and tensorParallel go with adamw in 32 bits and sgd: others look at whole weights",
        holds=lambda s: not s.scaling.is_sharded or s.training.optimizer.is_elementwise,
        field="training.optimizer",
    ),
    Rule(
        cel="!has(self.scaling.deepspeed) || (!has(self.training.average) && !has(self.training.maxGradValue) && "
        "self.training.skipNonFiniteSteps == 0)",
        message="average, maxGradValue and skipNonFiniteSteps need weights or gradients that deepspeed keeps to "
        "itself; use fsdp or none of them",
        holds=lambda s: (
            s.scaling.deepspeed is None
            or (
                s.training.average is None
                and s.training.max_grad_value is None
                and s.training.skip_non_finite_steps == 0
            )
        ),
        field="training",
    ),
    Rule(
        cel="self.scaling.tensorParallel == 1 || has(self.method.full)",
        message="goes with method.full; use fsdp for adapters",
        holds=lambda s: s.scaling.tensor_parallel == 1 or s.method.full is not None,
        field="scaling.tensorParallel",
    ),
    Rule(
        cel="self.training.precision != 'fp16' || (!has(self.scaling.fsdp) && self.scaling.tensorParallel == 1)",
        message="fp16 does not go with fsdp and tensorParallel; use bf16",
        holds=lambda s: s.training.precision != "fp16" or (s.scaling.fsdp is None and s.scaling.tensor_parallel == 1),
        field="training.precision",
    ),
    Rule(
        cel="!has(self.scaling.deepspeed) || !has(self.method.full) || self.method.full.l2Pull == 0.0",
        message="full.l2Pull needs gradients, which deepspeed keeps to itself; use fsdp, or drop it",
        holds=lambda s: s.scaling.deepspeed is None or s.method.full is None or s.method.full.l2_pull == 0,
        field="scaling.deepspeed",
    ),
    Rule(
        cel="!has(self.method.adalora) || (!has(self.scaling.deepspeed) && !has(self.scaling.fsdp))",
        message="adalora is not sharded, since it judges ranks by whole gradients; drop deepspeed and fsdp",
        holds=lambda s: s.method.adalora is None or (s.scaling.deepspeed is None and s.scaling.fsdp is None),
        field="scaling",
    ),
    Rule(
        cel="!has(self.method.lora) || !self.method.lora.dora || !has(self.model.quantization) || "
        "self.model.quantization.type != 'int8'",
        message="dora does not go with weights in int8; use nf4, or lora without dora",
        holds=lambda s: (
            s.method.lora is None
            or not s.method.lora.dora
            or s.model.quantization is None
            or s.model.quantization.type != "int8"
        ),
        field="method.lora.dora",
    ),
    Rule(
        cel="(!has(self.method.prefix) && !has(self.method.ptuning)) || (!has(self.scaling.deepspeed) && "
        "!has(self.scaling.fsdp) && self.scaling.tensorParallel == 1)",
        message="prefix and ptuning are not sharded: drop deepspeed, fsdp and tensorParallel, or use lora",
        holds=lambda s: (
            (s.method.prefix is None and s.method.ptuning is None)
            or (s.scaling.deepspeed is None and s.scaling.fsdp is None and s.scaling.tensor_parallel == 1)
        ),
        field="scaling",
    ),
    Rule(
        cel="!has(self.method.prefix) || !self.training.gradientCheckpointing",
        message="does not go with method.prefix, whose keys and values would be added twice; use ptuning or lora",
        holds=lambda s: s.method.prefix is None or not s.training.gradient_checkpointing,
        field="training.gradientCheckpointing",
    ),
    Rule(
        cel="!has(self.training.earlyStopping) || has(self.dataset.validation)",
        message="needs dataset.validation",
        holds=lambda s: s.training.early_stopping is None or s.dataset.validation is not None,
        field="training.earlyStopping",
    ),
    Rule(
        cel="!has(self.search) || has(self.dataset.validation)",
        message="needs dataset.validation: trials are compared by the loss on it",
        holds=lambda s: s.search is None or s.dataset.validation is not None,
        field="search",
    ),
    Rule(
        cel="!(self.training.precision in ['fp16', 'tf32']) || (has(self.scaling.resources) && "
        "has(self.scaling.resources.nvidia__dot__com__slash__gpu))",
        message="fp16 and tf32 need a GPU (scaling.resources nvidia.com/gpu: 1); use bf16 or fp32 on a CPU",
        holds=lambda s: s.training.precision not in ("fp16", "tf32") or s.scaling.resources.gpu is not None,
        field="training.precision",
    ),
    Rule(
        cel="!has(self.training.optimizer.adamw) || !self.training.optimizer.adamw.paged || "
        "(has(self.scaling.resources) && has(self.scaling.resources.nvidia__dot__com__slash__gpu))",
        message="a paged optimizer needs a GPU (scaling.resources nvidia.com/gpu: 1)",
        holds=lambda s: (
            s.training.optimizer.adamw is None
            or not s.training.optimizer.adamw.paged
            or s.scaling.resources.gpu is not None
        ),
        field="training.optimizer.adamw.paged",
    ),
    Rule(
        cel="!has(self.model.quantization) || (!has(self.scaling.deepspeed) && !has(self.scaling.fsdp) && "
        "self.scaling.tensorParallel == 1)",
        message="quantized weights are not sharded; drop deepspeed, fsdp and tensorParallel, or model.quantization",
        holds=lambda s: (
            s.model.quantization is None
            or (s.scaling.deepspeed is None and s.scaling.fsdp is None and s.scaling.tensor_parallel == 1)
        ),
        field="scaling",
    ),
    Rule(
        cel="!has(self.training.quantizationAware) || (has(self.method.full) && !has(self.scaling.deepspeed) && "
        "!has(self.scaling.fsdp) && self.scaling.tensorParallel == 1)",
        message="goes with method.full, and without deepspeed, fsdp and tensorParallel; whole weights are rounded",
        holds=lambda s: (
            s.training.quantization_aware is None
            or (
                s.method.full is not None
                and s.scaling.deepspeed is None
                and s.scaling.fsdp is None
                and s.scaling.tensor_parallel == 1
            )
        ),
        field="training.quantizationAware",
    ),
)
