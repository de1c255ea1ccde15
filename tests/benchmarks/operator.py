"""How fast and how lean the operator is, alternately with a bare loop that makes the same writes.

    python -m tests.benchmarks.operator [--jobs 500] [--rounds 3] [--rest 60]

It runs on a real control plane of its own, without a node and without KubeRay, under the operator's default settings.
Measured: the time from the first of many jobs created at once until each has its RayJob and its status; the latency
from a job to its RayJob at two a second; the writes that a job costs up to there; a restart; memory; CPU at rest.
"""

import argparse
import asyncio
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.conftest import CRDS, TOOLS
from tests.integration.controlplane import running_control_plane
from tests.integration.kube import Kube
from tests.integration.operator.ray import claim, fine_tune_job
from tests.integration.process import free_ports
from tests.tools.build import build

ROOT = Path(__file__).resolve().parents[2]
JOBS = "/apis/tunesmith.dev/v1alpha1/namespaces/{}/finetunejobs"
RAY_JOBS = "/apis/ray.io/v1/namespaces/{}/rayjobs"
CONFIG_MAPS = "/api/v1/namespaces/{}/configmaps"
EVENTS = "/api/v1/namespaces/{}/events"
MERGE = {"Content-Type": "application/merge-patch+json"}
AT_ONCE = 16
LONGEST = 120.0


