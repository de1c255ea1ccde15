"""Fills the store at the start, and later compares it with the API server: no watch is trusted blindly."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from tunesmith.api.spans import span
from tunesmith_operator import metrics
from tunesmith_operator.client import METADATA_ONLY, ApiError, Client
from tunesmith_operator.kinds import RAY_JOBS, WATCHED, Kind
from tunesmith_operator.settings import Settings
from tunesmith_operator.store import Store
from tunesmith_operator.work_queue import WorkQueue

log = logging.getLogger(__name__)

_FIRST_COMPARISON = 5.0
"""Seconds after the start: what changed between our list and kopf's is found here."""
_LAG = 10.0
"""Seconds that a watch may be behind."""

_Difference = tuple[Kind, str, str, str, str | None]
"""Kind, namespace, name, uid, and the version that the API server has; None for an object that is gone."""


class KubeRayArrivedError(Exception):
    """KubeRay was installed after the operator began; only a fresh start watches its RayJobs."""


class Resync:
    """Lists everything from time to time."""

    def __init__(self, client: Client, store: Store, queue: WorkQueue, settings: Settings) -> None:
        self._client, self._store, self._queue, self._settings = client, store, queue, settings
        self._last_done = 0.0
        self._stalled = 0
        self._kuberay_missing = False

    async def fill(self) -> None:
        """Takes everything in; nothing may be decided before."""
        with span("resync"):
            for kind in WATCHED:
                async for body in self._list(kind):
                    self._store.put(kind, body)
        self._note_done()

    async def compare_for_ever(self) -> None:
        """Compares in intervals, mends what the watches missed, and has every job looked after again."""
        delay = min(_FIRST_COMPARISON, self._settings.resync_seconds)
        while True:
            await asyncio.sleep(delay)
            missing = self._kuberay_missing
            delay = self._settings.recheck_seconds if missing else self._settings.resync_seconds
            try:
                with span("resync"):
                    await self._compare()
            except (ApiError, aiohttp.ClientError, TimeoutError) as error:
                log.warning("the comparison with the API server failed: %s", error)

    def trouble(self) -> str:
        """What is wrong with the watches; empty when nothing is."""
        since = asyncio.get_running_loop().time() - self._last_done
        if since > 3 * self._settings.resync_seconds:
            return f"the last comparison with the API server was {since:.0f} s ago"
        if self._stalled >= 2:
            return "the watches have missed changes twice in a row"
        return ""

    async def _compare(self) -> None:
        suspects = await self._differences()
        if suspects:
            await asyncio.sleep(min(_LAG, self._settings.resync_seconds))
            still = suspects & await self._differences()
            for difference in still:
                await self._mend(difference)
            self._stalled = self._stalled + 1 if still else 0
        else:
            self._stalled = 0
        self._note_done()
        self._queue.add(self._store.keys())

    def _note_done(self) -> None:
        self._last_done = asyncio.get_running_loop().time()
        metrics.RESYNC.set_to_current_time()

    async def _differences(self) -> set[_Difference]:
        found: set[_Difference] = set()
        for kind in WATCHED:
            known = self._store.versions(kind)
            async for body in self._list(kind, METADATA_ONLY):
                meta = body["metadata"]
                uid, version = meta["uid"], meta["resourceVersion"]
                have = known.pop((meta["namespace"], meta["name"]), None)
                if have != (uid, version):
                    found.add((kind, meta["namespace"], meta["name"], uid, version))
            found |= {(kind, namespace, name, uid, None) for (namespace, name), (uid, _) in known.items()}
        return found

    async def _mend(self, difference: _Difference) -> None:
        kind, namespace, name, uid, version = difference
        log.warning("the watch missed a change of %s %s/%s", kind.name, namespace, name)
        metrics.REPAIRS.inc()
        if version is None:
            self._queue.add(self._store.remove(kind, namespace, name, uid))
            return
        async for body in self._list(kind, only=(namespace, name)):
            self._queue.add(self._store.put(kind, body))

    async def _list(
        self, kind: Kind, accept: str = "", only: tuple[str, str] | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        namespaces: tuple[str | None, ...] = (only[0],) if only else self._settings.namespaces or (None,)
        for namespace in namespaces:
            try:
                async for page in self._client.pages(kind, namespace, accept, name=only[1] if only else ""):
                    for body in page:
                        yield body
            except ApiError as error:
                if error.code != 404 or kind is not RAY_JOBS:
                    raise
                if not self._kuberay_missing:
                    log.warning("the API server knows no RayJobs: install KubeRay")
                self._kuberay_missing = True
                return
        if kind is RAY_JOBS and self._kuberay_missing:
            raise KubeRayArrivedError("KubeRay is there now: the operator stops, to watch RayJobs from its next start")
