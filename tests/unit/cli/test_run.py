"""The jobs of a file, in order; of a pipeline those of its stages."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.unit.api.invalid import VALID, VALID_PIPELINE, changed
from tunesmith.api.evaluation import EvaluationSpec
from tunesmith.api.load import InputError, jobs_of, load_jobs, load_resources
from tunesmith.api.outcome import Outcome
from tunesmith.api.pod import RunFolder
from tunesmith.cli.main import main
from tunesmith.cli.run import done_stages, in_order, show_ignored
from tunesmith.launch.folder import open_folder, write_result


def file_of(folder: Path, **models: str) -> Path:
    """A file with a job for each name, which starts from that model."""
    documents = [VALID.replace("name: sums", f"name: {n}").replace("hf://acme/tiny", m) for n, m in models.items()]
    file = folder / "jobs.yaml"
    file.write_text("---\n".join(documents))
    return file


@pytest.mark.parametrize(
    ("models", "order"),
    [
        ({"a": "hf://acme/tiny", "b": "hf://acme/tiny"}, ["a", "b"]),
        ({"a": "job://b", "b": "job://c", "c": "hf://acme/tiny"}, ["c", "b", "a"]),
        ({"a": "job://elsewhere", "b": "job://a"}, ["a", "b"]),
        ({"b": "hf://acme/tiny", "a": "job://b", "c": "job://b"}, ["b", "a", "c"]),
    ],
)
def test_a_job_comes_after_the_one_whose_model_it_starts_from(
    models: dict[str, str], order: list[str], tmp_path: Path
) -> None:
    assert [job.metadata.name for job in in_order(load_jobs(file_of(tmp_path, **models)))] == order


def test_a_job_comes_after_those_that_it_is_compared_with(tmp_path: Path) -> None:
    """And may be compared with what it was itself."""
    jobs = load_jobs(file_of(tmp_path, a="hf://acme/tiny", b="hf://acme/tiny", c="hf://acme/tiny"))
    evaluation = EvaluationSpec.model_validate({"compareWith": ["job://c", "job://a", "job://elsewhere", "runs/b"]})
    spec = jobs[0].spec.model_copy(update={"evaluation": evaluation})
    compared = jobs[0].model_copy(update={"spec": spec})
    assert [job.metadata.name for job in in_order([compared, *jobs[1:]])] == ["b", "c", "a"]


@pytest.mark.parametrize("models", [{"a": "job://b", "b": "job://a"}, {"a": "job://a", "b": "job://a"}])
def test_jobs_that_wait_for_each_other_are_named(models: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^spec\.model\.source: a, b wait for each other's models$"):
        in_order(load_jobs(file_of(tmp_path, **models)))


def test_one_folder_is_for_one_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = file_of(tmp_path, a="hf://acme/tiny", b="hf://acme/tiny")
    assert main(["run", "-f", str(file), "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"--output: goes with one job, but {file} holds 2; use --runs\n"
    assert not (tmp_path / "out").exists()


def pipeline_file(folder: Path, **changes: str) -> Path:
    file = folder / "pipeline.yaml"
    file.write_text(changed(changes, VALID_PIPELINE))
    return file


def test_what_only_a_cluster_uses_is_named_once(tmp_path: Path) -> None:
    told = "  notifications: [{webhook: team, format: slack}]\n"
    (pipeline,) = load_resources(pipeline_file(tmp_path, **{"  sft:\n": f"{told}  sft:\n"}))
    console = Console(file=io.StringIO(), width=200)
    show_ignored(pipeline, ("notifications",), console)
    for job in jobs_of(pipeline):
        show_ignored(job, ("storage", "runtime", "notifications"), console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "spec.notifications: ignored here; only a cluster uses it\n"


def test_the_stages_of_a_pipeline_run_in_their_order(tmp_path: Path) -> None:
    jobs = load_jobs(pipeline_file(tmp_path))
    assert [job.metadata.name for job in in_order(jobs[::-1])] == ["helpful-sft", "helpful-reward", "helpful-ppo"]


def test_a_reward_model_of_another_job_in_the_file_comes_first(tmp_path: Path) -> None:
    file = pipeline_file(tmp_path)
    judge = VALID.replace("name: sums", "name: judge")
    text = file.read_text().replace("{length: {tokens: 32}, weight: 0.5}", "{model: {source: job://judge}}")
    file.write_text(f"{text}---\n{judge}")
    names = [job.metadata.name for job in in_order(load_jobs(file))]
    assert names.index("judge") < names.index("helpful-ppo")


def left_behind(runs: Path, file: Path, **reasons: str) -> dict[str, RunFolder]:
    """The folders of a pipeline's stages that have run, each with how it ended."""
    jobs = load_jobs(file)
    folders = {job.metadata.name: RunFolder(runs / job.metadata.name) for job in jobs}
    for job in jobs:
        reason = reasons.get(job.metadata.name.removeprefix("helpful-"))
        folder = folders[job.metadata.name]
        if reason is not None:
            with open_folder(folder, job):
                write_result(folder, Outcome.model_validate({"reason": reason}))
            folder.model.mkdir()
    return folders


@pytest.mark.parametrize(
    ("reasons", "change", "kept"),
    [
        ({"sft": "Succeeded", "reward": "Succeeded", "ppo": "LossDiverged"}, {}, {"helpful-sft", "helpful-reward"}),
        ({"sft": "Succeeded"}, {}, {"helpful-sft"}),
        (
            {"sft": "Succeeded", "reward": "Succeeded", "ppo": "Succeeded"},
            {},
            {"helpful-sft", "helpful-reward", "helpful-ppo"},
        ),
        (
            {"sft": "Succeeded", "reward": "Succeeded", "ppo": "Succeeded"},
            {"batchSize: 64": "batchSize: 32"},
            {"helpful-sft", "helpful-reward"},
        ),
        (
            {"sft": "Succeeded", "reward": "Succeeded", "ppo": "Succeeded"},
            {"margin: 1.0": "margin: 2.0"},
            {"helpful-sft"},
        ),
        ({"sft": "Succeeded", "reward": "Succeeded", "ppo": "Succeeded"}, {"2e-4": "3e-4"}, set()),
        ({"reward": "Succeeded", "ppo": "Succeeded"}, {}, set()),
    ],
)
def test_starting_afresh_keeps_the_stages_that_stand(
    reasons: dict[str, str], change: dict[str, str], kept: set[str], tmp_path: Path
) -> None:
    folders = left_behind(tmp_path / "runs", pipeline_file(tmp_path), **reasons)
    later = load_jobs(pipeline_file(tmp_path, **change))
    assert done_stages(later, folders) == kept


def test_a_changed_stage_is_refused_by_its_folder(tmp_path: Path) -> None:
    left_behind(tmp_path / "runs", pipeline_file(tmp_path), ppo="LossDiverged")
    ppo = load_jobs(pipeline_file(tmp_path, **{"batchSize: 64": "batchSize: 32"}))[2]
    with (
        pytest.raises(InputError, match=r"spec\.training\.batchSize differ; start over with --fresh"),
        open_folder(RunFolder(tmp_path / "runs" / "helpful-ppo"), ppo),
    ):
        pass


def test_validate_names_the_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = pipeline_file(tmp_path)
    assert main(["validate", "-f", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: RLHFPipeline helpful is valid\n"
