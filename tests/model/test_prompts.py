"""A prefix and P-tuning: the right gradients, whatever the cut; loaded again and asked, what was trained."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.model.conftest import Run, Trained
from tests.model.jobs import STEPS, job_of
from tests.model.processes import train
from tunesmith.api.pod import RunFolder
from tunesmith.data.encode import encode
from tunesmith.data.rows import read_rows
from tunesmith.evaluation.generate import generate_answers
from tunesmith.models.load import ModelLocation, load_model, load_tokenizer
from tunesmith.models.start import trainable_model
from tunesmith.sources import Resolver
from tunesmith.training.checkpoint import best_checkpoint, read_part
from tunesmith.training.objective import collator_of, token_loss
from tunesmith.training.state import load_weights

METHODS: dict[str, dict[str, Any]] = {
    "prefix": {"prefix": {"tokens": 5}},
    "projected prefix": {"prefix": {"tokens": 5, "projection": 24}},
    "mlp": {"ptuning": {"tokens": 5, "hiddenSize": 24}},
    "lstm": {"ptuning": {"tokens": 5, "encoder": "lstm", "hiddenSize": 24}},
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
RATE = 3e-2
PROMPTS = [[5, 6, 7], [9, 10, 11, 12, 13, 14, 15], [20]]


@every_method
def test_gradients_are_those_of_a_plain_computation(method: dict[str, Any], rows: Path, base: Path) -> None:
    """A padded batch through the objective, and row by row through the bare model, with the trained part in front."""
    spec = job_of(rows, base=base, method=method).spec
    tokenizer = load_tokenizer(ModelLocation(str(base)))
    assert spec.dataset.train is not None
    data = encode(read_rows(spec.dataset.train, Resolver(), "spec.dataset.train"), spec, tokenizer)
    model: Any = trainable_model(spec, Resolver(), tokenizer)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] for name in trained} == {"prompt_encoder"}

    collator = collator_of(spec, model, tokenizer, packed=False)
    token_loss(model, collator.batch(data, [0, 1, 2, 3], epoch=0)).backward()  # type: ignore[no-untyped-call]
    found = {name: p.grad.clone() for name, p in trained.items()}
    model.zero_grad()
    bare = model.get_base_model()
    total = torch.zeros(())
    for row in range(4):
        tokens, learned = (torch.from_numpy(values) for values in data.row(row))
        start = model.get_prompt(batch_size=1)
        if "prefix" in method:
            places = torch.arange(5, 5 + len(tokens))[None]
            logits = bare(input_ids=tokens[None].long(), past_key_values=start, position_ids=places).logits[0]
        else:
            embeddings = torch.cat([start, bare.get_input_embeddings()(tokens[None])], dim=1)
            logits = bare(inputs_embeds=embeddings).logits[0, 5:]
        total = total + cross_entropy(logits[:-1][learned[1:]], tokens[1:][learned[1:]].long(), reduction="sum")
    total.backward()  # type: ignore[no-untyped-call]
    for name, parameter in trained.items():
        assert found[name].abs().sum() > 0
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-5)


@every_method
def test_what_was_trained_is_what_is_loaded(method: dict[str, Any], trained: Trained, base: Path, rows: Path) -> None:
    run = trained(base=base, method=method, learningRate=RATE)
    assert len(run.losses()) == STEPS
    as_trained, fresh = _from_checkpoint(run, method, base, rows), _fresh(method, base, rows)
    loaded: Any = load_model(ModelLocation(str(run.folder.model)), torch.float32).eval()
    torch.testing.assert_close(_logits(loaded), _logits(as_trained), rtol=1e-5, atol=1e-5)
    assert (_logits(as_trained) - _logits(fresh)).norm() > 1e-3 * _logits(fresh).norm(), "it has learnt something"
    assert not [name for name, _ in loaded.named_modules() if name.endswith(("transform", "mlp_head", "lstm_head"))]


@every_method
def test_an_answer_is_the_most_likely_token_again_and_again(
    method: dict[str, Any], trained: Trained, base: Path
) -> None:
    """In a batch of unequal prompts, against a loop without a cache over each prompt alone."""
    run = trained(base=base, method=method, learningRate=RATE)
    tokenizer = load_tokenizer(ModelLocation(str(base)))
    model: Any = load_model(ModelLocation(str(run.folder.model)), torch.float32).eval()
    answers = generate_answers(model, tokenizer, PROMPTS, 6, 3, lambda done: None)
    for prompt, text in zip(PROMPTS, answers.texts, strict=True):
        tokens = list(prompt)
        while len(tokens) < len(prompt) + 6:
            ids = torch.tensor([tokens])
            positions = torch.arange(len(tokens))[None]
            with torch.no_grad():
                logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits
            best = int(logits[0, -1].argmax())
            if best == tokenizer.eos_token_id:
                break
            tokens.append(best)
        assert text == tokenizer.decode(tokens[len(prompt) :], skip_special_tokens=True)


@pytest.mark.parametrize("changes", [{"microBatchSize": 3}, {"workers": 2}], ids=["cut otherwise", "two workers"])
@pytest.mark.parametrize("method", [METHODS["projected prefix"], METHODS["lstm"]], ids=["prefix", "lstm"])
def test_the_cut_does_not_matter(method: dict[str, Any], changes: dict[str, Any], trained: Trained, base: Path) -> None:
    reference = trained(base=base, method=method, learningRate=RATE)
    run = trained(base=base, method=method, learningRate=RATE, **changes)
    assert run.losses()[0] == pytest.approx(reference.losses()[0], rel=1e-6)
    assert run.losses() == pytest.approx(reference.losses(), rel=1e-4)


def test_rows_leave_room_for_the_prefix(rows: Path, base: Path, tmp_path: Path) -> None:
    job = job_of(rows, base=base, method={"prefix": {"tokens": 20}})
    (outcome,) = train(job, RunFolder(tmp_path / "run"))
    assert outcome.reason == "InvalidInput"
    beside = "beside the 20 of method.prefix; lower either"
    assert outcome.message == f"spec.training.maxLength: is 48, but the model reaches 44 tokens {beside}"


def test_nothing_is_tuned_on_top_of_a_prefix(trained: Trained, base: Path, rows: Path, tmp_path: Path) -> None:
    run = trained(base=base, method=METHODS["prefix"], learningRate=RATE)
    (outcome,) = train(job_of(rows, base=run.folder.model, lora={"rank": 2}), RunFolder(tmp_path / "run"))
    assert outcome.reason == "InvalidInput"
    assert outcome.message == (
        "spec.model.source: is a prefix or a prompt, which no weights can hold; start from its base, "
        f"{base.resolve()}, instead"
    )


def _from_checkpoint(run: Run, method: dict[str, Any], base: Path, rows: Path) -> torch.nn.Module:
    """The model as it was trained, with the encoder that makes the prefix or the prompt."""
    best = best_checkpoint(run.folder)
    assert best is not None
    model = _fresh(method, base, rows)
    load_weights(model, read_part(best, "weights"))
    return model


def _fresh(method: dict[str, Any], base: Path, rows: Path) -> torch.nn.Module:
    """The model as training starts."""
    spec = job_of(rows, base=base, method=method).spec
    model: torch.nn.Module = trainable_model(spec, Resolver(), load_tokenizer(ModelLocation(str(base))))
    model.eval()
    return model


def _logits(model: torch.nn.Module) -> Tensor:
    ids = torch.arange(3, 30)[None]
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids, position_ids=torch.arange(27)[None], use_cache=False).logits
    return logits[:, -27:]
