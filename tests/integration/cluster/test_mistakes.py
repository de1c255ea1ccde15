"""What goes wrong on the way to a cluster is said in a line."""

import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from ..controlplane import ControlPlane
from ..kube import Kube
from ..process import free_ports
from .conftest import Run
from .gateway import Gateway
from .statuses import make_job, make_pipeline


def changed(kubeconfig: Path, target: Path, **user: object) -> Path:
    """A copy with other credentials."""
    config = yaml.safe_load(kubeconfig.read_text())
    config["users"][0]["user"] = user
    target.write_text(yaml.safe_dump(config))
    return target


def plugin(target: Path, token: str, code: int = 0) -> dict[str, object]:
    """A login plugin, as kubeconfigs of managed clusters name them."""
    version = "client.authentication.k8s.io/v1"
    answer = {"apiVersion": version, "kind": "ExecCredential", "status": {"token": token}}
    lines = [f"echo '{json.dumps(answer)}'", "echo 'your session has expired' >&2", f"exit {code}"]
    target.write_text("#!/bin/sh\n" + "\n".join(lines))
    target.chmod(0o700)
    return {"apiVersion": version, "command": str(target), "interactiveMode": "Never"}


def test_there_is_no_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    code, out, err = run("top", "--kubeconfig", "")
    assert (code, out) == (2, "")
    assert (
        err
        == f"{tmp_path / 'none'}: there is no kubeconfig; set KUBECONFIG, or --kubeconfig, to the one of your cluster\n"
    )


@pytest.mark.parametrize(
    ("text", "said"), [("a: [", "not valid YAML"), ("hello", "is not a kubeconfig"), ("", "empty")]
)
def test_a_kubeconfig_that_is_none(text: str, said: str, tmp_path: Path, run: Run) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    code, _, err = run("top", "--kubeconfig", str(file))
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


def test_two_kubeconfigs_and_a_context(
    control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    other = tmp_path / "other"
    other.write_text(control_plane.kubeconfig.read_text().replace("tests", "other").replace("127.0.0.1", "127.0.0.9"))
    monkeypatch.setenv("KUBECONFIG", f"{other}{os.pathsep}{control_plane.kubeconfig}")
    assert run("top", "--kubeconfig", "", "--context", "tests")[0] == 0
    code, _, err = run("top", "--kubeconfig", "", "--context", "nowhere")
    assert code == 2
    assert "has no context 'nowhere'" in err


def test_a_server_that_is_not_there(control_plane: ControlPlane, tmp_path: Path, run: Run) -> None:
    (port,) = free_ports(1)
    config = yaml.safe_load(control_plane.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump(config))
    code, _, err = run("top", "--kubeconfig", str(file))
    assert (code, err) == (
        1, f"the API server of context tests (https://127.0.0.1:{port}) cannot be reached: Connection refused\n"
    )  # fmt: skip


def test_a_server_whose_certificate_nobody_vouches_for(control_plane: ControlPlane, tmp_path: Path, run: Run) -> None:
    config = yaml.safe_load(control_plane.kubeconfig.read_text())
    del config["clusters"][0]["cluster"]["certificate-authority"]
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump(config))
    code, _, err = run("top", "--kubeconfig", str(file))
    assert code == 1
    assert "cannot be trusted" in err
    assert err.count("\n") == 1


def test_who_may_not_look_is_told_what_to_ask_for(control_plane: ControlPlane, namespace: str, run: Run) -> None:
    file = control_plane.kubeconfig_for("default", namespace)
    for arguments in (("top",), ("watch", "tune"), ("logs", "tune")):
        code, _, err = run(*arguments, "--kubeconfig", str(file))
        assert code == 1
        assert f'system:serviceaccount:{namespace}:default" cannot' in err
        assert "ask for the role `view`" in err
        assert err.count("\n") == 1


def test_a_cluster_without_tunesmith(gateway: Gateway, run: Run) -> None:
    gateway.hides = "tunesmith.dev"
    for arguments in (("top",), ("watch", "tune"), ("logs", "tune")):
        code, _, err = run(*arguments)
        assert code == 1
        assert "knows no FineTuneJob: install Tunesmith's chart there" in err


def test_a_name_that_is_none_or_two(kube: Kube, namespace: str, run: Run) -> None:
    make_job(kube, namespace, "addition", "Failed")
    make_job(kube, namespace, "adds", "Failed")
    make_pipeline(kube, namespace, "adds", phase="Failed")
    for command in ("watch", "logs"):
        code, _, err = run(command, "additon")
        assert (code, err) == (
            2, f"there is no FineTuneJob or RLHFPipeline additon in namespace {namespace}; did you mean addition?\n"
        )  # fmt: skip
        code, _, err = run(command, "adds")
        assert code == 2
        assert "write finetunejob/adds or rlhfpipeline/adds" in err
        assert run(command, "pod/adds")[0] == 2
    assert run("watch", "ftj/adds")[0] == 1
    assert run("watch", "rlhfpipelines/adds")[0] == 1


def test_login_plugins(control_plane: ControlPlane, tmp_path: Path, run: Run) -> None:
    token = yaml.safe_load(control_plane.kubeconfig.read_text())["users"][0]["user"]["token"]
    good = changed(control_plane.kubeconfig, tmp_path / "good", exec=plugin(tmp_path / "login", token))
    assert run("top", "--kubeconfig", str(good))[0] == 0
    stale = changed(control_plane.kubeconfig, tmp_path / "stale", exec=plugin(tmp_path / "relogin", "stale"))
    code, _, err = run("top", "--kubeconfig", str(stale))
    assert code == 1
    assert "does not accept the kubeconfig's credentials: log in again" in err
    bad = changed(control_plane.kubeconfig, tmp_path / "bad", exec=plugin(tmp_path / "fail", "", code=3))
    code, _, err = run("top", "--kubeconfig", str(bad))
    assert (code, err) == (2, "the kubeconfig's credentials: exec: process returned 3. your session has expired\n")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes.client", None)
    code, _, err = run("top")
    assert (code, err) == (2, "the package kubernetes is not installed: pip install 'tunesmith[cluster]'\n")
