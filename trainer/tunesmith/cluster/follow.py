"""Follows objects: a list, then a watch that is begun again wherever it breaks."""

import json
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from tunesmith.cluster.client import Cluster, ClusterError, Object
from tunesmith.cluster.kinds import Kind

_WATCH_S = 280
"""After which the server ends a watch; a new one goes on where it was."""
_QUIET_S = 310.0
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_HOPELESS = (400, 401, 403, 404)
"""What trying again does not mend."""


@dataclass(frozen=True)
class Change:
    """What is new."""

    kind: Kind
    what: Literal["all", "changed", "deleted", "lost", "back", "refused"]
    """`all` objects, in place of those known before; one; or how the connection is. `refused` is the last."""
    objects: tuple[Object, ...] = ()
    error: Exception | None = None


class Follower:
    """Follows a kind in a thread of its own, and puts each Change into a queue."""

    def __init__(
        self,
        cluster: Cluster,
        kind: Kind,
        namespace: str | None,
        changes: "queue.Queue[Change]",
        query: Mapping[str, str] | None = None,
    ) -> None:
        self._cluster, self._kind, self._namespace = cluster, kind, namespace
        self._changes, self._query = changes, dict(query or {})
        self._version = ""
        self._stopped = threading.Event()
        threading.Thread(target=self._run, daemon=True, name=f"follow-{kind.plural}").start()

    def stop(self) -> None:
        """Lets it end when it next can; it is a daemon, so nobody waits for it."""
        self._stopped.set()

    def _run(self) -> None:
        try:
            self._follow()
        except Exception as error:  # whoever reads the queue raises it
            self._changes.put(Change(self._kind, "refused", error=error))

    def _follow(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                if not self._version:
                    self._list()
                for change in self._watch():
                    if failures > 1:
                        self._changes.put(Change(self._kind, "back"))
                    failures = 0
                    if change is not None:
                        self._changes.put(change)
            except ClusterError as error:
                if error.code == 410:  # what the watch should go on from is forgotten
                    self._version = ""
                    continue
                if error.code in _HOPELESS:
                    raise
                failures += 1
                if failures > 1:  # a single one is an API server that goes and another that comes: nothing to tell
                    self._changes.put(Change(self._kind, "lost", error=error))
                self._stopped.wait(min(_SHORTEST_PAUSE_S * 2**failures, _LONGEST_PAUSE_S))
            else:  # something between here and the server may end every watch at once
                self._stopped.wait(max(0.0, began + _SHORTEST_PAUSE_S - time.monotonic()))

    def _list(self) -> None:
        objects, version = list[Object](), ""
        for page in self._cluster.pages(self._kind, self._namespace, self._query):
            objects += page["items"] or []
            version = page["metadata"]["resourceVersion"]
        self._version = version
        self._changes.put(Change(self._kind, "all", tuple(objects)))

    def _watch(self) -> Iterator[Change | None]:
        """The changes since the list; None when the server is there and has nothing to say yet."""
        asked = {
            **self._query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(_WATCH_S),
        }
        lines = self._cluster.lines(self._kind.path(self._namespace), asked, _QUIET_S)
        yield None
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                raise ClusterError("the watch broke off in the midst of a line") from None
            told, body = event["type"], event["object"]
            if told == "ERROR":
                raise ClusterError(str(body.get("message", "the watch failed")), int(body.get("code", 0)))
            self._version = body["metadata"]["resourceVersion"]
            if told == "BOOKMARK":
                yield None
            else:
                yield Change(self._kind, "deleted" if told == "DELETED" else "changed", (body,))
