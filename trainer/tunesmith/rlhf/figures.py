"""What is noted of a step of PPO: its figures, and some of its answers."""

import json
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from tunesmith.rlhf.advantages import Floats, explained_variance
from tunesmith.rlhf.rewards import decoded
from tunesmith.rlhf.rollout import Rollout

SHOWN_ANSWERS = 8
"""Answers of a step that are kept for people."""


def figures_of(rollout: Rollout, returns: Floats, kl_coefficient: float) -> dict[str, float]:
    """What there is to say of a step's answers."""
    scores, divergence = rollout.scores, float(rollout.divergences.mean())
    figures = {
        "ppo/reward": float(scores.mean()),
        "ppo/reward_deviation": float(scores.std()),
        "ppo/reward_p10": float(np.percentile(scores, 10)),
        "ppo/reward_p90": float(np.percentile(scores, 90)),
        "ppo/objective": float(scores.mean()) - kl_coefficient * divergence,
        "ppo/kl": divergence,
        "ppo/kl_coefficient": kl_coefficient,
        "ppo/entropy": float(rollout.entropies.mean()),
        "ppo/explained_variance": explained_variance(rollout.values, returns),
        "ppo/answer_tokens": float(rollout.texts.targets.mean()),
        "ppo/ended": float(rollout.ended.mean()),
    }
    if len(rollout.terms) > 1:
        figures |= {f"ppo/reward_{index}": float(given.mean()) for index, given in enumerate(rollout.terms)}
    return figures


def show_answers(file: Path, step: int, rollout: Rollout, tokenizer: PreTrainedTokenizerBase) -> None:
    """Appends some prompts with their answers and rewards to a file, for people."""
    with file.open("a", encoding="utf-8") as lines:
        for row in range(min(SHOWN_ANSWERS, len(rollout.scores))):
            tokens, learned = rollout.texts.row(row)
            prompt, answer = decoded(tokenizer, [tokens[~learned].tolist(), tokens[learned].tolist()])
            line = {"step": step, "prompt": prompt, "answer": answer, "reward": float(rollout.scores[row])}
            lines.write(json.dumps(line | {"kl": float(rollout.divergences[row])}) + "\n")
