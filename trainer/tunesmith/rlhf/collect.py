"""Collects a step's answers and what every role says of them; the workers share the work, and then the result."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from tunesmith.api.ppo import PPO
from tunesmith.data.collate import Batch, Collator
from tunesmith.data.plan import MicroBatch
from tunesmith.data.tokenized import TokenizedRows
from tunesmith.rlhf.answering import Answering
from tunesmith.rlhf.losses import entropies, log_probabilities
from tunesmith.rlhf.rewards import Answer, Rule, decoded, judge, weighted
from tunesmith.rlhf.roles import Role, Roles
from tunesmith.rlhf.rollout import Rollout, answered, share
from tunesmith.rlhf.sample import Sampling
from tunesmith.training.clock import StepClock
from tunesmith.training.layout import Layout
from tunesmith.training.strategy import in_precision


@dataclass(frozen=True)
class Collector:
    """Everything that collecting needs."""

    ppo: PPO
    accelerator: Accelerator
    layout: Layout
    roles: Roles
    engine: Any
    """The roles as the strategy wrapped them."""
    tokenizer: PreTrainedTokenizerBase
    answering: Answering
    sampling: Sampling
    learning: Collator
    """Lays rows out to learn from."""
    scoring: Collator
    """Lays rows out for a reward model."""
    rules: dict[int, Rule]
    """The terms of the reward that are rules, by their place."""
    models: dict[int, Any]
    """The terms that are reward models: who plays them, by their place."""
    micro_batch_size: int
    max_length: int
    clock: StepClock = field(default_factory=StepClock)

    def collect(self, prompts: Sequence[Sequence[int]], truths: Sequence[str], step: int) -> Rollout:
        """Answers to some prompts, and what there is to know of them.

        Args:
            prompts: tokens of each.
            truths: the right answer of each; empty where there is none.
            step: decides, with the seed and the place of a prompt, what is drawn.
        """
        with self.clock.phase("answer"):
            answers = self.answering.answer(prompts, step)
        texts = answered(prompts, answers)
        ended = np.array([answer[-1] in self.sampling.stops for answer in answers])
        with self.clock.phase("score"):
            said = self._measure(texts)
            terms = self._judge(texts, answers, truths)
        flat = {name: np.concatenate([row[name] for row in said]) for name in said[0]}
        return Rollout(
            texts=texts,
            ended=ended,
            terms=terms,
            scores=weighted(self.ppo.reward, terms, ended, self.ppo.missing_end_penalty),
            **flat,
        )

    @torch.no_grad()
    def _measure(self, texts: TokenizedRows) -> list[dict[str, NDArray[np.float64]]]:
        """What policy, reference and value function say of each row's answered tokens."""
        found: dict[int, dict[str, NDArray[np.float64]]] = {}
        for rows in self.cut(np.arange(len(texts)), texts):
            batch = self.batch(self.learning, texts, rows)
            columns = self._columns(batch).double().cpu().numpy()
            ends = np.cumsum(texts.targets[rows])[:-1]
            parts = np.split(columns, ends, axis=1)
            names = ("logprobs", "entropies", "reference", "values")
            found |= {row: dict(zip(names, part, strict=True)) for row, part in zip(rows, parts, strict=False)}
        return share(found)

    def _columns(self, batch: Batch) -> torch.Tensor:
        """Log-probability, entropy, log-probability under the reference and value of each token; fp32 [4, tokens]."""
        temperature, values = self.ppo.temperature, None
        said = self._said(batch, "both" if self.ppo.shared_value else "policy")
        if self.ppo.shared_value:
            said, values = said
        of_policy = [log_probabilities(said, batch.targets, temperature), entropies(said, temperature)]
        del said  # as large as the vocabulary
        reference = log_probabilities(self._said(batch, "reference"), batch.targets, temperature)
        return torch.stack([*of_policy, reference, self._said(batch, "value") if values is None else values])

    def _said(self, batch: Batch, role: Role) -> Any:
        with self.roles.playing(role), in_precision(self.accelerator):
            return self.engine(batch, role)

    @torch.no_grad()
    def _judge(
        self, texts: TokenizedRows, answers: Sequence[Sequence[int]], truths: Sequence[str]
    ) -> NDArray[np.float64]:
        """What each term of the reward gives each answer; [terms, rows]."""
        terms = np.zeros((len(self.rules) + len(self.models), len(answers)))
        if self.rules:
            written = decoded(self.tokenizer, answers)
            seen = [Answer(text, truth, len(a)) for text, truth, a in zip(written, truths, answers, strict=True)]
            terms[list(self.rules)] = judge(list(self.rules.values()), seen)
        for place, score in self.models.items():
            found: dict[int, float] = {}
            for rows in self.cut(np.arange(len(texts)), texts):
                with in_precision(self.accelerator):
                    scores = score(self.batch(self.scoring, texts, rows))
                found |= dict(zip(rows, scores.double().tolist(), strict=False))
            terms[place] = share(found)
        return terms

    def cut(self, rows: NDArray[np.int64], texts: TokenizedRows) -> list[MicroBatch]:
        """This worker's micro-batches of some rows; as many as every other worker has."""
        capacity = self.micro_batch_size * self.max_length
        return self.layout.cut(rows, texts.lengths, self.micro_batch_size, capacity if self.learning.packed else None)

    def batch(self, collator: Collator, texts: TokenizedRows, rows: MicroBatch) -> Batch:
        """Rows as tensors on this worker's device."""
        return collator.batch(texts, rows, 0).to(self.accelerator.device)
