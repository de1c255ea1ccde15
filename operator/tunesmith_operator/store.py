"""What the watches brought: jobs whole, their children as the facts that matter."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tunesmith_operator import observed
from tunesmith_operator.kinds import CONFIG_MAPS, EVALUATION_JOBS, JOBS, PODS, RAY_JOBS, Kind
from tunesmith_operator.names import UID_LABEL
from tunesmith_operator.observed import Object

Key = tuple[str, str]
"""Namespace and name of a job."""

_PARSERS: Mapping[str, Callable[[Object], Any]] = {
    CONFIG_MAPS.name: observed.config_map,
    RAY_JOBS.name: observed.ray_job,
    EVALUATION_JOBS.name: observed.evaluation_job,
    PODS.name: observed.pod,
}
_REMEMBERED_DELETIONS = 10_000


class Store:
    """Keeps the newest state of each object, in whatever order the news arrive."""

    def __init__(self) -> None:
        self._jobs: dict[str, dict[str, Object]] = {}
        self._keys: dict[str, Key] = {}
        self._waiting: dict[Key, set[Key]] = {}
        self._children: dict[str, dict[str, dict[str, Any]]] = {}
        self._known: dict[tuple[str, str, str], tuple[str, str, str]] = {}
        self._gone: dict[str, None] = {}

    def job(self, key: Key) -> Object | None:
        """A job as the API server last showed it."""
        return self._jobs.get(key[0], {}).get(key[1])

    def jobs_in(self, namespace: str) -> Mapping[str, Object]:
        """The jobs of a namespace by name."""
        return self._jobs.get(namespace, {})

    def keys(self) -> list[Key]:
        """All jobs."""
        return list(self._keys.values())

    def phases(self) -> Iterator[str]:
        """The phase of each job."""
        for jobs in self._jobs.values():
            for body in jobs.values():
                yield (body.get("status") or {}).get("phase", "Pending")

    def children(self, uid: str, kind: Kind) -> Mapping[str, Any]:
        """A job's children of a kind by name."""
        return dict(self._children.get(uid, {}).get(kind.name, {}))

    def versions(self, kind: Kind) -> dict[tuple[str, str], tuple[str, str]]:
        """uid and resourceVersion of all objects of a kind, by namespace and name."""
        return {
            (namespace, name): (uid, version)
            for (known, namespace, name), (uid, version, _) in self._known.items()
            if known == kind.name
        }

    def put(self, kind: Kind, body: Mapping[str, Any]) -> set[Key]:
        """Takes an object in; returns the jobs that must be looked after for it."""
        meta = body["metadata"]
        place = (kind.name, meta["namespace"], meta["name"])
        uid, version = meta["uid"], meta["resourceVersion"]
        known = self._known.get(place)
        if uid in self._gone or (known is not None and known[0] == uid and not _newer(version, known[1])):
            return set()
        owner = uid if kind is JOBS else meta.get("labels", {}).get(UID_LABEL, "")
        self._known[place] = (uid, version, owner)
        if kind is JOBS:
            return self._put_job(body)
        children = self._children.setdefault(owner, {}).setdefault(kind.name, {})
        before, facts = children.get(meta["name"]), _PARSERS[kind.name](body)
        children[meta["name"]] = facts
        return self._owner(owner) if facts != before else set()

    def remove(self, kind: Kind, namespace: str, name: str, uid: str) -> set[Key]:
        """Takes an object out; returns the jobs that must be looked after for it."""
        self._gone[uid] = None
        if len(self._gone) > _REMEMBERED_DELETIONS:
            del self._gone[next(iter(self._gone))]
        place = (kind.name, namespace, name)
        known = self._known.get(place)
        if known is None or known[0] != uid:
            return set()
        del self._known[place]
        if kind is JOBS:
            return self._remove_job((namespace, name), uid)
        kinds = self._children.get(known[2], {})
        kinds.get(kind.name, {}).pop(name, None)
        if not any(kinds.values()):
            self._children.pop(known[2], None)
        return self._owner(known[2])

    def _owner(self, uid: str) -> set[Key]:
        return {self._keys[uid]} if uid in self._keys else set()

    def _put_job(self, body: Mapping[str, Any]) -> set[Key]:
        meta = body["metadata"]
        key = (meta["namespace"], meta["name"])
        former = self.job(key)
        if former is not None and former["metadata"]["uid"] != meta["uid"]:
            self._keys.pop(former["metadata"]["uid"], None)
        slim = {name: value for name, value in meta.items() if name != "managedFields"}
        whole = {**body, "apiVersion": JOBS.api_version, "kind": JOBS.name, "metadata": slim}
        self._jobs.setdefault(key[0], {})[key[1]] = whole
        self._keys[meta["uid"]] = key
        if (other := _model_job(whole)) is not None:
            self._waiting.setdefault(other, set()).add(key)
        return {key} | self._waiting.get(key, set())

    def _remove_job(self, key: Key, uid: str) -> set[Key]:
        body = self._jobs[key[0]].pop(key[1])
        self._keys.pop(uid, None)
        if (other := _model_job(body)) is not None and other in self._waiting:
            self._waiting[other].discard(key)
            if not self._waiting[other]:
                del self._waiting[other]
        return {key} | self._waiting.get(key, set())


def _model_job(body: Object) -> Key | None:
    """The job whose model this one starts from."""
    source: str = body["spec"].get("model", {}).get("source", "")
    return (body["metadata"]["namespace"], source.removeprefix("job://")) if source.startswith("job://") else None


def _newer(version: str, than: str) -> bool:
    """Versions are numbers that only grow, and are compared as such.
    https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
    """
    return int(version) > int(than) if version.isdecimal() and than.isdecimal() else version != than
