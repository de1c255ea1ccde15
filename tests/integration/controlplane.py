"""A real Kubernetes control plane without a node: etcd, kube-apiserver, kube-controller-manager, on request KubeRay.

Objects are admitted, defaulted, reconciled and garbage-collected as on any cluster; only no pod ever runs.
"""

import secrets
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from .kube import Kube, KubeError, Object
from .process import Process, free_ports, running

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kuberay-operator")


@dataclass(frozen=True)
class ControlPlane:
    """A running control plane."""

    programs: Mapping[str, Path]
    folder: Path
    """Its state, logs, certificates and kubeconfigs."""
    server: str

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.folder / "admin.kubeconfig"

    def kubeconfig_for(self, service_account: str, namespace: str) -> Path:
        """A kubeconfig with what the ServiceAccount may do and no more; good for a day.

        Raises:
            KubeError: there is no such ServiceAccount.
        """
        kube = Kube(self.kubeconfig)
        path = kube.path("v1", "ServiceAccount", namespace, service_account)
        token = kube.request("POST", f"{path}/token", {"spec": {"expirationSeconds": 24 * 60 * 60}})["status"]["token"]
        return self._write_kubeconfig(f"{namespace}.{service_account}", token)

    @contextmanager
    def kuberay(self, namespace: str = "") -> Iterator[None]:
        """Runs the KubeRay operator inside the context, for one namespace or for all."""
        metrics, health = free_ports(2)
        command: list[str | Path] = [
            self.programs["kuberay-operator"],
            f"--kubeconfig={self.kubeconfig}",
            "--use-kubernetes-proxy",  # there is no pod network
            "--enable-leader-election=false",
            f"--metrics-addr=127.0.0.1:{metrics}",
            f"--watch-namespace={namespace}",
            f"--health-probe-bind-address=127.0.0.1:{health}",
        ]
        with running(command, self.folder / f"kuberay-{namespace or 'all'}.log") as process:
            process.wait_until(lambda: _answers(f"http://127.0.0.1:{health}/readyz"))
            yield

    def _write_kubeconfig(self, user: str, token: str) -> Path:
        cluster = {"server": self.server, "certificate-authority": str(self.folder / "apiserver.crt")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": user}}],
            "current-context": "tests",
        }
        path = self.folder / f"{user}.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path


@contextmanager
def running_control_plane(programs: Mapping[str, Path], folder: Path, crds: Iterable[Path]) -> Iterator[ControlPlane]:
    """Runs a control plane inside the context; afterwards nothing of it runs.

    `programs` is what `tests.tools.build` returns for PROGRAMS; `crds` are files of one CustomResourceDefinition each.

    Raises:
        RuntimeError: a program did not start or a CRD was refused; with the end of the log, or the reason.
    """
    with ExitStack() as stack:

        def start(command: list[str | Path]) -> Process:
            return stack.enter_context(running(command, folder / f"{Path(command[0]).name}.log"))

        etcd_port, peer_port, port = free_ports(3)
        etcd = f"http://127.0.0.1:{etcd_port}"
        plane = ControlPlane(programs, folder, f"https://127.0.0.1:{port}")
        token = secrets.token_hex(16)
        store = start(_etcd(programs["etcd"], folder, etcd, peer_port))
        apiserver = start(_apiserver(programs["kube-apiserver"], folder, etcd, port, token))
        definitions = {file: _load(file) for file in crds}  # while both start
        store.wait_until(lambda: _answers(f"{etcd}/health"))
        apiserver.wait_until((folder / "apiserver.key").exists)  # written after the certificate
        kube = Kube(plane._write_kubeconfig("admin", token))
        apiserver.wait_until(kube.ready)
        # Before the controllers: a garbage collector that runs already sees new kinds only every 30 s.
        _create_crds(kube, definitions, apiserver)
        manager = start(_controller_manager(programs["kube-controller-manager"], folder, plane.kubeconfig))
        manager.wait_until(lambda: kube.find("v1", "ServiceAccount", "default", "default"))
        yield plane


def _etcd(program: Path, folder: Path, url: str, peer_port: int) -> list[str | Path]:
    return [
        program,
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
        "--unsafe-no-fsync",  # nobody needs the data after a crash
        "--log-level=warn",
    ]


def _apiserver(program: Path, folder: Path, etcd: str, port: int, token: str) -> list[str | Path]:
    """The API server makes its own certificate, and signs the tokens of ServiceAccounts with the same key; the
    administrator has a static token. So nothing here has to make a certificate.
    """
    tokens = folder / "tokens.csv"
    tokens.write_text(f"{token},admin,admin,system:masters\n")
    tokens.chmod(0o600)
    return [
        program,
        f"--etcd-servers={etcd}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",  # a loopback address is no valid endpoint, and no pod needs one
        f"--cert-dir={folder}",
        f"--token-auth-file={tokens}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder / 'apiserver.key'}",
        f"--service-account-signing-key-file={folder / 'apiserver.key'}",
        "--service-cluster-ip-range=10.0.0.0/24",
    ]


def _controller_manager(program: Path, folder: Path, kubeconfig: Path) -> list[str | Path]:
    return [
        program,
        f"--kubeconfig={kubeconfig}",
        f"--root-ca-file={folder / 'apiserver.crt'}",
        "--leader-elect=false",
        "--secure-port=0",
        "--kube-api-qps=500",  # 300 owned objects are collected in 0.4 s, not in 14
        "--kube-api-burst=500",
    ]


def _load(file: Path) -> Object:
    definition: Object = yaml.load(file.read_bytes(), yaml.CSafeLoader)  # KubeRay's have a megabyte each
    return definition


def _create_crds(kube: Kube, definitions: Mapping[Path, Object], apiserver: Process) -> None:
    kinds = []
    for file, crd in definitions.items():
        try:
            kube.create(crd)
        except KubeError as error:
            raise RuntimeError(f"{file}: {error}") from None
        kinds.append((f"{crd['spec']['group']}/{crd['spec']['versions'][0]['name']}", crd["spec"]["names"]["kind"]))
    for api_version, kind in kinds:  # after all of them, as the server takes up to a second for each
        apiserver.wait_until(partial(_serves, kube, api_version, kind))


def _serves(kube: Kube, api_version: str, kind: str) -> bool:
    try:
        return bool(kube.path(api_version, kind))
    except KubeError:
        return False


def _answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5):
            return True
    except OSError:
        return False
