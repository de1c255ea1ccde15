"""The server saves every rating at once, and answers nobody but its rater's page."""

import json
import signal
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.unit.review.runs import EMOJI, SCRIPT, items_of, make, rated, served, write_run
from tunesmith.cli.main import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A set of 40 items."""
    first = [f"one {row}" for row in range(38)] + [SCRIPT, EMOJI]
    run = write_run(tmp_path / "secret-run", first, [f"two {row}" for row in range(40)])
    return make(tmp_path / "set", run, kind="pairwise", rows=40)


class Client:
    """Asks as the page does; `headers` replace its own."""

    def __init__(self, address: str) -> None:
        self._parts = urlsplit(address)
        self.own = {"Origin": f"http://{self._parts.netloc}", "Content-Type": "application/json"}

    def ask(self, path: str, body: Any = None, headers: dict[str, str | None] | None = None) -> tuple[int, bytes]:
        wanted = {k: v for k, v in {**self.own, **(headers or {})}.items() if v is not None}
        method, data = ("GET", None) if body is None else ("POST", json.dumps(body).encode())
        with closing(HTTPConnection(self._parts.netloc, timeout=10)) as connection:
            connection.request(method, self._parts.path + path, data, wanted)
            answer = connection.getresponse()
            self.headers = answer.headers
            return answer.status, answer.read()


def test_a_killed_server_loses_nothing_that_it_said_was_saved(folder: Path) -> None:
    said = dict[int, str]()
    for item in range(1, 41, 8):  # five servers, one after the other, each killed in the middle
        with served(folder, "anna") as (process, addresses):
            client = Client(addresses["anna"])
            before = json.loads(client.ask("set")[1])["given"]
            assert {int(number): value for number, value in before.items()} == said, "it goes on where it stopped"
            for number in range(item, item + 8):
                value = ("A much", "A", "tie", "B", "B much")[number % 5]
                status, _ = client.ask("answer", {"item": number, "value": value})
                assert status == 200
                said[number] = value
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert rated(folder, "anna") == said


def test_half_a_line_of_a_killed_server_is_cut_off(folder: Path) -> None:
    file = folder / "answers" / "anna.jsonl"
    whole = '{"item": 1, "value": "A", "at": "2026-01-01T00:00:00Z"}\n'
    file.write_text(whole + '{"item": 2, "val')
    with served(folder, "anna") as (_, addresses):
        assert Client(addresses["anna"]).ask("answer", {"item": 3, "value": "tie"})[0] == 200
    assert file.read_text().startswith(whole)
    assert rated(folder, "anna") == {1: "A", 3: "tie"}


def test_a_rating_can_be_changed_and_taken_back(folder: Path) -> None:
    with served(folder, "anna") as (_, addresses):
        client = Client(addresses["anna"])
        for value in ("A", "B much", None):
            assert client.ask("answer", {"item": 1, "value": value})[0] == 200
            given = json.loads(client.ask("set")[1])["given"]
            assert given == ({} if value is None else {"1": value})
    assert len((folder / "answers" / "anna.jsonl").read_text().splitlines()) == 3, "nothing is written over"


def test_each_rater_has_an_address_and_a_file(folder: Path) -> None:
    with served(folder, "anna", "ben") as (_, addresses):
        for name, value in (("anna", "A"), ("ben", "B")):
            assert Client(addresses[name]).ask("answer", {"item": 1, "value": value})[0] == 200
        assert json.loads(Client(addresses["ben"]).ask("set")[1])["given"] == {"1": "B"}
    assert rated(folder, "anna") == {1: "A"}
    assert rated(folder, "ben") == {1: "B"}


def test_nothing_that_is_sent_names_a_model(folder: Path) -> None:
    with served(folder, "anna") as (_, addresses):
        client = Client(addresses["anna"])
        paths = ["", "page.css", "page.js", "set", *(f"item/{n}" for n in range(1, 41))]
        answers = [client.ask(path) for path in paths]
        assert {status for status, _ in answers} == {200}
        sent = b"".join(body for _, body in answers)
        for path in ("key.json", "../key.json", "..%2fkey.json", "item/0", "item/../../key.json", "answers/anna.jsonl"):
            assert client.ask(path)[0] == 404, path
    assert sent.count(b"Question") == 40
    for secret in (b"secret-run", b'"base"', b"tuned", b"scores", b'"row"', b'"seed"'):
        assert secret not in sent


REFUSED = {
    "another page's form": ({"Origin": "http://evil.test"}, 403),
    "a file's or a sandbox's page": ({"Origin": "null"}, 403),
    "another port of this machine": ({"Origin": "http://127.0.0.1:1"}, 403),
    "a name that was bent to this address": ({"Host": "evil.test", "Origin": "http://evil.test"}, 403),
    "no page at all": ({"Origin": None}, 403),
    "a form": ({"Content-Type": "text/plain"}, 415),
}


@pytest.mark.parametrize(("headers", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_who_is_not_the_page_is_refused(folder: Path, headers: dict[str, str | None], status: int) -> None:
    with served(folder, "anna") as (_, addresses):
        assert Client(addresses["anna"]).ask("answer", {"item": 1, "value": "A"}, headers)[0] == status
        right = urlsplit(addresses["anna"])
        for token in ("", "x", right.path.strip("/")[:-1]):
            wrong = Client(right._replace(path=f"/{token}/").geturl())
            assert wrong.ask("set")[0] == 404
            assert wrong.ask("answer", {"item": 1, "value": "A"})[0] == 404
    assert rated(folder, "anna") == {}


def test_a_page_may_load_nothing_from_elsewhere(folder: Path) -> None:
    with served(folder, "anna") as (_, addresses):
        client = Client(addresses["anna"])
        client.ask("")
        policy = client.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    "body",
    [{}, [], "A", {"item": 0, "value": "A"}, {"item": True, "value": "A"}, {"item": 1, "value": "C"}, {"item": 1}],
    ids=str,
)
def test_what_is_no_rating_is_not_saved(folder: Path, body: Any) -> None:
    with served(folder, "anna") as (_, addresses):
        client = Client(addresses["anna"])
        assert client.ask("answer", body)[0] == 400
        assert client.ask("answer", {"item": 1, "value": "A" * 5000})[0] == 413
    assert rated(folder, "anna") == {}


def test_one_rater_rates_in_one_place(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(folder, "anna"):
        assert main(["review", "serve", str(folder), "--rater", "anna", "--port", "0"]) == 2
        assert capsys.readouterr().err == "--rater: anna is rating just now; stop that server first\n"
        with served(folder, "ben") as (_, addresses):
            assert Client(addresses["ben"]).ask("set")[0] == 200


def test_mistakes_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(folder, "anna") as (_, addresses):
        taken = str(urlsplit(addresses["anna"]).port)
        for name, options, message in (
            (str(folder), ["--rater", "ben", "--port", taken], f"port {taken}: Address already in use"),
            (str(folder), ["--rater", "ben", "--port", "70000"], "--port: cannot listen on 127.0.0.1, port 70000: "),
            (str(folder), ["--rater", "../ben"], "--rater: '../ben' should be letters, digits, '-', '_' and '.'"),
            (str(folder.parent), ["--rater", "ben"], "is not a review: it holds no set.json; make one with"),
        ):
            assert main(["review", "serve", name, *options]) == 2
            said = capsys.readouterr().err
            assert message in said
            assert said.count("\n") == 1


def test_all_texts_are_sent_as_they_are(folder: Path) -> None:
    with served(folder, "anna") as (_, addresses):
        client = Client(addresses["anna"])
        sent = [json.loads(client.ask(f"item/{number}")[1]) for number in range(1, 41)]
    assert sent == items_of(folder)
    assert {SCRIPT, EMOJI} <= {answer for item in sent for answer in item["answers"]}
