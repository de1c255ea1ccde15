"""What a run leaves for those who look into it: its trace, and the end of its log."""

import signal
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.collector import Collector
from tests.model.conftest import Run
from tests.model.jobs import SAVE_EVERY, body_of, write_rows
from tests.model.plants import defect_in_step, signal_in_step, with_environment
from tests.model.processes import Ended, Plant, tunesmith
from tunesmith.api.pod import RunFolder
from tunesmith.api.spans import ENDPOINT_VARIABLE
from tunesmith.launch.folder import read_result
from tunesmith.run_log import last_tail


@pytest.fixture
def run(rows: Path, tmp_path: Path) -> Run:
    body = body_of(rows)
    write_rows(tmp_path / "test.jsonl", 6, seed=1)
    body["spec"]["dataset"]["test"] = {"source": "test.jsonl"}
    body["spec"]["evaluation"] = {"metrics": ["loss"]}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(body))
    return Run(RunFolder(tmp_path / "runs" / "sums"))


def start(run: Run, plant: Plant) -> Ended:
    return tunesmith("run", "-f", "job.yaml", folder=run.folder.root.parents[1], plant=plant)


def test_a_run_is_a_trace(run: Run, collector: Collector) -> None:
    ended = start(run, partial(with_environment, **{ENDPOINT_VARIABLE: collector.endpoint}))
    assert (ended.code, ended.errors) == (0, "")
    whole = collector.one("job")
    assert whole.attributes.items() >= {"tunesmith.job": "sums", "tunesmith.reason": "Succeeded"}.items()
    assert {span.trace for span in collector.spans} == {whole.trace}
    attempt, training = collector.one("attempt"), collector.one("training")
    assert [attempt.parent, collector.one("evaluation").parent] == [whole.id, whole.id]
    phases = ["data preparation", "model load", "training", "export"]
    assert [span.name for span in sorted(collector.spans, key=lambda s: s.start) if span.parent == attempt.id] == phases
    saved = [SAVE_EVERY, 2 * SAVE_EVERY, len(run.losses())]
    for phase in ("validation", "checkpoint"):
        found = sorted(collector.named(phase), key=lambda span: span.start)
        assert [span.attributes["tunesmith.step"] for span in found] == saved
        assert all(span.parent == training.id and training.start <= span.start for span in found)
        assert all(span.end <= training.end for span in found)
    assert (run.folder.logs / "evaluation.log").exists()
    models = [span.attributes["tunesmith.model"] for span in collector.named("model evaluation")]
    assert sorted(models) == ["base", "tuned"]


def test_a_defect_leaves_its_traceback_in_the_outcome(run: Run) -> None:
    """A collector that is not there is told of, and no more."""
    environment = {"HF_TOKEN": "hf_1234567", ENDPOINT_VARIABLE: "http://127.0.0.1:9"}
    ended = start(run, partial(defect_in_step, 3, "cannot reach hub with hf_1234567", **environment))
    assert ended.code == 1
    *_, warning, last = ended.errors.splitlines()
    assert warning.startswith("WARNING traces are dropped while http://127.0.0.1:9 does not take them: ")
    assert last == "sums: InternalError: RuntimeError: cannot reach hub with ***"
    outcome = read_result(run.folder.result)
    assert outcome is not None
    assert outcome.reason == "InternalError"
    assert outcome.log_tail is not None
    assert outcome.log_tail.splitlines()[-1] == "RuntimeError: cannot reach hub with ***"
    assert "plants.py" in outcome.log_tail, "where it was raised"
    assert len(outcome.log_tail.encode()) <= 1024


def test_what_a_killed_worker_said_last_is_there(run: Run) -> None:
    assert start(run, partial(signal_in_step, 3, signal.SIGKILL)).code == -signal.SIGKILL
    assert read_result(run.folder.result) is None
    assert "strategy: " in (last_tail(run.folder) or "")


def test_a_crash_of_native_code_says_where(run: Run) -> None:
    assert start(run, partial(signal_in_step, 3, signal.SIGSEGV)).code == -signal.SIGSEGV
    said = (run.folder.logs / "worker-0.log").read_text()
    assert "Fatal Python error: Segmentation fault" in said
    assert "in _step" in said
