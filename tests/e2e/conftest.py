"""What is built and installed once for all tests here, and taken away afterwards."""

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.storage import claim, start_reader
from tests.tools.build import BuildError, build
from tests.tools.collection import mark_all, prepare_for

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BASE_IMAGE = "docker.io/library/python:3.11-slim-bookworm"
TOOLS = ("helm", "promtool")
VALUES = {
    # small enough for two cores
    "settings": {
        "head": {"cpu": "100m", "memory": "3Gi"},
        "submitter": {"cpu": "50m", "memory": "1Gi"},
        # soon enough for a test
        "progressSeconds": 1,
        "podGraceSeconds": 20,
        "recheckSeconds": 3,
        "retrySeconds": 2,
    }
}


@dataclass(frozen=True)
class Images:
    """What `make images` has pushed."""

    registry: str
    tag: str

    @property
    def operator(self) -> str:
        return f"{self.registry}/tunesmith-operator:{self.tag}"

    @property
    def trainer(self) -> str:
        return f"{self.registry}/tunesmith-trainer:{self.tag}"


@dataclass(frozen=True)
class Release:
    """The installed chart."""

    helm: Path
    name: str
    cluster: Cluster
    """In the release's namespace."""

    def uninstall(self) -> str:
        command = [str(self.helm), "uninstall", self.name, "--namespace", self.cluster.namespace, "--wait"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_all(HERE, items, pytest.mark.e2e)


def pytest_collection_finish(session: pytest.Session) -> None:
    def build_all() -> None:
        try:
            build(*TOOLS)
            session.config.stash[IMAGES] = _build_images()
        except (BuildError, subprocess.CalledProcessError) as error:
            raise pytest.UsageError(f"the end-to-end tests cannot start: {error}") from None

    prepare_for(HERE, session, build_all)


IMAGES = pytest.StashKey[Images]()


def _build_images() -> Images:
    """Builds and pushes both images; the tag moves with each run, so pods always pull."""
    hook = os.environ.get("TUNESMITH_BASE_IMAGE_HOOK")  # provides the base image where no public registry is reached
    if hook and not _has_image(BASE_IMAGE):
        subprocess.run([hook], check=True)
    images = Images(os.environ.get("REGISTRY", "localhost:5000"), "e2e")
    environment = os.environ | {"REGISTRY": images.registry, "TAG": images.tag}
    subprocess.run([ROOT / "scripts" / "images"], env=environment, check=True)
    return images


def _has_image(name: str) -> bool:
    if shutil.which("buildah") is None:
        return False
    listed = subprocess.run(["buildah", "images", "--quiet", name], capture_output=True)
    return listed.returncode == 0 and bool(listed.stdout.strip())


@pytest.fixture(scope="session")
def images(request: pytest.FixtureRequest) -> Images:
    return request.config.stash[IMAGES]


@pytest.fixture(scope="session")
def promtool() -> Path:
    return build("promtool")["promtool"]


@pytest.fixture(scope="session")
def kubectl() -> Path:
    found = shutil.which("kubectl")
    return Path(found) if found else build("kubectl")["kubectl"]


def _namespace(kubectl: Path, name: str) -> Iterator[Cluster]:
    """A namespace in which only pods run that pass the restricted security standard."""
    cluster = Cluster(kubectl, name)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    yield cluster
    cluster.kubectl("delete", "namespace", name, "--timeout=120s", seconds=130)


@pytest.fixture(scope="session")
def system(kubectl: Path) -> Iterator[Cluster]:
    """The operator's namespace."""
    yield from _namespace(kubectl, f"tunesmith-e2e-system-{secrets.token_hex(2)}")


@pytest.fixture(scope="session")
def release(system: Cluster, images: Images) -> Iterator[Release]:
    """The chart, as a user installs it."""
    values = VALUES | {
        "image": _image(images, "operator"),
        "trainerImage": _image(images, "trainer"),
    }
    release = Release(build("helm")["helm"], "tunesmith", system)
    # an earlier release's CRDs are still there, as they should be, or were applied by hand
    adopt = ["--take-ownership", "--force-conflicts"]
    options = ["--namespace", system.namespace, "--wait", "--timeout", "120s", "--values", "-"]
    command = [str(release.helm), "install", release.name, str(ROOT / "charts" / "tunesmith"), *adopt, *options]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    yield release
    installed = subprocess.run(
        [str(release.helm), "list", "--short", "--namespace", system.namespace], capture_output=True, text=True
    )
    if installed.stdout.strip():
        release.uninstall()


def _image(images: Images, target: str) -> dict[str, str]:
    return {"repository": f"{images.registry}/tunesmith-{target}", "tag": images.tag, "pullPolicy": "Always"}


@pytest.fixture(scope="session")
def cluster(kubectl: Path, release: Release, images: Images) -> Iterator[Cluster]:
    """The namespace of the jobs: with storage, the data, and a pod that reads what runs leave."""
    for cluster in _namespace(kubectl, f"tunesmith-e2e-{secrets.token_hex(2)}"):
        with claim(cluster, "runs", images.operator):
            cluster.kubectl("create", "configmap", "arithmetic", f"--from-file={ROOT / 'examples' / 'arithmetic'}")
            start_reader(cluster, images.trainer, "runs")
            yield cluster
