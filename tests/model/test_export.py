"""A run's model in other formats: each is smaller or more portable, loads again, and is what was measured."""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.model.conftest import Run, Trained, back_to
from tests.model.jobs import SAVE_EVERY, job_of
from tests.model.processes import Ended, train, tunesmith
from tunesmith.api.pod import RunFolder
from tunesmith.export import load_exported
from tunesmith.export.formats import FORMATS
from tunesmith.export.quantize import quantized_layers
from tunesmith.models.load import ModelLocation, load_model

IDS = torch.arange(3, 43).reshape(2, 20)


def logits_of(model: nn.Module) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(input_ids=IDS).logits
    return logits


def export(run: Run, kind: str, folder: Path, *more: str, plant: Any = None) -> Ended:
    """Exports a run with the command line, to the folder `out` in another one."""
    arguments = (str(run.folder.root), "--to", kind, "--output", "out", *more)
    ended = tunesmith("export", *arguments, folder=folder, plant=plant)
    assert "Traceback" not in ended.errors + ended.output
    return ended


def distance(model: nn.Module, original: nn.Module) -> float:
    """Of the logits, relative."""
    expected = logits_of(original)
    return float((logits_of(model) - expected).norm() / expected.norm())


Exported = Callable[[str], tuple[Ended, Path]]


