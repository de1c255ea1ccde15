"""What each worker of a run does, from the spec to the tuned model; started by `launch`."""

import logging
import os
import shutil
from contextlib import closing
from functools import partial

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith import run_log
from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import RunFolder
from tunesmith.api.spans import TRAINER, about_run, sending_spans, span
from tunesmith.data.parts import RunRows
from tunesmith.data.plan import EpochPlan
from tunesmith.data.prepare import TrainingData, prepare_data
from tunesmith.evaluation.ahead import check_test_rows
from tunesmith.export.quantize import train_quantized
from tunesmith.models.attention import use_packed_attention
from tunesmith.models.export import export_model
from tunesmith.models.kind import first_position
from tunesmith.models.parameters import count_parameters
from tunesmith.models.prompts import virtual_tokens
from tunesmith.models.start import start_tokenizer, trainable_model
from tunesmith.rlhf.plot import plot_policy
from tunesmith.rlhf.worker import make_policy_trainer
from tunesmith.training import checkpoint, coach
from tunesmith.training.assignment import Assignment, worker_threads
from tunesmith.training.average import WeightAverage
from tunesmith.training.centring import centre
from tunesmith.training.checkpoint import Position
from tunesmith.training.clock import StepClock
from tunesmith.training.describe import describe
from tunesmith.training.failures import StopRequestedError, outcome_of
from tunesmith.training.flops import ModelFlops
from tunesmith.training.heap import give_back
from tunesmith.training.layout import Layout
from tunesmith.training.loop import Trainer
from tunesmith.training.objective import collator_of, token_loss
from tunesmith.training.pair_loss import FIGURES, pair_loss
from tunesmith.training.peak import peak_of_all
from tunesmith.training.pull import L2Pull, copy_of_trained
from tunesmith.training.ranks import Ranks
from tunesmith.training.state import load_weights, scatter_state, unwrapped
from tunesmith.training.strategy import first_worker_first, make_accelerator, prepare
from tunesmith.training.telemetry import Telemetry

log = logging.getLogger(__name__)

_SAYS_ALL = ("InvalidInput", "Interrupted", "PolicyCollapsed")
"""Reasons whose message is all that there is to know."""


def run_worker(assignment: Assignment) -> Outcome:
    """Trains, and returns how it ended; what can be expected to go wrong is never raised.

    So a worker that does raise, or dies, was lost, and that alone is what Ray Train starts again.
    """
    _start_log(assignment)
    note = assignment.folder.root / f".outcome-{assignment.attempt}-{_rank()}.json"
    note.unlink(missing_ok=True)  # of this worker before Ray Train started it again
    tracing = assignment.tracing if _rank() == 0 else None  # the others do the same at the same time
    meta = assignment.job.metadata
    try:
        with sending_spans(tracing, TRAINER, about_run(meta.namespace, meta.name, assignment.attempt)):
            outcome = _train(assignment)
    except Exception as error:  # any failure becomes an Outcome; a defect's traceback goes to the log
        outcome = outcome_of(error, assignment.attempt)
    if _rank() == 0:
        outcome = _look_back(assignment.folder, outcome)
    if outcome.reason != "Succeeded":
        if outcome.reason not in _SAYS_ALL:
            tail = run_log.tail(run_log.worker_log(assignment.folder, _rank()))
            outcome = outcome.model_copy(update={"log_tail": tail})
        if outcome.reason == "InternalError" and dist.is_initialized() and dist.get_world_size() > 1:
            outcome = outcome.model_copy(update={"message": f"worker {_rank()}: {outcome.message}"})
        try:
            note.write_text(outcome.model_dump_json(exclude_none=True), encoding="utf-8")
        except OSError:
            log.exception("the outcome could not be noted")
        if dist.is_initialized():
            dist.destroy_process_group()  # wakes those that wait in a barrier; launch.workers ends those in a step
    return outcome


def _look_back(folder: RunFolder, outcome: Outcome) -> Outcome:
    """The outcome with what the run's curves show; those of PPO are drawn, too."""
    try:
        found = coach.write_findings(folder)
        plot_policy(folder)
    except OSError:  # a full disk, which the outcome says
        return outcome
    for finding in found:
        log.info("%s: %s; try in this order: %s", finding.name, finding.seen, "; ".join(finding.remedies))
    return outcome.model_copy(update={"findings": [f"{finding.name}: {finding.seen}" for finding in found]})


