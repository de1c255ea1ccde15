"""kopf's part: it watches the API server and hands every event on; deciding is none of its business."""

from collections.abc import Callable
from typing import Any, cast

import kopf

from tunesmith_operator.client import login
from tunesmith_operator.kinds import CONFIG_MAPS, EVALUATION_JOBS, JOBS, PIPELINES, PODS, RAY_JOBS, WATCHED, Kind

Receive = Callable[[Kind, Any], None]
"""Takes a kind and an event of the watch: type (None while listing) and object."""

_LIST_CHUNK = 100
_WATCH_SECONDS = 600  # an integer: the API server takes no other


def registry(receive: Receive) -> kopf.OperatorRegistry:
    """The handlers. All are of kopf's lowest kind, which keeps no state and adds no finalizer."""
    found = kopf.OperatorRegistry()
    kopf.on.login(registry=found)(login)

    @kopf.on.event(PIPELINES.group, PIPELINES.version, PIPELINES.plural, registry=found)
    async def pipeline(event: kopf.RawEvent, **_: Any) -> None:
        receive(PIPELINES, event)

    @kopf.on.event(JOBS.group, JOBS.version, JOBS.plural, registry=found)
    async def job(event: kopf.RawEvent, **_: Any) -> None:
        receive(JOBS, event)

    @kopf.on.event(RAY_JOBS.group, RAY_JOBS.version, RAY_JOBS.plural, registry=found)
    async def ray_job(event: kopf.RawEvent, **_: Any) -> None:
        receive(RAY_JOBS, event)

    @kopf.on.event(EVALUATION_JOBS.group, EVALUATION_JOBS.version, EVALUATION_JOBS.plural, registry=found)
    async def evaluation_job(event: kopf.RawEvent, **_: Any) -> None:
        receive(EVALUATION_JOBS, event)

    @kopf.on.event("", CONFIG_MAPS.version, CONFIG_MAPS.plural, registry=found)
    async def config_map(event: kopf.RawEvent, **_: Any) -> None:
        receive(CONFIG_MAPS, event)

    @kopf.on.event("", PODS.version, PODS.plural, registry=found)
    async def pod(event: kopf.RawEvent, **_: Any) -> None:
        receive(PODS, event)

    return found


class _NoDiff(kopf.DiffBaseStorage):
    """kopf copies every object to compare it with its last state, for handlers of a kind that is not used here."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return cast(kopf.BodyEssence, {})

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        pass


def kopf_settings() -> kopf.OperatorSettings:
    """kopf's own settings: filtered watches that never outlive a dead connection, and no writes of its own."""
    found = kopf.OperatorSettings()
    found.posting.enabled = False
    found.persistence.diffbase_storage = _NoDiff()
    found.scanning.disabled = True  # namespaces are listed or all, and `Resync` notices KubeRay's arrival
    found.queueing.idle_timeout = 0.1  # kopf keeps a task and the last event of an object so long
    found.watching.server_timeout = _WATCH_SECONDS
    found.watching.client_timeout = _WATCH_SECONDS + 60
    found.watching.chunk_size = _LIST_CHUNK
    for kind in WATCHED:
        if kind.selector:
            found.watching.label_selectors[kind.group, kind.version, kind.plural] = kind.selector
    return found
