"""What `tunesmith validate` says of a job file."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.api.invalid import OFFLINE, PIPELINES, SPECS, VALID, VALID_EVALUATION, VALID_PIPELINE, Invalid, changed
from tunesmith.api.load import InputError, load_jobs, load_resources


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str | bytes], Path]:
    monkeypatch.chdir(tmp_path)

    def write(content: str | bytes) -> Path:
        path = Path("job.yaml")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize("case", [*SPECS, *OFFLINE, *PIPELINES], ids=lambda case: case.story)
def test_one_mistake_is_one_line_with_its_place(case: Invalid, file: Callable[[str], Path]) -> None:
    with pytest.raises(InputError) as refused:
        load_jobs(file(case.text), "cluster")
    assert str(refused.value) == f"job.yaml:{case.printed}"


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("just words", "job.yaml:1: is not a Kubernetes resource: it has no apiVersion and kind"),
        ("- a\n- list\n", "job.yaml:1: is not a Kubernetes resource: it has no apiVersion and kind"),
        ("", "job.yaml: holds no resource; a FineTuneJob or an RLHFPipeline is expected"),
        ("---\n---\n# nothing\n", "job.yaml: holds no resource; a FineTuneJob or an RLHFPipeline is expected"),
        ("spec: [1,\n", "job.yaml:2: is not valid YAML: expected the node content, but found '<stream end>'"),
        ("a: b: c\n", "job.yaml:1: is not valid YAML: mapping values are not allowed here"),
        ("a: 1\n\tb: 2\n", "job.yaml:2: is not valid YAML: found a tab that cannot start any token"),
        ("a: *x\n", "job.yaml:1: is not valid YAML: found undefined alias 'x'"),
        ("a: &a [*a]\n", "job.yaml: is nested too deeply, or holds itself"),
        ("? [a]\n: 1\n", "job.yaml:1: is not valid YAML: a key should be a word"),
        (b"\xff\xfe\x00", "job.yaml: is not UTF-8 text; is it a YAML file?"),
    ],
)
def test_what_is_no_job_is_named(text: str | bytes, printed: str, file: Callable[[str | bytes], Path]) -> None:
    with pytest.raises(InputError) as refused:
        load_jobs(file(text))
    assert str(refused.value) == printed


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"^nowhere\.yaml: cannot be read: No such file or directory$"):
        load_jobs(Path("nowhere.yaml"))


@pytest.mark.parametrize(
    ("written", "number"), [("2e-4", 2e-4), ("2E-04", 2e-4), ("1", 1.0), (".5", 0.5), ("1e1", 10.0)]
)
def test_numbers_are_read_as_kubernetes_reads_them(written: str, number: float, file: Callable[[str], Path]) -> None:
    (job,) = load_jobs(file(changed({"2e-4": written})), "cluster")
    assert job.spec.training.learning_rate == number


def test_a_field_without_a_value_has_its_default(file: Callable[[str], Path]) -> None:
    (job,) = load_jobs(file(changed({"batchSize: 4": "batchSize:", "rank: 8": "rank: null"})), "cluster")
    assert (job.spec.training.batch_size, job.spec.method.lora and job.spec.method.lora.rank) == (32, 16)


def test_every_mistake_is_printed_and_each_document_counts_its_lines(file: Callable[[str], Path]) -> None:
    second = changed({"batchSize: 4": "batchSize: 0", "rank: 8": "rank: x", "name: sums": "name: other"})
    with pytest.raises(InputError) as refused:
        load_jobs(file(f"{VALID}---\n{second}"))
    assert str(refused.value).splitlines() == [
        "job.yaml:33: spec.method.lora.rank: should be of type integer (is 'x')",
        "job.yaml:35: spec.training.batchSize: should be greater than or equal to 1 (is 0)",
    ]


def test_two_jobs_of_one_name(file: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match=r"^job\.yaml: metadata\.name: 'sums' is the name of two jobs$"):
        load_jobs(file(f"{VALID}---\n{VALID}"))


def test_a_local_path_is_fine_for_a_local_run(file: Callable[[str], Path]) -> None:
    (job,) = load_jobs(file(changed({"hf://acme/sums": "rows.jsonl"})), "local")
    assert job.spec.dataset.train is not None
    assert job.spec.dataset.train.source == "rows.jsonl"


def test_a_status_that_came_along_is_nobodys_input(file: Callable[[str], Path]) -> None:
    """As in the output of `kubectl get -o yaml`, of a later release perhaps."""
    (job,) = load_jobs(file(f"{VALID}status: {{phase: Dreaming}}\n"), "cluster")
    assert job.status.phase is None


def test_a_pipeline_stands_for_three_jobs(file: Callable[[str], Path]) -> None:
    path = file(f"{VALID_PIPELINE}---\n{VALID}")
    assert [(r.kind, r.metadata.name) for r in load_resources(path, "cluster")] == [
        ("RLHFPipeline", "helpful"),
        ("FineTuneJob", "sums"),
    ]
    sft, reward, ppo, _ = load_jobs(path)
    assert [job.metadata.name for job in (sft, reward, ppo)] == ["helpful-sft", "helpful-reward", "helpful-ppo"]
    assert sft.spec.objective.chosen == "instruction"
    assert reward.spec.model_sources == {"spec.model.source": "job://helpful-sft"}
    assert ppo.spec.model_sources == {
        "spec.model.source": "job://helpful-sft",
        "spec.objective.ppo.reward[0].model.source": "job://helpful-reward",
    }
    assert {job.spec.objective.template for job in (sft, reward, ppo)} == {"Q: {prompt} A: {response}"}
    assert [job.spec.scaling.workers for job in (sft, reward, ppo)] == [2, 2, 2]


def test_a_job_of_the_name_of_a_stage(file: Callable[[str], Path]) -> None:
    text = f"{VALID_PIPELINE}---\n{changed({'name: sums': 'name: helpful-sft'})}"
    with pytest.raises(InputError, match=r"^job\.yaml: metadata\.name: 'helpful-sft' is the name of two jobs$"):
        load_jobs(file(text))


def test_an_evaluation_alone_is_a_job(file: Callable[[str], Path]) -> None:
    (job,) = load_jobs(file(VALID_EVALUATION), "cluster")
    assert not job.spec.trains
    assert job.spec.model_sources == {"spec.model.source": "hf://acme/tiny"}


def test_an_evaluation_alone_has_no_settings_of_a_training(file: Callable[[str], Path]) -> None:
    text = changed({"  evaluation:\n": "  training: {epochs: 3, maxLength: 99}\n  evaluation:\n"}, VALID_EVALUATION)
    with pytest.raises(InputError, match=r"^job\.yaml:10: spec\.training\.epochs: nothing is trained: an evaluation"):
        load_jobs(file(text))


def test_what_an_evaluation_compares_with_is_reachable_from_the_cluster(file: Callable[[str], Path]) -> None:
    path = file(changed({"job://sums": "runs/sums"}, VALID_EVALUATION))
    assert len(load_jobs(path, "local")) == 1
    with pytest.raises(InputError, match=r"spec\.evaluation\.compareWith: should name jobs \(job://NAME\)"):
        load_jobs(path, "cluster")


@pytest.mark.parametrize(
    ("tracking", "message"),
    [
        (
            "mlflow: {trackingUri: sqlite:///mlflow.db}",
            "trackingUri: is a local file, which works only with `tunesmith run`; use the address of a server",
        ),
        (
            "wandb: {project: sums}",
            "apiKeySecret: is missing: mode online needs the key of the API; name a Secret, or use mode: offline",
        ),
    ],
)
def test_what_pods_cannot_track_is_fine_for_a_local_run(
    tracking: str, message: str, file: Callable[[str], Path]
) -> None:
    part = tracking.split(":")[0]
    path = file(f"{VALID}  tracking:\n    {tracking}\n")
    assert load_jobs(path, "local")[0].spec.tracking is not None
    with pytest.raises(InputError, match=re.escape(f"spec.tracking.{part}.{message}")):
        load_jobs(path, "cluster")


def test_a_pipelines_tracking_is_that_of_its_stages(file: Callable[[str], Path]) -> None:
    jobs = load_jobs(file(f"{VALID_PIPELINE}  tracking:\n    tensorboard: {{}}\n"), "cluster")
    assert [job.spec.tracking is not None and job.spec.tracking.tensorboard is not None for job in jobs] == [True] * 3
