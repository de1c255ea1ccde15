"""The evaluation of a policy beside its base, against what is computed by hand, row by row."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import log_softmax, softmax
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from tests.model.wild import CONTEXT, PROMPTS, by_hand, save, wild_model
from tunesmith.api.job import FineTuneJob
from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import RunFolder
from tunesmith.evaluation.generate import stop_tokens
from tunesmith.evaluation.report import EvaluationReport, read_report
from tunesmith.evaluation.run import evaluate_job
from tunesmith.models.reward import Centring, score_texts, with_reward_head
from tunesmith.rlhf.sample import draws_of
from tunesmith.sources import Resolver

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPT_TEXTS = [f"{prompt} " for prompt in PROMPTS]
LONGEST, DRAWN, TEMPERATURE, SEED = 20, 6, 0.7, 3
METRICS = ["reward", "winRate", "divergence", "answerTokens"]
RULES: list[dict[str, Any]] = [{"pattern": {"regex": ".*[0-9].*"}}, {"length": {"tokens": 8}, "weight": 0.25}]


def job_in(
    folder: Path, rows: Sequence[dict[str, str]], reward: list[dict[str, Any]], **evaluation: Any
) -> FineTuneJob:
    test = folder / "test.jsonl"
    test.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ppo = {"reward": reward, "template": "{prompt} {response}", "maxNewTokens": DRAWN, "temperature": TEMPERATURE}
    spec = {
        "model": {"source": str(folder / "base")},
        "dataset": {"train": {"source": str(test)}, "test": {"source": str(test)}},
        "objective": {"ppo": ppo | {"missingEndPenalty": 0.5}},
        "method": {"full": {}},
        "training": {"maxLength": CONTEXT, "seed": SEED, "batchSize": 8},
        "scaling": {"resources": {"cpu": 1}},
        "evaluation": {"metrics": METRICS, "maxNewTokens": LONGEST, "batchSize": 4} | evaluation,
    }
    return FineTuneJob.model_validate({"metadata": {"name": "add"}, "spec": spec})


def models(folder: Path, tokenizer: Tokenizer) -> dict[str, PreTrainedModel]:
    """A tuned model in a run's folder, and the base that it would have come from."""
    found = {"tuned": wild_model("llama", tokenizer, 1), "base": wild_model("llama", tokenizer, 2)}
    save(found["tuned"], tokenizer, folder / "run" / "model")
    save(found["base"], tokenizer, folder / "base")
    return found