def _start_log(assignment: Assignment) -> None:
    """This worker's log in the run's folder, and, where the command has not begun it, that of its process."""
    if assignment.json_logs:
        meta = assignment.job.metadata
        run_log.log_in_pod(meta.namespace, meta.name, assignment.attempt, _rank())
    else:
        logging.basicConfig(level=logging.INFO, format=run_log.LOG_FORMAT)
    run_log.log_to_file(run_log.worker_log(assignment.folder, _rank()))


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _train(assignment: Assignment) -> Outcome:
    spec, folder = assignment.job.spec, assignment.folder
    AcceleratorState._reset_state(reset_partial_state=True)  # a second run in this process starts clean
    accelerator = make_accelerator(spec)
    torch.set_num_threads(worker_threads(spec))  # after accelerate, which sets a number of its own

    rows = RunRows(spec, assignment.resolver)
    # the first worker reads and tokenizes; the others find what it has written
    with span("data preparation"), first_worker_first(accelerator) as first:
        if first:
            check_test_rows(rows)
        tokenizer = start_tokenizer(spec, assignment.resolver, folder, rows.all_train())
        if spec.model.config is not None and first:
            tokenizer.save_pretrained(folder.tokenizer)
        data = prepare_data(rows, tokenizer, folder.tokens, first, lambda: _heed_stop_request(folder))
    resumed = _resume_point(folder, data)
    learn = _learn_policy if spec.objective.ppo is not None else _learn
    ended = learn(assignment, accelerator, tokenizer, data, resumed)
    if isinstance(ended, Outcome):
        return ended
    accelerator.free_memory()  # it holds what was trained, and the export builds the model anew
    give_back()

    with span("export"), first_worker_first(accelerator) as first:
        best = checkpoint.best_checkpoint(folder) if first else None
        if best is not None:
            export_model(spec, assignment.resolver, tokenizer, best, folder)
            if spec.objective.reward is not None:
                centre(spec, assignment.resolver, tokenizer, rows.all_train(), folder)
    if accelerator.is_main_process:
        shutil.rmtree(folder.tokens, ignore_errors=True)  # can be as large as the data
    return _success(assignment, ended)


def _learn(
    assignment: Assignment,
    accelerator: Accelerator,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    resumed: Position | None,
) -> Position | Outcome:
    """Supervised training to its end, or what a probe makes of it."""
    with span("model load"):
        model = trainable_model(assignment.job.spec, assignment.resolver, tokenizer)
        refuse_too_long(assignment.job.spec, model)
        parameters = count_parameters(model)
        trainer, position = _make_trainer(assignment, accelerator, model, tokenizer, data, resumed)
    describe(assignment, accelerator, trainer.model, trainer.plan, data, parameters, resumed)
    with closing(trainer.ahead), span("training", {"tunesmith.first_step": position.step}):
        return assignment.probe(trainer, position) if assignment.probe is not None else trainer.run(position)


def _learn_policy(
    assignment: Assignment,
    accelerator: Accelerator,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    resumed: Position | None,
) -> Position:
    """PPO to its end."""
    with span("model load"):
        trainer, position = make_policy_trainer(assignment, accelerator, tokenizer, data, resumed)
    parameters = count_parameters(trainer.collector.roles)
    describe(assignment, accelerator, trainer.collector.engine, trainer.plan, data, parameters, resumed)
    with closing(trainer.collector.answering), span("training", {"tunesmith.first_step": position.step}):
        return trainer.run(position)


def _heed_stop_request(folder: RunFolder) -> None:
    if folder.stop_request.exists():
        raise StopRequestedError("stopped on request before the first step; run again to start")


