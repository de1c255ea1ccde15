"""The queue of jobs to look after: each at most once in it, each by one worker at a time."""

import asyncio
from collections.abc import Iterable

from tunesmith_operator import metrics
from tunesmith_operator.store import Key


class WorkQueue:
    """A coalescing queue with delays."""

    def __init__(self) -> None:
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._since: dict[Key, float] = {}
        self._active: set[Key] = set()
        self._again: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}

    def add(self, keys: Iterable[Key]) -> None:
        """Asks for a look at each of these jobs, as soon as possible."""
        for key in keys:
            if key in self._active:
                self._again.add(key)
            elif key not in self._since:
                self._since[key] = asyncio.get_running_loop().time()
                self._ready.put_nowait(key)
                metrics.QUEUE_DEPTH.inc()

    async def get(self) -> Key:
        """The next job; nobody else gets it until `done`."""
        key = await self._ready.get()
        metrics.QUEUE_DEPTH.dec()
        metrics.QUEUE_WAIT_SECONDS.observe(asyncio.get_running_loop().time() - self._since.pop(key))
        self._active.add(key)
        self._cancel_timer(key)
        return key

    def done(self, key: Key, again_in: float | None) -> None:
        """Gives a job back, to be looked at again after so many seconds, or when something happens."""
        self._active.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add([key])
        elif again_in is not None:
            self._timers[key] = asyncio.get_running_loop().call_later(again_in, self._due, key)

    def oldest_wait(self) -> float:
        """How long the job that waits longest has waited, in seconds."""
        now = asyncio.get_running_loop().time()
        return max((now - since for since in self._since.values()), default=0.0)

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add([key])

    def _cancel_timer(self, key: Key) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
