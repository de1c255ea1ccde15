"""The entry point: settings from the environment and the command line, then the operator until it is told to stop.

Each setting of `Settings` is --its-name or TUNESMITH_ITS_NAME; the command line wins. namespaces and metric_modules are
lists with commas, head and submitter are CPU,MEMORY as in 1,4Gi.
"""

import argparse
import asyncio
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import Field, fields
from datetime import UTC, datetime
from functools import partial
from typing import Any

import aiohttp
import kopf
from prometheus_client import REGISTRY, disable_created_metrics
from pydantic import ValidationError

from tunesmith.api.log_lines import log_as_json
from tunesmith.api.pod import Tracing
from tunesmith.api.quantity import parse_quantity
from tunesmith.api.spans import OPERATOR, sending_spans
from tunesmith_operator.client import Client, RateLimit
from tunesmith_operator.controller import Controller
from tunesmith_operator.courier import Courier, receivers_session
from tunesmith_operator.job_metrics import JobMetrics
from tunesmith_operator.kinds import PODS, RAY_JOBS, Kind
from tunesmith_operator.metrics import WATCH_EVENT, Evaluations, JobsByPhase
from tunesmith_operator.progress import ProgressReader
from tunesmith_operator.receivers import Webhooks, check_entry
from tunesmith_operator.resync import KubeRayArrivedError, Resync
from tunesmith_operator.server import serve
from tunesmith_operator.settings import PodResources, Settings
from tunesmith_operator.store import Store
from tunesmith_operator.watches import kopf_settings, registry
from tunesmith_operator.work_queue import WorkQueue

_LONGEST_QUEUE_WAIT = 120.0
"""Seconds that a job may wait to be looked after before the operator calls itself unhealthy."""


def main() -> None:
    """Runs the operator."""
    settings = parse_settings(None, os.environ)
    if settings.log_format == "json":
        log_as_json()
    else:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    disable_created_metrics()  # type: ignore[no-untyped-call]
    failed = True
    try:
        with sending_spans(_tracing(settings), OPERATOR, {}):
            asyncio.new_event_loop().run_until_complete(run(settings))
        failed = False
    except KubeRayArrivedError as arrived:
        logging.warning("%s", arrived)
    except Exception:
        logging.exception("the operator stops")
    # At once, without waiting for tasks: a watch of kopf's may not end, and nothing in this process is worth saving.
    logging.shutdown()
    os._exit(failed)


def parse_settings(arguments: Sequence[str] | None, environment: Mapping[str, str]) -> Settings:
    """The settings of a command line and an environment; exits with a message where a value is wrong."""
    parser = argparse.ArgumentParser(prog="tunesmith-operator", description="The operator of Tunesmith.")
    for setting in fields(Settings):
        flag = f"--{setting.name.replace('_', '-')}"
        variable = f"TUNESMITH_{setting.name.upper()}"
        # argparse converts a default that is a string as it converts an argument
        parser.add_argument(flag, type=_converter(setting), default=environment.get(variable), help=variable)
    given = vars(parser.parse_args(arguments))
    settings = Settings(**{name: value for name, value in given.items() if value is not None})
    try:
        _tracing(settings)
    except ValidationError:
        parser.error(f"--tracing-endpoint is {settings.tracing_endpoint!r}; it is a URL such as http://collector:4318")
    if settings.log_format not in ("json", "text"):
        parser.error(f"--log-format is {settings.log_format!r}; json and text are there")
    return settings


def _tracing(settings: Settings) -> Tracing | None:
    return Tracing(endpoint=settings.tracing_endpoint) if settings.tracing_endpoint else None


def _converter(setting: Field[Any]) -> Any:
    def names(text: str) -> tuple[str, ...]:
        return tuple(filter(None, (part.strip() for part in text.split(","))))

    def resources(text: str) -> PodResources:
        cpu, _, memory = text.partition(",")
        parse_quantity(cpu), parse_quantity(memory)
        return PodResources(cpu, memory)

    def hosts(text: str) -> tuple[str, ...]:
        try:
            return tuple(check_entry(name) for name in names(text))
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    if setting.name == "notification_hosts":
        return hosts
    if setting.type == tuple[str, ...]:
        return names
    return resources if setting.type is PodResources else setting.type


async def run(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT."""
    limit = RateLimit(settings.qps, settings.burst, asyncio.get_running_loop().time)
    async with (
        Client(limit, settings.concurrency) as client,
        aiohttp.ClientSession() as pods,
        receivers_session() as receivers,
    ):
        store, queue = Store(), WorkQueue()
        resync = Resync(client, store, queue, settings)
        progress = ProgressReader(pods, settings.progress_seconds, queue.add)
        courier = Courier(receivers, Webhooks(settings.webhooks_folder), queue.add)
        controller = Controller(client, store, queue, progress, courier, settings, lambda: datetime.now(UTC))
        REGISTRY.register(JobsByPhase(store.phases))
        REGISTRY.register(Evaluations(store.evaluations))
        ray_jobs, of_jobs = partial(store.children, kind=RAY_JOBS), partial(store.children, kind=PODS)
        kept = settings.job_metrics_seconds
        REGISTRY.register(JobMetrics(store.owners, ray_jobs, of_jobs, lambda: datetime.now(UTC), kept))

        def trouble() -> str:
            waited = queue.oldest_wait()
            return resync.trouble() or (f"a job waits for {waited:.0f} s" if waited > _LONGEST_QUEUE_WAIT else "")

        await resync.fill()
        await serve(settings.port, trouble)
        queue.add(store.keys())
        workers = [asyncio.create_task(controller.work()) for _ in range(settings.concurrency)]
        tasks = [*workers, asyncio.create_task(resync.compare_for_ever())]
        tasks += await _watch(store, queue, settings)
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()


async def _watch(store: Store, queue: WorkQueue, settings: Settings) -> Collection[asyncio.Task[None]]:
    """Starts kopf; its tasks end when the process is told to stop, or when kopf fails."""

    def receive(kind: Kind, event: Any) -> None:
        body = event["object"]
        WATCH_EVENT.labels(kind.name).set_to_current_time()
        if event["type"] == "DELETED":
            meta = body["metadata"]
            queue.add(store.remove(kind, meta["namespace"], meta["name"], meta["uid"]))
        else:
            queue.add(store.put(kind, body))

    return await kopf.spawn_tasks(
        registry=registry(receive),
        settings=kopf_settings(),
        standalone=True,
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
    )
