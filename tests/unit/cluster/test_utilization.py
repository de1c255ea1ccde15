"""How busy GPUs are, from a Prometheus."""

import http.server
import threading
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest

from monitoring.expressions import GPU_UTILIZATION, of_job
from tunesmith.cluster.client import Cluster, ClusterError
from tunesmith.cluster.utilization import QUERY, Prometheus

NOBODY = cast(Cluster, None)
FOUND = '{"data": {"result": [{"metric": {"namespace": "team", "name": "tune"}, "value": [1, "0.875"]}]}}'


class _Handler(http.server.BaseHTTPRequestHandler):
    answer = FOUND
    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answer.encode())

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_question_is_the_dashboards() -> None:
    assert f"avg by (namespace, name) ({of_job(GPU_UTILIZATION)})" == QUERY


def test_an_answer(server: str) -> None:
    assert Prometheus(f"{server}/under/", NOBODY).utilization() == {("team", "tune"): 0.875}
    path = urlsplit(_Handler.asked[-1])
    assert (path.path, parse_qs(path.query)) == ("/under/api/v1/query", {"query": [QUERY]})


@pytest.mark.parametrize("answer", ["<html>", "[]", '{"data": {}}', '{"data": {"result": [{"metric": {}}]}}'])
def test_what_is_no_answer(answer: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Handler, "answer", answer)
    with pytest.raises(ClusterError, match="does not answer as a Prometheus does"):
        Prometheus(server, NOBODY).utilization()


@pytest.mark.parametrize("address", ["prometheus", "a/b/c", "ftp://x/y", "team/"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="should be a URL, or NAMESPACE/SERVICE:PORT"):
        Prometheus(address, NOBODY)