def refuse_too_long(spec: FineTuneJobSpec, model: PreTrainedModel) -> None:
    """Refuses rows that are longer than the model's positions reach."""
    reach = getattr(model.config, "max_position_embeddings", None)
    if reach is None:
        return
    taken = virtual_tokens(model)
    longest = reach - first_position(model) - taken
    if spec.training.max_length > longest:
        beside = f" beside the {taken} of method.{spec.method.chosen}; lower either" if taken else "; lower it"
        message = f"is {spec.training.max_length}, but the model reaches {max(longest, 0)} tokens{beside}"
        raise InputError(Problem(message, "spec.training.maxLength"))


def _resume_point(folder: RunFolder, data: TrainingData) -> Position | None:
    newest = checkpoint.newest_intact(folder)
    if newest is None:
        return None
    position = checkpoint.read_position(newest)
    if position.data_digest != data.digest:
        message = "the training data is not what this run started with: put it back, or start over with --fresh"
        raise InputError(Problem(message, "spec.dataset.train"))
    return position


def _make_trainer(
    assignment: Assignment,
    accelerator: Accelerator,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    resumed: Position | None,
) -> tuple[Trainer, Position]:
    spec, folder = assignment.job.spec, assignment.folder
    if spec.packed:
        use_packed_attention(model)
    if spec.training.quantization_aware is not None:
        train_quantized(model, spec.training.quantization_aware)
    if spec.training.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    collator = collator_of(spec, model, tokenizer, spec.packed, spec.training.half)
    state = checkpoint.read_state(folder.checkpoints / f"step-{resumed.step:08d}") if resumed else None
    start = copy_of_trained(model) if spec.method.full is not None and spec.method.full.l2_pull > 0 else {}
    if state is not None:
        load_weights(model, state["weights"])
    layout, flops = Layout.of(spec, accelerator), ModelFlops.of(model)
    prepared = prepare(accelerator, model, spec, layout)
    if state is not None and resumed is not None:
        scatter_state(accelerator, prepared.model, prepared.optimizer.optimizer, state)
        if accelerator.scaler is not None and resumed.loss_scale is not None:
            accelerator.scaler.load_state_dict({**accelerator.scaler.state_dict(), "scale": resumed.loss_scale})
    bare = unwrapped(prepared.model)
    average = None
    if spec.training.average is not None:
        average = WeightAverage(bare, spec.training.average.decay, state["average"] if state is not None else None)
    log.info("strategy: %s", prepared.name)
    position = resumed or Position.model_validate({"dataDigest": data.digest})
    plan = EpochPlan.of(spec.training, *data.sets, weights=data.weights)
    method: L2Pull | Ranks | None = None
    if start and spec.method.full is not None:
        method = L2Pull(spec.method.full.l2_pull, bare, start)
    elif spec.method.adalora is not None:
        method = Ranks(spec.method.adalora, bare, plan.total_steps, state)
    peak, telemetry = peak_of_all(accelerator, spec.training.precision), None
    if accelerator.is_main_process:
        telemetry = Telemetry(folder, plan.total_steps, position.step, accelerator.device, peak)
    if telemetry is not None and assignment.metrics_port is not None:
        telemetry.serve(assignment.metrics_port)
    reward = spec.objective.reward
    trainer = Trainer(
        training=spec.training,
        overrides=assignment.overrides,
        accelerator=accelerator,
        layout=layout,
        model=prepared.model,
        optimizer=prepared.optimizer,
        objective=token_loss if reward is None else partial(pair_loss, margin=reward.margin),
        data=data,
        plan=plan,
        folder=folder,
        collator=collator,
        telemetry=telemetry,
        flops=flops,
        method=method,
        finish_gradients=prepared.finish_gradients,
        average=average,
        figures=() if reward is None else FIGURES,
        clock=StepClock(accelerator.device),
    )
    return trainer, position


def _success(assignment: Assignment, position: Position) -> Outcome:
    folder = assignment.folder
    last = checkpoint.all_checkpoints(folder)
    adapter = str(folder.adapter) if folder.adapter.exists() else None
    return Outcome.model_validate(
        {
            "reason": "Succeeded",
            "attempt": assignment.attempt,
            "step": position.step,
            "metrics": position.metrics,
            "artifacts": {
                "folder": str(folder.root),
                "model": str(folder.model),
                "adapter": adapter,
                "checkpoint": str(last[-1]),
            },
        }
    )
