"""The formats, and how a run's model is written in one of them."""

import gc
import json
import shutil
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.api.model import Quantization
from tunesmith.api.objective import ModelKind
from tunesmith.api.pod import RunFolder
from tunesmith.export.load import NOTE, load_format
from tunesmith.export.measure import ExportRows, Measured, measure, read_export_rows, run_over
from tunesmith.export.onnx import require_onnx, write_onnx
from tunesmith.export.quantize import quantize_dynamic, quantize_static
from tunesmith.models.load import ModelLocation, load_model, load_tokenizer
from tunesmith.models.save import save_bare
from tunesmith.sources import Resolver
from tunesmith.training.objective import collator_of

FORMATS = {
    "safetensors": "full precision, adapters merged into their base",
    "int8-dynamic": "8-bit weights; activations get 8 bits as they come",
    "int8-static": "8-bit weights; activations get 8 bits with scales that are calibrated on training rows",
    "nf4": "4-bit weights (NormalFloat); activations stay whole",
    "onnx": "a graph in fp32 for ONNX Runtime",
}
_SAME = 1e-2
"""How far logits may be off, relative to the largest, for a model to be the same: kernels differ, weights do not."""
_VERSIONS = ("tunesmith", "torch", "transformers", "torchao", "bitsandbytes")


class ExportFailedError(Exception):
    """What was written is not what it should be; nothing is left of it."""


@dataclass(frozen=True)
class Export:
    """One model in two forms."""

    original: Measured
    exported: Measured


def export_run(spec: FineTuneJobSpec, folder: RunFolder, resolver: Resolver, kind: str, output: Path) -> Export:
    """Writes a run's model in a format, loads it again, and compares it with the original.

    Args:
        spec: the job's.
        folder: its run's folder.
        resolver: finds the rows.
        kind: one of FORMATS.
        output: a folder that does not exist yet; it appears when all is done.

    Raises:
        InputError: there is no model, it cannot be merged, the output exists, or a package or the data is missing.
        ExportFailedError: the export does not load, or has no finite perplexity.
    """
    _refuse(spec, folder, kind, output)
    location = ModelLocation(str(folder.model))
    tokenizer = load_tokenizer(location, spec.objective.kind)
    collator = collator_of(spec, load_model(location, "auto", kind=spec.objective.kind), tokenizer, packed=False)
    rows = read_export_rows(spec, resolver, tokenizer, collator)
    partial_output = output.with_name(f".partial-{output.name}")
    shutil.rmtree(partial_output, ignore_errors=True)
    partial_output.mkdir(parents=True)
    try:
        original = _measured("as trained", folder.model, "safetensors", rows)
        written = _write(location, kind, partial_output, rows, tokenizer)
        exported = _measured(kind, partial_output, kind, rows, written)
        _leave_note(partial_output, kind, folder, original, exported)
        partial_output.rename(output)
    except BaseException:
        shutil.rmtree(partial_output, ignore_errors=True)
        raise
    return Export(original, exported)


def _refuse(spec: FineTuneJobSpec, folder: RunFolder, kind: str, output: Path) -> None:
    if not folder.model.exists():
        raise InputError(Problem("holds no model yet; run the job to its end first", file=str(folder.root)))
    if spec.objective.reward is not None:
        message = "holds a reward model, and exports are of models that write text; use it as it is"
        raise InputError(Problem(message, file=str(folder.model)))
    adapter = folder.model / "adapter_config.json"
    if adapter.exists():
        method = json.loads(adapter.read_text(encoding="utf-8"))["peft_type"]
        if method in ("PREFIX_TUNING", "P_TUNING", "PROMPT_TUNING"):
            message = f"holds a {method}, read before the text: it cannot be merged, use it as it is, with peft"
            raise InputError(Problem(message, file=str(folder.model)))
    if output.exists():
        raise InputError(Problem("exists already; choose another", "--output", file=str(output)))
    if kind == "onnx":
        if spec.objective.kind != "decoder":
            raise InputError(Problem("writes decoders only; choose another format for this model", "--to onnx"))
        require_onnx()


def _measured(
    name: str,
    folder: Path,
    kind: str,
    rows: ExportRows,
    written: Tensor | None = None,
) -> Measured:
    """Loads, measures and lets go: there is never more than one model in memory.

    Args:
        written: the probe's logits of the model that was written, to be found again.
    """
    model = load_format(folder, kind)
    if written is not None:
        distance = float((probe(model) - written).abs().max())
        if not distance <= _SAME * float(written.abs().max()):
            raise ExportFailedError(f"{kind}: the model that was written does not load as it was ({distance:.2g} off)")
    measured = measure(name, folder, model, rows)
    del model
    gc.collect()
    return measured


def _write(
    location: ModelLocation, kind: str, target: Path, rows: ExportRows, tokenizer: PreTrainedTokenizerBase
) -> Tensor:
    """Writes the model, and returns the logits of the probe under it."""
    model = load_model(location, "auto", kind=rows.collator.kind).eval()
    match kind:
        case "onnx":
            write_onnx(model, target)
            model.config.save_pretrained(target)
        case "nf4":
            model = _in_4_bits(model, rows.collator.kind, target)
            save_bare(model, target)
        case _:
            if kind == "int8-dynamic":
                quantize_dynamic(model)
            elif kind == "int8-static":
                quantize_static(model, partial(_run, model, rows))
            save_bare(model, target)
    tokenizer.save_pretrained(target)
    return probe(model)


def device_of(model: nn.Module) -> torch.device:
    """Where a model is; an ONNX graph is on the CPU."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


@torch.inference_mode()
def probe(model: nn.Module) -> Tensor:
    """The logits of a few tokens under a model, by which it is known again."""
    ids = torch.arange(3, 19).reshape(2, 8).to(device_of(model))
    config = getattr(model, "config", None)
    more = {"decoder_input_ids": ids} if config is not None and config.is_encoder_decoder else {}
    logits: Tensor = model(input_ids=ids, **more).logits
    return logits.float().cpu()


def _run(model: PreTrainedModel, rows: ExportRows) -> None:
    run_over(model, rows.calibration, rows.collator)


def _in_4_bits(model: PreTrainedModel, kind: ModelKind, target: Path) -> PreTrainedModel:
    """bitsandbytes quantizes what it loads, so the merged model goes through a folder."""
    whole = target / "whole"
    save_bare(model, whole)
    try:
        return load_model(ModelLocation(str(whole)), model.dtype, Quantization(type="nf4"), kind)
    finally:
        shutil.rmtree(whole)


def _leave_note(target: Path, kind: str, folder: RunFolder, original: Measured, exported: Measured) -> None:
    note = {
        "format": kind,
        "run": folder.root.name,
        "original": original.to_dict(),
        "exported": exported.to_dict(),
        "versions": {name: version(name) for name in _VERSIONS},
    }
    (target / NOTE).write_text(json.dumps(note, indent=1), encoding="utf-8")
