"""Reads the progress of running attempts from their pods: best effort, never in anybody's way."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import aiohttp
from pydantic import ValidationError

from tunesmith.api.pod import METRICS_PORT
from tunesmith.api.status import Progress
from tunesmith_operator.store import Key

_TIMEOUT = aiohttp.ClientTimeout(total=2)
_AT_ONCE = 16
_PODS_A_TIME = 8
"""Pods that are asked in one go; which one knows the progress is remembered."""
_LARGEST = 64 * 1024


@dataclass
class _Followed:
    addresses: tuple[str, ...]
    task: asyncio.Task[None]
    latest: Progress | None = None


class ProgressReader:
    """Asks the pods of each running attempt once an interval; calls `changed` when the answer is new."""

    def __init__(
        self, session: aiohttp.ClientSession, interval: float, changed: Callable[[Iterable[Key]], None]
    ) -> None:
        self._session, self._interval, self._changed = session, interval, changed
        self._followed: dict[Key, _Followed] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def follow(self, key: Key, addresses: tuple[str, ...]) -> None:
        """Asks these pods from now on; without any, nobody."""
        followed = self._followed.get(key)
        if not addresses:
            if followed is not None:
                followed.task.cancel()
                del self._followed[key]
        elif followed is None:
            self._followed[key] = _Followed(addresses, asyncio.create_task(self._read_for_ever(key)))
        else:
            followed.addresses = addresses

    def latest(self, key: Key) -> Progress | None:
        """The last answer about a job."""
        followed = self._followed.get(key)
        return followed.latest if followed is not None else None

    async def _read_for_ever(self, key: Key) -> None:
        first = ""
        turn = 0
        while True:
            await asyncio.sleep(self._interval)
            followed = self._followed[key]
            others = [address for address in followed.addresses if address != first]
            some = [others[(turn + n) % len(others)] for n in range(min(_PODS_A_TIME, len(others)))]
            turn += _PODS_A_TIME
            for address in ([first] if first in followed.addresses else []) + some:
                answer = await self._ask(address)
                if answer is not None:
                    first = address
                    if answer != followed.latest:
                        followed.latest = answer
                        self._changed([key])
                    break

    async def _ask(self, address: str) -> Progress | None:
        host = f"[{address}]" if ":" in address else address
        url = f"http://{host}:{METRICS_PORT}/progress"
        try:
            async with self._slots, self._session.get(url, timeout=_TIMEOUT, allow_redirects=False) as answer:
                if answer.status != 200:
                    return None
                return Progress.model_validate_json(await answer.content.read(_LARGEST))
        except (aiohttp.ClientError, TimeoutError, ValidationError):
            return None