def evaluated(job: FineTuneJob, folder: Path) -> tuple[EvaluationReport, list[dict[str, Any]]]:
    run = RunFolder(folder / "run")
    outcome = evaluate_job(job, run, Resolver())
    assert outcome.reason == "Succeeded", outcome.message
    lines = (run.evaluation / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    return read_report(run), [json.loads(line) for line in lines]


def whole_answer(model: PreTrainedModel, tokenizer: Tokenizer, prompt: list[int]) -> tuple[list[int], bool]:
    """The most likely answer with the token that ends it, and whether it has one."""
    stops = stop_tokens(model.generation_config, tokenizer)
    room = min(LONGEST, CONTEXT - len(prompt))
    tokens = by_hand(model, prompt, room, stops)
    if len(tokens) == room:
        return tokens, False
    with torch.no_grad():
        return [*tokens, int(model(torch.tensor([prompt + tokens])).logits[0, -1].argmax())], True


def likelihood(model: PreTrainedModel, prompt: list[int], answer: list[int]) -> float:
    """The log-probability of an answer at the temperature."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    chosen = log_softmax(logits / TEMPERATURE, dim=-1).gather(1, torch.tensor(answer)[:, None])
    return float(chosen.sum())


def drawn_answer(model: PreTrainedModel, tokenizer: Tokenizer, prompt: list[int], row: int) -> list[int]:
    """An answer by the numbers that training would draw it with."""
    stops, answer = stop_tokens(model.generation_config, tokenizer), list[int]()
    for number in draws_of(SEED, 0, row, DRAWN):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + answer])).logits[0, -1]
        below = softmax(logits.double() / TEMPERATURE, dim=-1).cumsum(dim=-1)
        answer.append(int((below / below[-1] <= number).sum()))
        if answer[-1] in stops:
            break
    return answer


def test_figures_are_those_of_each_row_by_hand(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Rules, a penalty for a missing end, and test rows that have prompts alone."""
    both = models(tmp_path, tokenizer)
    report, rows = evaluated(job_in(tmp_path, [{"prompt": prompt} for prompt in PROMPTS], RULES), tmp_path)
    earned: dict[str, list[float]] = {"tuned": [], "base": []}
    lengths, apart, unended = [], [], 0
    for row, text in enumerate(PROMPT_TEXTS):
        prompt = tokenizer(text)["input_ids"]
        for name, model in both.items():
            answer, ended = whole_answer(model, tokenizer, prompt)
            said = tokenizer.decode(answer, skip_special_tokens=True)
            has_digit = any(character in "0123456789" for character in said) and "\n" not in said
            earned[name].append(has_digit - 0.25 * (len(answer) > 8) - 0.5 * (not ended))
            assert rows[row][name]["reward"] == pytest.approx(earned[name][-1]), (row, name, said)
            assert rows[row][name]["answer"] == tokenizer.decode(answer[:-1] if ended else answer)
            lengths += [len(answer)] if name == "tuned" else []
            unended += not ended
        if len(prompt) <= CONTEXT - DRAWN:
            answer = drawn_answer(both["tuned"], tokenizer, prompt, row)
            apart.append(likelihood(both["tuned"], prompt, answer) - likelihood(both["base"], prompt, answer))
            assert rows[row]["tuned"]["divergence"] == pytest.approx(apart[-1], rel=1e-3)
        else:  # training would leave it out
            assert "divergence" not in rows[row]["tuned"]
    assert 0 < unended < 2 * len(PROMPTS)
    assert 0 < len(apart) < len(PROMPTS)
    assert len({*earned["tuned"], *earned["base"]}) > 2
    figures = {metric.name: metric for metric in report.metrics}
    assert figures["reward"].tuned.value == pytest.approx(sum(earned["tuned"]) / len(PROMPTS))
    assert figures["answerTokens"].tuned.value == pytest.approx(sum(lengths) / len(PROMPTS))
    assert figures["divergence"].tuned.value == pytest.approx(sum(apart) / len(apart), rel=1e-3)
    assert figures["divergence"].rows == len(apart)
    pairs = zip(earned["tuned"], earned["base"], strict=True)
    wins = [1.0 if mine > theirs else 0.5 if mine == theirs else 0.0 for mine, theirs in pairs]
    assert figures["winRate"].tuned.value == pytest.approx(sum(wins) / len(wins))
    assert figures["winRate"].base is figures["divergence"].base is None
    assert "reference" not in rows[0]


def test_a_reward_model_scores_both_models_answers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    both = models(tmp_path, tokenizer)
    scorer = with_reward_head(wild_model("llama", tokenizer, 3), int(tokenizer.pad_token_id)).eval()
    torch.manual_seed(0)
    torch.nn.init.normal_(scorer.score.weight)
    save(scorer, tokenizer, tmp_path / "reward")
    Centring(gain=0.3, bias=-0.1).write(tmp_path / "reward")
    reward: list[dict[str, Any]] = [{"model": {"source": str(tmp_path / "reward")}, "weight": 2.0}, {"exactMatch": {}}]
    test = [{"prompt": prompt, "response": "no answer is like this"} for prompt in PROMPTS]
    _, rows = evaluated(job_in(tmp_path, test, reward, metrics=["reward"]), tmp_path)
    for row, text in enumerate(PROMPT_TEXTS):
        prompt = tokenizer(text)["input_ids"]
        for name, model in both.items():
            answer, ended = whole_answer(model, tokenizer, prompt)
            score = float(score_texts(scorer, [[*prompt, *answer]], tokenizer)[0])
            expected = 2 * (0.3 * score - 0.1) - 0.5 * (not ended)
            assert rows[row][name]["reward"] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def failure(job: FineTuneJob, folder: Path) -> Outcome:
    outcome = evaluate_job(job, RunFolder(folder / "run"), Resolver())
    assert outcome.reason == "InvalidInput"
    return outcome


def test_what_cannot_be_evaluated_is_said(tokenizer: Tokenizer, tmp_path: Path) -> None:
    models(tmp_path, tokenizer)
    bare = [{"prompt": prompt} for prompt in PROMPTS]
    asks = failure(job_in(tmp_path, bare, [{"exactMatch": {}}], metrics=["reward"]), tmp_path)
    assert "there is no column 'response'" in asks.message
    long = [{"prompt": "7" * 200}]
    nothing = failure(job_in(tmp_path, long, RULES, metrics=["divergence"]), tmp_path)
    assert "no test prompt has at most 58 tokens" in nothing.message
    unanswered = failure(job_in(tmp_path, long, RULES, metrics=["reward"]), tmp_path)
    assert "no prompt leaves room for an answer" in unanswered.message
