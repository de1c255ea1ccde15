"""Filling in, text to text, spans and conversations: computed alike however they are cut, and resumed exactly."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

from tests.model.conftest import Run, back_to
from tests.model.jobs import STEPS, body_of, write_rows
from tests.model.processes import train
from tunesmith.api.job import FineTuneJob
from tunesmith.api.load import InputError
from tunesmith.api.pod import RunFolder
from tunesmith.evaluation.report import read_report
from tunesmith.evaluation.run import evaluate_job
from tunesmith.models.load import ModelLocation, load_model, load_tokenizer
from tunesmith.sources import Resolver

Parts = dict[str, Any]

BERT: Parts = {"architecture": "bert", "keyValueHeads": None, "tokenizer": {"vocabularySize": 300}}
T5: Parts = {"architecture": "t5", "keyValueHeads": None, "tokenizer": {"vocabularySize": 370}}
CHAT: Parts = {"tokenizer": {"vocabularySize": 280}}
OBJECTIVES: dict[str, tuple[Parts, Parts]] = {
    "maskedLM": (BERT, {"maskedLM": {"template": "{prompt} {response}"}}),
    "whole words": (BERT, {"maskedLM": {"template": "{prompt} {response}", "wholeWords": True}}),
    "text to text": (T5, {"seq2seq": {"template": "add: {prompt}"}}),
    "spans": (T5, {"seq2seq": {"template": "{prompt} {response}", "spanCorruption": {}}}),
    "conversations": (CHAT, {"instruction": {}}),
}
"""The new model and the objective of each."""


def objective_body(rows: Path, name: str, scaling: Parts | None = None, base: Path | None = None, **rest: Any) -> Parts:
    """A job that trains a tiny model of the objective's kind on sums; everything else as in `job_of`."""
    model, objective = OBJECTIVES[name]
    lora = rest.pop("lora", None)
    body = body_of(rows, scaling=scaling, base=base, lora=lora, **rest)
    body["spec"]["objective"] = objective
    if base is None:
        body["spec"]["model"]["config"] |= model
    if name == "conversations":
        body["spec"]["dataset"]["columns"] = {"messages": "messages"}
    return body


def job(*arguments: Any, **changes: Any) -> FineTuneJob:
    return FineTuneJob.model_validate(objective_body(*arguments, **changes))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sums, each also as a conversation of two turns."""
    file = tmp_path_factory.mktemp("sums") / "rows.jsonl"
    write_rows(file)
    table = [json.loads(line) for line in file.read_text().splitlines()]
    for row, following in zip(table, [*table[1:], table[0]], strict=True):
        turns = [(row["prompt"], row["response"]), (following["response"], "yes")]
        row["messages"] = [
            message
            for question, answer in turns
            for message in ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
        ]
    file.write_text("".join(json.dumps(row) + "\n" for row in table))
    return file


Trained = Callable[..., Run]


@pytest.fixture(scope="module")
def trained(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trains a job to its end, the same one only once."""
    cache: dict[str, Run] = {}

    def run(name: str, workers: int = 1, **changes: Any) -> Run:
        key = repr((name, workers, sorted(changes.items())))
        if key not in cache:
            folder = RunFolder(tmp_path_factory.mktemp("run") / "sums")
            changes.setdefault("scaling", {"workers": workers})
            outcomes = train(job(rows, name, **changes), folder, workers)
            assert {outcome.reason for outcome in outcomes} == {"Succeeded"}, outcomes
            cache[key] = Run(folder)
        return cache[key]

    return run


def assert_same(run: Run, reference: Run) -> None:
    assert len(reference.losses()) == STEPS
    assert run.losses()[0] == pytest.approx(reference.losses()[0], rel=1e-6)
    for column in ("loss", "validation/loss", "gradient_norm"):
        assert run.column(column) == pytest.approx(reference.column(column), rel=1e-5), column


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("maskedLM", {"packing": False}),
        ("maskedLM", {"microBatchSize": 1}),
        ("maskedLM", {"packing": False, "microBatchSize": 3, "gradientCheckpointing": True}),
        ("maskedLM", {"workers": 2}),
        ("maskedLM", {"workers": 2, "packing": False}),
        ("text to text", {"microBatchSize": 3}),
        ("text to text", {"workers": 2, "gradientCheckpointing": True}),
        ("spans", {"microBatchSize": 3, "workers": 2}),
        ("conversations", {"packing": False}),
    ],
    ids=lambda part: part if isinstance(part, str) else " ".join(f"{key}={value}" for key, value in part.items()),
)
def test_however_it_is_cut(name: str, changes: Parts, trained: Trained) -> None:
    """The last step of an epoch has one row: of two workers one has none."""
    assert_same(trained(name, **changes), trained(name))


@pytest.mark.parametrize("name", ["maskedLM", "text to text"])
def test_sharded(name: str, trained: Trained) -> None:
    scaling = {"workers": 2, "deepspeed": {"zeroStage": 3}}
    assert_same(trained(name, workers=2, scaling=scaling), trained(name))


@pytest.mark.parametrize("name", ["maskedLM", "whole words", "text to text", "spans", "conversations"])
def test_it_learns(name: str, trained: Trained) -> None:
    validation = trained(name).column("validation/loss")
    assert validation == sorted(validation, reverse=True)
    assert validation[-1] < 0.98 * validation[0]


