"""What merging does to a model that was tuned on a quantized base, and how far from the tuned one it ends.

    python -m tests.benchmarks.merge [--folder DIR]

A small Llama learns to add, then, quantized, to subtract by LoRA. Compared with the quantized model that was trained:
the adapter on the full-precision base, merged into it (what method.lora.merge writes), on the base that the quantized
one stands for (dequantized), and merged into that. The distance is the root mean square of the difference of the logits
by that of the logits, perplexity that of the answers, both on the 500 held-out subtractions.
"""

import argparse
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from torch import Tensor

from tests.benchmarks.arithmetic import RESOLVER, addition_job, subtraction_job
from tests.benchmarks.forgetting import train
from tunesmith.data.collate import Batch, Collator
from tunesmith.data.encode import encode
from tunesmith.data.rows import read_rows
from tunesmith.models.adapters import attach, merged
from tunesmith.models.load import ModelLocation, load_model, load_tokenizer
from tunesmith.training.objective import token_losses

QUANTIZATIONS: dict[str, dict[str, Any]] = {
    "nf4": {"type": "nf4"},
    "int8": {"type": "int8"},
}


def dequantized(base: ModelLocation, quantized: Any) -> Any:
    """The base with the weights that a quantized one computes with, in fp32."""
    model: Any = load_model(base, torch.float32)
    layers = dict(quantized.named_modules())
    with torch.no_grad():
        for name, module in model.named_modules():
            weight: Any = getattr(layers.get(name), "weight", None)
            if hasattr(weight, "quant_state"):
                module.weight.copy_(dequantize_4bit(weight.data, weight.quant_state))
            elif weight is not None and weight.dtype == torch.int8:
                layer: Any = layers[name]
                scale = layer.state.SCB if layer.state.SCB is not None else weight.SCB
                module.weight.copy_(weight.data.float() * scale[:, None] / 127)
    return model


def compare(kind: str, folder: Path) -> None:
    """Prints the rows of one quantization."""
    base = ModelLocation(str(folder / "addition" / "model"))
    method = {"lora": {"rank": 16, "alpha": 32}}
    run = folder / f"merge-{kind}"
    job = subtraction_job(Path(base.name), method, epochs=4, rate=2e-3, quantization=QUANTIZATIONS[kind])
    train(job, run)
    adapter, tokenizer = run / "model", load_tokenizer(base)
    rows = read_rows(job.spec.dataset.test, RESOLVER, "spec.dataset.test") if job.spec.dataset.test else []
    data = encode(rows, job.spec, tokenizer)
    batch = Collator(int(tokenizer.pad_token_id), packed=False).batch(data, list(range(len(data))), epoch=0)

    def quantized() -> Any:
        return load_model(base, torch.float32, job.spec.model.quantization)

    def stood_for() -> Any:
        bare = quantized()
        if kind == "int8":  # its scales are where they are computed with once it has computed
            logits_of(bare, batch)
        return dequantized(base, bare)

    models: dict[str, Callable[[], Any]] = {
        "quantized base + adapter (as trained)": lambda: attach(quantized(), base.name, adapter),
        "base + adapter": lambda: attach(load_model(base, torch.float32), base.name, adapter),
        "merged into the base": lambda: merged(attach(load_model(base, torch.float32), base.name, adapter)),
        "dequantized base + adapter": lambda: attach(stood_for(), base.name, adapter),
        "merged into the dequantized base": lambda: merged(attach(stood_for(), base.name, adapter)),
        "base alone": lambda: load_model(base, torch.float32),
    }
    reference = None
    for name, load in models.items():
        model = load().eval()
        logits = logits_of(model, batch)
        reference = logits if reference is None else reference
        distance = float((logits - reference).norm() / reference.norm())
        with torch.no_grad():
            perplexity = math.exp(float(token_losses(model, batch).mean()))
        print(f"| {kind} | {name} | {distance:.2g} | {perplexity:.4f} |", flush=True)


def logits_of(model: Any, batch: Batch) -> Tensor:
    """The logits at every learned token."""
    with torch.no_grad():
        logits: Tensor = model(
            input_ids=batch.input_ids, position_ids=batch.position_ids, logits_to_keep=batch.keep, use_cache=False
        ).logits
    return logits


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.folder or Path(scratch)).absolute()
        train(addition_job(), folder / "addition")
        print("| quantized | model | distance | perplexity |\n|---|---|---|---|")
        for kind in QUANTIZATIONS:
            compare(kind, folder)


if __name__ == "__main__":
    main()
