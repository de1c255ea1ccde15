"""Tasks of lm-evaluation-harness give what the library gives with its own model class."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase as Tokenizer

from tests.model.wild import CONTEXT, PROMPTS, make_job, save, wild_model
from tunesmith.api.pod import RunFolder
from tunesmith.evaluation.report import MetricReport, read_report
from tunesmith.evaluation.run import evaluate_job
from tunesmith.sources import Resolver

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore::DeprecationWarning:lm_eval.*")]

CHOICE = """
task: sums
dataset_path: json
dataset_kwargs: {data_files: {test: sums.jsonl}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{question}} ="
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
"""
WRITTEN = """
task: written
dataset_path: json
dataset_kwargs: {data_files: {test: sums.jsonl}}
output_type: generate_until
test_split: test
doc_to_text: "{{question}} ="
doc_to_target: "{{said}}"
generation_kwargs: {until: ["1", "ab"], max_gen_toks: 16, do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
  - {metric: bleu, aggregation: bleu, higher_is_better: true}
"""
EXPECTED = {"sums/acc", "sums/acc_norm", "written/exact_match", "written/bleu"}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [
        {"question": p, "choices": [str(len(p)), "12 and more", "7"], "answer": i % 3, "said": "x" * (i % 2)}
        for i, p in enumerate(p for p in PROMPTS * 2 if len(p) < 40)
    ]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "sums.yaml").write_text(CHOICE)
    (folder / "written.yaml").write_text(WRITTEN)
    return folder


def evaluated(root: Path, tokenizer: Tokenizer, **harness: Any) -> tuple[str, dict[str, MetricReport]]:
    run = RunFolder(root / "run")
    save(wild_model("llama", tokenizer, seed=3), tokenizer, run.model)
    evaluation = {"metrics": ["perplexity"], "batchSize": 4, "harness": harness}
    job = make_job(root, [{"prompt": "1", "response": "2"}], evaluation=evaluation)
    outcome = evaluate_job(job, run, Resolver(base=root))
    if outcome.reason != "Succeeded":
        return outcome.message, {}
    return "", {metric.name: metric for metric in read_report(run).metrics}


def test_the_figures_are_those_of_the_library(tasks: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    message, found = evaluated(tmp_path, tokenizer, tasks=["sums", "written"], folder=str(tasks))
    assert not message, message
    assert found.keys() - {"perplexity"} == EXPECTED

    model = wild_model("llama", tokenizer, seed=3)
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=3, max_length=CONTEXT)
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    before = Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tasks)
        patch.setenv("DISABLE_MULTIPROC", "1")
        expected = simple_evaluate(theirs, tasks=["sums", "written"], task_manager=manager, bootstrap_iters=100)
    assert Path.cwd() == before
    values: dict[str, float] = {}
    for task, figures in expected["results"].items():
        values |= {f"{task}/{k.removesuffix(',none')}": v for k, v in figures.items() if k.endswith(",none")}
    for name in EXPECTED:
        assert found[name].tuned.value == pytest.approx(values[name], abs=1e-9), name
    assert len({round(found[name].tuned.value, 6) for name in EXPECTED}) > 1
    lines = [json.loads(line) for line in (tmp_path / "run/evaluation/harness.jsonl").read_text().splitlines()]
    for task, name in (("sums", "acc"), ("written", "exact_match")):
        metric, of_task = found[f"{task}/{name}"], [line for line in lines if line["task"] == task]
        assert np.mean([line["tuned"][name] for line in of_task]) == pytest.approx(metric.tuned.value)
        assert metric.base is not None
        assert np.mean([line["base"][name] for line in of_task]) == pytest.approx(metric.base.value.value)
    question = json.loads((tasks / "sums.jsonl").read_text().splitlines()[0])
    assert (lines[0]["row"], lines[0]["prompt"]) == (1, f"{question['question']} =")
    assert [choice.strip() for choice in lines[0]["choices"]] == question["choices"]
    accuracy = found["sums/acc"]
    assert accuracy.base is not None and accuracy.rows == len((tasks / "sums.jsonl").read_text().splitlines())
    difference = accuracy.base.difference
    assert difference.value == pytest.approx(accuracy.tuned.value - accuracy.base.value.value)
    assert difference.low < difference.high and 0 < accuracy.tuned.value < 1


def test_answers_are_those_of_the_library_row_by_row(tasks: Path, tokenizer: Tokenizer) -> None:
    """Cut at the texts that end them, wherever these are in a token; so are likelihoods, also of whole texts."""
    from lm_eval.models.huggingface import HFLM

    from tunesmith.evaluation.harness_model import HarnessModel
    from tunesmith.evaluation.outputs import Outputs
    from tunesmith.evaluation.work import Here, Source

    model = wild_model("llama", tokenizer, seed=3)
    model.generation_config.eos_token_id = [int(tokenizer.eos_token_id)]
    ours = HarnessModel(Outputs(Source("m", "", lambda: model), tokenizer, Here()), 4, CONTEXT)
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, max_length=CONTEXT)
    whole = theirs.generate_until(
        _requests("generate_until", [(p, {"until": [], "max_gen_toks": 16}) for p in PROMPTS])
    )
    until = sorted({text[5:7] for text in whole if len(text) > 7})
    asked = _requests("generate_until", [(p, {"until": list(until), "max_gen_toks": 16}) for p in PROMPTS])
    assert ours.generate_until(asked) == theirs.generate_until(asked) != whole
    pairs = [(p, answer) for p in ("", *PROMPTS) for answer in (" 5", "12 and more", "y" * 50)]
    found, expected = (m.loglikelihood(_requests("loglikelihood", pairs)) for m in (ours, theirs))
    np.testing.assert_allclose([f[0] for f in found], [e[0] for e in expected], rtol=1e-5)
    assert [f[1] for f in found] == [e[1] for e in expected]
    texts = [(p,) for p in (*PROMPTS, "z" * 200)]
    rolled = [m.loglikelihood_rolling(_requests("loglikelihood_rolling", texts)) for m in (ours, theirs)]
    np.testing.assert_allclose(rolled[0], rolled[1], rtol=1e-5)


def _requests(kind: str, arguments: list[Any]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(request_type=kind, doc={}, arguments=a, idx=i) for i, a in enumerate(arguments)]


def test_mistakes_are_a_line_each(tasks: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    message, _ = evaluated(tmp_path, tokenizer, tasks=["sum"], folder=str(tasks))
    assert (
        "spec.evaluation.harness.tasks: there is no task or group 'sum'; near it are " in message and "sums" in message
    )
    (tasks / "sums.jsonl").unlink()
    message, _ = evaluated(tmp_path, tokenizer, tasks=["sums"], folder=str(tasks))
    assert message.startswith("spec.evaluation.harness.tasks: cannot be loaded, its data included: ")
    assert "\n" not in message


def test_code_of_a_folder_is_not_run(tasks: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (tasks / "own.py").write_text(f"open({str(marker)!r}, 'w')\ndef process(x): return x\n")
    (tasks / "sums.yaml").write_text(CHOICE + "process_docs: !function own.process\n")
    message, _ = evaluated(tmp_path, tokenizer, tasks=["sums"], folder=str(tasks))
    assert "code of its own (!function own.process), which is not run" in message and not marker.exists()
    reach = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    (tasks / "sums.yaml").write_text(CHOICE.replace("{{question}} =", reach))
    message, _ = evaluated(tmp_path, tokenizer, tasks=["sums"], folder=str(tasks))
    assert "unsafe" in message or "undefined" in message