@pytest.mark.parametrize("name", ["maskedLM", "text to text", "spans"])
def test_a_resumed_run_repeats_itself_exactly(name: str, trained: Trained, rows: Path, tmp_path: Path) -> None:
    """What is drawn is drawn again: step 5 is in the first epoch, step 9 in the second."""
    reference = trained(name)
    run = back_to(4, reference, tmp_path / "run")
    (outcome,) = train(job(rows, name), run.folder)
    assert outcome.reason == "Succeeded"
    for column in ("step", "loss", "gradient_norm", "validation/loss"):
        assert run.column(column) == reference.column(column)


def test_each_epoch_hides_other_tokens(trained: Trained, rows: Path) -> None:
    """At a rate that moves nothing, the losses of two epochs differ by what is hidden, and else not at all."""
    one_row_a_step = {"learningRate": 1e-12, "batchSize": 90, "checkpoint": {"everySteps": 9}}
    hidden, written = (trained(name, **one_row_a_step).losses() for name in ("maskedLM", "text to text"))
    assert len(hidden) == len(written) == 2
    assert hidden[0] != pytest.approx(hidden[1], rel=1e-4)
    assert written[0] == pytest.approx(written[1], rel=1e-6)


@pytest.mark.parametrize(
    ("name", "metrics"),
    [
        ("maskedLM", ["perplexity"]),
        ("spans", ["perplexity"]),
        ("text to text", ["perplexity", "exactMatch", "tokenF1"]),
        ("conversations", ["perplexity", "exactMatch"]),
    ],
)
def test_a_trained_model_is_evaluated(
    name: str, metrics: list[str], trained: Trained, rows: Path, tmp_path: Path
) -> None:
    """On the rows that it was trained on; the figures do not depend on the batch."""
    shutil.copytree(trained(name).folder.root, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    values = []
    for batch_size in (32, 5):
        body = objective_body(rows, name)
        body["spec"]["dataset"]["test"] = {"source": str(rows)}
        body["spec"]["evaluation"] = {"metrics": metrics, "maxNewTokens": 6, "batchSize": batch_size}
        outcome = evaluate_job(FineTuneJob.model_validate(body), folder, Resolver())
        assert outcome.reason == "Succeeded", outcome.message
        report = read_report(folder)
        assert report is not None
        assert [metric.name for metric in report.metrics] == metrics
        perplexity = report.metrics[0]
        assert perplexity.base is not None
        assert perplexity.tuned.value < perplexity.base.value.value
        values.append([(metric.tuned.value, metric.base.value.value) for metric in report.metrics if metric.base])
    for one, other in zip(*values, strict=True):
        assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "auto"), [("maskedLM", AutoModelForMaskedLM), ("text to text", AutoModelForSeq2SeqLM)]
)
def test_the_model_is_read_by_the_class_of_its_kind(name: str, auto: Any, trained: Trained) -> None:
    folder = trained(name).folder.model
    model, report = auto.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == model.config.vocab_size
    assert (tokenizer.mask_token is not None) == (name == "maskedLM")


@pytest.mark.parametrize("name", ["maskedLM", "text to text"])
def test_adapters(name: str, trained: Trained, rows: Path) -> None:
    """On the model of another run; merged, it is read by the class of its kind, and differs from its base."""
    base = trained(name).folder.model
    run = trained(name, base=base, lora={"rank": 4, "alpha": 16}, learningRate=1e-2)
    assert run.losses()[-1] < run.losses()[0]
    kind = "encoder" if name == "maskedLM" else "encoder-decoder"
    mine, theirs = (
        load_model(ModelLocation(str(folder)), torch.float32, kind=kind).state_dict()  # type: ignore[arg-type]
        for folder in (run.folder.model, base)
    )
    assert mine.keys() == theirs.keys()
    assert any(not torch.equal(mine[weights], theirs[weights]) for weights in mine)


def test_a_model_of_another_kind_is_refused(trained: Trained, rows: Path, tmp_path: Path) -> None:
    bert, t5, llama = (trained(name).folder.model for name in ("maskedLM", "text to text", "conversations"))
    for base, name, kinds in (
        (bert, "conversations", ("encoder (bert)", "decoder")),
        (t5, "conversations", ("encoder-decoder (t5)", "decoder")),
        (llama, "text to text", ("decoder (llama)", "encoder-decoder")),
        (bert, "spans", ("encoder (bert)", "encoder-decoder")),
        (t5, "maskedLM", ("encoder-decoder (t5)", "encoder")),
    ):
        message = "is of the kind {}, but the objective needs the kind {}; set objective to ".format(*kinds)
        (outcome,) = train(job(rows, name, base=base), RunFolder(tmp_path / f"{base.parent.parent.name}-{name}"))
        assert outcome.reason == "InvalidInput", outcome
        assert outcome.message is not None
        assert f"spec.model.source: {message}" in outcome.message
        assert "\n" not in outcome.message.strip()


def test_an_encoder_needs_no_end_of_sequence(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained("maskedLM").folder.model, tmp_path / "model")
    file = tmp_path / "model" / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    del settings["eos_token"]
    file.write_text(json.dumps(settings))
    location = ModelLocation(str(tmp_path / "model"))
    assert load_tokenizer(location, "encoder").eos_token is None
    with pytest.raises(InputError, match="its tokenizer has no end-of-sequence token"):
        load_tokenizer(location)
