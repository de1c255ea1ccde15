"""The operator runs as a process of its own, on the real API server; the tests play Ray unless they run KubeRay."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..controlplane import ControlPlane
from ..kube import Kube
from .proxy import Proxy
from .ray import Ray, claim
from .receiver import Receiver
from .running import Operator, allow


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[Proxy]:
    """The operator's way to the API server."""
    with Proxy(control_plane.server, control_plane.folder / "apiserver.crt") as proxy:
        yield proxy


@pytest.fixture
def operator(
    control_plane: ControlPlane, kube: Kube, namespace: str, proxy: Proxy, tmp_path: Path
) -> Iterator[Operator]:
    """An operator for the test's namespace, which holds the default claim; the test starts it."""
    kube.create(claim(namespace))
    kubeconfig = allow(control_plane, kube, namespace)
    operator = Operator(kubeconfig, namespace, tmp_path / "operator.log", proxy.url)
    yield operator
    operator.stop()


@pytest.fixture
def ray(kube: Kube, namespace: str) -> Ray:
    """Plays Ray in the test's namespace."""
    return Ray(kube, namespace)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Somebody who is notified."""
    with Receiver() as receiver:
        yield receiver
