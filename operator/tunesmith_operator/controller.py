"""Looks after jobs: observes, lets `reconcile` decide, carries its plan out. What it knows it can learn again."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import aiohttp

from tunesmith.api.status import JobStatus
from tunesmith_operator import metrics
from tunesmith_operator.client import ApiError, Client
from tunesmith_operator.events import event_body, merge_patch
from tunesmith_operator.kinds import BY_NAME, CONFIG_MAPS, EVALUATION_JOBS, EVENTS, JOBS, PODS, RAY_JOBS
from tunesmith_operator.observed import Object, Observed, Refusal
from tunesmith_operator.progress import ProgressReader
from tunesmith_operator.reconcile import reconcile
from tunesmith_operator.reconcile.plan import Event, Plan
from tunesmith_operator.references import References
from tunesmith_operator.settings import Settings
from tunesmith_operator.store import Key, Store
from tunesmith_operator.work_queue import WorkQueue

log = logging.getLogger(__name__)

_FIRST_DELAY, _LONGEST_DELAY = 0.5, 300.0


class RefusedError(Exception):
    """A child cannot be made for now."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Controller:
    """Carries out what `reconcile` decides, one look after one job at a time."""

    def __init__(
        self,
        client: Client,
        store: Store,
        queue: WorkQueue,
        progress: ProgressReader,
        settings: Settings,
        clock: Callable[[], datetime],
    ) -> None:
        self._client, self._store, self._queue, self._progress = client, store, queue, progress
        self._settings, self._clock = settings, clock
        self._references = References(client, asyncio.get_running_loop().time)
        self._failures: dict[Key, int] = {}

    async def work(self) -> None:
        """One worker: takes jobs from the queue for ever."""
        while True:
            key = await self._queue.get()
            again_in: float | None = None
            try:
                with metrics.RECONCILE_SECONDS.time():
                    again_in = await self._look_after(key)
                self._failures.pop(key, None)
            except Exception as error:  # whatever it is, the other jobs go on, and this one is tried again
                failures = self._failures[key] = self._failures.get(key, -1) + 1
                again_in = min(_LONGEST_DELAY, _FIRST_DELAY * 2**failures)
                metrics.RECONCILE_ERRORS.inc()
                trace = not isinstance(error, ApiError | aiohttp.ClientError | TimeoutError)
                log.warning("%s/%s: %r; again in %.1f s", *key, error, again_in, exc_info=trace)
            finally:
                self._queue.done(key, again_in)

    async def _look_after(self, key: Key) -> float | None:
        seen = await self._observe(key)
        if seen is None:
            self._progress.follow(key, ())
            return None
        plan = reconcile(seen, self._settings)
        if plan.lookups:
            found = await self._references.look_up(key[0], plan.lookups)
            seen = replace(seen, references={**seen.references, **found})
            plan = reconcile(seen, self._settings)
        try:
            for child in plan.create:
                await self._create(seen.body, child)
        except RefusedError as refused:
            plan = reconcile(replace(seen, refusal=refused.refusal), self._settings)
        for event in plan.events:
            await self._tell(seen.body, event)
        if plan.status is not None:
            await self._write(seen.body, plan.status)
        await self._delete(key, plan, seen.body)
        self._progress.follow(key, plan.poll)
        return plan.look_again

    async def _observe(self, key: Key) -> Observed | None:
        body = self._store.job(key)
        if body is None:
            return None
        uid, namespace = body["metadata"]["uid"], key[0]
        await self._make_sure_of_ray_job(body, namespace)
        return Observed(
            body=body,
            now=self._clock(),
            config_maps=self._store.children(uid, CONFIG_MAPS),
            ray_jobs=self._store.children(uid, RAY_JOBS),
            evaluation_jobs=self._store.children(uid, EVALUATION_JOBS),
            pods=self._store.children(uid, PODS),
            jobs=self._store.jobs_in(namespace),
            references=self._references.known(namespace),
            progress=self._progress.latest(key),
        )

    async def _make_sure_of_ray_job(self, body: Object, namespace: str) -> None:
        """An attempt is lost when its RayJob is gone: not for a watch's word alone."""
        attempts = (body.get("status") or {}).get("attempts", [])
        if not attempts or attempts[-1].get("endTime"):
            return
        name = attempts[-1]["rayJob"]
        if name not in self._store.children(body["metadata"]["uid"], RAY_JOBS):
            found = await self._client.get(RAY_JOBS, namespace, name)
            if found is not None:
                self._store.put(RAY_JOBS, found)

    async def _create(self, job: Object, child: Mapping[str, Any]) -> None:
        """Makes a child; one that is there already is fine if it is this job's.

        Raises:
            RefusedError: something stands in the way that may pass.
        """
        kind, name = BY_NAME[child["kind"]], child["metadata"]["name"]
        try:
            made = await self._client.create(kind, child)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise _refused(error, child) from error
            there = await self._client.get(kind, child["metadata"]["namespace"], name)
            if there is None:
                raise
            if (refusal := _conflict(job, there, kind.name)) is not None:
                raise RefusedError(refusal) from error
            made = there
        self._store.put(kind, made)

    async def _tell(self, job: Object, event: Event) -> None:
        try:
            await self._client.create(EVENTS, event_body(job, event, self._clock()))
        except ApiError as error:
            if error.reason != "AlreadyExists":
                log.info("%s/%s: no event: %s", job["metadata"]["namespace"], job["metadata"]["name"], error)

    async def _write(self, body: Object, status: JobStatus) -> None:
        meta, before = body["metadata"], body.get("status") or {}
        patch = {
            "metadata": {"resourceVersion": meta["resourceVersion"]},
            "status": merge_patch(before, status.to_dict()),
        }
        made = await self._client.patch_status(JOBS, meta["namespace"], meta["name"], patch)
        waiting = self._store.put(JOBS, made) - {(meta["namespace"], meta["name"])}
        self._queue.add(waiting)
        _measure(JobStatus.model_validate(before), status)

    async def _delete(self, key: Key, plan: Plan, body: Object) -> None:
        for gone in plan.delete:
            await self._client.delete(BY_NAME[gone.kind], key[0], gone.name, gone.uid)
        if plan.delete_job:
            await self._client.delete(JOBS, *key, body["metadata"]["uid"])


