"""`tunesmith logs`; a gateway plays the kubelet, which this control plane lacks."""

import json

import pytest

from ..kube import Kube, Object, eventually
from ..operator.ray import JOB
from .conftest import Run, Start
from .gateway import Gateway, json_line
from .statuses import attempt, make_job, make_pipeline, make_pod, set_state, set_status

NAME = "tune"
FOLDER = "pvc://runs/team/tune-1a2b3c4d"
RAY = "\x1b[36m(RayTrainWorker pid=212, ip=10.1.0.7)\x1b[0m "


@pytest.fixture
def job(kube: Kube, namespace: str) -> Object:
    """A job in its second attempt."""
    attempts = [attempt(1, NAME, endTime="2026-11-27T10:05:00Z", reason="OutOfMemory"), attempt(2, NAME)]
    return make_job(kube, namespace, NAME, "Training", attempts=attempts, artifacts={"folder": FOLDER})


@pytest.fixture
def pod(kube: Kube, job: Object, gateway: Gateway) -> str:
    """Its submitter, which has printed what Ray and two workers wrote."""
    name = make_pod(kube, job, "submitter", 2)
    gateway.logs[name] = [
        "2 nodes are there",
        RAY + json_line("reads the data", rank=0),
        RAY + json_line("loss 0.5", rank=0, step=100),
        RAY + json_line("waits", rank=1, level="WARNING", exception="Traceback: x"),
    ]
    return name


def test_lines_are_made_readable(run: Run, pod: str) -> None:
    code, out, err = run("logs", NAME)
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == "2 nodes are there"
    assert lines[2].endswith(" INFO [0] step 100: loss 0.5")
    assert lines[3].endswith(" WARNING [1] waits")
    assert lines[4] == "Traceback: x"
    assert err == f"attempt 2 of {NAME}, pod {pod}\n"


def test_json_holds_a_record_a_line(run: Run, pod: str) -> None:
    records = [json.loads(line) for line in run("logs", NAME, "-o", "json", "--all")[1].splitlines()]
    assert records[0] == {"message": "2 nodes are there", "pod": pod}
    assert (records[2]["step"], records[2]["rank"]) == (100, 0)


def test_less_of_it(run: Run, pod: str) -> None:
    assert run("logs", NAME, "--tail", "1")[1].count("waits") == 1
    assert run("logs", NAME, "--tail", "2")[1].count("\n") == 3
    assert run("logs", NAME, "--worker", "0", "--tail", "1")[1].endswith("step 100: loss 0.5\n")
    code, out, err = run("logs", NAME, "--worker", "7")
    assert (code, out) == (1, "")
    assert "no line of worker 7" in err


def test_all_pods_of_an_attempt(kube: Kube, run: Run, job: Object, pod: str, gateway: Gateway) -> None:
    head, worker = make_pod(kube, job, "head", 2), make_pod(kube, job, "worker", 2, runs=False)
    old = make_pod(kube, job, "submitter", 1)
    gateway.logs |= {head: ["Ray runtime started."], old: ["of old"]}
    code, out, err = run("logs", NAME, "--all", "--tail", "1")
    assert code == 0
    assert f"[{head}] Ray runtime started." in out
    assert f"[{pod}] " in out
    assert "of old" not in out
    assert f"pod {worker} does not run yet: ContainerCreating" in err
    assert run("logs", NAME, "--previous")[1] == run("logs", NAME, "--attempt", "1")[1] == "of old\n"


def test_the_evaluation_is_what_is_shown_once_it_runs(
    kube: Kube, run: Run, job: Object, pod: str, gateway: Gateway
) -> None:
    evaluation = make_pod(kube, job, "evaluation", 3)
    gateway.logs[evaluation] = ["tuned: 5 of 10"]
    code, out, err = run("logs", NAME)
    assert (code, out, err) == (0, "tuned: 5 of 10\n", f"evaluation of {NAME}, pod {evaluation}\n")
    assert "loss 0.5" in run("logs", NAME, "--attempt", "2")[1]


