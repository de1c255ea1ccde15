"""A small platform: the real API server and operator, real runs, played pods, a real Prometheus that sees them."""

import copy
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tunesmith.api.pod import METRICS_PORT

from ..controlplane import ControlPlane
from ..kube import Kube, Object, eventually
from ..operator.ray import JOB, RAY, Ray, claim
from ..operator.running import Operator
from ..test_chart import of_kind, operator_pod, render
from . import exporters
from .exporters import Held
from .play import NAMESPACES, NODES, Attempt, Part, Play, measured
from .prometheus import Prometheus
from .scraping import jobs_of
from .serving import Source, from_port, served

SYSTEM = "tunesmith-system"
_GPUS_OF_NODE = 8
_RAY_PORT = 8080
"""Of Ray's own metrics, which KubeRay adds to each of its pods as `metrics`."""


class Cluster:
    """Plays KubeRay, Ray, the kubelet and the users, one step further each time it is asked."""

    def __init__(
        self,
        kube: Kube,
        operator: Operator,
        prometheus: Prometheus,
        play: Play,
        ports: Mapping[str, int],
        minute: float,
        interval: str = "1s",
    ) -> None:
        """
        Args:
            play: what happens.
            ports: of the metrics of the real runs, by name.
            minute: how many seconds a minute of the play takes.
            interval: between two scrapes.
        """
        self.kube, self.prometheus = kube, prometheus
        self._play, self._ports, self._minute, self._interval = play, ports, minute, interval
        self._chart = render({"settings": {"namespaces": list(NAMESPACES)}, "podMonitors": {"enabled": True}}, SYSTEM)
        self._operator = operator
        self._rays = {namespace: Ray(kube, namespace) for namespace in NAMESPACES}
        self._began, self._created = time.time(), 0
        self._training_since: dict[str, float] = {}
        self._held: dict[str, list[Held]] = {}
        self._addresses = 0
        self._rules: list[Path] = []
        self._network = ExitStack()
        self._exporters: list[Object] = []

    def open(self, rules: list[Path]) -> None:
        """Gives the operator a pod and starts the exporters; Prometheus evaluates these rules."""
        self._rules = rules
        body = copy.deepcopy(operator_pod(self._chart))
        body["metadata"] |= {"name": "tunesmith-operator", "namespace": SYSTEM}
        pod = self.kube.create({"apiVersion": "v1", "kind": "Pod", **body})
        self._run_pod(pod, {body["spec"]["containers"][0]["ports"][0]["containerPort"]: from_port(self._operator.port)})
        for number, node in enumerate(NODES):
            labels = {"namespace": "gpu-operator", "pod": f"nvidia-dcgm-exporter-{node}"}
            self._export(f"dcgm-{node}", 9400, partial(self._dcgm, node), labels, honor=number == 0)
        self._export("kubelet", 10250, lambda _: self._kubelet(), {"node": NODES[0]}, honor=True)
        self._export("kube-state-metrics", 8080, lambda _: self._kube_state(), {}, honor=True)
        self.step()

    def step(self) -> None:
        """Looks around once and does what is next."""
        minutes = (time.time() - self._began) / self._minute
        for scene in self._play.scenes[self._created :]:
            if scene.minute > minutes:
                break
            self.kube.create(copy.deepcopy(scene.body))
            self._created += 1
        for namespace, ray in self._rays.items():
            jobs = self.kube.list(*RAY, namespace)
            for job in jobs:
                self._go_on(ray, job)
            self._sweep(namespace, {job["metadata"]["name"] for job in jobs})
            for pod in self.kube.list("v1", "Pod", namespace, "tunesmith.dev/component=evaluation"):
                if pod["status"].get("phase") == "Pending" and not pod["metadata"].get("deletionTimestamp"):
                    self._evaluate(ray, pod)
        pods = [pod for namespace in (*NAMESPACES, SYSTEM) for pod in self.kube.list("v1", "Pod", namespace)]
        monitors = of_kind(self._chart, "PodMonitor")
        self.prometheus.scrape([*jobs_of(monitors, pods, self._interval), *self._exporters], self._rules)

    def close(self) -> None:
        """Ends what serves."""
        self._network.close()

    def phases(self) -> dict[str, str]:
        """The phase of each FineTuneJob by its name."""
        jobs = [job for namespace in NAMESPACES for job in self.kube.list(*JOB, namespace)]
        return {job["metadata"]["name"]: job.get("status", {}).get("phase", "") for job in jobs}

    def _go_on(self, ray: Ray, job: Object) -> None:
        meta, status = job["metadata"], job.get("status", {})
        if (
            meta.get("deletionTimestamp")
            or job["spec"].get("suspend")
            or status.get("jobStatus") in ("FAILED", "SUCCEEDED")
        ):
            self._free(meta["namespace"], meta["name"])
            return
        name, number = meta["labels"]["tunesmith.dev/job"], int(meta["labels"]["tunesmith.dev/attempt"])
        part = self._play.parts[name]
        attempt = part.attempts[min(number, len(part.attempts)) - 1]
        if meta["name"] not in self._held:
            self._make_pods(job, part, attempt)
        if not status.get("jobStatus"):
            if attempt.starts:
                ray.train(job)
        elif attempt.reason is not None and self._phase(meta["namespace"], name) == "Training":
            since = self._training_since.setdefault(meta["name"], time.time())
            if time.time() - since >= attempt.minutes * self._minute:
                ray.finish(job, attempt.outcome(number))

    def _phase(self, namespace: str, name: str) -> str:
        return str((self.kube.find(*JOB, name, namespace) or {}).get("status", {}).get("phase"))

    def _make_pods(self, job: Object, part: Part, attempt: Attempt) -> None:
        """KubeRay makes a pod for the head and for each worker; where there is no node for them, they wait."""
        cluster, meta = job["spec"]["rayClusterSpec"], job["metadata"]
        templates = [("head", cluster["headGroupSpec"]["template"])]
        for group in cluster.get("workerGroupSpecs", []):
            templates += [(f"workers-worker-{n}", group["template"]) for n in range(group["replicas"])]
        self._held[meta["name"]] = []
        first = True
        for suffix, template in templates:
            spec = copy.deepcopy(template["spec"])
            container = spec["containers"][0]
            container["ports"] = [*container.get("ports", []), {"name": "metrics", "containerPort": _RAY_PORT}]
            owner = {"apiVersion": RAY[0], "kind": RAY[1], "name": meta["name"], "uid": meta["uid"]}
            made = {"name": f"{meta['name']}-{suffix}", "namespace": meta["namespace"], "ownerReferences": [owner]}
            made["labels"] = template["metadata"]["labels"]
            pod = self.kube.create({"apiVersion": "v1", "kind": "Pod", "metadata": made, "spec": spec})
            if not attempt.starts:
                continue
            gpus = self._give_gpus(pod, part)
            self._held[meta["name"]] += gpus
            sources = {_RAY_PORT: self._ray(gpus if part.node not in NODES else [])}
            serves = any(port.get("containerPort") == METRICS_PORT for port in container["ports"])
            if serves and first and part.training:  # the first worker alone serves the metrics of the run
                sources[METRICS_PORT], first = from_port(self._ports[part.training]), False
            self._run_pod(pod, sources)

    def _give_gpus(self, pod: Object, part: Part) -> list[Held]:
        container, meta = pod["spec"]["containers"][0], pod["metadata"]
        count = int(container.get("resources", {}).get("limits", {}).get("nvidia.com/gpu", 0))
        taken = {gpu.index for gpus in self._held.values() for gpu in gpus if gpu.node == part.node}
        free = [index for index in range(100) if index not in taken][:count]
        return [Held(part.node, index, meta["namespace"], meta["name"], container["name"], part.busy) for index in free]

    def _run_pod(self, pod: Object, sources: Mapping[int, Source]) -> None:
        """The kubelet runs the pod, at an address of its own."""
        meta, container = pod["metadata"], pod["spec"]["containers"][0]
        address = self._new_address()
        for port, source in sources.items():
            self._network.enter_context(served(address, port, source))
        shown = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": True,
            "restartCount": 0,
        }
        states = [shown | {"state": {"running": {}}}]
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "containerStatuses": states}
        self.kube.patch_status("v1", "Pod", meta["name"], status, meta["namespace"])

    def _new_address(self) -> str:
        """An address of the loopback network that neither this nor another process that plays has given away."""
        self._addresses += 1
        assert self._addresses < 255
        return f"127.{100 + os.getpid() % 100}.{os.getpid() // 100 % 256}.{self._addresses}"

    def _evaluate(self, ray: Ray, pod: Object) -> None:
        """An evaluation is over at once."""
        labels = pod["metadata"]["labels"]
        of_job = self._play.parts[labels["tunesmith.dev/job"]].evaluations
        done = of_job[min(int(labels["tunesmith.dev/attempt"]), len(of_job)) - 1]
        outcome = done.outcome(1)
        if done.reason in ("Succeeded", "GateFailed"):
            outcome = outcome.model_copy(update={"evaluation": measured(done.reason)})
        ray.leave(pod, outcome)

    def _free(self, namespace: str, ray_job: str) -> None:
        """KubeRay ends the cluster's pods."""
        if self._held.pop(ray_job, None) is not None:
            for pod in self.kube.list("v1", "Pod", namespace):
                if pod["metadata"]["name"].startswith((f"{ray_job}-head", f"{ray_job}-workers")):
                    self.kube.delete("v1", "Pod", pod["metadata"]["name"], namespace)

    def _sweep(self, namespace: str, there: set[str]) -> None:
        """The pods of RayJobs that are gone are gone, too."""
        mine = {gpu.pod: gpu.namespace for gpus in self._held.values() for gpu in gpus}
        for name in [name for name, gpus in self._held.items() if gpus and mine[gpus[0].pod] == namespace]:
            if name not in there:
                self._free(namespace, name)

    def _export(self, name: str, port: int, source: Source, labels: Mapping[str, str], *, honor: bool) -> None:
        address = self._new_address()
        self._network.enter_context(served(address, port, source))
        target = {"targets": [f"{address}:{port}"], "labels": dict(labels)}
        each = {"job_name": name, "scrape_interval": self._interval, "honor_labels": honor, "static_configs": [target]}
        self._exporters.append(each)

    def _dcgm(self, node: str, _: str) -> str:
        held = {gpu.index: gpu for gpus in [*self._held.values()] for gpu in gpus if gpu.node == node}
        return exporters.dcgm([held.get(index, Held(node, index)) for index in range(_GPUS_OF_NODE)], time.time())

    def _ray(self, gpus: list[Held]) -> Source:
        return lambda _: exporters.ray(gpus, "10.0.0.1", time.time())

    def _pods(self) -> list[Held]:
        return list({gpu.pod: gpu for gpus in [*self._held.values()] for gpu in gpus}.values())

    def _kubelet(self) -> str:
        pods = [(gpu.namespace, gpu.pod) for gpu in self._pods() if gpu.node == NODES[0]]
        claims = [(namespace, "runs") for namespace in NAMESPACES]
        return exporters.kubelet(pods, claims, time.time(), self._began)

    def _kube_state(self) -> str:
        return exporters.kube_state([(gpu.namespace, gpu.pod, gpu.container) for gpu in self._pods()])


