"""PPO on the tiny Llama that learns sums."""

from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState

from tests.model.jobs import body_of
from tunesmith.api.job import FineTuneJob
from tunesmith.api.pod import RunFolder
from tunesmith.data.parts import RunRows
from tunesmith.data.prepare import prepare_data
from tunesmith.models.start import start_tokenizer
from tunesmith.rlhf.loop import PolicyTrainer
from tunesmith.rlhf.worker import make_policy_trainer
from tunesmith.sources import Resolver
from tunesmith.training.assignment import Assignment
from tunesmith.training.checkpoint import Position
from tunesmith.training.strategy import make_accelerator

LORA = {"lora": {"rank": 4, "alpha": 8, "dropout": 0.1}}
"""With a dropout, which must not play a part."""


def policy_job(
    rows: Path,
    base: Path,
    ppo: dict[str, Any] | None = None,
    method: dict[str, Any] | None = None,
    scaling: dict[str, Any] | None = None,
    validation: bool = True,
    **training: Any,
) -> FineTuneJob:
    """A PPO job that starts from the model in a folder; the reward is what a rule gives."""
    defaults = {"epochs": None, "maxSteps": 4, "batchSize": 12, "learningRate": 3e-4}
    body = body_of(rows, base=base, method=method or LORA, scaling=scaling, **defaults | training)
    reward = [{"pattern": {"regex": ".*[0-9].*"}}, {"pattern": {"regex": "(.*[a-z]){2}.*"}, "weight": 0.5}]
    settings = {"template": "{prompt} {response}", "reward": reward, "maxNewTokens": 6, "epochs": 2, "miniBatches": 3}
    if not validation:
        del body["spec"]["dataset"]["validation"]
    body["spec"]["objective"] = {"ppo": settings | {"klCoefficient": 0.1} | (ppo or {})}
    return FineTuneJob.model_validate(body)


def trainer_of(job: FineTuneJob, folder: Path) -> tuple[PolicyTrainer, Position]:
    """A run before its first step, in this process."""
    run, resolver = RunFolder(folder), Resolver()
    run.root.mkdir(parents=True, exist_ok=True)
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = make_accelerator(job.spec)
    found = RunRows(job.spec, resolver)
    tokenizer = start_tokenizer(job.spec, resolver, run, found.all_train())
    data = prepare_data(found, tokenizer, run.tokens)
    return make_policy_trainer(Assignment(job, run, resolver), accelerator, tokenizer, data, None)