def test_once_the_pods_are_gone_the_last_lines_stay(kube: Kube, namespace: str, run: Run, job: Object) -> None:
    code, out, err = run("logs", NAME)
    where = f"the pods of attempt 2 of {NAME} are gone; its log is {FOLDER}/logs/worker-N.log"
    assert (code, out, err) == (1, "", f"{where}\n")
    # the field is of a newer release than this CRD may be: the API server would drop it
    kept = attempt(2, NAME, logTail=json_line("no room", rank=0) + "\nlast")
    crd = kube.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", "finetunejobs.tunesmith.dev")
    fields = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    if "logTail" in fields["attempts"]["items"]["properties"]:
        set_status(kube, namespace, NAME, attempts=[kept])
        code, out, err = run("logs", NAME)
        assert code == 0
        assert out.splitlines()[-1] == "last"
        assert err == f"{where}; its last lines:\n"


def test_what_is_asked_for_and_is_not_there(run: Run, job: Object, kube: Kube, namespace: str) -> None:
    make_job(kube, namespace, "new", "Queued", message="waits in queue team")
    assert run("logs", "new")[2] == "new has no pods now; it is Queued: waits in queue team\n"
    assert run("logs", "new", "--previous")[2] == "--previous: new has had no attempt yet\n"
    assert run("logs", NAME, "--attempt", "5")[2] == f"--attempt: {NAME} has had no attempt 5; there are: 1, 2\n"
    assert "has no stages" in run("logs", NAME, "--stage", "sft")[2]


def test_a_pipeline_shows_its_running_stage(
    kube: Kube, namespace: str, run: Run, job: Object, pod: str, gateway: Gateway
) -> None:
    first = make_job(kube, namespace, "first", "Succeeded", attempts=[attempt(1, "first")])
    gateway.logs[make_pod(kube, first, "submitter", 1)] = ["of the first stage"]
    stages = [
        {"name": "sft", "job": "first", "phase": "Succeeded"},
        {"name": "reward", "job": NAME, "phase": "Training"},
    ]
    make_pipeline(kube, namespace, "adds", phase="Reward", stages=stages)
    assert "loss 0.5" in run("logs", "adds")[1]
    assert run("logs", "adds", "--stage", "sft")[1] == "of the first stage\n"
    code, out, err = run("logs", "adds", "--stage", "ppo")
    assert (code, out) == (1, "")
    assert err == "adds has no pods now; it is Reward\n"


def test_following_goes_on_through_broken_connections_and_attempts(
    kube: Kube, namespace: str, start: Start, job: Object, gateway: Gateway
) -> None:
    waiting = make_pod(kube, job, "submitter", 2, runs=False)
    gateway.logs[waiting] = ["one", "two"]
    logs = start("logs", NAME, "-f")
    eventually(lambda: f"pod {waiting} does not run yet: ContainerCreating" in logs.err, "that it waits")
    set_state(kube, namespace, waiting, "submitter", "running")
    logs.shows("two")
    gateway.cut()
    gateway.logs[waiting].append("three")
    logs.shows("three")
    gateway.ended.add(waiting)
    set_state(kube, namespace, waiting, "submitter", "terminated")
    set_status(kube, namespace, NAME, attempts=[attempt(2, NAME), attempt(3, NAME)])
    again = make_pod(kube, job, "submitter", 3)
    gateway.logs[again] = ["another attempt"]
    logs.shows("another attempt")
    gateway.ended.add(again)
    set_state(kube, namespace, again, "submitter", "terminated")
    set_status(kube, namespace, NAME, phase="Succeeded")
    assert logs.end() == 0
    assert logs.out == "one\ntwo\nthree\nanother attempt\n", "each line once"


def test_following_a_job_that_is_deleted(kube: Kube, namespace: str, start: Start, job: Object) -> None:
    logs = start("logs", NAME, "-f")
    kube.delete(*JOB, NAME, namespace)
    assert logs.end() in (1, 2)  # 2 where it was gone before the command looked
    assert NAME in logs.err
