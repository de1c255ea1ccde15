"""Where PPO should come to, exactly: a problem with so few answers that all are written out.

PPO maximises J(pi) = E_pi[r] - beta KL(pi | ref). Over all distributions of answers its maximum is
beta log E_ref[exp(r / beta)], reached by pi*(answer) = ref(answer) exp(r / beta) / E_ref[exp(r / beta)] (Ziegler et al.
2019, arXiv:1909.08593, equation 3; Rafailov et al. 2023, arXiv:2305.18290, appendix A.1).

A policy is a function from a prompt and prefixes of one length to the logits of the token that follows each.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tokens = tuple[int, ...]
Floats = NDArray[np.float64]
Policy = Callable[[Tokens, Sequence[Tokens]], Floats]
"""(prompt, prefixes) -> logits [prefixes, vocabulary], divided by the temperature."""
Reward = Callable[[Tokens, Sequence[Tokens]], Floats]
"""(prompt, answers) -> [answers]."""
NEVER = -30.0
"""The logit of a token that is not to be written."""


@dataclass(frozen=True)
class Task:
    """All prompts, each as likely as the others, and all answers: up to the token `end`, or `longest` tokens."""

    prompts: tuple[Tokens, ...]
    vocabulary: int
    end: int
    longest: int
    reward: Reward
    beta: float

    @cached_property
    def answers(self) -> list[Tokens]:
        """Those with an end have it as their last token."""
        found: list[Tokens] = []
        for prefixes in self._open_prefixes:
            for prefix in prefixes:
                last = range(self.vocabulary) if len(prefix) + 1 == self.longest else [self.end]
                found.extend((*prefix, token) for token in last)
        return found

    @cached_property
    def _open_prefixes(self) -> list[list[Tokens]]:
        """By length: what may still go on."""
        found: list[list[Tokens]] = [[()]]
        while len(found) < self.longest:
            found.append([(*p, token) for p in found[-1] for token in range(self.vocabulary) if token != self.end])
        return found

    def log_probabilities(self, policy: Policy, prompt: Tokens) -> Floats:
        """log policy(answer | prompt) [answers]."""
        reached: dict[Tokens, float] = {(): 0.0}
        for prefixes in self._open_prefixes:
            logits = np.asarray(policy(prompt, prefixes), dtype=np.float64)
            logs = logits - _log_sum_exp(logits)[:, None]
            for prefix, row in zip(prefixes, logs, strict=True):
                for token in range(self.vocabulary):
                    reached[(*prefix, token)] = reached[prefix] + float(row[token])
        return np.array([reached[answer] for answer in self.answers])

    def objective(self, policy: Policy, reference: Policy) -> float:
        """J, the mean over the prompts."""
        return float(np.mean([self._objective(policy, reference, prompt) for prompt in self.prompts]))

    def divergence(self, policy: Policy, reference: Policy) -> float:
        """KL(policy | reference) of whole answers in nats, the mean over the prompts."""
        found = []
        for prompt in self.prompts:
            ours, theirs = self.log_probabilities(policy, prompt), self.log_probabilities(reference, prompt)
            found.append(np.sum(np.exp(ours) * (ours - theirs)))
        return float(np.mean(found))

    def best(self, reference: Policy) -> float:
        """The largest J that there is, the mean over the prompts."""
        found = [
            self.beta * _log_sum_exp(self.log_probabilities(reference, prompt) + self._rewards(prompt) / self.beta)
            for prompt in self.prompts
        ]
        return float(np.mean(found))

    def optimum(self, reference: Policy, prompt: Tokens) -> Floats:
        """log pi*(answer | prompt) [answers]."""
        logs = self.log_probabilities(reference, prompt) + self._rewards(prompt) / self.beta
        return np.asarray(logs - _log_sum_exp(logs), dtype=np.float64)

    def gap_closed(self, policy: Policy, reference: Policy) -> float:
        """How much of the way from the reference (0) to the best there is (1)."""
        start = self.objective(reference, reference)
        return (self.objective(policy, reference) - start) / (self.best(reference) - start)

    def _objective(self, policy: Policy, reference: Policy, prompt: Tokens) -> float:
        ours, theirs = self.log_probabilities(policy, prompt), self.log_probabilities(reference, prompt)
        return float(np.sum(np.exp(ours) * (self._rewards(prompt) - self.beta * (ours - theirs))))

    def _rewards(self, prompt: Tokens) -> Floats:
        return np.asarray(self.reward(prompt, self.answers), dtype=np.float64)


def table_llama(vocabulary: int, end: int, pad: int, never: Collection[int], seed: int) -> Any:
    """A Llama without layers, which is a table of logits: a row for each last token. Normal with variance 1, but for
    the tokens in `never` (pad, and those of prompts), which it does not write.

    Where the last tokens of the prompts are among these, no answer has more than two tokens, and the reward is a
    function of the last two, a table holds the optimum.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hidden = 2 * (vocabulary // 2 + 1)
        model = LlamaForCausalLM(_config(LlamaConfig, vocabulary, end, pad, 0, hidden))
        # a token has a feature of its own and one that all have, which the norm multiplies by this
        scale = (hidden / 2) ** 0.5
        with torch.no_grad():
            model.model.embed_tokens.weight.copy_(torch.eye(vocabulary, hidden))
            model.model.embed_tokens.weight[:, -1] = 1.0
            model.lm_head.weight.normal_(0.0, 1.0 / scale)
            model.lm_head.weight[:, -1] = 0.0
            for token in never:
                model.lm_head.weight[token, -1] = NEVER / scale
    return model.eval()


def tiny_llama(vocabulary: int, end: int, pad: int, seed: int, layers: int = 2, hidden: int = 32) -> Any:
    """A new Llama in fp32 whose logits have a standard deviation of about 1, and hang on everything before."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(_config(LlamaConfig, vocabulary, end, pad, layers, hidden))
        with torch.no_grad():
            # a normed state has mean square 1, so that the logits' deviation is the norm of a row
            model.lm_head.weight.normal_(0.0, hidden**-0.5)
    return model.eval()


def tiny_reward_model(vocabulary: int, end: int, pad: int, seed: int, layers: int = 2, hidden: int = 32) -> Any:
    """The same with a head of one label, as LlamaForSequenceClassification. Without layers it scores the last token."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = _config(LlamaConfig, vocabulary, end, pad, layers, hidden)
        config.num_labels = 1
        model = LlamaForSequenceClassification(config)
        with torch.no_grad():
            model.score.weight.normal_(0.0, hidden**-0.5)
    return model.eval()


def _config(kind: Any, vocabulary: int, end: int, pad: int, layers: int, hidden: int) -> Any:
    return kind(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2 if layers else 1,
        intermediate_size=2 * hidden,
        max_position_embeddings=32,
        initializer_range=0.1,  # small models of the usual 0.02 hardly tell their prompts apart
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )


def policy_of(model: Any, temperature: float = 1.0) -> Policy:
    """The policy of a causal language model. Nothing is padded."""
    import torch

    @torch.no_grad()
    def logits(prompt: Tokens, prefixes: Sequence[Tokens]) -> Floats:
        ids = torch.tensor([[*prompt, *prefix] for prefix in prefixes])
        found = model(input_ids=ids, use_cache=False).logits[:, -1].double() / temperature
        return np.asarray(found.numpy(), dtype=np.float64)

    return logits


def reward_of(model: Any) -> Reward:
    """The score of a sequence classifier with one label, at the last token. Nothing is padded."""
    import torch

    @torch.no_grad()
    def scores(prompt: Tokens, answers: Sequence[Tokens]) -> Floats:
        found = np.empty(len(answers))
        for length in {len(answer) for answer in answers}:
            rows = [row for row, answer in enumerate(answers) if len(answer) == length]
            ids = torch.tensor([[*prompt, *answers[row]] for row in rows])
            states = model.model(input_ids=ids, use_cache=False).last_hidden_state
            found[rows] = model.score(states)[:, -1, 0].double().numpy()
        return found

    return scores


def _log_sum_exp(logs: Floats) -> Any:
    """Over the last axis."""
    largest = logs.max(axis=-1)
    return largest + np.log(np.exp(logs - largest[..., None]).sum(axis=-1))
