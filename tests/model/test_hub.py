"""A model of the Hub, loaded by the Hub's own client: from its cache, since nothing here reaches out."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.model.conftest import Run
from tests.model.jobs import body_of
from tests.model.processes import tunesmith
from tunesmith.api.pod import RunFolder
from tunesmith.models.load import ModelLocation

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, reference: Run) -> Path:
    """A cache that holds the reference's model as acme/sums, with a tag v1."""
    repository = tmp_path / "hub" / "models--acme--sums"
    shutil.copytree(reference.folder.model, repository / "snapshots" / REVISION)
    (repository / "refs").mkdir()
    for name in ("main", "v1"):
        (repository / "refs" / name).write_text(REVISION)
    return tmp_path / "hub"


def use_cache(hub: Path) -> None:
    from huggingface_hub import constants

    constants.HF_HUB_CACHE = str(hub)
    import transformers.utils.hub

    transformers.utils.hub.PYTORCH_TRANSFORMERS_CACHE = str(hub)


@pytest.fixture
def run(hub: Path, rows: Path, tmp_path: Path) -> Callable[[str], tuple[int, str, Run]]:
    from functools import partial

    def start(source: str) -> tuple[int, str, Run]:
        body = body_of(rows, base=Path("unused"), lora={"rank": 2}, maxSteps=1, epochs=None)
        body["spec"]["model"] = {"source": source}
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(body))
        ended = tunesmith("run", "-f", "job.yaml", folder=tmp_path, plant=partial(use_cache, hub))
        assert "Traceback" not in ended.errors
        return ended.code, ended.errors, Run(RunFolder(tmp_path / "runs" / "sums"))

    return start


@pytest.mark.parametrize(("source", "revision"), [("hf://acme/sums", None), ("hf://acme/sums@v1", "v1")])
def test_a_model_of_the_hub(source: str, revision: str | None, run: Callable[[str], tuple[int, str, Run]]) -> None:
    code, errors, result = run(source)
    assert (code, errors) == (0, "")
    assert ModelLocation(str(result.folder.model)).adapter_base == ModelLocation("acme/sums", revision)


@pytest.mark.parametrize("source", ["hf://acme/nothing", "hf://acme/sums@v2"])
def test_a_model_that_the_hub_does_not_have(source: str, run: Callable[[str], tuple[int, str, Run]]) -> None:
    code, errors, _ = run(source)
    assert code == 2
    (line,) = errors.splitlines()
    assert line.startswith("sums: InvalidInput: spec.model.source: its tokenizer cannot be loaded: ")
