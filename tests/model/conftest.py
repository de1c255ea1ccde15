"""Runs that several tests look at are trained once."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase as Tokenizer

from tests.collector import Collector, collecting
from tests.model.jobs import job_of, write_rows
from tests.model.plants import watch_strategy
from tests.model.processes import Plant, train
from tests.model.wild import NEW_MODEL, PROMPTS
from tunesmith.api.model import NewModel
from tunesmith.api.pod import RunFolder
from tunesmith.models.tokenizer import train_tokenizer
from tunesmith.training.checkpoint import all_checkpoints

HERE = Path(__file__).parent
PEFT_ASKS_THE_OLD_WAY = "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.model)
            item.add_marker(pytest.mark.filterwarnings(PEFT_ASKS_THE_OLD_WAY))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Models this small are slower on more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Of the wild models."""
    return train_tokenizer(PROMPTS, NewModel.model_validate(NEW_MODEL))


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Somebody who takes spans."""
    with collecting() as collector:
        yield collector


@dataclass(frozen=True)
class Run:
    """A run that has ended."""

    folder: RunFolder

    def column(self, name: str, after: int = 0) -> list[float]:
        """A column of metrics.jsonl, of the steps after one."""
        records = [json.loads(line) for line in self.folder.metrics.read_text().splitlines()]
        return [record[name] for record in records if record["step"] > after and name in record]

    def losses(self, after: int = 0) -> list[float]:
        return self.column("loss", after)

    def held_at_export(self) -> int:
        """How many optimizers there still were beside the model that was exported; DeepSpeed never lets go of its."""
        return int((self.folder.root / "exporting.json").read_text())

    def strategies(self) -> list[dict[str, Any]]:
        """What each worker was made of."""
        return [json.loads(file.read_text()) for file in sorted(self.folder.root.glob("strategy-*.json"))]


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "rows.jsonl"
    write_rows(file)
    return file


def back_to(step: int, run: Run, folder: Path) -> Run:
    """A copy of a run as it stood after a step with a checkpoint."""
    shutil.copytree(run.folder.root, folder)
    copy = RunFolder(folder)
    for checkpoint in all_checkpoints(copy):
        if int(checkpoint.name.removeprefix("step-")) > step:
            shutil.rmtree(checkpoint)
    shutil.rmtree(copy.model)
    copy.result.unlink(missing_ok=True)
    return Run(copy)


Trained = Callable[..., Run]


@pytest.fixture(scope="session")
def trained(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """Trains a job to its end; the same job with as many workers is trained once a session.

    Takes the changes of `job_of`, `workers` and `zero` (a stage of ZeRO), and what else `scaling` holds.
    """
    cache: dict[str, Run] = {}

    def run(
        workers: int = 1,
        zero: int | None = None,
        plant: Plant = watch_strategy,
        scaling: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Run:
        key = repr((workers, zero, plant, scaling, sorted(changes.items())))
        if key not in cache:
            scaling = {"workers": workers} | ({"deepspeed": {"zeroStage": zero}} if zero else {}) | (scaling or {})
            folder = RunFolder(tmp_path_factory.mktemp("run") / "sums")
            outcomes = train(job_of(rows, scaling=scaling, **changes), folder, workers, plant)
            assert {outcome.reason for outcome in outcomes} == {"Succeeded"}, outcomes
            cache[key] = Run(folder)
        return cache[key]

    yield run


@pytest.fixture(scope="session")
def reference(trained: Trained) -> Run:
    """One worker, packed rows, fp32: what everything else is compared with."""
    return trained()


@pytest.fixture(scope="session")
def base(reference: Run) -> Path:
    """The model of another run."""
    return reference.folder.model
