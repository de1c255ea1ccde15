"""Reward models: the same scores however rows are laid out, trained exactly, saved with their head, centred, judged."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from tests.model.conftest import Run, back_to
from tests.model.jobs import SAVE_EVERY
from tests.model.plants import watch_strategy
from tests.model.preferences import reward_body, reward_job, write_pairs
from tests.model.processes import train, tunesmith
from tunesmith.api.job import FineTuneJob
from tunesmith.api.load import InputError
from tunesmith.api.pod import RunFolder
from tunesmith.data.collate import Batch
from tunesmith.data.encode import encode_prompts
from tunesmith.data.split import held_out
from tunesmith.evaluation.report import read_report
from tunesmith.evaluation.run import evaluate_job
from tunesmith.models.attention import use_packed_attention
from tunesmith.models.load import ModelLocation, load_model, load_tokenizer, refuse_other_tokenizer
from tunesmith.models.reward import (
    Centring,
    RewardModel,
    load_reward_model,
    read_reward_adapter,
    score_texts,
    scores_at,
    with_reward_head,
)
from tunesmith.sources import Resolver
from tunesmith.training.centring import draw_prompts, sample_texts

LORA = {"rank": 4, "alpha": 16}
METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "adapter": {"lora": LORA},
    "merged": {"lora": LORA | {"merge": True}},
    "nf4": {"lora": LORA, "quantization": {"type": "nf4"}},
    "int8": {"lora": LORA, "quantization": {"type": "int8"}},
}
TEXTS = [list(range(3, 9)), list(range(20, 31)), [7]]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    write_pairs(file)
    return file


Rewarded = Callable[..., Run]


@pytest.fixture(scope="module")
def rewarded(pairs: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Rewarded:
    """Trains a reward model to its end; the same one only once."""
    cache: dict[str, Run] = {}

    def run(workers: int = 1, scaling: dict[str, Any] | None = None, **changes: Any) -> Run:
        key = repr((workers, scaling, sorted(changes.items())))
        if key not in cache:
            folder = RunFolder(tmp_path_factory.mktemp("reward") / "run")
            job = reward_job(pairs, base, scaling={"workers": workers} | (scaling or {}), **changes)
            outcomes = train(job, folder, workers, watch_strategy)
            assert {outcome.reason for outcome in outcomes} == {"Succeeded"}, outcomes
            cache[key] = Run(folder)
        return cache[key]

    return run


def one_row(tokens: list[int]) -> Batch:
    """A text alone, without any padding."""
    return laid_out([tokens], "right")


def laid_out(texts: list[list[int]], how: str, pad: int = 0) -> Batch:
    """Texts end to end, or side by side with padding on one side; each is scored at its last token."""
    lengths = [len(text) for text in texts]
    if how == "packed":
        ends = torch.tensor(lengths).cumsum(0) - 1
        keep = torch.zeros(1, sum(lengths), dtype=torch.bool)
        keep[0, ends] = True
        positions = torch.cat([torch.arange(length) for length in lengths])[None]
        return batch_of(torch.tensor([[token for text in texts for token in text]]), positions, keep, lengths)
    width = max(lengths)
    real = torch.zeros(len(texts), width, dtype=torch.bool)
    ids = torch.full(real.shape, pad)
    keep = torch.zeros_like(real)
    for row, text in enumerate(texts):
        start = width - len(text) if how == "left" else 0
        real[row, start : start + len(text)] = True
        ids[row, start : start + len(text)] = torch.tensor(text)
        keep[row, start + len(text) - 1] = True
    positions = (real.long().cumsum(1) - 1).clamp(min=0)
    return batch_of(ids, positions, keep, None, real if how == "left" else None)


def batch_of(
    ids: Tensor, positions: Tensor, keep: Tensor, row_lengths: list[int] | None, real: Tensor | None = None
) -> Batch:
    return Batch(ids, positions, keep, torch.zeros(0, dtype=torch.long), row_lengths, int(keep.numel()), real=real)


def scores_of(model: RewardModel) -> Tensor:
    return model.scores(laid_out(TEXTS, "right"))


def loaded(folder: Path) -> RewardModel:
    return load_reward_model(ModelLocation(str(folder)), torch.float32)


def test_the_layout_changes_no_score(rewarded: Rewarded) -> None:
    """Texts alone, padded on the right, on the left, and end to end; the padding is a token that texts hold too."""
    model = loaded(rewarded().folder.model)
    alone = torch.cat([model.scores(one_row(text)) for text in TEXTS])
    assert len(set(alone.tolist())) == len(TEXTS)
    for pad in (0, 7):
        for how in ("right", "left"):
            torch.testing.assert_close(model.scores(laid_out(TEXTS, how, pad)), alone, rtol=1e-5, atol=1e-5)
    use_packed_attention(model.model)
    torch.testing.assert_close(model.scores(laid_out(TEXTS, "packed")), alone, rtol=1e-5, atol=1e-5)


def test_a_new_head_scores_nothing(base: Path) -> None:
    """So that where training starts depends on no seed."""
    model = with_reward_head(load_model(ModelLocation(str(base)), torch.float32), 0)
    assert scores_at(model, laid_out(TEXTS, "right")).tolist() == [0, 0, 0]


def test_it_learns(rewarded: Rewarded) -> None:
    run = rewarded(epochs=6)
    assert run.losses()[0] == pytest.approx(0.693147, abs=1e-6)
    assert run.losses()[-1] < 0.3
    assert run.column("reward/accuracy")[-1] > 0.9
    assert run.column("reward/margin")[-1] > 1
    assert len(run.column("reward/accuracy")) == len(run.column("validation/loss"))
    assert run.column("train/reward/accuracy")[0] == 0.5


def assert_same(run: Run, reference: Run) -> None:
    assert run.losses()[0] == pytest.approx(reference.losses()[0], rel=1e-6)
    for column in ("loss", "validation/loss", "gradient_norm", "reward/margin"):
        assert run.column(column) == pytest.approx(reference.column(column), rel=1e-4), column
    assert run.column("reward/accuracy") == pytest.approx(reference.column("reward/accuracy"))


@pytest.mark.parametrize(
    ("workers", "changes"),
    [
        (1, {"packing": False}),
        (1, {"microBatchSize": 1}),
        (1, {"microBatchSize": 3, "packing": False, "gradientCheckpointing": True}),
        (2, {}),
        (2, {"packing": False, "microBatchSize": 3}),
        (2, {"scaling": {"deepspeed": {"zeroStage": 2}}}),
        (2, {"scaling": {"deepspeed": {"zeroStage": 3}}}),
        (2, {"scaling": {"fsdp": {}}}),
        (2, {"scaling": {"fsdp": {}}, "lora": LORA}),
    ],
    ids=[
        "padded",
        "one pair at a time",
        "three padded pairs at a time, activations recomputed",
        "two workers",
        "two workers, padded",
        "ZeRO-2",
        "ZeRO-3",
        "FSDP2",
        "an adapter with FSDP2",
    ],
)
def test_however_it_is_computed(workers: int, changes: dict[str, Any], rewarded: Rewarded) -> None:
    reference = rewarded(lora=LORA) if "lora" in changes else rewarded()
    run = rewarded(workers, **changes)
    assert_same(run, reference)
    names = {facts["model"] for facts in run.strategies()}
    scaling = changes.get("scaling", {})
    wrapped = (
        "DeepSpeedEngine" if "deepspeed" in scaling else "FSDP" if "fsdp" in scaling else "DistributedDataParallel"
    )
    assert workers == 1 or all(name.startswith(wrapped) for name in names), names


@pytest.mark.parametrize("method", ["full", "adapter"])
def test_a_resumed_run_repeats_itself_exactly(
    method: str, rewarded: Rewarded, pairs: Path, base: Path, tmp_path: Path
) -> None:
    reference = rewarded(**METHODS[method])
    run = back_to(SAVE_EVERY, reference, tmp_path / "run")
    (outcome,) = train(reward_job(pairs, base, **METHODS[method]), run.folder)
    assert outcome.reason == "Succeeded"
    for column in ("step", "loss", "gradient_norm", "validation/loss", "reward/margin"):
        assert run.column(column) == reference.column(column)
    assert torch.equal(scores_of(loaded(run.folder.model)), scores_of(loaded(reference.folder.model)))


@pytest.mark.parametrize("method", METHODS)
def test_the_head_is_saved_with_what_was_trained(method: str, rewarded: Rewarded) -> None:
    folder = rewarded(**METHODS[method]).folder
    model = loaded(folder.model)
    assert model.model.score.weight.abs().max() > 1e-3
    assert model.centring != Centring()
    if method in ("adapter", "nf4", "int8"):
        assert not (folder.model / "model.safetensors").exists()
        adapter = read_reward_adapter(folder.model)
        assert torch.equal(adapter.head, model.model.score.weight)
        assert adapter.centring == model.centring
        assert adapter.config.r == LORA["rank"]
        assert all(".lora_" in name for name in adapter.tensors)
        assert len(adapter.tensors) == 2 * 2 * 7
    else:
        others, report = AutoModelForSequenceClassification.from_pretrained(folder.model, output_loading_info=True)
        assert not report["missing_keys"] and not report["unexpected_keys"]
        ids = torch.tensor([TEXTS[1]])
        with torch.no_grad():
            theirs = model.centring.of(others(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0])
        torch.testing.assert_close(theirs, model.scores(one_row(TEXTS[1])))
    if method == "merged":
        torch.testing.assert_close(scores_of(loaded(folder.adapter)), scores_of(model), rtol=1e-4, atol=1e-4)


def test_an_adapter_is_trained_on_the_model_of_another_adapter(
    rewarded: Rewarded, trained: Callable[..., Run], base: Path, pairs: Path, tmp_path: Path
) -> None:
    """As in a pipeline whose supervised stage leaves an adapter."""
    supervised = trained(base=base, lora=LORA).folder.model
    folder = RunFolder(tmp_path / "run")
    (outcome,) = train(reward_job(pairs, supervised, lora=LORA), folder)
    assert outcome.reason == "Succeeded", outcome
    assert ModelLocation(str(folder.model)).adapter_base == ModelLocation(str(supervised.resolve()))
    assert scores_of(loaded(folder.model)).isfinite().all()


@pytest.mark.parametrize("method", ["full", "adapter", "merged"])
def test_the_answers_of_the_starting_model_score_0_on_average(
    method: str, rewarded: Rewarded, pairs: Path, base: Path
) -> None:
    """With variance 1; drawn again here, with the run's seed, from the starting model."""
    run = rewarded(**METHODS[method])
    spec = reward_job(pairs, base).spec
    tokenizer = load_tokenizer(ModelLocation(str(base)))
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    held = held_out(rows, 0.2, lambda row: row["prompt"] + " ", spec.training.seed)
    prompts = draw_prompts((row["prompt"] + " " for row, out in zip(rows, held, strict=True) if not out), 16)
    start = load_model(ModelLocation(str(base)), torch.float32).eval()
    texts = sample_texts(start, tokenizer, encode_prompts(prompts, spec, tokenizer), 8, spec.training.seed)
    assert len(set(map(tuple, texts))) == len(texts) == 16
    model = loaded(run.folder.model)
    scores = model.centring.of(score_texts(model.model, texts, tokenizer))
    assert float(scores.mean()) == pytest.approx(0, abs=1e-4)
    assert float(scores.var(correction=0)) == pytest.approx(1, rel=1e-4)


