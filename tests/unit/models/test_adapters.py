"""Adapters on a base of their own: switched, taken off, combined; and those that do not fit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from tunesmith.api.load import InputError
from tunesmith.cli.main import main
from tunesmith.models.adapters import active, attach, combine, detach, load_adapters, merged
from tunesmith.models.load import ModelLocation, load_model

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
BATCHES = [torch.arange(start, start + 12).view(2, 6) for start in (3, 9, 20)]
Y = "model.layers.0.self_attn.q_proj"


def write_base(folder: Path, hidden: int = 16) -> Path:
    torch.manual_seed(hidden)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({f"t{index}": index for index in range(40)}, unk_token="t0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="t1", pad_token="t2").save_pretrained(folder)


def write_adapter(base: Path, folder: Path, seed: int, **settings: Any) -> Path:
    """An adapter with random factors, which so changes the model, as a run leaves it."""
    model = LlamaForCausalLM.from_pretrained(base)
    config = LoraConfig(
        **({"r": 3, "lora_alpha": 6, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | settings)
    )
    torch.manual_seed(seed)
    adapted = get_peft_model(model, config)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    adapted.save_pretrained(folder, save_embedding_layers=False)
    for file in base.glob("tokenizer*"):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def three(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    settings: dict[str, dict[str, Any]] = {
        "plain": {},
        "stabilized": {"r": 5, "use_rslora": True},
        "some layers": {"target_modules": ["q_proj", "down_proj"]},
    }
    return {
        name: write_adapter(base, folder / name, seed, **given) for seed, (name, given) in enumerate(settings.items())
    }


def test_three_adapters_take_turns_on_one_base(base: Path, three: dict[str, Path]) -> None:
    alone = {
        name: PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), str(folder)).eval()
        for name, folder in three.items()
    }
    model = load_adapters(three)
    bases = {id(parameter) for name, parameter in model.named_parameters() if "lora_" not in name}
    turns = [*three, *reversed(three)]
    for turn, name in enumerate(turns):
        batch = BATCHES[turn % len(BATCHES)]
        with active(model, name):
            assert torch.equal(logits_of(model, batch), logits_of(alone[name], batch)), name
    assert {id(parameter) for name, parameter in model.named_parameters() if "lora_" not in name} == bases
    outputs = [logits_of(alone[name], BATCHES[0]) for name in three]
    assert not torch.allclose(outputs[0], outputs[1], atol=1e-2)
    assert not torch.allclose(outputs[1], outputs[2], atol=1e-2)


def test_the_base_is_itself_again_once_they_are_off(base: Path, three: dict[str, Path]) -> None:
    plain = LlamaForCausalLM.from_pretrained(base).eval()
    model = load_adapters(three)
    model = detach(model, "plain")
    assert [name for name, _ in model.named_parameters() if ".plain." in name] == []
    for name in ("stabilized", "some layers"):
        model = detach(model, name)
    assert type(model) is LlamaForCausalLM
    assert [name for name, _ in model.named_parameters() if "lora" in name] == []
    for batch in BATCHES:
        assert torch.equal(logits_of(model, batch), logits_of(plain, batch))


@pytest.mark.parametrize(
    ("how", "rank", "parts"),
    [
        ("cat", None, {"stabilized": 0.7, "plain": -0.3}),
        ("svd", 8, {"stabilized": 0.7, "plain": -0.3}),
        ("cat", None, {"some layers": 0.7, "stabilized": -0.3}),
        ("cat", None, {"stabilized": 0.7, "some layers": -0.3}),
    ],
    ids=["all layers", "all layers, approximated", "one of few layers first", "one of few layers last"],
)
def test_a_combination_is_the_weighted_sum_of_the_changes(
    how: Any, rank: int | None, parts: dict[str, float], base: Path, three: dict[str, Path], tmp_path: Path
) -> None:
    """As the command writes it, and peft and a job's source read it; and on a model that carries the parts."""
    given = [f"{three[name]}={weight}" for name, weight in parts.items()]
    output = tmp_path / "combined"
    options = ["--how", how, *(["--rank", str(rank)] if rank else [])]
    assert main(["adapters", "combine", *given, "--output", str(output), *options]) == 0
    weights = {name: merged_weights(base, three[name]) for name in parts}
    before = dict(LlamaForCausalLM.from_pretrained(base).named_parameters())
    by_peft = merged_weights(base, output)
    by_source = dict(load_model(ModelLocation(str(output)), torch.float32).named_parameters())
    model = load_adapters(three)
    combine(model, parts, "combined", how, rank)
    model.set_adapter("combined")
    in_place = dict(merged(model).named_parameters())
    for name, start in before.items():
        expected = start + sum(weight * (weights[part][name] - start) for part, weight in parts.items())
        torch.testing.assert_close(by_peft[name], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(by_source[name], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(in_place[name], expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(by_peft[f"{Y}.weight"], before[f"{Y}.weight"], atol=1e-2)


def test_layers_given_as_a_list_and_as_an_expression_add_up(base: Path, three: dict[str, Path], tmp_path: Path) -> None:
    chosen = write_adapter(base, tmp_path / "chosen", seed=3, target_modules=r".*\.0\..*(q_proj|up_proj)")
    parts = {three["some layers"]: 0.7, chosen: -0.3}
    output = tmp_path / "combined"
    given = [f"{folder}={weight}" for folder, weight in parts.items()]
    assert main(["adapters", "combine", *given, "--output", str(output)]) == 0
    before, found = dict(LlamaForCausalLM.from_pretrained(base).named_parameters()), merged_weights(base, output)
    weights = {folder: merged_weights(base, folder) for folder in parts}
    for name, start in before.items():
        expected = start + sum(weight * (weights[folder][name] - start) for folder, weight in parts.items())
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5)


def test_whole_modules_do_not_add_up(base: Path, three: dict[str, Path], tmp_path: Path) -> None:
    whole = write_adapter(base, tmp_path / "whole", seed=3, modules_to_save=["lm_head"])
    with pytest.raises(InputError, match=r"whole: holds whole modules too \(lm_head\), which do not add up"):
        combine(load_adapters({"whole": whole, "plain": three["plain"]}), {"whole": 0.5, "plain": 0.5}, "both")


def test_merging_writes_a_model_without_adapters(base: Path, three: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "merged"
    assert main(["adapters", "merge", str(three["plain"]), "--output", str(output)]) == 0
    written = LlamaForCausalLM.from_pretrained(output).eval()
    adapted = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), str(three["plain"])).eval()
    torch.testing.assert_close(logits_of(written, BATCHES[0]), logits_of(adapted, BATCHES[0]), rtol=1e-5, atol=1e-5)
    assert (output / "tokenizer.json").exists()
    assert not (output / "adapter_config.json").exists()


def test_an_adapter_of_another_base_is_refused(
    base: Path, three: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wider = write_base(tmp_path / "wider", hidden=32)
    with pytest.raises(InputError) as refused:
        attach(load_model(ModelLocation(str(wider)), torch.float32), str(wider), three["plain"])
    assert str(refused.value) == (
        f"{three['plain']}: spec.model.source: does not fit its base {wider}: "
        "model.layers.0.mlp.down_proj is [32, 24] there, and the adapter's lora_B.weight is [16, 3]"
    )
    other = write_adapter(wider, tmp_path / "other", seed=1)
    assert main(["adapters", "combine", f"{three['plain']}=1", f"{other}=1", "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"{other}: belongs to {wider}, and {three['plain']} to {base}: they share no base"
    )


def test_an_adapter_for_more_layers_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(base, tmp_path / "adapter", seed=0)
    shallow = LlamaForCausalLM(LlamaConfig.from_pretrained(base, num_hidden_layers=1))
    with pytest.raises(InputError, match="does not fit its base shallow: it has no module model"):
        attach(shallow, "shallow", adapter)


def test_a_prefix_for_another_base_is_refused(base: Path, tmp_path: Path) -> None:
    config = PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")
    get_peft_model(LlamaForCausalLM.from_pretrained(base), config).save_pretrained(tmp_path / "prefix")
    wider = write_base(tmp_path / "wider", hidden=32)
    with pytest.raises(InputError) as refused:
        attach(LlamaForCausalLM.from_pretrained(wider), "wider", tmp_path / "prefix")
    assert (
        "the keys and values of all layers are 64 wide there, and the adapter's prompt_embeddings are [4, 32]"
        in str(refused.value)
    )


def test_a_base_that_is_gone_is_named(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapter = write_adapter(base, tmp_path / "adapter", seed=0)
    config = adapter / "adapter_config.json"
    config.write_text(config.read_text().replace(str(base), "/nowhere/base"))
    assert main(["adapters", "merge", str(adapter), "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "spec.model.source: /nowhere/base is gone; put it back"


def test_a_damaged_base_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_base(tmp_path / "base")
    adapter = write_adapter(base, tmp_path / "adapter", seed=0)
    cut(base / "model.safetensors")
    assert main(["adapters", "merge", str(adapter), "--output", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"spec.model.source: a file of {base} is damaged: ")
    assert message.endswith("; copy or download it again")


def test_an_adapter_of_an_encoder_decoder_is_merged(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 4}
    T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=2)).save_pretrained(tmp_path / "base")
    write_tokenizer(tmp_path / "base")
    model = T5ForConditionalGeneration.from_pretrained(tmp_path / "base")
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM"))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    write_tokenizer(tmp_path / "adapter")
    assert main(["adapters", "merge", str(tmp_path / "adapter"), "--output", str(tmp_path / "whole")]) == 0
    whole = T5ForConditionalGeneration.from_pretrained(tmp_path / "whole")
    with torch.no_grad():
        inputs = {"input_ids": BATCHES[0], "decoder_input_ids": BATCHES[1]}
        assert torch.allclose(whole(**inputs).logits, adapted.eval()(**inputs).logits, atol=1e-5)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: cut(folder / "adapter_model.safetensors"), "adapter_model.safetensors: is damaged: "),
        (lambda folder: cut(folder / "adapter_config.json"), "adapter: adapter_config.json is damaged: "),
    ],
    ids=["weights", "configuration"],
)
def test_a_damaged_adapter_is_refused(
    damage: Any, message: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = write_adapter(base, tmp_path / "adapter", seed=0)
    damage(adapter)
    assert main(["adapters", "merge", str(adapter), "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_only_sums_of_products_are_combined(
    base: Path, three: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dora = write_adapter(base, tmp_path / "dora", seed=0, use_dora=True)
    model = load_adapters({"dora": dora, **three})
    assert main(["adapters", "combine", f"{three['plain']}=1", f"{dora}=1", "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"{dora}: is of type DoRA: ")
    with pytest.raises(InputError, match="dora: is of type DoRA: only plain LoRA adapters are sums of products"):
        combine(model, {"dora": 0.5, "plain": 0.5}, "both")
    with pytest.raises(InputError, match="--how: linear needs equal ranks, these are 3, 5; use cat or svd"):
        combine(model, {"stabilized": 0.5, "plain": 0.5}, "both", "linear")


def test_a_prefix_is_neither_combined_nor_merged(base: Path, tmp_path: Path) -> None:
    bare = LlamaForCausalLM.from_pretrained(base)
    get_peft_model(bare, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)).save_pretrained(
        tmp_path / "a"
    )
    model = load_adapters({"a": tmp_path / "a"})
    with pytest.raises(InputError, match=r"a: is of type PREFIX_TUNING: .* are sums of products$"):
        combine(model, {"a": 1.0}, "both")


@pytest.mark.parametrize("weight", ["nan", "inf", "much", ""])
def test_a_weight_is_a_number(weight: str, three: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["adapters", "combine", f"{three['plain']}={weight}", "--output", "out"])
    assert "should be FOLDER=WEIGHT, such as runs/a=0.7" in capsys.readouterr().err


def logits_of(model: torch.nn.Module, batch: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(input_ids=batch).logits
    return logits


def merged_weights(base: Path, adapter: Path) -> dict[str, Tensor]:
    adapted = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), str(adapter))
    return dict(adapted.merge_and_unload().named_parameters())


def cut(file: Path) -> None:
    """A write that was broken off."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
