"""What the watches brought: jobs and pipelines whole, the children of jobs as the facts that matter."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from tunesmith_operator import observed
from tunesmith_operator.kinds import CONFIG_MAPS, EVALUATION_JOBS, JOBS, OWNERS, PIPELINES, PODS, RAY_JOBS, Kind
from tunesmith_operator.names import UID_LABEL
from tunesmith_operator.observed import Object


class Key(NamedTuple):
    """What is looked after: a job or a pipeline."""

    namespace: str
    name: str
    kind: str = JOBS.name

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"

    @property
    def about(self) -> dict[str, str]:
        """What a log line about it carries."""
        return {"kind": self.kind, "namespace": self.namespace, "job": self.name}


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
        self._owners: dict[tuple[str, str], dict[str, Object]] = {}
        self._keys: dict[str, Key] = {}
        self._waiting: dict[Key, set[Key]] = {}
        self._children: dict[str, dict[str, dict[str, Any]]] = {}
        self._known: dict[tuple[str, str, str], tuple[str, str, str]] = {}
        self._gone: dict[str, None] = {}

    def owner(self, key: Key) -> Object | None:
        """A job or pipeline as the API server last showed it."""
        return self._owners.get((key.kind, key.namespace), {}).get(key.name)

    def jobs_in(self, namespace: str) -> Mapping[str, Object]:
        """The jobs of a namespace by name."""
        return self._owners.get((JOBS.name, namespace), {})

    def jobs_of(self, pipeline: Key, uid: str) -> Mapping[str, Object]:
        """A pipeline's jobs by name."""
        return {n: b for n, b in self.jobs_in(pipeline.namespace).items() if controller(b).get("uid") == uid}

    def keys(self) -> list[Key]:
        """All jobs and pipelines."""
        return list(self._keys.values())

    def owners(self) -> Iterator[Object]:
        """All jobs and pipelines, whole."""
        for owners in self._owners.values():
            yield from owners.values()

    def phases(self) -> Iterator[tuple[str, str]]:
        """Kind and phase of each job and pipeline."""
        for (kind, _), owners in self._owners.items():
            for body in owners.values():
                yield kind, (body.get("status") or {}).get("phase", "Pending")

    def evaluations(self) -> Iterator[tuple[Key, Object]]:
        """The evaluation in the status of each job and pipeline that has one."""
        for (kind, namespace), owners in self._owners.items():
            for name, body in owners.items():
                found = (body.get("status") or {}).get("evaluation")
                if found:
                    yield Key(namespace, name, kind), found

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
        """Takes an object in; returns what must be looked after for it."""
        meta = body["metadata"]
        place = (kind.name, meta["namespace"], meta["name"])
        uid, version = meta["uid"], meta["resourceVersion"]
        known = self._known.get(place)
        if uid in self._gone or (known is not None and known[0] == uid and not _newer(version, known[1])):
            return set()
        owner = uid if kind in OWNERS else meta.get("labels", {}).get(UID_LABEL, "")
        self._known[place] = (uid, version, owner)
        if kind in OWNERS:
            return self._put_owner(kind, body)
        children = self._children.setdefault(owner, {}).setdefault(kind.name, {})
        before, facts = children.get(meta["name"]), _PARSERS[kind.name](body)
        children[meta["name"]] = facts
        return self._owner(owner) if facts != before else set()

    def remove(self, kind: Kind, namespace: str, name: str, uid: str) -> set[Key]:
        """Takes an object out; returns what must be looked after for it."""
        self._gone[uid] = None
        if len(self._gone) > _REMEMBERED_DELETIONS:
            del self._gone[next(iter(self._gone))]
        place = (kind.name, namespace, name)
        known = self._known.get(place)
        if known is None or known[0] != uid:
            return set()
        del self._known[place]
        if kind in OWNERS:
            return self._remove_owner(Key(namespace, name, kind.name), uid)
        kinds = self._children.get(known[2], {})
        kinds.get(kind.name, {}).pop(name, None)
        if not any(kinds.values()):
            self._children.pop(known[2], None)
        return self._owner(known[2])

    def _owner(self, uid: str) -> set[Key]:
        return {self._keys[uid]} if uid in self._keys else set()

    def _put_owner(self, kind: Kind, body: Mapping[str, Any]) -> set[Key]:
        meta = body["metadata"]
        key = Key(meta["namespace"], meta["name"], kind.name)
        former = self.owner(key)
        if former is not None and former["metadata"]["uid"] != meta["uid"]:
            self._keys.pop(former["metadata"]["uid"], None)
        slim = {name: value for name, value in meta.items() if name != "managedFields"}
        whole = {**body, "apiVersion": kind.api_version, "kind": kind.name, "metadata": slim}
        self._owners.setdefault((key.kind, key.namespace), {})[key.name] = whole
        self._keys[meta["uid"]] = key
        for other in _model_jobs(whole):
            self._waiting.setdefault(other, set()).add(key)
        return {key} | self._waiting.get(key, set()) | _pipeline(whole)

    def _remove_owner(self, key: Key, uid: str) -> set[Key]:
        body = self._owners[key.kind, key.namespace].pop(key.name)
        self._keys.pop(uid, None)
        for other in _model_jobs(body):
            if other in self._waiting:
                self._waiting[other].discard(key)
                if not self._waiting[other]:
                    del self._waiting[other]
        return {key} | self._waiting.get(key, set()) | _pipeline(body)


def controller(body: Object) -> Mapping[str, Any]:
    """The owner that controls an object; empty where it has none."""
    return next((owner for owner in body["metadata"].get("ownerReferences", ()) if owner.get("controller")), {})


def _pipeline(body: Object) -> set[Key]:
    """The pipeline that a job belongs to."""
    owner = controller(body)
    mine = owner.get("kind") == PIPELINES.name
    return {Key(body["metadata"]["namespace"], owner["name"], PIPELINES.name)} if mine else set()


def _model_jobs(body: Object) -> set[Key]:
    """The jobs whose models or evaluations this one reads; those of a pipeline wait themselves."""
    if body["kind"] != JOBS.name:
        return set()
    return {Key(body["metadata"]["namespace"], name) for name in _jobs_named(body["spec"])}


def _jobs_named(value: Any) -> Iterator[str]:
    """Every job://NAME in a spec."""
    if isinstance(value, str) and value.startswith("job://"):
        yield value.removeprefix("job://")
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _jobs_named(inner)


def _newer(version: str, than: str) -> bool:
    """Versions are numbers that only grow, and are compared as such.
    https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
    """
    return int(version) > int(than) if version.isdecimal() and than.isdecimal() else version != than
