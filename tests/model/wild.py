"""Small models with weights wild enough that their answers differ, and what they are asked."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from tunesmith.api.job import FineTuneJob

CONTEXT = 64
NEW_MODEL: dict[str, Any] = {"hiddenSize": 32, "layers": 2, "attentionHeads": 2, "intermediateSize": 32}
NEW_MODEL |= {"contextLength": CONTEXT, "tokenizer": {"vocabularySize": 260}}
PROMPTS = ["9 + 9 =", "12 + 30 =", "a long prompt of more tokens =", "天气 =", "1 =", "7" * 50, "3" * 58, "22", "4 4"]
ROWS = [{"prompt": prompt, "response": str(len(prompt))} for prompt in PROMPTS]


def wild_model(kind: str, tokenizer: Tokenizer, seed: int = 0) -> PreTrainedModel:
    """A model whose answers wander, and end by chance: about a twentieth of its tokens are ends."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32}
    sizes |= {"vocab_size": len(tokenizer), "initializer_range": 0.5}
    if kind == "gpt2":  # learned positions: there is none beyond the context
        model: PreTrainedModel = GPT2LMHeadModel(GPT2Config(n_positions=CONTEXT, **sizes))
    else:
        sizes |= {"max_position_embeddings": CONTEXT, "intermediate_size": 32}
        model = LlamaForCausalLM(LlamaConfig(**sizes))
    model.generation_config.eos_token_id = [int(tokenizer.eos_token_id), *range(20, 260, 20)]
    model.eval()
    return model


def save(model: PreTrainedModel, tokenizer: Tokenizer, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_job(folder: Path, rows: Sequence[dict[str, str]], **spec: Any) -> FineTuneJob:
    test = folder / "test.jsonl"
    test.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    body = {
        "model": {"config": NEW_MODEL},
        "dataset": {"train": {"source": str(test)}, "test": {"source": str(test)}},
        "objective": {"instruction": {"template": "{prompt} {response}"}},
        "method": {"full": {}},
        "training": {"maxLength": CONTEXT},
        "scaling": {"resources": {"cpu": 1}},
        "evaluation": {"metrics": ["perplexity", "exactMatch", "tokenF1"], "maxNewTokens": 20, "batchSize": 4},
    }
    return FineTuneJob.model_validate({"metadata": {"name": "add"}, "spec": body | spec})


def by_hand(model: PreTrainedModel, prompt: Sequence[int], room: int, stops: set[int]) -> list[int]:
    """An answer without batch, padding or cache."""
    tokens = list(prompt)
    while len(tokens) < len(prompt) + room:
        with torch.no_grad():
            following = int(model(torch.tensor([tokens])).logits[0, -1].argmax())
        if following in stops:
            break
        tokens.append(following)
    return tokens[len(prompt) :]
