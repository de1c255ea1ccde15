"""Reads from an API server: plain dicts and lines, errors in one line."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from tunesmith.cluster.kinds import Kind
from tunesmith.cluster.kubeconfig import Access, failures_raised

Object = dict[str, Any]

CONNECT_S = 10.0
ANSWER_S = 60.0
"""How long an answer may take."""
PAGE = 500
_NAMES_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class ClusterError(OSError):
    """The API server said no, or nothing; `str` is a line for people.

    `code` is HTTP's; 0 where there was no answer.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Cluster:
    """An API server; threads may share it."""

    def __init__(self, load: Callable[[], Access]) -> None:
        """
        Args:
            load: gives the credentials, again where the server has refused them.

        Raises:
            InputError: there are none.
        """
        self._load = load
        self._use(load())

    def _use(self, access: Access) -> None:
        from kubernetes.client.rest import RESTClientObject

        self._access = access
        self._rest = RESTClientObject(access.configuration)

    @property
    def namespace(self) -> str:
        """The one of the context."""
        return self._access.namespace

    def __str__(self) -> str:
        where = f" of context {self._access.context}" if self._access.context else ""
        return f"the API server{where} ({self._access.configuration.host})"

    def get(self, path: str, query: Mapping[str, str] | None = None, accept: str = "application/json") -> Object:
        """One answer in JSON.

        Raises:
            ClusterError: as all methods here.
        """
        answer = self._open(path, query, ANSWER_S, accept, {"Accept-Encoding": "gzip"})
        found: Object = json.loads(self._read(answer))
        return found

    def pages(
        self, kind: Kind, namespace: str | None, query: Mapping[str, str] | None = None, names_only: bool = False
    ) -> Iterator[Object]:
        """The lists that hold all objects of a kind, some at a time; of all namespaces where none is given."""
        asked = {"limit": str(PAGE), **(query or {})}
        while True:
            try:
                page = self.get(kind.path(namespace), asked, _NAMES_ONLY if names_only else "application/json")
            except ClusterError as error:
                if error.code == 404:
                    text = f"{self} knows no {kind.name}: install Tunesmith's chart there, or choose another --context"
                    raise ClusterError(text, 404) from None
                raise
            yield page
            token = page["metadata"].get("continue")
            if not token:
                return
            asked["continue"] = token

    def lines(self, path: str, query: Mapping[str, str], quiet_s: float | None = None) -> Iterator[bytes]:
        """The lines of an answer, which is there when this returns; each when it comes, without its end.

        Args:
            path: what to read.
            query: how.
            quiet_s: how long nothing may come; for ever by default.
        """
        return self._lines(self._open(path, query, quiet_s, "*/*", {}))

    def _lines(self, answer: Any) -> Iterator[bytes]:
        left = b""
        try:
            for chunk in self._chunks(answer):
                *whole, left = (left + chunk).split(b"\n")
                yield from whole
            if left:
                yield left
        finally:
            answer.close()

    def _chunks(self, answer: Any) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        try:
            yield from answer.stream(2**16)
        except HTTPError as error:
            raise ClusterError(f"{self} broke off: {_why(error)}") from None

    def _read(self, answer: Any) -> bytes:
        from urllib3.exceptions import HTTPError

        try:
            content: bytes = answer.read(decode_content=True)
        except HTTPError as error:
            raise ClusterError(f"{self} broke off: {_why(error)}") from None
        finally:
            answer.release_conn()
        return content

    def _open(
        self, path: str, query: Mapping[str, str] | None, quiet_s: float | None, accept: str, more: Mapping[str, str]
    ) -> Any:
        answer = self._ask(path, query, quiet_s, accept, more)
        if answer.status == 401:  # a token without a date of expiry that has expired all the same
            answer.close()
            self._use(self._load())
            answer = self._ask(path, query, quiet_s, accept, more)
        if answer.status >= 400:
            raise self._refusal(answer.status, self._read(answer))
        return answer

    def _ask(
        self, path: str, query: Mapping[str, str] | None, quiet_s: float | None, accept: str, more: Mapping[str, str]
    ) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        configuration = self._access.configuration
        with failures_raised():
            auth = configuration.auth_settings().get("BearerToken")
        headers = {"Accept": accept, **more} | ({"Authorization": auth["value"]} if auth else {})
        url = f"{configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            return self._rest.request("GET", url, headers=headers, _request_timeout=(CONNECT_S, quiet_s)).response
        except HTTPError as error:
            raise ClusterError(f"{self} cannot be reached: {_why(error)}") from None
        except ApiException as error:  # of TLS
            raise ClusterError(f"{self} cannot be trusted: {str(error.reason).splitlines()[-1]}") from None

    def _refusal(self, code: int, content: bytes) -> ClusterError:
        try:
            said = str(json.loads(content)["message"])
        except (ValueError, KeyError, TypeError):  # of a proxy, or a path that is not there
            said = content.decode(errors="replace").strip()[:200]
        if code == 401:
            return ClusterError(f"{self} does not accept the kubeconfig's credentials: log in again", code)
        if code == 403:
            return ClusterError(f"{said}; ask for the role `view` there, or name another namespace with -n", code)
        return ClusterError(f"{self} answers {code}: {said}", code)


def _why(error: Exception) -> str:
    """The reason at the bottom of urllib3's."""
    bottom: BaseException = error
    while bottom.__cause__ is not None or bottom.__context__ is not None:
        bottom = bottom.__cause__ or bottom.__context__ or bottom
    if isinstance(bottom, TimeoutError):
        return "it did not answer in time"
    if isinstance(bottom, OSError) and bottom.strerror:
        return bottom.strerror
    if type(error).__name__ in ("ProtocolError", "InvalidChunkLength", "IncompleteRead"):
        return "the connection was closed"
    return str(bottom) or type(bottom).__name__
