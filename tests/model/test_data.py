"""Data in a real run: mixed by weight, tokenized once for all workers and attempts, in bounded memory."""

import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.model.conftest import Run, Trained
from tests.model.jobs import STEPS, body_of, write_rows
from tests.model.plants import make_batches_ahead, only_first_encodes, signal_in_step, watch_memory
from tests.model.processes import train, tunesmith
from tunesmith.api.job import FineTuneJob
from tunesmith.api.pod import RunFolder

RUN = ("run", "-f", "job.yaml")


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Few rows and many, drawn alike, some of them tested with too."""
    folder = tmp_path_factory.mktemp("mixture")
    for name, rows, seed in (("few", 20, 1), ("many", 70, 2), ("test", 10, 3)):
        write_rows(folder / f"{name}.jsonl", rows, seed)
    with (folder / "test.jsonl").open("a") as test:
        test.writelines((folder / "many.jsonl").read_text().splitlines(keepends=True)[:5])
    body = body_of(folder / "unused.jsonl")
    body["spec"]["dataset"] = {
        "train": {"mixture": [{"source": str(folder / f"{name}.jsonl"), "weight": 1} for name in ("few", "many")]},
        "validation": {"fraction": 0.1, "groupBy": "prompt"},
        "test": {"source": str(folder / "test.jsonl")},
    }
    return body


@pytest.fixture(scope="module")
def uninterrupted(mixture: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(RunFolder(tmp_path_factory.mktemp("uninterrupted") / "sums"))
    (outcome,) = train(FineTuneJob.model_validate(mixture), run.folder)
    assert outcome.reason == "Succeeded", outcome
    return run


def test_a_mixture_resumes_in_its_second_epoch_on_the_tokens_of_the_first_attempt(
    mixture: dict[str, Any], uninterrupted: Run, tmp_path: Path
) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(mixture))
    run = Run(RunFolder(tmp_path / "runs" / "sums"))
    tunesmith(*RUN, folder=tmp_path, plant=partial(signal_in_step, 8, signal.SIGKILL))
    tokens = run.folder.tokens / "train" / "tokens"
    before = tokens.read_bytes()
    tokens.write_bytes(bytes(len(before)))  # what is on the disk is used, and would be noticed
    spoiled = tunesmith(*RUN, folder=tmp_path, plant=partial(signal_in_step, 8, signal.SIGKILL))
    assert spoiled.code == -signal.SIGKILL
    assert run.losses(after=4) != uninterrupted.losses()[4:7]

    tokens.write_bytes(before)
    again = tunesmith(*RUN, folder=tmp_path)
    assert (again.code, again.errors) == (0, "")
    said = " ".join(again.output.split())
    assert "few.jsonl" in said
    assert "stand in the validation or test rows too: left out of the training" in said
    for column in ("step", "loss", "gradient_norm", "validation/loss"):
        assert run.column(column) == uninterrupted.column(column), column
    assert not run.folder.tokens.exists(), "a run that has ended needs them no more"


def test_one_worker_tokenizes_for_all(mixture: dict[str, Any], uninterrupted: Run, tmp_path: Path) -> None:
    run = Run(RunFolder(tmp_path / "sums"))
    scaling = {"workers": 2}
    job = FineTuneJob.model_validate(mixture | {"spec": mixture["spec"] | {"scaling": scaling}})
    outcomes = train(job, run.folder, 2, only_first_encodes)
    assert {outcome.reason for outcome in outcomes} == {"Succeeded"}, outcomes
    assert run.losses() == pytest.approx(uninterrupted.losses(), rel=1e-5)


def test_a_first_worker_that_fails_takes_the_others_along(mixture: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text('{"prompt" "1"}\n')
    dataset = mixture["spec"]["dataset"] | {"test": {"source": str(tmp_path / "broken.jsonl")}}
    spec = mixture["spec"] | {"scaling": {"workers": 2}, "dataset": dataset}
    outcomes = train(FineTuneJob.model_validate(mixture | {"spec": spec}), RunFolder(tmp_path / "sums"), 2)
    assert [outcome.reason for outcome in outcomes] == ["InvalidInput", "WorkerLost"]
    assert outcomes[0].message.startswith(f"{tmp_path}/broken.jsonl:1: spec.dataset.test.source: is broken JSON")


def test_batches_made_in_a_thread_are_the_same(trained: Trained, reference: Run) -> None:
    assert trained(plant=make_batches_ahead).losses() == reference.losses()
    assert len(reference.losses()) == STEPS


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """Six times the text needs no more of it; as lists of tokens it would need tens of MB more."""
    growth = {}
    for megabytes in (1, 6):
        file, folder = tmp_path / f"{megabytes}.txt", RunFolder(tmp_path / f"run-{megabytes}")
        with file.open("w") as text:
            text.writelines(
                f"line {i} of a text that goes on and on, {i * i % 977}\n" for i in range(megabytes * 20_000)
            )
        body = body_of(file, maxSteps=1, epochs=None)
        body["spec"] |= {"objective": {"causalLM": {}}, "dataset": {"train": {"source": str(file)}}}
        (outcome,) = train(FineTuneJob.model_validate(body), folder, plant=watch_memory)
        assert outcome.reason == "Succeeded", outcome
        growth[megabytes] = json.loads((folder.root / "memory.json").read_text())
    assert file.stat().st_size > 5_000_000
    assert growth[6] - growth[1] < 10_000_000, growth
