"""A lean client of the API server: plain dicts over one aiohttp session, with a rate limit."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp
import kopf

from tunesmith.api.spans import span
from tunesmith_operator import metrics
from tunesmith_operator.kinds import Kind

MERGE_PATCH = "application/merge-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_PAGE = 100
_TRIES_WHEN_BUSY = 5
_TIMEOUT = aiohttp.ClientTimeout(total=30)


class ApiError(Exception):
    """The API server refused: `code` is HTTP's, `reason` Kubernetes' word for it, such as AlreadyExists."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message


class RateLimit:
    """A token bucket: `burst` requests at once, then `qps` a second."""

    def __init__(self, qps: float, burst: int, clock: Callable[[], float]) -> None:
        self._qps, self._burst, self._clock = qps, burst, clock
        self._tokens, self._at = float(burst), clock()

    async def wait(self) -> None:
        """Returns when the next request may be made."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._qps) - 1
        self._at = now
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._qps)


def login(**_: Any) -> kopf.ConnectionInfo:
    """The credentials: the pod's own, else the kubeconfig's.

    Raises:
        kopf.LoginError: there are none.
    """
    settings = kopf.OperatorSettings()
    info = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    if info is None:
        raise kopf.LoginError("neither a pod's ServiceAccount nor a kubeconfig was found")
    return info


class Client:
    """Requests to the API server; a context manager."""

    def __init__(self, limit: RateLimit, concurrency: int) -> None:
        self._limit = limit
        self._info = login()
        connector = aiohttp.TCPConnector(limit=2 * concurrency, ssl=self._info.as_ssl_context())
        self._session = aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT, trust_env=self._info.trust_env)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        """An object; None where there is none."""
        try:
            return await self._request("get", kind.path(namespace, name))
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def pages(
        self, kind: Kind, namespace: str | None, accept: str = "", name: str = ""
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """The objects of a kind that matter, some at a time; with a name, at most that one."""
        query = {"limit": str(_PAGE), "labelSelector": kind.selector}
        if name:
            query["fieldSelector"] = f"metadata.name={name}"
        while True:
            page = await self._request("list", kind.path(namespace), query=query, accept=accept)
            yield page["items"] or []  # null when there are none and only metadata was asked for
            token = page["metadata"].get("continue")
            if not token:
                return
            query = query | {"continue": token}

    async def create(self, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
        """Makes an object."""
        return await self._request("create", kind.path(body["metadata"]["namespace"]), body)

    async def patch_status(self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A merge patch of the status; with a resourceVersion in the body, refused where that is stale."""
        return await self._request("patch", f"{kind.path(namespace, name)}/status", body)

    async def patch_spec(self, kind: Kind, namespace: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        """A merge patch of the spec."""
        return await self._request("patch", kind.path(namespace, name), {"spec": spec})

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Deletes an object, unless it is gone or another one has its name by now."""
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._request("delete", kind.path(namespace, name), options)
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    async def _request(
        self,
        verb: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        accept: str = "",
    ) -> dict[str, Any]:
        """One request; repeated with fresh credentials once, and when the server is busy.

        Raises:
            ApiError: the server refused it.
            aiohttp.ClientError, TimeoutError: the server did not answer.
        """
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        for attempt in range(1, _TRIES_WHEN_BUSY + 1):
            await self._limit.wait()
            headers = {"Accept": accept or "application/json", **(self._info.as_http_headers() or {})}
            if data is not None:
                headers["Content-Type"] = MERGE_PATCH if verb == "patch" else "application/json"
            method = {"list": "get", "create": "post"}.get(verb, verb)
            url = self._info.server.rstrip("/") + path
            with span(f"API {verb}", {"http.request.method": method.upper(), "url.path": path}) as note:
                async with self._session.request(method, url, data=data, headers=headers, params=query) as answer:
                    metrics.API_REQUESTS.labels(verb, str(answer.status)).inc()
                    note({"http.response.status_code": answer.status})
                    content = await answer.read()
            if answer.ok:
                result: dict[str, Any] = json.loads(content)
                return result
            last = attempt == _TRIES_WHEN_BUSY
            if answer.status == 401 and attempt == 1:
                self._info = login()
            elif answer.status == 429 and not last:
                await asyncio.sleep(min(10.0, float(answer.headers.get("Retry-After", "1"))))
            else:
                raise _error(answer.status, content)
        raise AssertionError("unreachable: the last try returns or raises")


def _error(code: int, content: bytes) -> ApiError:
    try:
        status = json.loads(content)
        return ApiError(code, status.get("reason", ""), status.get("message", ""))
    except (ValueError, AttributeError):
        return ApiError(code, "", content.decode(errors="replace")[:200])
