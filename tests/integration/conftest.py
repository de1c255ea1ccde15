"""The control plane that all tests of a process share, and what each test gets of its own."""

import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.tools.build import BuildError, build
from tests.tools.collection import mark_all, prepare_for

from .controlplane import PROGRAMS, ControlPlane, running_control_plane
from .kube import Kube, eventually

HERE = Path(__file__).parent
CRDS = HERE.parents[1] / "manifests" / "crds"
TOOLS = (*PROGRAMS, "kuberay-crds", "prometheus-operator-crds", "helm", "promtool")
MONITORING = ("podmonitors", "prometheusrules")
"""What the chart makes of the Prometheus operator's kinds."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_all(HERE, items, pytest.mark.integration)


def pytest_collection_finish(session: pytest.Session) -> None:
    prepare_for(HERE, session, _build_programs)


def _build_programs() -> None:
    try:
        build(*TOOLS)
    except BuildError as error:
        raise pytest.UsageError(f"the integration tests need programs that cannot be built: {error}") from None


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd, kube-apiserver and kube-controller-manager with the CRDs of KubeRay, the Prometheus operator and Tunesmith;
    neither of these operators runs.
    """
    programs = build(*TOOLS)
    monitoring = [programs["prometheus-operator-crds"] / f"monitoring.coreos.com_{kind}.yaml" for kind in MONITORING]
    crds = [*programs["kuberay-crds"].iterdir(), *monitoring, *sorted(CRDS.glob("*.yaml"))]
    with ExitStack() as stack:
        try:
            plane = stack.enter_context(running_control_plane(programs, tmp_path_factory.mktemp("control-plane"), crds))
        except RuntimeError as error:
            raise pytest.fail.Exception(f"the control plane did not start: {error}", pytrace=False) from None
        yield plane


@pytest.fixture(scope="session")
def kube(control_plane: ControlPlane) -> Kube:
    """The administrator's client."""
    return Kube(control_plane.kubeconfig)


@pytest.fixture
def namespace(kube: Kube, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh namespace, named after the test; deleted with all it holds afterwards, without waiting for the end."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    name = f"{words[:50].rstrip('-')}-{secrets.token_hex(3)}"
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    eventually(lambda: kube.find("v1", "ServiceAccount", "default", name), "the default ServiceAccount")  # pods need it
    yield name
    kube.delete("v1", "Namespace", name)
    for job in kube.list("ray.io/v1", "RayJob", name):
        if job["metadata"].get("finalizers"):  # KubeRay's, which has ended by now and removes it no more
            kube.patch("ray.io/v1", "RayJob", job["metadata"]["name"], {"metadata": {"finalizers": None}}, name)


@pytest.fixture
def kuberay(control_plane: ControlPlane, namespace: str) -> Iterator[None]:
    """The real KubeRay operator, for this test's namespace and as long as the test runs; it starts at once.

    A test that does not ask for it plays KubeRay itself, undisturbed.
    """
    with control_plane.kuberay(namespace):
        yield
