"""Python that loads a run's model and uses it as it was trained, for its card."""

import json
import re
from pathlib import Path

from tunesmith.report.read import Run

_CLASSES = {"maskedLM": "AutoModelForMaskedLM", "seq2seq": "AutoModelForSeq2SeqLM"}
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_FOLDER = 'folder = "."  # this folder, or its name on the Hub'
_EXAMPLE = "2 + 2 ="


def usage_of(run: Run, folder: Path) -> str:
    """The code for a model, or for an adapter that belongs to another.

    Args:
        run: that trained it.
        folder: the model's, or the adapter's.
    """
    if run.objective == "reward":
        return _scoring(run)
    lines = _load(run, folder)
    if run.objective == "maskedLM":
        return "\n".join([*lines, *_FILL])
    return "\n".join([*lines, *_prompt(run), *_answer(run)])


def _load(run: Run, folder: Path) -> list[str]:
    name = _CLASSES.get(run.objective, "AutoModelForCausalLM")
    base = _base_of(folder)
    if base is None:
        return [
            f"from transformers import {name}, AutoTokenizer",
            "",
            _FOLDER,
            f"model = {name}.from_pretrained(folder)",
            "tokenizer = AutoTokenizer.from_pretrained(folder)",
        ]
    if (Path(base) / "adapter_config.json").exists():  # peft alone would not put one on the other
        return [
            "from tunesmith.models.load import ModelLocation, load_model",
            "from transformers import AutoTokenizer",
            "",
            _FOLDER,
            'model = load_model(ModelLocation(folder), "auto")  # its base is an adapter itself',
            "tokenizer = AutoTokenizer.from_pretrained(folder)",
        ]
    return [
        "from peft import PeftConfig, PeftModel",
        f"from transformers import {name}, AutoTokenizer",
        "",
        _FOLDER,
        "base = PeftConfig.from_pretrained(folder).base_model_name_or_path",
        f"model = PeftModel.from_pretrained({name}.from_pretrained(base), folder)",
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
    ]


def _base_of(folder: Path) -> str | None:
    """What an adapter belongs to; None for a whole model."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        return str(config.get("base_model_name_or_path") or "")
    except (OSError, ValueError):
        return None


def _prompt(run: Run) -> list[str]:
    template = _template(run)
    if template is None:
        return [
            "",
            f'messages = [{{"role": "user", "content": "{_EXAMPLE}"}}]',
            "inputs = tokenizer.apply_chat_template(",
            '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"',
            ")",
            'inputs.pop("token_type_ids", None)',
        ]
    names = list(dict.fromkeys(_PLACEHOLDER.findall(template)))
    values = "".join(f".replace({'{' + name + '}'!r}, {_EXAMPLE!r})" for name in names)
    return [
        "",
        f"prompt = {template!r}{values}",
        'inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)',
    ]


def _template(run: Run) -> str | None:
    """What of a row's text comes before its response; None for a chat template."""
    settings = (run.spec.get("objective") or {}).get(run.objective) or {}
    if run.objective == "seq2seq":
        return str(settings.get("template") or ("{text}" if settings.get("spanCorruption") else "{prompt}"))
    if run.objective == "causalLM":
        return str(settings.get("template") or "{text}")
    template = settings.get("template")
    return str(template).removesuffix("{response}") if template is not None else None


def _answer(run: Run) -> list[str]:
    settings = run.spec.get("evaluation") or {}
    limit = settings.get("maxNewTokens", 256)
    start = "0" if run.objective == "seq2seq" else '0, inputs["input_ids"].shape[1] :'
    shown = f"output[{start}]"
    return [
        f"output = model.generate(**inputs, max_new_tokens={limit}, do_sample=False)",
        f"print(tokenizer.decode({shown}, skip_special_tokens=True))",
    ]


_FILL = (
    "",
    'inputs = tokenizer(f"one {tokenizer.mask_token} three", return_tensors="pt", return_token_type_ids=False)',
    'place = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero()[0, 0]',
    "logits = model(**inputs).logits[0, place]",
    "print(tokenizer.batch_decode(logits.topk(5).indices[:, None]))",
)


def _scoring(run: Run) -> str:
    template = _template(run)
    if template is None:
        prompt = (
            f'prompt = tokenizer.apply_chat_template([{{"role": "user", "content": "{_EXAMPLE}"}}], '
            "add_generation_prompt=True, tokenize=False)"
        )
    else:
        names = list(dict.fromkeys(_PLACEHOLDER.findall(template)))
        prompt = f"prompt = {template!r}" + "".join(f".replace({'{' + n + '}'!r}, {_EXAMPLE!r})" for n in names)
    special = template is not None
    return "\n".join(
        [
            "# a score is read at the last token; transformers alone would skip an end that is its padding too",
            "from tunesmith.models.load import ModelLocation, load_tokenizer",
            "from tunesmith.models.reward import load_reward_model, score_texts",
            "",
            _FOLDER,
            "tokenizer, reward = load_tokenizer(ModelLocation(folder)), load_reward_model(ModelLocation(folder))",
            "",
            prompt,
            'answer = "4"',
            f'tokens = tokenizer(prompt, add_special_tokens={special})["input_ids"]',
            'tokens += [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]',
            "print(float(reward.centring.of(score_texts(reward.model.eval(), [tokens], tokenizer))[0]))",
        ]
    )
