"""Carries notifications to their receivers, beside everything else: a receiver that hangs is in nobody's way."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from weakref import WeakValueDictionary

import aiohttp

from tunesmith import __version__
from tunesmith_operator.observed import Answer, Receivers, Try
from tunesmith_operator.receivers import Webhooks, host_of
from tunesmith_operator.reconcile.plan import Delivery
from tunesmith_operator.store import Key

log = logging.getLogger(__name__)

SECONDS = 5.0
"""That a receiver may take."""
_AT_ONCE, _AT_ONCE_TO_A_HOST = 16, 4
_AGAIN = (408, 425, 429)
"""Statuses below 500 that may pass."""


def receivers_session() -> aiohttp.ClientSession:
    """A session that keeps nothing from one receiver to the next."""
    connector = aiohttp.TCPConnector(force_close=True)
    headers = {"User-Agent": f"tunesmith-operator/{__version__}"}
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    return aiohttp.ClientSession(
        connector=connector, headers=headers, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
    )


class Courier:
    """Sends what is due, each try once, and keeps what came of it until the status says so; calls `changed` when
    something came of a try. Whatever it knows may be lost: the status tells what to send again.
    """

    def __init__(
        self, session: aiohttp.ClientSession, webhooks: Webhooks, changed: Callable[[Iterable[Key]], None]
    ) -> None:
        self._session, self._webhooks, self._changed = session, webhooks, changed
        self._tries: dict[Key, dict[Try, Answer | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._hosts: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def known(self, key: Key) -> Receivers:
        """What a decision about a job or pipeline needs."""
        answers = {attempt: answer for attempt, answer in self._tries.get(key, {}).items() if answer is not None}
        return Receivers(self._webhooks.names(), answers)

    def follow(self, key: Key, deliveries: Iterable[Delivery]) -> None:
        """Sends these, unless they are under way or have been answered; forgets answers to others."""
        wanted = {delivery.attempt: delivery for delivery in deliveries}
        known = self._tries.get(key, {})
        kept = {attempt: answer for attempt, answer in known.items() if answer is None or attempt in wanted}
        for attempt, delivery in wanted.items():
            if attempt not in kept:
                kept[attempt] = None
                task = asyncio.create_task(self._carry(key, delivery))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        if kept:
            self._tries[key] = kept
        else:
            self._tries.pop(key, None)

    async def _carry(self, key: Key, delivery: Delivery) -> None:
        answer = await self._answer(key, delivery)
        self._tries.setdefault(key, {})[delivery.attempt] = answer
        self._changed([key])

    async def _answer(self, key: Key, delivery: Delivery) -> Answer:
        url = delivery.url or self._webhooks.url(delivery.webhook or "")
        if url is None:
            return Answer("again", "the operator has no valid URL of this name")
        host = host_of(url)
        slots = self._hosts.setdefault(host, asyncio.Semaphore(_AT_ONCE_TO_A_HOST))
        async with slots, self._slots:
            answer = await self._post(url, delivery)
        if answer.result != "delivered":  # the rest of the URL may be a secret
            log.warning("%s: a notification to %s failed: %s", key, host, answer.message, extra=key.about)
        return answer

    async def _post(self, url: str, delivery: Delivery) -> Answer:
        """Nothing of the answer's body is read: what a server in the cluster says is not for whoever named it."""
        headers = {"Content-Type": delivery.content_type}
        try:
            async with self._session.post(url, data=delivery.body, headers=headers, allow_redirects=False) as answer:
                return judge(answer.status, answer.headers, datetime.now(UTC))
        except TimeoutError:
            return Answer("again", f"no answer within {SECONDS:g} s")
        except aiohttp.ClientConnectorDNSError:
            return Answer("again", "its host is not known")
        except aiohttp.ClientConnectorCertificateError:
            return Answer("again", "its certificate is not valid for its host")
        except Exception as error:  # whatever it is; its own words may hold the URL
            return Answer("again", f"no connection ({type(error).__name__})")


def judge(status: int, headers: Mapping[str, str], now: datetime) -> Answer:
    """What an answer of HTTP means."""
    if 200 <= status < 300:
        return Answer("delivered")
    if 300 <= status < 400:
        return Answer("refused", f"HTTP {status}, a redirect, which is not followed")
    if status in _AGAIN or status >= 500:
        return Answer("again", f"HTTP {status}", _retry_after(headers.get("Retry-After", ""), now))
    return Answer("refused", f"HTTP {status}")


def _retry_after(text: str, now: datetime) -> float:
    """Seconds, from seconds or a date (RFC 9110, 10.2.3); 0 where it says neither."""
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(0.0, (until - now).total_seconds()) if until.tzinfo is not None else 0.0
