"""The evaluation of real models: small ones, with weights wild enough that their answers differ."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM
from transformers import PreTrainedTokenizerBase as Tokenizer

from tests.collector import Collector
from tests.model.wild import PROMPTS, ROWS, by_hand, make_job, save, wild_model
from tunesmith.api.identity import identity_fields
from tunesmith.api.outcome import Outcome, PastAttempt
from tunesmith.api.pod import JOB_FILE, RUN_FILE, RunConfig, RunFolder, Tracing
from tunesmith.cli.evaluate import evaluate_in_pod
from tunesmith.cli.main import main
from tunesmith.evaluation.generate import stop_tokens
from tunesmith.evaluation.report import read_report
from tunesmith.evaluation.run import evaluate_job
from tunesmith.launch.folder import read_attempts
from tunesmith.models.methods import add_adapter
from tunesmith.models.start import save_base_name
from tunesmith.sources import Resolver

pytestmark = pytest.mark.usefixtures("one_thread")

EXTREME = [
    {"prompt": "x" * 20_000, "response": "5"},  # more than the context holds
    {"prompt": "x" * 20_000, "response": ""},
    {"prompt": "2 + 2 =", "response": "9" * 20_000},
    {"prompt": "2 + 2 =", "response": ""},
    {"prompt": "", "response": "5"},
    {"prompt": "😀👩‍👩‍👧 {response} {prompt}", "response": "🎉"},
    {"prompt": "\u0000\u200b", "response": "\u0000"},
]


def test_a_model_beside_itself_shows_no_difference(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    for path in (folder.model, tmp_path / "start"):
        save(wild_model("llama", tokenizer), tokenizer, path)
    job = make_job(tmp_path, ROWS, model={"source": str(tmp_path / "start")})
    told: list[tuple[str, int, int]] = []
    outcome = evaluate_job(job, folder, Resolver(), lambda *call: told.append(call), attempt=3)
    assert (outcome.reason, outcome.attempt) == ("Succeeded", 3)
    assert outcome.artifacts.model == str(folder.model)
    assert {(what, total) for what, _, total in told} == {
        (f"{what}, {model} model", 9) for what in ("perplexity", "answers") for model in ("tuned", "base")
    }
    report = read_report(folder)
    assert outcome.evaluation == report.to_result()
    for metric in report.metrics:
        assert metric.base is not None
        assert metric.base.difference.value == 0
        assert metric.base.verdict == "no difference shown"

    lines = [json.loads(line) for line in (folder.evaluation / "rows.jsonl").read_text().splitlines()]
    assert [(line["row"], line["prompt"], line["reference"]) for line in lines] == [
        (i, row["prompt"] + " ", row["response"]) for i, row in enumerate(ROWS, start=1)
    ]
    perplexity = math.exp(
        sum(line["tuned"]["negativeLogLikelihood"] for line in lines) / sum(line["tuned"]["tokens"] for line in lines)
    )
    assert report.metrics[0].tuned.value == pytest.approx(perplexity)
    assert report.metrics[1].tuned.value == pytest.approx(sum(line["tuned"]["exactMatch"] for line in lines) / 9)


def test_a_right_answer_is_seen_as_right(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """The references are what the model says, so that one token more or less than its answer shows."""
    model, folder = wild_model("llama", tokenizer), RunFolder(tmp_path / "run")
    save(model, tokenizer, folder.model)
    stops = stop_tokens(model.generation_config, tokenizer)
    rows = []
    for prompt in PROMPTS[:5]:
        answer = by_hand(model, tokenizer(prompt + " ")["input_ids"], 20, stops)
        rows.append({"prompt": prompt, "response": str(tokenizer.decode(answer))})
    assert len({row["response"].strip() for row in rows}) > 3
    outcome = evaluate_job(make_job(tmp_path, rows), folder, Resolver())
    assert outcome.evaluation is not None
    figures = {m.name: (m.tuned.value, m.base and m.base.value) for m in outcome.evaluation.metrics}
    assert figures["exactMatch"] == (1, 0)
    assert figures["tokenF1"][0] == 1


def test_an_earlier_job_is_compared_as_if_it_had_been_evaluated_here(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """It had another prompt, other metrics and its rows in another order; beside itself it shows no difference."""
    start, runs = tmp_path / "start", tmp_path / "runs"
    save(wild_model("llama", tokenizer), tokenizer, start)
    for name in ("old", "new"):
        save(wild_model("llama", tokenizer, seed=1), tokenizer, RunFolder(runs / name).model)
    evaluation = {"maxNewTokens": 20, "batchSize": 4, "metrics": ["exactMatch", "perplexity"]}
    (tmp_path / "before").mkdir()
    earlier = make_job(tmp_path / "before", ROWS[::-1], model={"source": str(start)}, evaluation=evaluation)
    resolver = Resolver(runs=runs)
    assert evaluate_job(earlier, RunFolder(runs / "old"), resolver).reason == "Succeeded"

    detect = [{"metric": "tokenF1", "difference": 0.0001}]
    gates = [{"metric": "perplexity", "notWorseThan": "job://old"}, {"metric": "exactMatch", "atLeast": 0.5}]
    more = {"metrics": ["exactMatch", "tokenF1", "perplexity"], "compareWith": ["job://old"]}
    job = make_job(
        tmp_path,
        ROWS,
        model={"source": str(start)},
        evaluation=evaluation | more | {"detect": detect, "gates": gates},
    )
    outcome = evaluate_job(job, RunFolder(runs / "new"), resolver)
    report = read_report(RunFolder(runs / "new"))
    assert outcome.reason == "GateFailed"
    assert outcome.message == "exactMatch is 0 [0, 0.336], but should be at least 0.500"
    assert outcome.evaluation == report.to_result()
    assert [gate.passed for gate in report.gates] == [True, False]
    for metric in report.metrics:
        assert [comparison.to for comparison in metric.comparisons] == ["base", "job://old"]
        old = metric.comparisons[1]
        assert old.value.value == pytest.approx(metric.tuned.value, rel=1e-6)
        assert old.difference.value == pytest.approx(0, abs=1e-6 * metric.tuned.value)
        assert old.verdict == "no difference shown"
    assert any(warning.startswith("tokenF1 beside ") for warning in report.warnings)

    job = make_job(tmp_path, ROWS[:-1], model={"source": str(start)}, evaluation=evaluation | more)
    refused = evaluate_job(job, RunFolder(runs / "new"), resolver)
    assert refused.reason == "InvalidInput"
    assert refused.message.startswith(
        "spec.evaluation.compareWith[0]: job://old was evaluated on other rows: 0 of the 8"
    )


def test_a_gate_that_is_not_met_is_an_error_after_the_table(
    tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "add")
    save(wild_model("llama", tokenizer), tokenizer, folder.model)
    gates = [{"metric": "exactMatch", "atLeast": 0.5}, {"metric": "exactMatch", "atMost": 0.9}]
    evaluation = {"metrics": ["exactMatch"], "compareWithBase": False, "maxNewTokens": 5, "gates": gates}
    job = make_job(tmp_path, ROWS, evaluation=evaluation)
    config = {"job": job.to_dict(), "fields": identity_fields(job.spec)}
    folder.config.write_text(json.dumps(config))
    assert main(["evaluate", str(folder.root)]) == 1
    printed = capsys.readouterr()
    assert "exact match" in printed.out and "1 of 2 gates met" in " ".join(printed.out.split())
    assert printed.err.endswith("add: GateFailed: exactMatch is 0 [0, 0.336], but should be at least 0.500\n")


def test_extreme_rows_neither_crash_nor_score(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    save(wild_model("llama", tokenizer), tokenizer, folder.model)
    outcome = evaluate_job(make_job(tmp_path, EXTREME), folder, Resolver())
    assert outcome.reason == "Succeeded", outcome.message
    report = read_report(folder)
    assert (report.rows, report.truncated, report.dropped, report.tuned.unanswered) == (7, 1, 2, 2)
    assert "prompts too long for the tuned model, counted as wrong: 2" in outcome.message
    lines = [json.loads(line) for line in (folder.evaluation / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["prompt"] for line in lines] == [row["prompt"] + " " for row in EXTREME]
    assert [line["tuned"]["answer"] for line in lines[:2]] == [None, None]
    assert [line["tuned"]["exactMatch"] + line["tuned"]["tokenF1"] for line in lines] == [0] * 7


def test_an_adapter_its_merged_model_and_its_base(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """A run that keeps its adapter apart says the same as one that merges it; the base is without it."""
    start = tmp_path / "start"
    save(wild_model("llama", tokenizer), tokenizer, start)
    method = {"lora": {"rank": 2}}
    job = make_job(tmp_path, ROWS, model={"source": str(start)}, method=method)
    adapted = add_adapter(LlamaForCausalLM.from_pretrained(start), job.spec.method, seed=0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:  # zero at the start: the adapter would change nothing
            torch.nn.init.normal_(parameter, std=0.05)
    apart, merged = RunFolder(tmp_path / "apart"), RunFolder(tmp_path / "merged")
    save(adapted, tokenizer, apart.model)
    save_base_name(apart.model, str(start), None)
    save(adapted.merge_and_unload(), tokenizer, merged.model)

    reports = []
    for folder in (apart, merged):
        outcome = evaluate_job(job, folder, Resolver())
        assert outcome.reason == "Succeeded", outcome.message
        reports.append(read_report(folder))
    for one, other in zip(reports[0].metrics, reports[1].metrics, strict=True):
        assert one.tuned.value == pytest.approx(other.tuned.value, rel=1e-4)
        assert one.base and other.base
        assert one.base.value == other.base.value
    beside = reports[0].metrics[0].base
    assert beside is not None and abs(beside.difference.value) > 0.1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("model", "holds no model yet; run the job to its end first"),
        ("model/model.safetensors", "cannot be loaded"),
        ("model/tokenizer.json", "its tokenizer cannot be loaded"),
    ],
)
def test_what_is_missing_is_named(damage: str, message: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    save(wild_model("llama", tokenizer), tokenizer, folder.model)
    path = folder.root / damage
    path.rename(tmp_path / "away")
    outcome = evaluate_job(make_job(tmp_path, ROWS), folder, Resolver())
    assert outcome.reason == "InvalidInput"
    assert message in outcome.message and "\n" not in outcome.message


def test_a_model_with_broken_weights_has_diverged(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder, model = RunFolder(tmp_path / "run"), wild_model("llama", tokenizer)
    model.get_input_embeddings().weight.data[5:] = float("nan")
    save(model, tokenizer, folder.model)
    outcome = evaluate_job(make_job(tmp_path, ROWS), folder, Resolver())
    assert outcome.reason == "LossDiverged"
    assert outcome.message.endswith("the first is row 1")


def test_a_pod_and_a_person_get_the_same_figures(
    tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str], collector: Collector
) -> None:
    address, mounts, log = "pvc://runs/team/add-12345678", tmp_path / "mnt", tmp_path / "termination-log"
    folder = RunFolder(mounts / "pvc" / "runs" / "team" / "add-12345678")
    save(wild_model("llama", tokenizer), tokenizer, folder.model)
    job = make_job(tmp_path, ROWS)
    (tmp_path / JOB_FILE).write_text(job.model_dump_json(exclude_none=True, exclude={"status"}))
    tracing = Tracing(endpoint=collector.endpoint, traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01")
    past = [PastAttempt(number=1, reason="WorkerLost", message="a node went away")]
    config = RunConfig(attempt=2, folder=address, tracing=tracing, past=past)
    (tmp_path / RUN_FILE).write_text(config.model_dump_json())
    assert evaluate_in_pod(config=tmp_path, mount_root=mounts, termination_log=log) == 0
    outcome = Outcome.model_validate_json(log.read_text())
    assert (outcome.reason, outcome.attempt) == ("Succeeded", 2)
    assert (outcome.artifacts.folder, outcome.artifacts.model) == (address, f"{address}/model")
    assert outcome.artifacts.report == f"{address}/report.html"
    assert read_attempts(folder) == past
    assert len(log.read_bytes()) <= 4096
    evaluation = collector.one("evaluation")
    assert (evaluation.trace, evaluation.parent) == ("ab" * 16, "cd" * 8)
    assert {span.attributes["tunesmith.model"] for span in collector.named("model evaluation")} >= {"tuned"}

    assert json.loads(folder.config.read_text())["fields"] == identity_fields(job.spec)
    capsys.readouterr()
    assert main(["evaluate", str(folder.root)]) == 0
    printed = capsys.readouterr().out
    assert "9 test rows" in printed and "tuned - base" in printed
    assert read_report(folder).to_result() == outcome.evaluation


def test_a_pod_that_cannot_evaluate_says_why_and_is_done(tokenizer: Tokenizer, tmp_path: Path) -> None:
    mounts, log = tmp_path / "mnt", tmp_path / "termination-log"
    folder = RunFolder(mounts / "pvc" / "runs" / "team" / "add-12345678")
    save(wild_model("llama", tokenizer), tokenizer, folder.model)
    job = make_job(tmp_path, ROWS, dataset={"train": {"source": "a"}, "test": {"source": "pvc://data/gone.jsonl"}})
    (tmp_path / JOB_FILE).write_text(job.model_dump_json(exclude_none=True, exclude={"status"}))
    (tmp_path / RUN_FILE).write_text(RunConfig(attempt=1, folder="pvc://runs/team/add-12345678").model_dump_json())
    assert evaluate_in_pod(config=tmp_path, mount_root=mounts, termination_log=log) == 0
    outcome = Outcome.model_validate_json(log.read_text())
    assert outcome.reason == "InvalidInput"
    assert outcome.message == f"spec.dataset.test.source: {mounts}/pvc/data/gone.jsonl does not exist"