def _conflict(job: Object, there: Mapping[str, Any], kind: str) -> Refusal | None:
    """Why an object of the child's name is in the way; None when it is the child."""
    meta, mine = there["metadata"], job["metadata"]
    owner = next((owner for owner in meta.get("ownerReferences", ()) if owner.get("controller")), None)
    what = f"{kind} {meta['name']}"
    if meta.get("deletionTimestamp"):
        return Refusal("WaitingForDeletion", f"waits until {what}, which is being deleted, is gone")
    if owner is not None and owner["uid"] == mine["uid"]:
        return None
    if owner is not None and (owner["kind"], owner["name"]) == (JOBS.name, mine["name"]):
        return Refusal("WaitingForDeletion", f"waits until {what} of a former job of this name is gone")
    whose = f"belongs to {owner['kind']} {owner['name']}" if owner is not None else "does not belong to this job"
    return Refusal("ChildConflict", f"{what} is there already and {whose}: delete it, or give this job another name")


def _refused(error: ApiError, child: Mapping[str, Any]) -> Exception:
    if error.code == 404 and child["kind"] == RAY_JOBS.name and child["metadata"]["name"] not in error.message:
        return RefusedError(Refusal("KubeRayMissing", "the API server knows no RayJobs: install KubeRay"))
    if error.code == 403 and "exceeded quota" in error.message:
        return RefusedError(Refusal("QuotaExceeded", error.message))
    if error.code in (400, 403, 422):
        return RefusedError(Refusal("ChildRefused", error.message))
    return error


def _measure(before: JobStatus, after: JobStatus) -> None:
    """Counts what a change of the status means; a restart may miss one, never count one twice."""
    ended = {attempt.number for attempt in before.attempts if attempt.end_time}
    for attempt in after.attempts:
        if attempt.end_time and attempt.number not in ended:
            metrics.ATTEMPT_SECONDS.labels(attempt.reason).observe(attempt.active_seconds or 0)
    if len(after.attempts) > len(before.attempts) and len(after.attempts) > 1:
        metrics.RETRIES.labels(after.attempts[-2].reason).inc()
    if after.completion_time and after.start_time and not before.completion_time:
        lasted = datetime.fromisoformat(after.completion_time) - datetime.fromisoformat(after.start_time)
        metrics.JOB_SECONDS.labels(after.phase).observe(lasted.total_seconds())