@contextmanager
def running_operator(plane: ControlPlane, kube: Kube, folder: Path) -> Iterator[Operator]:
    """The operator for the namespaces of the play, which it makes; it may what the chart lets it."""
    for name in (SYSTEM, *NAMESPACES):
        kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        eventually(partial(kube.find, "v1", "ServiceAccount", "default", name), "the default ServiceAccount")
    for each in render({"settings": {"namespaces": list(NAMESPACES)}}, SYSTEM):
        if each["kind"] in ("ServiceAccount", "Role", "RoleBinding"):
            each["metadata"].setdefault("namespace", SYSTEM)
            kube.create(each)
    for namespace in NAMESPACES:
        kube.create(claim(namespace))
    operator = Operator(plane.kubeconfig_for("tunesmith", SYSTEM), ",".join(NAMESPACES), folder / "operator.log")
    try:
        yield operator.start().wait_until_healthy()
    finally:
        operator.stop()
        for namespace in NAMESPACES:
            remove(kube, namespace)
        kube.delete("v1", "Namespace", SYSTEM)


def remove(kube: Kube, namespace: str) -> None:
    """The namespace, and what KubeRay, which does not run, would have to let go."""
    kube.delete("v1", "Namespace", namespace)
    for job in kube.list(*RAY, namespace):
        if job["metadata"].get("finalizers"):
            kube.patch(*RAY, job["metadata"]["name"], {"metadata": {"finalizers": None}}, namespace)