class Api:
    """The API server over aiohttp, and nothing else."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._server: str = cluster["server"]
        self._headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
        self._tls = ssl.create_default_context(cafile=cluster["certificate-authority"])

    async def __aenter__(self) -> "Api":
        connector = aiohttp.TCPConnector(limit=2 * AT_ONCE, ssl=self._tls)
        self.session = aiohttp.ClientSession(self._server, connector=connector, headers=self._headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()
        await asyncio.sleep(0.1)

    async def send(self, method: str, path: str, body: Any, headers: dict[str, str] | None = None) -> None:
        async with self.session.request(method, path, json=body, headers=headers) as answer:
            await answer.read()
            answer.raise_for_status()

    async def watch(self, path: str, see: Callable[[str, Any], bool]) -> None:
        """Shows every event to `see` until that returns True."""
        timeout = aiohttp.ClientTimeout(total=None)
        async with self.session.get(path, params={"watch": "true"}, timeout=timeout) as answer:
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if see(event["type"], event["object"]):
                        return


async def create_jobs(api: Api, namespace: str, number: int) -> None:
    slots = asyncio.Semaphore(AT_ONCE)

    async def create(name: str) -> None:
        async with slots:
            await api.send("POST", JOBS.format(namespace), fine_tune_job(name, namespace))

    await asyncio.gather(*(create(f"job-{index}") for index in range(number)))


async def burst(api: Api, namespace: str, number: int) -> float:
    """Seconds from the first creation until each job has its RayJob and its status."""
    ready: set[str] = set()

    def see(_: str, job: Any) -> bool:
        if job.get("status", {}).get("attempts"):
            ready.add(job["metadata"]["name"])
        return len(ready) == number

    start = time.monotonic()
    async with asyncio.timeout(LONGEST):
        await asyncio.gather(create_jobs(api, namespace, number), api.watch(JOBS.format(namespace), see))
    return time.monotonic() - start


async def latencies(api: Api, namespace: str, number: int) -> list[float]:
    """Seconds from each job to its RayJob, at two jobs a second."""
    began: dict[str, float] = {}
    took: dict[str, float] = {}

    def see(_: str, ray_job: Any) -> bool:
        name = ray_job["metadata"]["labels"]["tunesmith.dev/job"]
        if name in began:
            took.setdefault(name, time.monotonic() - began[name])
        return len(took) == number

    async def create() -> None:
        for index in range(number):
            name = f"calm-{index}"
            began[name] = time.monotonic()
            await api.send("POST", JOBS.format(namespace), fine_tune_job(name, namespace))
            await asyncio.sleep(0.5)

    await asyncio.gather(create(), api.watch(RAY_JOBS.format(namespace), see))
    return sorted(took.values())


async def bare_loop(kubeconfig: Path, namespace: str, template: Path) -> None:
    """The yardstick: the same writes for each new job, filled into a template, with nothing decided or checked."""
    texts = json.loads(template.read_text())
    slots = asyncio.Semaphore(AT_ONCE)

    async with Api(kubeconfig) as api, asyncio.TaskGroup() as tasks:

        async def make(name: str, uid: str) -> None:
            def filled(part: str) -> Any:
                text = texts[part].replace("@NAME@", name).replace("@UID@", uid).replace("@NAMESPACE@", namespace)
                return json.loads(text)

            async with slots:
                await api.send("POST", CONFIG_MAPS.format(namespace), filled("config_map"))
                await api.send("POST", RAY_JOBS.format(namespace), filled("ray_job"))
                await api.send("POST", EVENTS.format(namespace), filled("event"))
                status = {"status": filled("status")}
                await api.send("PATCH", f"{JOBS.format(namespace)}/{name}/status", status, MERGE)

        def see(kind: str, job: Any) -> bool:
            if kind == "ADDED":
                tasks.create_task(make(job["metadata"]["name"], job["metadata"]["uid"]))
            return False

        await api.watch(JOBS.format(namespace), see)


class Program:
    """A process that is measured."""

    def __init__(self, kubeconfig: Path, *arguments: str) -> None:
        path = os.pathsep.join([str(ROOT), str(ROOT / "trainer"), str(ROOT / "operator")])
        environment = os.environ | {"KUBECONFIG": str(kubeconfig), "PYTHONPATH": path}
        self.started = time.monotonic()
        self._child = subprocess.Popen([sys.executable, "-m", *arguments], env=environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.wait()

    def megabytes(self, field: str) -> float:
        """VmRSS, or VmHWM for the most that it ever was."""
        lines = Path(f"/proc/{self._child.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

    def cpu_seconds(self) -> float:
        ticks = Path(f"/proc/{self._child.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


class OperatorProgram(Program):
    """The operator with its default settings, for one namespace."""

    def __init__(self, kubeconfig: Path, namespace: str, *more: str) -> None:
        (self._port,) = free_ports(1)
        flags = [f"--namespaces={namespace}", "--image=example.test/trainer:1", "--storage-claim=runs"]
        super().__init__(kubeconfig, "tunesmith_operator", *flags, f"--port={self._port}", *more)

    async def series(self) -> dict[str, float]:
        """What /metrics says, summed over labels; empty before it says anything."""
        try:
            text = await self.scrape()
        except aiohttp.ClientError:
            return {}
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                verb = sample.labels.get("verb")
                name = f"{sample.name}/{verb}" if verb else sample.name
                found[name] = found.get(name, 0) + sample.value
        return found

    async def scrape(self) -> str:
        """/metrics as Prometheus gets it."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self._port}/metrics") as answer,
        ):
            return await answer.text()

    async def wait_until_ready(self) -> None:
        while not await self.series():
            await asyncio.sleep(0.02)

    async def writes(self) -> float:
        series = await self.series()
        return sum(series.get(f"tunesmith_operator_api_requests_total/{v}", 0) for v in ("create", "patch", "delete"))


def make_template(kube: Kube, namespace: str, name: str) -> dict[str, str]:
    """The writes that the operator made for a job, as texts to fill in."""
    job = kube.get("tunesmith.dev/v1alpha1", "FineTuneJob", name, namespace)
    config_map = kube.get("v1", "ConfigMap", f"{name}-1", namespace)
    ray_job = kube.get("ray.io/v1", "RayJob", f"{name}-1", namespace)
    (event,) = [e for e in kube.list("v1", "Event", namespace) if e["involvedObject"]["name"] == name]
    for body in (config_map, ray_job, event):
        for field in ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"):
            body["metadata"].pop(field, None)
    parts = {"config_map": config_map, "ray_job": ray_job, "event": event, "status": job["status"]}

    def as_text(body: Any) -> str:
        text = json.dumps(body).replace(namespace, "@NAMESPACE@").replace(job["metadata"]["uid"], "@UID@")
        return text.replace(f'"{name}', '"@NAME@').replace(f"/{name}", "/@NAME@")

    return {part: as_text(body) for part, body in parts.items()}


def new_namespace(kube: Kube, name: str) -> str:
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    kube.create(claim(name))
    return name


