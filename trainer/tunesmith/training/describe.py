"""What is known of a run before its first step."""

import json
import logging
import platform
from dataclasses import asdict, replace

import torch
from accelerate import Accelerator
from torch import nn

from tunesmith.data.plan import EpochPlan
from tunesmith.data.prepare import TrainingData
from tunesmith.models.parameters import ParameterCount
from tunesmith.training.assignment import Assignment
from tunesmith.training.checkpoint import Position
from tunesmith.whole_files import write_whole

log = logging.getLogger(__name__)


def describe(
    assignment: Assignment,
    accelerator: Accelerator,
    model: nn.Module,
    plan: EpochPlan,
    data: TrainingData,
    parameters: ParameterCount,
    resumed: Position | None,
) -> None:
    """Writes what is known before the first step: for the progress display, the report and the log."""
    if resumed is not None:
        log.info("goes on from step %d of %d", resumed.step, plan.total_steps)
    if not accelerator.is_main_process:
        return
    summary = replace(
        data.summary,
        total_steps=plan.total_steps,
        trainable_parameters=parameters.trained,
        total_parameters=parameters.total,
        hardware=_hardware(accelerator),
    )
    write_whole(assignment.folder.data, json.dumps(asdict(summary)))  # the progress display reads it at once
    for text in summary.warnings:
        log.info("warning: %s", text)  # a person reads it off data.json, in the progress display
    log.info(
        "%d workers, %s; %s; %d rows, %d tokens, %d truncated, %d dropped; %d steps",
        accelerator.num_processes,
        type(model).__name__,
        parameters,
        summary.train_rows,
        summary.train_tokens,
        summary.truncated,
        summary.dropped,
        summary.total_steps,
    )


def _hardware(accelerator: Accelerator) -> str:
    """The workers, and what each of them computes on."""
    workers = f"{accelerator.num_processes} worker{'s' if accelerator.num_processes > 1 else ''}"
    if accelerator.device.type == "cuda":
        return f"{workers}, each on one {torch.cuda.get_device_name(accelerator.device)}"
    return f"{workers}, each on {torch.get_num_threads()} CPU threads ({platform.machine()})"
