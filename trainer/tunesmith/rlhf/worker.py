"""What each worker of a PPO run does, from the spec to the tuned policy."""

import logging
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from transformers import PreTrainedTokenizerBase

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.data.collate import Collator
from tunesmith.data.plan import EpochPlan
from tunesmith.data.prepare import TrainingData
from tunesmith.evaluation.generate import stop_tokens
from tunesmith.rlhf.answering import Answering, OwnDecoding
from tunesmith.rlhf.build import Cast, build_roles, is_of_value
from tunesmith.rlhf.collect import Collector
from tunesmith.rlhf.flops import PolicyFlops
from tunesmith.rlhf.learn import Learner
from tunesmith.rlhf.loop import PolicyTrainer
from tunesmith.rlhf.rewards import at_the_end, rule_of
from tunesmith.rlhf.roles import bare_of
from tunesmith.rlhf.sample import Sampling
from tunesmith.rlhf.vllm_client import VllmAnswering
from tunesmith.training import checkpoint
from tunesmith.training.assignment import Assignment
from tunesmith.training.checkpoint import Position
from tunesmith.training.clock import StepClock
from tunesmith.training.layout import Layout
from tunesmith.training.peak import peak_of_all
from tunesmith.training.state import load_weights, scatter_state
from tunesmith.training.strategy import prepare_roles
from tunesmith.training.telemetry import Telemetry

log = logging.getLogger(__name__)


def make_policy_trainer(
    assignment: Assignment,
    accelerator: Accelerator,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    resumed: Position | None,
) -> tuple[PolicyTrainer, Position]:
    """The trainer of a PPO run, at its start or where it stopped."""
    spec, folder = assignment.job.spec, assignment.folder
    ppo = spec.objective.ppo
    assert ppo is not None
    cast = build_roles(spec, assignment.resolver, tokenizer, accelerator.device)
    state = checkpoint.read_state(folder.checkpoints / f"step-{resumed.step:08d}") if resumed else None
    if state is not None:
        load_weights(cast.roles, state["weights"])
    layout, flops = Layout.of(spec, accelerator), PolicyFlops.of(cast)
    value_rate = _value_rate(spec)
    prepared = prepare_roles(
        accelerator, cast.roles, spec.training, lambda name: value_rate if is_of_value(name) else 1.0
    )
    if state is not None and resumed is not None:
        scatter_state(accelerator, prepared.model, prepared.optimizer.optimizer, state)
        if accelerator.scaler is not None and resumed.loss_scale is not None:
            accelerator.scaler.load_state_dict({**accelerator.scaler.state_dict(), "scale": resumed.loss_scale})
    log.info("strategy: %s", prepared.name)
    position = resumed or Position.model_validate({"dataDigest": data.digest})
    plan = EpochPlan.of(spec.training, *data.sets, weights=data.weights)
    peak, telemetry = peak_of_all(accelerator, spec.training.precision), None
    if accelerator.is_main_process:
        telemetry = Telemetry(folder, plan.total_steps, position.step, accelerator.device, peak)
    if telemetry is not None and assignment.metrics_port is not None:
        telemetry.serve(assignment.metrics_port)
    collector = _collector(assignment, accelerator, layout, cast, prepared.model, tokenizer)
    trainer = PolicyTrainer(
        training=spec.training,
        ppo=ppo,
        overrides=assignment.overrides,
        collector=collector,
        learner=Learner(spec.training, ppo, collector, prepared.optimizer),
        data=data,
        plan=plan,
        folder=folder,
        telemetry=telemetry,
        flops=flops,
    )
    return trainer, position


def _value_rate(spec: FineTuneJobSpec) -> float:
    """The learning rate of the value function, in units of the policy's."""
    ppo = spec.objective.ppo
    assert ppo is not None
    return (ppo.value_learning_rate or spec.training.learning_rate) / spec.training.learning_rate


def _collector(
    assignment: Assignment,
    accelerator: Accelerator,
    layout: Layout,
    cast: Cast,
    engine: Any,
    tokenizer: PreTrainedTokenizerBase,
) -> Collector:
    spec = assignment.job.spec
    ppo = spec.objective.ppo
    assert ppo is not None
    pad = int(tokenizer.pad_token_id)
    policy = bare_of(cast.roles.players["policy"].model)
    stops = frozenset(stop_tokens(policy.generation_config, tokenizer))
    rules = {index: rule_of(term, index) for index, term in enumerate(ppo.reward)}
    sampling = Sampling(stops, pad, ppo.max_new_tokens, ppo.temperature)
    if spec.scaling.deepspeed is not None and spec.scaling.deepspeed.zero_stage == 3:
        sampling = Sampling(stops, pad, ppo.max_new_tokens, ppo.temperature, _any_worker)
    learning = Collator(pad, spec.packed, longest=spec.training.max_length if spec.training.half else None)
    micro_batch_size = assignment.overrides.micro_batch_size or spec.training.micro_batch_size
    answering: Answering
    if ppo.vllm is not None:
        answering = VllmAnswering(ppo.vllm, spec=spec, layout=layout, roles=cast.roles, sampling=sampling)
    else:
        answering = OwnDecoding(spec.training.seed, accelerator, layout, cast.roles, sampling, micro_batch_size)
    return Collector(
        ppo=ppo,
        accelerator=accelerator,
        layout=layout,
        roles=cast.roles,
        engine=engine,
        tokenizer=tokenizer,
        answering=answering,
        sampling=sampling,
        learning=learning,
        scoring=replace(learning, examples=at_the_end()),
        rules={index: rule for index, rule in rules.items() if rule is not None},
        models=cast.scorers,
        micro_batch_size=micro_batch_size,
        max_length=spec.training.max_length,
        clock=StepClock(accelerator.device),
    )


def _any_worker(going_on: bool) -> bool:
    flag = torch.tensor(float(going_on))
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)