@pytest.fixture(scope="module")
def exported(reference: Run, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Exports the reference to a format, once: what was printed, and the folder."""
    cache: dict[str, tuple[Ended, Path]] = {}

    def get(kind: str) -> tuple[Ended, Path]:
        if kind not in cache:
            folder = tmp_path_factory.mktemp(kind)
            cache[kind] = export(reference, kind, folder), folder / "out"
        return cache[kind]

    return get


# the largest distance from the original's logits, and the share of its bytes: the model is tiny, most of it is the head
LIMITS = {
    "safetensors": (0.0, 1.01),
    "int8-dynamic": (0.02, 0.75),
    "int8-static": (0.05, 0.75),
    "nf4": (0.15, 0.75),
    "onnx": (1e-5, 20.0),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_loads_again_and_says_what_it_costs(kind: str, reference: Run, exported: Exported) -> None:
    ended, folder = exported(kind)
    assert (ended.code, ended.errors) == (0, "")
    assert [name in ended.output for name in ("as trained", kind, "perplexity", "tokens/s")] == [True] * 4
    original = load_model(ModelLocation(str(reference.folder.model)), "auto").eval()
    off, size = LIMITS[kind]
    assert distance(load_exported(folder), original) <= off
    note = json.loads((folder / "export.json").read_text())
    assert note["exported"]["bytes"] <= size * note["original"]["bytes"]
    assert note["exported"]["perplexity"] == pytest.approx(note["original"]["perplexity"], rel=0.1)
    assert not list(folder.glob("*.bin"))
    assert not list(folder.parent.glob(".partial-*"))


def test_transformers_alone_reads_what_is_quantized_as_it_comes(exported: Exported) -> None:
    from torchao.quantization import Int8Tensor
    from transformers import AutoModelForCausalLM

    _, folder = exported("int8-dynamic")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert all(isinstance(layer.weight, Int8Tensor) for layer in quantized_layers(model).values())
    assert torch.equal(logits_of(model), logits_of(load_exported(folder)))


def test_an_adapter_is_merged_into_its_base(trained: Trained, reference: Run, tmp_path: Path) -> None:
    run = trained(base=reference.folder.model, lora={"rank": 4, "alpha": 16})
    assert export(run, "safetensors", tmp_path).code == 0
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    merged = load_exported(tmp_path / "out")
    assert distance(merged, load_model(ModelLocation(str(run.folder.model)), "auto")) < 1e-6
    assert distance(merged, load_model(ModelLocation(str(reference.folder.model)), "auto")) > 1e-3


def test_a_graph_takes_any_number_of_rows_of_any_length(reference: Run, exported: Exported) -> None:
    import onnxruntime

    _, folder = exported("onnx")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    original = load_model(ModelLocation(str(reference.folder.model)), "auto").eval()
    for rows, length in ((1, 1), (4, 48)):
        ids = torch.arange(rows * length).reshape(rows, length) % 280
        feed = {"input_ids": ids.numpy(), "attention_mask": torch.ones_like(ids).numpy()}
        with torch.no_grad():
            expected = original(input_ids=ids).logits
        torch.testing.assert_close(torch.from_numpy(session.run(None, feed)[0]), expected, rtol=1e-4, atol=1e-4)


def damage_the_file() -> None:
    """The quantized weights are written with every scale doubled."""
    from tunesmith.export import formats, quantize

    def late(model: Any) -> None:
        quantize.quantize_dynamic(model)
        save = model.save_pretrained

        def save_other(target: Path) -> None:
            weights: list[Any] = [layer.weight for layer in quantized_layers(model).values()]
            for weight in weights:
                weight.scale.mul_(2)
            save(target)
            for weight in weights:
                weight.scale.div_(2)

        model.save_pretrained = save_other

    formats.quantize_dynamic = late  # type: ignore[attr-defined]  # read from there


def test_an_export_that_does_not_load_as_it_was_is_not_kept(reference: Run, tmp_path: Path) -> None:
    ended = export(reference, "int8-dynamic", tmp_path, plant=damage_the_file)
    assert ended.code == 1
    assert ended.errors.startswith("sums: int8-dynamic: the model that was written does not load as it was (")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stderr", "stdout"]


def forget_package(name: str) -> None:
    sys.modules[name] = None  # type: ignore[assignment]  # importing it fails


@pytest.mark.parametrize(
    ("kind", "plant", "message"),
    [
        ("gguf", None, "--to: there is no format 'gguf'; there are safetensors (full precision, adapters merged"),
        (
            "onnx",
            partial(forget_package, "onnxruntime"),
            "--to: onnx needs onnxruntime: pip install 'tunesmith[export]'\n",
        ),
    ],
    ids=["an unknown format", "a missing package"],
)
def test_what_cannot_be_written_is_refused(kind: str, plant: Any, message: str, reference: Run, tmp_path: Path) -> None:
    ended = export(reference, kind, tmp_path, plant=plant)
    assert ended.code == 2
    assert ended.errors.startswith(message)
    assert len(ended.errors.splitlines()) == 1


def test_there_must_be_a_model_and_its_rows_and_room_for_the_export(reference: Run, rows: Path, tmp_path: Path) -> None:
    assert export(Run(RunFolder(tmp_path)), "nf4", tmp_path).errors == (
        f"{tmp_path}: is not a run's folder: it holds no config.json\n"
    )
    (tmp_path / "out").mkdir()
    assert export(reference, "nf4", tmp_path).errors == "out: --output: exists already; choose another\n"
    (tmp_path / "out").rmdir()

    run = back_to(SAVE_EVERY, reference, tmp_path / "run")  # without its model
    assert (
        export(run, "nf4", tmp_path).errors == f"{run.folder.root}: holds no model yet; run the job to its end first\n"
    )
    run = Run(RunFolder(tmp_path / "elsewhere"))
    run.folder.root.mkdir()
    text = reference.folder.config.read_text().replace(str(rows), "pvc://claim/rows.jsonl")
    run.folder.config.write_text(text)
    run.folder.model.symlink_to(reference.folder.model)
    ended = export(run, "int8-static", tmp_path)
    assert ended.errors == ("spec.dataset.train.source: pvc://claim is not on this machine; add --mount claim=DIR\n")


def test_a_prefix_is_no_part_of_the_weights(reference: Run, tmp_path: Path) -> None:
    run = Run(RunFolder(tmp_path / "run"))
    run.folder.model.mkdir(parents=True)
    run.folder.config.write_text(reference.folder.config.read_text())
    (run.folder.model / "adapter_config.json").write_text('{"peft_type": "PREFIX_TUNING"}')
    ended = export(run, "safetensors", tmp_path)
    assert (ended.code, ended.errors) == (
        2,
        f"{run.folder.model}: holds a PREFIX_TUNING, read before the text: it cannot be merged, use it as it is, "
        "with peft\n",
    )


@pytest.mark.parametrize("bits", ["int8", "nf4"])
def test_a_model_that_was_trained_rounded_loses_nothing_by_rounding(
    bits: str, trained: Trained, reference: Run, tmp_path: Path
) -> None:
    run = trained(quantizationAware=bits)
    assert run.losses() != reference.losses()
    kind = {"int8": "int8-dynamic", "nf4": "nf4"}[bits]
    assert export(run, kind, tmp_path).code == 0
    note = json.loads((tmp_path / "out" / "export.json").read_text())
    validated = float(torch.tensor(run.column("validation/loss")[-1]).exp())
    assert note["exported"]["perplexity"] == pytest.approx(validated, rel=5e-6), "what validation measured"
    assert note["original"]["perplexity"] != pytest.approx(validated, rel=1e-5), "whole, it was never trained"


def test_rounded_training_resumes_exactly(trained: Trained, rows: Path, tmp_path: Path) -> None:
    whole = trained(quantizationAware="nf4")
    run = back_to(SAVE_EVERY, whole, tmp_path / "run")
    train(job_of(rows, quantizationAware="nf4"), run.folder)
    assert run.losses() == whole.losses()
    mine, theirs = (r.folder.model / "model.safetensors" for r in (run, whole))
    assert mine.read_bytes() == theirs.read_bytes()
    assert {tensor.dtype for tensor in load_file(mine).values()} == {torch.float32}, "the weights that learn stay whole"


def test_rounded_training_does_not_depend_on_how_a_step_is_cut(trained: Trained) -> None:
    once, cut = trained(quantizationAware="int8"), trained(quantizationAware="int8", packing=False, microBatchSize=3)
    assert cut.losses() == pytest.approx(once.losses(), rel=1e-4)
