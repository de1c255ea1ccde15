"""The card of a model: what the Hub reads of it, and that nobody's own words are lost."""

from pathlib import Path

from huggingface_hub import ModelCard

from tests.unit.report.runs import NASTY, finished, job_of, make_run, whole_evaluation
from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import RunFolder
from tunesmith.report.write import leave_report


def with_model(folder: RunFolder) -> Path:
    folder.model.mkdir()
    (folder.model / "adapter_config.json").write_text('{"base_model_name_or_path": "base"}')
    return folder.model / "README.md"


def test_the_hub_reads_the_metadata(tmp_path: Path) -> None:
    sources = {"train": {"source": "hf://owner/rows@main"}, "test": {"source": "hf://owner/tests"}}
    job = job_of(model={"source": "hf://owner/base"}, dataset=sources)
    folder = finished(tmp_path, job=job)
    card = with_model(folder)
    assert leave_report(folder) == folder.report
    data = ModelCard.load(card).data
    assert (data.base_model, data.library_name, data.pipeline_tag) == ("owner/base", "peft", "text-generation")
    assert (data.datasets, data.license) == (["owner/rows"], None)
    assert data.eval_results is not None
    assert [(r.metric_type, r.metric_value, r.dataset_type) for r in data.eval_results] == [
        ("exact_match", 0.6, "owner/tests"),
        ("perplexity", 0.6, "owner/tests"),
    ]


def test_a_card_grows_with_what_is_known(tmp_path: Path) -> None:
    folder = make_run(tmp_path, outcome=Outcome(reason="Succeeded", step=60))
    card = with_model(folder)
    leave_report(folder)
    assert "It has not been evaluated." in card.read_text()
    assert ModelCard.load(card).data.eval_results is None
    finished(tmp_path, whole_evaluation())
    leave_report(folder)
    text = card.read_text()
    assert (
        "| exact match ↑ | 0.600 [0.500, 0.700] | base | 0.400 [0.300, 0.500] | +0.200 [+0.100, +0.300] | better |"
        in text
    )
    assert "exactMatch is 0.6, below the 0.9 asked for" in text
    assert "these went wrong: empty (3 rows)" in text
    assert NASTY not in text and "secret-of-a-pod" not in text


def test_a_persons_own_card_stays(tmp_path: Path) -> None:
    folder = finished(tmp_path)
    card = with_model(folder)
    card.write_text("# mine\n")
    told: list[str] = []
    assert leave_report(folder, told.append) == folder.report
    assert card.read_text() == "# mine\n"
    assert told == [f"{card} is not of Tunesmith's making and stays as it is"]


def test_the_form_that_peft_leaves_is_replaced(tmp_path: Path) -> None:
    folder = finished(tmp_path)
    card = with_model(folder)
    card.write_text("---\nlibrary_name: peft\n---\n\n# Model Card for Model ID\n")
    leave_report(folder)
    assert "Model ID" not in card.read_text()


def test_a_report_that_cannot_be_written_is_said_and_fails_nothing(tmp_path: Path) -> None:
    folder = finished(tmp_path)
    folder.report.mkdir()
    told: list[str] = []
    assert leave_report(folder, told.append) is None
    (sentence,) = told
    assert "the report could not be written: " in sentence and "tunesmith report" in sentence
    assert not list(tmp_path.glob(".partial*"))
