"""AdaLoRA: ranks are really given up, down to the budget; a resume repeats them, and what is written is what was
trained."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor

from tests.model.conftest import Run, Trained, back_to
from tests.model.jobs import SAVE_EVERY, STEPS, job_of
from tests.model.processes import train
from tunesmith.api.pod import RunFolder
from tunesmith.models.load import ModelLocation, load_model, load_tokenizer
from tunesmith.models.start import trainable_model
from tunesmith.sources import Resolver
from tunesmith.training.checkpoint import best_checkpoint, read_part
from tunesmith.training.ranks import Ranks
from tunesmith.training.state import load_weights

LAYERS = 2 * 7
ADALORA: dict[str, Any] = {
    "adalora": {"initialRank": 6, "targetRank": 3, "alpha": 16, "warmup": 0.1, "settled": 0.3, "orthogonality": 0.1}
}


@pytest.fixture(scope="session")
def adapted(trained: Trained, base: Path) -> Run:
    return trained(base=base, method=ADALORA, learningRate=1e-2)


def test_ranks_are_given_up_until_the_budget_is_met(adapted: Run) -> None:
    mean = adapted.column("adalora/mean_rank")
    assert len(mean) == STEPS
    assert mean[0] == 6
    assert mean[-1] == 3
    assert mean == sorted(mean, reverse=True)
    assert 6 > mean[4] > 3, "not all at once"
    assert adapted.column("adalora/min_rank")[-1] < 3 < adapted.column("adalora/max_rank")[-1], "not all alike"
    weights = load_file(adapted.folder.model / "adapter_model.safetensors")
    ranks = [len(tensor) for name, tensor in weights.items() if name.endswith("lora_E")]
    assert len(ranks) == LAYERS
    assert sum(ranks) == 3 * LAYERS
    assert adapted.losses()[-1] < adapted.losses()[0]


def test_an_average_of_the_weights_gives_up_the_same_ranks(trained: Trained, base: Path) -> None:
    run = trained(base=base, method=ADALORA, learningRate=1e-2, average={"decay": 0.9})
    weights = load_file(run.folder.model / "adapter_model.safetensors")
    assert sum(len(tensor) for name, tensor in weights.items() if name.endswith("lora_E")) == 3 * LAYERS


@pytest.mark.parametrize("step", [SAVE_EVERY, 2 * SAVE_EVERY], ids=["while ranks are given up", "once they stay"])
def test_a_resume_repeats_every_decision(step: int, adapted: Run, base: Path, rows: Path, tmp_path: Path) -> None:
    run = back_to(step, adapted, tmp_path / "run")
    (outcome,) = train(job_of(rows, base=base, method=ADALORA, learningRate=1e-2), run.folder)
    assert outcome.reason == "Succeeded"
    for column in ("loss", "gradient_norm", "adalora/mean_rank", "adalora/min_rank", "adalora/orthogonality"):
        assert run.column(column) == adapted.column(column), column
    mine, theirs = (r.folder.model / "adapter_model.safetensors" for r in (run, adapted))
    assert mine.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("changes", [{"workers": 2}, {"microBatchSize": 2}], ids=["two workers", "small micro-batches"])
def test_the_cut_does_not_matter(changes: dict[str, Any], adapted: Run, trained: Trained, base: Path) -> None:
    run = trained(base=base, method=ADALORA, learningRate=1e-2, **changes)
    assert run.losses() == pytest.approx(adapted.losses(), rel=1e-4)
    for column in ("adalora/mean_rank", "adalora/min_rank", "adalora/max_rank"):
        assert run.column(column) == adapted.column(column), column


# peft takes AdaLoRA's pattern of ranks for what LoRA means by that
@pytest.mark.filterwarnings("ignore:The following rank_pattern keys")
def test_what_is_written_is_what_was_trained(adapted: Run, base: Path, rows: Path) -> None:
    """As the run's checkpoint has it, as peft loads it, and merged into the base."""
    best = best_checkpoint(adapted.folder)
    assert best is not None
    spec = job_of(rows, base=base, method=ADALORA).spec
    trained = trainable_model(spec, Resolver(), load_tokenizer(ModelLocation(str(base))))
    load_weights(trained, read_part(best, "weights"))
    plain = load_model(ModelLocation(str(base)), torch.float32)
    expected, before = _logits(trained), _logits(plain)
    peft = PeftModel.from_pretrained(plain, str(adapted.folder.model))
    merged = load_model(ModelLocation(str(adapted.folder.model)), torch.float32)
    for model in (peft, merged):
        torch.testing.assert_close(_logits(model), expected, rtol=1e-5, atol=1e-5)
    assert (expected - before).norm() > 1e-2 * before.norm()


def test_fresh_adapters_are_the_identity(base: Path, rows: Path) -> None:
    spec = job_of(rows, base=base, method=ADALORA).spec
    model = trainable_model(spec, Resolver(), load_tokenizer(ModelLocation(str(base))))
    assert torch.equal(_logits(model), _logits(load_model(ModelLocation(str(base)), torch.float32)))


def test_the_penalty_is_that_of_peft(base: Path, rows: Path) -> None:
    """peft adds it to a loss that the model computes itself."""
    spec = job_of(rows, base=base, method=ADALORA).spec
    model: Any = trainable_model(spec, Resolver(), load_tokenizer(ModelLocation(str(base))))
    assert spec.method.adalora is not None
    ids = torch.arange(3, 30)[None]
    with_penalty = model(input_ids=ids, labels=ids).loss
    without = model.get_base_model()(input_ids=ids, labels=ids).loss
    (with_penalty - without).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    figures = Ranks(spec.method.adalora, model, total_steps=10).add_gradient(scale=1.0)
    assert 0.1 * figures["adalora/orthogonality"] == pytest.approx(float((with_penalty - without).detach()), rel=1e-4)
    for name, parameter in model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-5)


def test_one_step_is_too_few(base: Path, rows: Path, tmp_path: Path) -> None:
    job = job_of(rows, base=base, method=ADALORA, maxSteps=1, epochs=None)
    (outcome,) = train(job, RunFolder(tmp_path / "run"))
    assert outcome.message == (
        "spec.method.adalora: 1 steps leave none to judge the ranks in; train longer, or use lora"
    )


def _logits(model: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model.eval()(input_ids=torch.arange(3, 30)[None], use_cache=False).logits
    return logits
