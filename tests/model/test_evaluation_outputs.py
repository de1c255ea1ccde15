"""An evaluation that is interrupted, repeated, or shared by workers gives what one in one piece gives."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from tests.model.wild import PROMPTS, make_job, save, wild_model
from tunesmith.api.job import FineTuneJob
from tunesmith.api.load import InputError, Problem
from tunesmith.api.pod import JOB_FILE, RUN_FILE, RunConfig, RunFolder
from tunesmith.evaluation.run import evaluate_job
from tunesmith.evaluation.work import Here, Keep, RowsFailedError, Source, Work
from tunesmith.evaluation.workers import Workers
from tunesmith.launch.folder import read_result
from tunesmith.sources import Resolver

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS = [{"prompt": f"{p} {i}", "response": str(len(p) + i)} for i in range(4) for p in PROMPTS if len(p) < 50]
EVALUATION = {"metrics": ["perplexity", "exactMatch"], "maxNewTokens": 20, "batchSize": 4}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    yield
    ray.shutdown()


class Counted(Here):
    """Counts what is computed, and may stop somewhere."""

    def __init__(self, most: float = float("inf")) -> None:
        super().__init__()
        self.items: dict[str, int] = {}
        self.most = most

    def do(self, source: Source, work: Work, items: Any, keep: Keep) -> int:
        def count(outputs: dict[int, Any]) -> None:
            if sum(self.items.values()) >= self.most:
                raise KeyboardInterrupt
            keep(outputs)
            self.items[work.name] = self.items.get(work.name, 0) + len(outputs)

        return super().do(source, work, items, count)


def run_in(folder: Path, tokenizer: Tokenizer, **evaluation: Any) -> tuple[FineTuneJob, RunFolder]:
    run = RunFolder(folder / "run")
    if not run.model.exists():
        save(wild_model("llama", tokenizer), tokenizer, run.model)
    return make_job(folder, ROWS, evaluation=EVALUATION | evaluation), run


def rows_of(run: RunFolder) -> str:
    return (run.evaluation / "rows.jsonl").read_text(encoding="utf-8")


def test_what_is_interrupted_goes_on_where_it_was(tokenizer: Tokenizer, tmp_path: Path) -> None:
    job, run = run_in(tmp_path, tokenizer)
    whole = Counted()
    assert evaluate_job(job, run, Resolver(), crew=whole).reason == "Succeeded"
    expected, total = rows_of(run), sum(whole.items.values())

    shutil.rmtree(run.evaluation)
    done, crews = 0, 0
    while True:
        crew = Counted(most=30)
        crews += 1
        try:
            outcome = evaluate_job(job, run, Resolver(), crew=crew)
            break
        except KeyboardInterrupt:
            done += sum(crew.items.values())
    assert outcome.reason == "Succeeded" and crews > 2
    assert done + sum(crew.items.values()) == total, "nothing was computed twice"
    assert rows_of(run) == expected


def test_a_second_evaluation_computes_only_what_has_changed(tokenizer: Tokenizer, tmp_path: Path) -> None:
    def computed(**evaluation: Any) -> dict[str, int]:
        job, run = run_in(tmp_path, tokenizer, **evaluation)
        crew = Counted()
        assert evaluate_job(job, run, Resolver(), crew=crew).reason == "Succeeded"
        return crew.items

    first = computed()
    assert first["answers"] == first["losses"] == 2 * len(ROWS)
    assert computed() == {}
    assert computed(metrics=["perplexity", "exactMatch", "tokenF1"]) == {}, "another metric needs no model"
    assert computed(maxNewTokens=10) == {"answers": 2 * len(ROWS)}
    save(wild_model("llama", tokenizer, seed=1), tokenizer, tmp_path / "run" / "model")
    again = computed(maxNewTokens=10, compareWithBase=False)
    assert again["answers"] == again["losses"] == len(ROWS)
    assert len(list((tmp_path / "run" / "evaluation" / "outputs").iterdir())) == 3


def test_a_killed_evaluation_goes_on(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """kill -9 in the middle of the answers, then the same command again."""
    job, run = run_in(tmp_path, tokenizer, compareWithBase=False, batchSize=1)
    script = (
        "import sys, time, json; from pathlib import Path; import torch; torch.set_num_threads(1)\n"
        "from tunesmith.evaluation import run, work; from tunesmith.api.job import FineTuneJob\n"
        "from tunesmith.api.pod import RunFolder; from tunesmith.sources import Resolver\n"
        "job = FineTuneJob.model_validate(json.loads(Path(sys.argv[1]).read_text()))\n"
        "slow = lambda what, done, total: time.sleep(0.05)\n"
        "print(run.evaluate_job(job, RunFolder(Path(sys.argv[2])), Resolver(), slow).reason)\n"
    )
    (tmp_path / "job.json").write_text(json.dumps(job.to_dict()))
    command = [sys.executable, "-c", script, str(tmp_path / "job.json"), str(run.root)]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 120
    while sum(len(f.read_bytes().splitlines()) for f in run.outputs.glob("tuned-answers-*")) < 5:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    crew = Counted()
    assert evaluate_job(job, run, Resolver(), crew=crew).reason == "Succeeded"
    assert 0 < crew.items["answers"] < len(ROWS) and "losses" not in crew.items


def test_the_rows_are_the_same_for_one_worker_and_two(tokenizer: Tokenizer, tmp_path: Path, cluster: None) -> None:
    job, run = run_in(tmp_path, tokenizer)
    assert evaluate_job(job, run, Resolver()).reason == "Succeeded"
    expected = rows_of(run)
    shutil.rmtree(run.evaluation)
    job, run = run_in(tmp_path, tokenizer, workers=2)
    outcome = evaluate_job(job, run, Resolver())
    assert outcome.reason == "Succeeded", outcome.message
    assert rows_of(run) == expected


def _tiny() -> PreTrainedModel:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=8))


def _dies_once(marker: Path, model: Any, items: list[int], size: int, keep: Keep) -> int:
    if 5 in items and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    keep({item: item * item for item in items})
    return size


def _dies_with(row: int, model: Any, items: list[int], size: int, keep: Keep) -> int:
    if row in items:
        os.kill(os.getpid(), signal.SIGKILL)
    keep({item: item for item in items})
    return size


def _refuses(model: Any, items: list[int], size: int, keep: Keep) -> int:
    raise InputError(Problem("is not a model", "spec.model.source"))


def _too_much(model: Any, items: list[int], size: int, keep: Keep) -> int:
    if size > 2:
        raise torch.OutOfMemoryError("CUDA out of memory")
    keep(dict.fromkeys(items, size))
    return size


@pytest.fixture
def workers(cluster: None) -> Iterator[Workers]:
    from tunesmith.launch.workers import join_ray

    join_ray(None, 2)
    crew = Workers(2, threads=1, cpus=1, gpus=0)
    yield crew
    crew.close()


def _work(do: Callable[..., int], size: int = 4) -> Work:
    return Work("squares", range(20), size, [], do)


def test_rows_of_a_worker_that_dies_are_done_by_another(workers: Workers, tmp_path: Path) -> None:
    found: dict[int, Any] = {}
    work = _work(partial(_dies_once, tmp_path / "marker"))
    workers.do(Source("tuned", "1", _tiny), work, work.items, found.update)
    assert found == {item: item * item for item in range(20)} and (tmp_path / "marker").exists()


def test_a_row_that_kills_its_workers_is_named(workers: Workers) -> None:
    found: dict[int, Any] = {}
    work = _work(partial(_dies_with, 13), size=1)
    with pytest.raises(RowsFailedError, match="row 14 fails with every worker that tries it: the worker ended"):
        workers.do(Source("tuned", "1", _tiny), work, work.items, found.update)
    assert 13 not in found


def test_a_mistake_is_told_at_once_as_it_is(workers: Workers) -> None:
    with pytest.raises(RowsFailedError, match=r"^spec.model.source: is not a model$") as caught:
        workers.do(Source("tuned", "1", _tiny), _work(_refuses), range(20), lambda found: None)
    assert caught.value.reason == "InvalidInput"


def test_where_memory_runs_out_rows_are_fewer_at_once(workers: Workers) -> None:
    found: dict[int, Any] = {}
    workers.do(Source("tuned", "1", _tiny), _work(_too_much), range(20), found.update)
    assert found == dict.fromkeys(range(20), 2)


def test_the_driver_on_a_cluster_leaves_an_outcome(tokenizer: Tokenizer, tmp_path: Path, cluster: None) -> None:
    """As the RayJob of an evaluation runs it: everything from the ConfigMap, scored on a worker."""
    from ray.cluster_utils import Cluster

    from tunesmith.cli.evaluate import evaluate_on_ray

    ray.shutdown()
    mounted = tmp_path / "pvc" / "runs"
    mounted.mkdir(parents=True)
    job, run = run_in(mounted, tokenizer, workers=2)
    (tmp_path / JOB_FILE).write_text(json.dumps(job.to_dict()), encoding="utf-8")
    settings = RunConfig(attempt=2, folder="pvc://runs/run", phase="evaluate")
    (tmp_path / RUN_FILE).write_text(settings.model_dump_json(), encoding="utf-8")
    nodes: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            nodes.add_node(num_cpus=1)
        os.environ["RAY_ADDRESS"] = nodes.address
        assert evaluate_on_ray(tmp_path, tmp_path) == 0
    finally:
        del os.environ["RAY_ADDRESS"]
        ray.shutdown()
        nodes.shutdown()
    outcome = read_result(run.evaluation_outcome)
    assert outcome is not None and outcome.attempt == 2 and outcome.evaluation is not None
    assert outcome.evaluation.rows == len(ROWS) and outcome.artifacts.folder == "pvc://runs/run"
