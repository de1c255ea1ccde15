"""kopf's part: it watches the API server and hands every event on; deciding is none of its business."""

from collections.abc import Callable
from typing import Any

import kopf

from tunesmith_operator.client import login
from tunesmith_operator.kinds import CONFIG_MAPS, EVALUATION_JOBS, JOBS, PODS, RAY_JOBS, WATCHED, Kind
from tunesmith_operator.settings import Settings

Receive = Callable[[Kind, Any], None]
"""Takes a kind and an event of the watch: type (None while listing) and object."""

_LIST_CHUNK = 100
_WATCH_SECONDS = 600  # an integer: the API server takes no other


def registry(receive: Receive) -> kopf.OperatorRegistry:
    """The handlers. All are of kopf's lowest kind, which keeps no state and adds no finalizer."""
    found = kopf.OperatorRegistry()
    kopf.on.login(registry=found)(login)

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


def kopf_settings(settings: Settings) -> kopf.OperatorSettings:
    """kopf's own settings: filtered watches that never outlive a dead connection, and no writes of its own."""
    found = kopf.OperatorSettings()
    found.posting.enabled = False
    found.scanning.disabled = bool(settings.namespaces)  # a Role cannot allow to watch CRDs
    found.queueing.idle_timeout = 0.1  # kopf keeps a task and the last event of an object so long
    found.watching.server_timeout = _WATCH_SECONDS
    found.watching.client_timeout = _WATCH_SECONDS + 60
    found.watching.chunk_size = _LIST_CHUNK
    for kind in WATCHED:
        if kind.selector:
            found.watching.label_selectors[kind.group, kind.version, kind.plural] = kind.selector
    return found
