"""The jobs of a file, in order."""

from pathlib import Path

import pytest

from tests.unit.api.invalid import VALID
from tunesmith.api.load import InputError, load_jobs
from tunesmith.cli.main import main
from tunesmith.cli.run import in_order


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


@pytest.mark.parametrize("models", [{"a": "job://b", "b": "job://a"}, {"a": "job://a", "b": "job://a"}])
def test_jobs_that_wait_for_each_other_are_named(models: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^spec\.model\.source: a, b wait for each other's models$"):
        in_order(load_jobs(file_of(tmp_path, **models)))


def test_one_folder_is_for_one_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = file_of(tmp_path, a="hf://acme/tiny", b="hf://acme/tiny")
    assert main(["run", "-f", str(file), "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"--output: goes with one job, but {file} holds 2; use --runs\n"
    assert not (tmp_path / "out").exists()
