"""What Tunesmith's and TRL's PPO learn side by side: the models and prompts of a problem, and the settings.

A problem is a folder: `policy` (what training starts from, and the reference) and `reward` (a sequence classifier with
one label, which the value function starts as), each with the tokenizer, and `prompts.jsonl`. The same seed makes the
same folder.

- *speed*: a new Llama of 4 layers and width 256, prompts of 16 tokens.
- *digits*: a small Llama that has learnt to answer letters with random digits, of which the reward model likes the even
  ones. Its answers end by themselves, or, with `ends=False`, run into the limit.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import LlamaConfig, PreTrainedTokenizerBase

END, PAD = "<end>", "<pad>"
TEMPLATE = "{prompt} {response}"
"""Words are tokens, and white space parts them."""
LETTERS, DIGITS = "abcdefgh", "0123456789"
DIGITS_LIMIT = 8
"""The longest answer of the digits, in tokens."""


@dataclass(frozen=True)
class Problem:
    """Where the parts of a problem lie."""

    folder: Path

    @property
    def policy(self) -> Path:
        return self.folder / "policy"

    @property
    def reward(self) -> Path:
        return self.folder / "reward"

    @property
    def prompts(self) -> Path:
        return self.folder / "prompts.jsonl"


@dataclass(frozen=True)
class Settings:
    """PPO of a problem. The names are those of objective.ppo and training; updates of the weights make up a step:
    epochs x mini_batches of them."""

    problem: str
    batch_size: int = 64
    mini_batches: int = 4
    epochs: int = 4
    max_new_tokens: int = 32
    temperature: float = 1.0
    learning_rate: float = 1e-5
    clip_range: float = 0.2
    value_clip_range: float = 0.2
    value_coefficient: float = 0.1
    discount: float = 1.0
    gae_lambda: float = 0.95
    kl_coefficient: float = 0.05
    seed: int = 0


def job_body(settings: Settings, steps: int) -> dict[str, Any]:
    """The same as a job of Tunesmith's: a model for each part, fp32, a constant rate, and gradients left as they are,
    all of which TRL does."""
    problem = Problem(Path(settings.problem))
    ppo = {
        "template": TEMPLATE,
        "reward": [{"model": {"source": str(problem.reward)}}],
        "maxNewTokens": settings.max_new_tokens,
        "temperature": settings.temperature,
        "epochs": settings.epochs,
        "miniBatches": settings.mini_batches,
        "clipRange": settings.clip_range,
        "valueClipRange": settings.value_clip_range,
        "valueCoefficient": settings.value_coefficient,
        "discount": settings.discount,
        "gaeLambda": settings.gae_lambda,
        "klCoefficient": settings.kl_coefficient,
        "sharedTrunk": False,
    }
    training = {
        "maxSteps": steps,
        "batchSize": settings.batch_size,
        "microBatchSize": settings.batch_size // settings.mini_batches,
        "maxLength": 64,
        "precision": "fp32",
        "learningRate": settings.learning_rate,
        "schedule": {"type": "constant", "warmup": 0.0},
        "maxGradNorm": 1e9,
        "checkpoint": {"everySteps": 1_000_000},
        "seed": settings.seed,
    }
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "ppo"},
        "spec": {
            "model": {"source": str(problem.policy)},
            "dataset": {"train": {"source": str(problem.prompts)}},
            "objective": {"ppo": ppo},
            "method": {"full": {}},
            "training": training,
        },
    }


def write_speed(folder: Path, ends: bool, seed: int = 0, words: int = 1024) -> Problem:
    """Four layers of width 256, and 2048 prompts of 16 tokens. The reward model is the policy with another head.

    Args:
        folder: to write to.
        ends: whether answers end by themselves, each token being the last with a chance of one in ten; otherwise nearly
            all run into the limit.
        seed: of everything random.
        words: size of the vocabulary.
    """
    import torch
    from transformers import LlamaForCausalLM

    problem = Problem(folder)
    names = [f"w{number}" for number in range(words - 2)]
    tokenizer = word_tokenizer(names)
    draw = random.Random(seed)
    _write_prompts(problem, (draw.choices(names, k=16) for _ in range(2048)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = _config(tokenizer, hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024)
        policy = LlamaForCausalLM(config)
        optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-3)
        for _ in range(60 if ends else 0):
            texts = torch.randint(2, words, (32, 49))
            texts[:, 16:][torch.rand(32, 33) < 0.1] = tokenizer.eos_token_id
            logits = policy(input_ids=texts[:, :-1]).logits[:, 15:]
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), texts[:, 16:].flatten())
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
        _write(policy, problem.policy, tokenizer)
        _write(_classifier(policy, torch.randn(1, 256) / 16), problem.reward, tokenizer)
    return problem


def write_digits(folder: Path, ends: bool, seed: int = 0, steps: int = 300) -> Problem:
    """A policy that writes random digits, and a reward model that likes even ones."""
    import torch
    from transformers import LlamaForCausalLM

    problem = Problem(folder)
    tokenizer = word_tokenizer([*LETTERS, *DIGITS])
    draw = random.Random(seed)
    _write_prompts(problem, (draw.choices(LETTERS, k=draw.randint(2, 6)) for _ in range(512)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = _config(tokenizer, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128)
        policy = LlamaForCausalLM(config)
        optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3, weight_decay=0.0)
        for _ in range(steps):
            length = draw.randint(3, DIGITS_LIMIT - 1) if ends else DIGITS_LIMIT
            # of one length, so that nothing is padded
            prompt_length = draw.randint(2, 6)
            texts = [
                " ".join([*draw.choices(LETTERS, k=prompt_length), *draw.choices(DIGITS, k=length), *[END] * ends])
                for _ in range(64)
            ]
            ids = torch.tensor(tokenizer(texts)["input_ids"])
            logits = policy(input_ids=ids).logits[:, prompt_length - 1 : -1]
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, prompt_length:].flatten())
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
        _write(policy, problem.policy, tokenizer)
    _write(_likes_even_digits(tokenizer), problem.reward, tokenizer)
    return problem


def digits_score(tokens: int, even: int, odd: int) -> float:
    """What the reward model of the digits gives a prompt with its answer, of so many tokens, the end among them."""
    share = (even - odd) / tokens
    return float(4.0 * share * (10.0 / (10.0 + share**2)) ** 0.5)


def _likes_even_digits(tokenizer: "PreTrainedTokenizerBase") -> Any:
    """A classifier that is written by hand. Feature 0 is 1 for an even digit, -1 for an odd one, 0 for all else; its
    only attention looks at all tokens alike, and puts the mean of this into feature 2, which the head reads. Features 1
    and 3 are there to give all tokens the same norm."""
    import torch
    from transformers import LlamaForSequenceClassification

    config = _config(tokenizer, hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)
    config.num_labels = 1
    model = LlamaForSequenceClassification(config)
    layer, root_ten = model.model.layers[0], 10.0**0.5
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.zero_()
        table = model.model.embed_tokens.weight
        table[:, 1], table[:, 3] = 3.0, 1.0
        for digit in DIGITS:
            row = table[tokenizer.convert_tokens_to_ids(digit)]
            row[0], row[3] = 1.0 if int(digit) % 2 == 0 else -1.0, 0.0
        # each norm divides by the root of a mean over 16 features: here always of a sum of 10
        layer.self_attn.v_proj.weight[0, 0] = root_ten / 4.0
        layer.self_attn.o_proj.weight[2, 0] = 1.0
        model.score.weight[0, 2] = 4.0 * root_ten / 4.0
    return model


def _classifier(policy: Any, head: "torch.Tensor") -> Any:
    """A policy's trunk under a head of one label; head [1, width]."""
    import torch
    from transformers import LlamaForSequenceClassification

    config = type(policy.config).from_dict(policy.config.to_dict())
    config.num_labels = 1
    model = LlamaForSequenceClassification(config)
    model.model.load_state_dict(policy.model.state_dict())
    with torch.no_grad():
        model.score.weight.copy_(head)
    return model


def _config(tokenizer: "PreTrainedTokenizerBase", **sizes: int) -> "LlamaConfig":
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=64,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **sizes,
    )


def word_tokenizer(words: list[str]) -> "PreTrainedTokenizerBase":
    """Words are tokens, parted by white space: 0 is the end, 1 is padding, 2 and so on are the words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate([END, PAD, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=PAD))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, padding_side="left", model_max_length=64
    )


def _write(model: Any, folder: Path, tokenizer: "PreTrainedTokenizerBase") -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _write_prompts(problem: Problem, prompts: Any) -> None:
    problem.folder.mkdir(parents=True, exist_ok=True)
    with problem.prompts.open("w", encoding="utf-8") as lines:
        for words in prompts:
            lines.write(json.dumps({"prompt": " ".join(words)}) + "\n")