async def measure(kubeconfig: Path, folder: Path, jobs: int, rounds: int, rest: float) -> None:
    kube = Kube(kubeconfig)
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(Api(kubeconfig))
        calm = new_namespace(kube, "at-ease")
        with OperatorProgram(kubeconfig, calm) as operator:
            await operator.wait_until_ready()
            took = await latencies(api, calm, 40)
        report(
            "latency at 2 jobs/s",
            f"median {took[20] * 1e3:.0f} ms, 95% {took[37] * 1e3:.0f} ms, max {took[-1] * 1e3:.0f} ms",
        )
        template = folder / "template.json"
        template.write_text(json.dumps(make_template(kube, calm, "calm-0")))

        ratios = []
        for number in range(rounds):
            bare, ours = new_namespace(kube, f"bare-{number}"), new_namespace(kube, f"ours-{number}")
            arguments = ("--bare", bare, str(kubeconfig), str(template))
            with Program(kubeconfig, "tests.benchmarks.operator", *arguments) as program:
                await asyncio.sleep(2)
                least = program.cpu_seconds()
                yardstick = await burst(api, bare, jobs)
                least = program.cpu_seconds() - least
            with OperatorProgram(kubeconfig, ours) as operator:
                await operator.wait_until_ready()
                await asyncio.sleep(2)
                spent = operator.cpu_seconds()
                seconds = await burst(api, ours, jobs)
                spent = operator.cpu_seconds() - spent
                await asyncio.sleep(1)
                each = await operator.writes() / jobs
                memory = operator.megabytes("VmHWM")
            ratios.append(seconds / yardstick)
            what = f"operator {seconds:.1f} s, bare loop {yardstick:.1f} s, {ratios[-1]:.2f} times"
            what += f"; CPU {spent:.1f} and {least:.1f} s"
            report(f"{jobs} jobs at once", f"{what}; {each:.2f} writes a job; at most {memory:.0f} MB")
        report("median of the ratios", f"{statistics.median(ratios):.2f}")
        await measure_restart(kubeconfig, ours, jobs, rest)


async def measure_restart(kubeconfig: Path, namespace: str, jobs: int, rest: float) -> None:
    # Five times as often as by default, so that the time at rest includes comparisons with the API server.
    with OperatorProgram(kubeconfig, namespace, "--resync-seconds=60") as operator:
        await operator.wait_until_ready()
        listed = time.monotonic() - operator.started
        while (await operator.series()).get("tunesmith_operator_reconcile_duration_seconds_count", 0) < jobs:
            await asyncio.sleep(0.05)
        looked = time.monotonic() - operator.started
        report(f"restart with {jobs} jobs", f"all listed after {listed:.1f} s, all looked after {looked:.1f} s")
        await asyncio.sleep(15)  # the first comparison with the API server is part of the start
        before = operator.cpu_seconds()
        await asyncio.sleep(rest)
        spent = (operator.cpu_seconds() - before) * 60 / rest
        scrapes = [await timed(operator.scrape()) for _ in range(20)]
        size = len(await operator.scrape()) / 1024
        report(
            "/metrics",
            f"median {statistics.median(scrapes) * 1e3:.0f} ms, max {max(scrapes) * 1e3:.0f} ms, {size:.0f} KiB",
        )
        report("writes of the restart", f"{await operator.writes():.0f}")
        report("memory", f"{operator.megabytes('VmRSS'):.0f} MB, at most {operator.megabytes('VmHWM'):.0f} MB")
        report("CPU at rest", f"{spent:.2f} s a minute")


async def timed(work: Awaitable[object]) -> float:
    began = time.monotonic()
    await work
    return time.monotonic() - began


def report(what: str, figures: str) -> None:
    print(f"{what:26} {figures}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rest", type=float, default=60, help="seconds to watch the operator at rest")
    parser.add_argument("--bare", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        namespace, kubeconfig, template = options.bare
        asyncio.run(bare_loop(Path(kubeconfig), namespace, Path(template)))
        return
    programs = build(*TOOLS)
    crds = [*programs["kuberay-crds"].iterdir(), *sorted(CRDS.glob("*.yaml"))]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        plane = stack.enter_context(running_control_plane(programs, folder, crds))
        asyncio.run(measure(plane.kubeconfig, folder, options.jobs, options.rounds, options.rest))


if __name__ == "__main__":
    main()
