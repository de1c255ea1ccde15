"""Writes the tuned model of a run: safetensors that from_pretrained loads, from the weights of a checkpoint."""

import shutil
import warnings
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.pod import RunFolder
from tunesmith.models.load import locate, own_dtype
from tunesmith.models.methods import add_adapter, merges
from tunesmith.models.save import save_bare
from tunesmith.models.start import base_model, save_base_name
from tunesmith.rlhf.build import policy_weights
from tunesmith.sources import Resolver
from tunesmith.training.checkpoint import read_part
from tunesmith.training.ranks import keep_only_used_ranks
from tunesmith.training.state import load_weights


def export_model(
    spec: FineTuneJobSpec, resolver: Resolver, tokenizer: PreTrainedTokenizerBase, checkpoint: Path, folder: RunFolder
) -> None:
    """Writes model/ (and adapter/, where the adapter is merged into it).

    The base is loaded afresh and unquantized, so that what is written does not depend on how training was spread out.
    Weights get the type of the base's own files.
    """
    weights = read_part(checkpoint, "average" if spec.training.average is not None else "weights")
    if spec.objective.ppo is not None:
        weights = policy_weights(weights)
    base = base_model(spec, resolver, tokenizer, torch.float32)
    dtype = own_dtype(locate(spec.model, resolver)) if spec.model.source is not None else torch.float32
    if spec.method.full is not None:
        load_weights(base, weights)
        _write(base.to(dtype), tokenizer, folder.model)
        return
    adapted = add_adapter(base, spec.method, spec.training.seed)
    load_weights(adapted, weights)
    if spec.method.adalora is not None:
        keep_only_used_ranks(adapted)
    location = locate(spec.model, resolver)
    target = folder.adapter if merges(spec.method) else folder.model
    with warnings.catch_warnings():  # peft takes a layer that gave up all its ranks for one that was not gathered
        warnings.filterwarnings("ignore", message=".*LoRA tensor.* have invalid shape")
        _write(adapted, tokenizer, target, save_embedding_layers=False)  # by default the Hub is asked whether they grew
    save_base_name(target, location.name, location.revision)
    if merges(spec.method):
        _write(adapted.merge_and_unload().to(dtype), tokenizer, folder.model)


def _write(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, target: Path, **options: bool) -> None:
    partial = target.with_name(f".partial-{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        save_bare(model, partial, safe_serialization=True, **options)
        tokenizer.save_pretrained(partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
