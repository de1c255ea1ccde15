"""Sending, with a real server: each try once, nothing followed, nothing read, nobody in anybody's way."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from tunesmith_operator.courier import Courier, judge, receivers_session
from tunesmith_operator.observed import Answer, Try
from tunesmith_operator.receivers import Webhooks
from tunesmith_operator.reconcile.plan import Delivery
from tunesmith_operator.store import Key

KEY = Key("team", "tune")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.mark.parametrize(
    ("status", "headers", "answer"),
    [
        (200, {}, Answer("delivered")),
        (204, {}, Answer("delivered")),
        (302, {"Location": "https://elsewhere"}, Answer("refused", "HTTP 302, a redirect, which is not followed")),
        (400, {}, Answer("refused", "HTTP 400")),
        (404, {}, Answer("refused", "HTTP 404")),
        (410, {"Retry-After": "5"}, Answer("refused", "HTTP 410")),
        (408, {}, Answer("again", "HTTP 408")),
        (429, {"Retry-After": "7"}, Answer("again", "HTTP 429", 7)),
        (503, {"Retry-After": "Thu, 01 Jan 2026 00:02:00 GMT"}, Answer("again", "HTTP 503", 120)),
        (503, {"Retry-After": "Thu, 01 Jan 2020 00:00:00 GMT"}, Answer("again", "HTTP 503", 0)),
        (503, {"Retry-After": "soon"}, Answer("again", "HTTP 503", 0)),
        (503, {"Retry-After": "-1"}, Answer("again", "HTTP 503", 0)),
        (500, {"Retry-After": "9" * 5000}, Answer("again", "HTTP 500", 999_999_999)),
    ],
)
def test_what_an_answer_means(status: int, headers: dict[str, str], answer: Answer) -> None:
    assert judge(status, headers, NOW) == answer


@asynccontextmanager
async def receiver(handle: Handler) -> AsyncIterator[str]:
    """A server on this machine; gives its URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def delivery(url: str | None = None, number: int = 1, event: str = "e", webhook: str | None = None) -> Delivery:
    return Delivery(Try(event, "to", "slack", number), webhook, url, "application/json", b"{}")


class Sender:
    """A courier, and what it calls when something came of a try."""

    def __init__(self, courier: Courier, changes: "asyncio.Queue[Key]") -> None:
        self.courier, self.changes = courier, changes

    async def answers(self) -> list[Answer]:
        key = await asyncio.wait_for(self.changes.get(), 5)
        return list(self.courier.known(key).answers.values())


@asynccontextmanager
async def sender(folder: str = "") -> AsyncIterator[Sender]:
    changes = asyncio.Queue[Key]()

    def changed(keys: Iterable[Key]) -> None:
        for key in keys:
            changes.put_nowait(key)

    async with receivers_session() as session:
        yield Sender(Courier(session, Webhooks(folder), changed), changes)


def test_each_try_is_sent_once_and_remembered_until_the_status_says_so() -> None:
    async def story() -> None:
        got: list[tuple[str, str, bytes]] = []

        async def handle(request: web.Request) -> web.Response:
            got.append((request.method, request.content_type, await request.read()))
            return web.Response()

        async with receiver(handle) as url, sender() as mine:
            for _ in range(3):
                mine.courier.follow(KEY, [delivery(url)])
            assert await mine.answers() == [Answer("delivered")]
            mine.courier.follow(KEY, [delivery(url)])  # the status could not be written
            assert list(mine.courier.known(KEY).answers.values()) == [Answer("delivered")]
            mine.courier.follow(KEY, [])
            assert mine.courier.known(KEY).answers == {}
            assert got == [("POST", "application/json", b"{}")]
            mine.courier.follow(KEY, [delivery(url, number=2)])
            await mine.answers()
            assert len(got) == 2

    asyncio.run(story())


def test_a_redirect_is_not_followed() -> None:
    async def story() -> None:
        paths: list[str] = []

        async def handle(request: web.Request) -> web.Response:
            paths.append(request.path)
            return web.Response(status=307, headers={"Location": "/elsewhere"})

        async with receiver(handle) as url, sender() as mine:
            mine.courier.follow(KEY, [delivery(f"{url}/here")])
            (answer,) = await mine.answers()
            assert (answer.result, paths) == ("refused", ["/here"])

    asyncio.run(story())


def test_a_receiver_that_hangs_is_in_nobodys_way() -> None:
    async def story() -> None:
        waiting, release = list[str](), asyncio.Event()

        async def hangs(request: web.Request) -> web.Response:
            waiting.append(request.path)
            await release.wait()
            return web.Response()

        async def answers(_: web.Request) -> web.Response:
            return web.Response()

        async with receiver(hangs) as slow, receiver(answers) as url, sender() as mine:
            local = url.replace("127.0.0.1", "localhost")  # another host for the courier
            for number in range(40):
                mine.courier.follow(Key("team", f"slow-{number}"), [delivery(slow)])
            while len(waiting) < 4:
                await asyncio.sleep(0.01)
            mine.courier.follow(KEY, [delivery(local)])
            assert await mine.answers() == [Answer("delivered")]
            assert len(waiting) == 4, "no more at a time"
            release.set()
            for _ in range(40):
                await mine.answers()

    asyncio.run(story())


def test_nothing_of_a_secret_url_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        file = tmp_path / "team"
        async with sender(str(tmp_path)) as mine:
            for number, url in enumerate(("http://127.0.0.1:9/secret?key=secret", "https://127.0.0.1:9/secret"), 1):
                file.write_text(url)
                mine.courier.follow(KEY, [delivery(webhook="team", number=number)])
                (answer,) = await mine.answers()
                assert answer == Answer("again", "no connection (ClientConnectorError)")
            file.unlink()
            mine.courier.follow(KEY, [delivery(webhook="team", number=3)])
            assert await mine.answers() == [Answer("again", "the operator has no valid URL of this name")]

    asyncio.run(story())
    assert "127.0.0.1" in caplog.text
    assert "secret" not in caplog.text
