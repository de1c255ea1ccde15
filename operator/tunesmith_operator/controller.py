"""Looks after jobs and pipelines: observes, lets `reconcile` decide, carries its plan out. All it knows it can learn
again."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import aiohttp

from tunesmith.api.notification import NotificationStatus
from tunesmith.api.pipeline_status import PipelineStatus
from tunesmith.api.spans import span, tell
from tunesmith.api.status import JobStatus
from tunesmith_operator import metrics
from tunesmith_operator.client import ApiError, Client
from tunesmith_operator.courier import Courier
from tunesmith_operator.events import event_body
from tunesmith_operator.job_spans import ended
from tunesmith_operator.kinds import BY_NAME, CONFIG_MAPS, EVALUATION_JOBS, EVENTS, PIPELINES, PODS, RAY_JOBS, Kind
from tunesmith_operator.merge import merge_patch
from tunesmith_operator.observed import Object, Observed, Refusal
from tunesmith_operator.pipeline import SeenPipeline
from tunesmith_operator.progress import ProgressReader
from tunesmith_operator.reconcile import reconcile
from tunesmith_operator.reconcile.pipeline import reconcile_pipeline
from tunesmith_operator.reconcile.plan import Event, Plan, SpecPatch
from tunesmith_operator.references import References
from tunesmith_operator.settings import Settings
from tunesmith_operator.store import Key, Store, controller
from tunesmith_operator.trace_ids import owner_span
from tunesmith_operator.work_queue import WorkQueue

log = logging.getLogger(__name__)

_FIRST_DELAY, _LONGEST_DELAY = 0.5, 300.0


class RefusedError(Exception):
    """A child cannot be made for now."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Controller:
    """Carries out what is decided, one look after one job or pipeline at a time."""

    def __init__(
        self,
        client: Client,
        store: Store,
        queue: WorkQueue,
        progress: ProgressReader,
        courier: Courier,
        settings: Settings,
        clock: Callable[[], datetime],
    ) -> None:
        self._client, self._store, self._queue, self._progress = client, store, queue, progress
        self._courier, self._settings, self._clock = courier, settings, clock
        self._references = References(client, asyncio.get_running_loop().time)
        self._failures: dict[Key, int] = {}

    async def work(self) -> None:
        """One worker: takes what the queue holds, for ever."""
        while True:
            key = await self._queue.get()
            again_in: float | None = None
            try:
                body = self._store.owner(key)
                about = {"k8s.namespace.name": key.namespace, "tunesmith.job": key.name, "tunesmith.kind": key.kind}
                link = owner_span(body) if body is not None else None
                with (
                    metrics.RECONCILE_SECONDS.labels(key.kind).time(),
                    span("reconcile", about | {"tunesmith.result": "failed"}, link) as note,
                ):
                    again_in = await self._look_after(key, body)
                    note({"tunesmith.result": "done"})
                self._failures.pop(key, None)
                metrics.RECONCILES.labels(key.kind, "done").inc()
            except Exception as error:  # whatever it is, the others go on, and this one is tried again
                failures = self._failures[key] = self._failures.get(key, -1) + 1
                again_in = min(_LONGEST_DELAY, _FIRST_DELAY * 2**failures)
                metrics.RECONCILES.labels(key.kind, "failed").inc()
                trace = not isinstance(error, ApiError | aiohttp.ClientError | TimeoutError)
                text = "%s: %r; again in %.1f s"
                log.warning(text, key, error, again_in, exc_info=trace, extra=key.about)
            finally:
                self._queue.done(key, again_in)

    async def _look_after(self, key: Key, body: Object | None) -> float | None:
        if body is None:
            self._progress.follow(key, ())
            self._courier.follow(key, ())
            return None
        if key.kind == PIPELINES.name:
            jobs = self._store.jobs_of(key, body["metadata"]["uid"])
            pipeline = SeenPipeline(body, self._clock(), jobs, receivers=self._courier.known(key))
            return await self._carry_out(
                key, body, lambda refusal: reconcile_pipeline(replace(pipeline, refusal=refusal), self._settings)
            )
        seen = await self._observe(key, body)
        if wanted := reconcile(seen, self._settings).lookups:
            found = await self._references.look_up(key.namespace, wanted)
            seen = replace(seen, references={**seen.references, **found})
        return await self._carry_out(
            key, body, lambda refusal: reconcile(replace(seen, refusal=refusal), self._settings)
        )

    async def _carry_out(self, key: Key, body: Object, decide: Callable[[Refusal | None], Plan]) -> float | None:
        """Does what is decided; returns the seconds until the next look.

        Args:
            key: what is looked after.
            body: the object.
            decide: makes the plan; is given the reason when a child of an earlier plan cannot be made.
        """
        plan = decide(None)
        try:
            for child in plan.create:
                await self._create(key, body, child)
        except RefusedError as refused:
            plan = decide(refused.refusal)
        for change in plan.change:
            await self._change(key, change)
        for event in plan.events:
            await self._tell(body, event)
        if plan.status is not None:
            await self._write(key, body, plan.status)
        self._courier.follow(key, plan.notify)
        await self._delete(key, plan, body)
        self._progress.follow(key, plan.poll)
        return plan.look_again

    async def _observe(self, key: Key, body: Object) -> Observed:
        uid, namespace = body["metadata"]["uid"], key.namespace
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
            receivers=self._courier.known(key),
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

    async def _create(self, key: Key, owner: Object, child: Mapping[str, Any]) -> None:
        """Makes a child; one that is there already is fine if it is this owner's.

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
            if (refusal := _conflict(owner, there, kind.name)) is not None:
                raise RefusedError(refusal) from error
            made = there
        self._take(key, kind, made)

    async def _change(self, key: Key, change: SpecPatch) -> None:
        kind = BY_NAME[change.kind]
        self._take(key, kind, await self._client.patch_spec(kind, key.namespace, change.name, change.patch))

    def _take(self, key: Key, kind: Kind, made: Mapping[str, Any]) -> None:
        """Knows of a write before the watch does, and has the others that it concerns looked after."""
        self._queue.add(self._store.put(kind, made) - {key})

    async def _tell(self, body: Object, event: Event) -> None:
        try:
            await self._client.create(EVENTS, event_body(body, event, self._clock()))
        except ApiError as error:
            if error.reason != "AlreadyExists":
                meta = body["metadata"]
                key = Key(meta["namespace"], meta["name"], body["kind"])
                log.info("%s: no event: %s", key, error, extra=key.about)

    async def _write(self, key: Key, body: Object, status: JobStatus | PipelineStatus) -> None:
        meta, before = body["metadata"], body.get("status") or {}
        patch = {
            "metadata": {"resourceVersion": meta["resourceVersion"]},
            "status": merge_patch(before, status.to_dict()),
        }
        kind = BY_NAME[key.kind]
        self._take(key, kind, await self._client.patch_status(kind, key.namespace, key.name, patch))
        for finished in ended(body, before, status):
            tell(finished)
        if isinstance(status, JobStatus):
            _measure(JobStatus.model_validate(before), status)
        former = before.get("notifications") or []
        _measure_notifications([NotificationStatus.model_validate(line) for line in former], status.notifications or [])

    async def _delete(self, key: Key, plan: Plan, body: Object) -> None:
        for gone in plan.delete:
            await self._client.delete(BY_NAME[gone.kind], key.namespace, gone.name, gone.uid)
        if plan.delete_itself:
            await self._client.delete(BY_NAME[key.kind], key.namespace, key.name, body["metadata"]["uid"])


def _conflict(mine: Object, there: Mapping[str, Any], kind: str) -> Refusal | None:
    """Why an object of the child's name is in the way; None when it is the child."""
    meta, owner = there["metadata"], controller(there)
    what = f"{kind} {meta['name']}"
    if meta.get("deletionTimestamp"):
        return Refusal("WaitingForDeletion", f"waits until {what}, which is being deleted, is gone")
    if owner and owner["uid"] == mine["metadata"]["uid"]:
        return None
    me = "pipeline" if mine["kind"] == PIPELINES.name else "job"
    if owner and (owner["kind"], owner["name"]) == (mine["kind"], mine["metadata"]["name"]):
        return Refusal("WaitingForDeletion", f"waits until {what} of a former {me} of this name is gone")
    whose = f"belongs to {owner['kind']} {owner['name']}" if owner else f"does not belong to this {me}"
    return Refusal("ChildConflict", f"{what} is there already and {whose}: delete it, or give this {me} another name")


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


def _measure_notifications(before: Sequence[NotificationStatus], after: Sequence[NotificationStatus]) -> None:
    """Counts tries and ends of notifications, likewise."""
    results = {"Delivered": "delivered", "Failed": "failed", "Pending": "retried"}
    former = {(line.event, line.to, line.format): line for line in before}
    for line in after:
        was = former.get((line.event, line.to, line.format))
        if (line.state, line.tries) != ((was.state, was.tries) if was is not None else ("Pending", 0)):
            metrics.NOTIFICATIONS.labels(line.format, results[line.state]).inc()