def test_without_centring_scores_stay_as_they_are(rewarded: Rewarded) -> None:
    folder = rewarded(reward={"centringPrompts": 0}).folder
    assert not (folder.model / "reward.json").exists()
    assert loaded(folder.model).centring == Centring()


def test_margins_push_scores_further_apart(rewarded: Rewarded) -> None:
    apart = rewarded(reward={"margin": 2.0}, columns={"margin": "strength"}, epochs=6)
    assert apart.losses()[0] > 0.7, "the scores start equal"
    assert apart.column("reward/margin")[-1] > rewarded(epochs=6).column("reward/margin")[-1]


def test_a_reward_model_is_judged_by_held_out_pairs(
    rewarded: Rewarded, pairs: Path, base: Path, tmp_path: Path
) -> None:
    shutil.copytree(rewarded(epochs=6).folder.root, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    test = tmp_path / "test.jsonl"
    write_pairs(test, pairs=60, seed=1)
    with test.open("a") as lines:
        lines.write(json.dumps({"prompt": "1 =", "chosen": "same", "rejected": "same"}) + "\n")
    body = reward_body(pairs, base)
    body["spec"]["dataset"]["test"] = {"source": str(test)}
    body["spec"]["evaluation"] = {"metrics": ["pairAccuracy"], "batchSize": 7}
    outcome = evaluate_job(FineTuneJob.model_validate(body), folder, Resolver())
    assert outcome.reason == "Succeeded", outcome
    report = read_report(folder)
    (metric,) = report.metrics
    assert report.rows == 61
    assert 15 < metric.rows < 45, "prompts"
    assert metric.tuned.value > 0.9
    assert metric.base is not None
    beside = metric.base.value
    assert beside.value == 0.5, "an untrained head says nothing"
    assert beside.low < 0.5 < beside.high, "nor can it be known to say nothing"
    assert metric.base.verdict == "better"
    rows = [json.loads(line) for line in (folder.evaluation / "rows.jsonl").read_text().splitlines()]
    right = [row["tuned"]["pairAccuracy"] for row in rows[:-1]]
    assert right == [float(row["tuned"]["chosen"] > row["tuned"]["rejected"]) for row in rows[:-1]]
    assert metric.tuned.value == pytest.approx(sum(right) / 60)
    assert rows[-1]["tuned"] == {}
    longer = (
        sum(
            (len(row["chosen"]) > len(row["rejected"])) + 0.5 * (len(row["chosen"]) == len(row["rejected"]))
            for row in rows[:-1]
        )
        / 60
    )
    assert report.remarks == [
        "pairs without room within training.maxLength, or with the same answer twice, left out: 1",
        f"preferring the longer answer would reach {longer:.3f} [{report.longer.low:.3f}, {report.longer.high:.3f}]",  # type: ignore[union-attr]
    ]


def test_what_is_no_reward_model_is_refused(rewarded: Rewarded, base: Path, trained: Callable[..., Run]) -> None:
    adapter = trained(base=base, lora=LORA).folder.model
    for folder, message in (
        (base, f"{base} is no reward model: its files lack score.weight; train one with objective.reward"),
        (adapter, f"{adapter} is an adapter, but no reward model; train one with objective.reward"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            loaded(folder)


def test_a_reward_model_is_no_language_model(rewarded: Rewarded, pairs: Path, tmp_path: Path) -> None:
    (outcome,) = train(reward_job(pairs, rewarded().folder.model), RunFolder(tmp_path / "run"))
    assert outcome.reason == "InvalidInput"
    assert "spec.model.source: is a reward model or another classifier, which writes no text" in outcome.message


def test_a_damaged_reward_json_is_refused(rewarded: Rewarded, tmp_path: Path) -> None:
    shutil.copytree(rewarded().folder.model, tmp_path / "model")
    for content in ('{"gain": 0}', '{"gain": NaN}', '{"gain":', '{"gains": 1}'):
        (tmp_path / "model/reward.json").write_text(content)
        with pytest.raises(InputError, match="should hold a gain above 0 and a bias"):
            loaded(tmp_path / "model")


def test_a_reward_model_with_another_tokenizer_is_refused(rewarded: Rewarded, base: Path, tmp_path: Path) -> None:
    policy = load_tokenizer(ModelLocation(str(base)))
    refuse_other_tokenizer(policy, ModelLocation(str(rewarded().folder.model)), "spec.objective.ppo.reward[0]")
    shutil.copytree(rewarded().folder.model, tmp_path / "model")
    file = tmp_path / "model/tokenizer.json"
    parts = json.loads(file.read_text())
    vocabulary = parts["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    file.write_text(json.dumps(parts))
    there, here = vocabulary["b"], vocabulary["a"]
    message = (
        "spec.objective.ppo.reward[0].model.source: has another tokenizer than the model in spec.model.source: 'a' is "
        f"token {there} there and {here} here; train both from the same model"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        refuse_other_tokenizer(
            policy, ModelLocation(str(tmp_path / "model")), "spec.objective.ppo.reward[0].model.source"
        )


def test_a_reward_model_is_not_exported(rewarded: Rewarded, tmp_path: Path) -> None:
    ended = tunesmith("export", str(rewarded().folder.root), "--to", "int8-dynamic", "--output", "out", folder=tmp_path)
    assert ended.code == 2
    assert "holds a reward model, and exports are of models that write text; use it as it is" in ended.errors
    assert "Traceback" not in ended.errors
