"""A small synchronous client for tests: any group and version, plain dictionaries, the server's own error messages."""

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Mapping
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import yaml

Object = dict[str, Any]
Objects = list[Object]
T = TypeVar("T")

MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"  # JSON is YAML


class KubeError(Exception):
    """The API server said no: `status` is the HTTP code, `reason` Kubernetes' word for it (NotFound, Invalid, ...)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class Kube:
    """Speaks to the API server of a kubeconfig that names a CA file and holds a token, as `ControlPlane` writes them.

    A resource is named as in a manifest, by apiVersion and kind. Without a namespace, `list` and `watch` span them all.
    Every method raises KubeError when the server refuses.
    """

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._server: str = cluster["server"]
        self._token: str = config["users"][0]["user"]["token"]
        tls = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=cluster["certificate-authority"]))
        # No proxy: the server is on this machine, whatever the environment says.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), tls)
        self._kinds: dict[tuple[str, str], tuple[str, bool]] = {}

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object:
        return self.request("GET", self.path(api_version, kind, namespace, name))

    def find(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """As `get`, but None when there is no such object."""
        try:
            return self.get(api_version, kind, name, namespace)
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    def list(self, api_version: str, kind: str, namespace: str | None = None, labels: str = "") -> Objects:
        """The objects of a kind; `labels` is a selector, such as `app=x,tier!=y`."""
        items = self.request("GET", self.path(api_version, kind, namespace), query={"labelSelector": labels})["items"]
        return [{"apiVersion": api_version, "kind": kind} | item for item in items]

    def create(self, body: Object) -> Object:
        return self.request("POST", self._path_of(body), body)

    def apply(self, body: Object) -> Object:
        """Server-side apply as the field manager `tests`, which takes over fields that others own."""
        path = f"{self._path_of(body)}/{body['metadata']['name']}"
        return self.request("PATCH", path, body, APPLY, {"fieldManager": "tests", "force": "true"})

    def patch(self, api_version: str, kind: str, name: str, body: Object, namespace: str | None = None) -> Object:
        """A JSON merge patch: None removes a field."""
        return self.request("PATCH", self.path(api_version, kind, namespace, name), body, MERGE)

    def patch_status(
        self, api_version: str, kind: str, name: str, status: Object, namespace: str | None = None
    ) -> Object:
        """A JSON merge patch of the status, through its subresource."""
        path = f"{self.path(api_version, kind, namespace, name)}/status"
        return self.request("PATCH", path, {"status": status}, MERGE)

    def delete(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> None:
        """Deletes in the background: what the object owns is left to the garbage collector."""
        options = {"propagationPolicy": "Background"}
        self.request("DELETE", self.path(api_version, kind, namespace, name), options)

    def watch(
        self, api_version: str, kind: str, namespace: str | None = None, *, since: str = "", seconds: int = 30
    ) -> Generator[tuple[str, Object], None, None]:
        """Yields (ADDED, MODIFIED or DELETED, object) until the time is over; begins after the resourceVersion `since`,
        without it with what is there.
        """
        query = {"watch": "true", "resourceVersion": since, "timeoutSeconds": str(seconds)}
        with self._open("GET", self.path(api_version, kind, namespace), query=query, seconds=seconds + 5) as lines:
            for line in lines:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise _error(0, json.dumps(event["object"]).encode())
                yield event["type"], event["object"]

    def ready(self) -> bool:
        """Whether the API server answers and calls itself ready."""
        try:
            self._open("GET", "/readyz").close()
        except (OSError, KubeError):
            return False
        return True

    def request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Object:
        """Any request whose answer is JSON; for subresources that have no method above."""
        with self._open(method, path, body, content_type, query) as answer:
            result: Object = json.load(answer)
            return result

    def path(self, api_version: str, kind: str, namespace: str | None = None, name: str = "") -> str:
        """The URL path of a kind or, with a name, of an object."""
        root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        if (api_version, kind) not in self._kinds:  # asked when needed, since CRDs come and go
            for each in self.request("GET", root)["resources"]:
                if "/" not in each["name"]:
                    self._kinds[api_version, each["kind"]] = each["name"], each["namespaced"]
        if (api_version, kind) not in self._kinds:
            raise KubeError(404, "NotFound", f"the server knows no {kind} in {api_version}")
        plural, namespaced = self._kinds[api_version, kind]
        scope = f"/namespaces/{namespace}" if namespace and namespaced else ""
        return f"{root}{scope}/{plural}" + (f"/{name}" if name else "")

    def _path_of(self, body: Object) -> str:
        return self.path(body["apiVersion"], body["kind"], body["metadata"].get("namespace"))

    def _open(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
        seconds: float = 30,
    ) -> HTTPResponse:
        request = urllib.request.Request(
            f"{self._server}{path}?{urlencode(query or {})}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": content_type},
        )
        try:
            answer: HTTPResponse = self._opener.open(request, timeout=seconds)
        except urllib.error.HTTPError as refused:
            with refused:
                text = refused.read()
            raise _error(refused.code, text) from None
        return answer


def _error(status: int, text: bytes) -> KubeError:
    try:
        said = json.loads(text)
        return KubeError(said["code"], said.get("reason", "Unknown"), said["message"])
    except (ValueError, KeyError, TypeError):  # not from the API server's own handlers
        return KubeError(status, "Unknown", text.decode(errors="replace"))


def eventually(probe: Callable[[], T], what: str, seconds: float = 30) -> T:
    """The first true answer of `probe`, asked again and again.

    Raises:
        AssertionError: none came in time; names `what` was waited for and the last answer.
    """
    end = time.monotonic() + seconds
    while not (answer := probe()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds:g} s for {what}; the last answer was {answer!r}")
        time.sleep(0.1)
    return answer
