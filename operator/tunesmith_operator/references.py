"""Looks up the objects of the user's that jobs name."""

import asyncio
from collections.abc import Callable, Iterable

from tunesmith_operator.client import Client
from tunesmith_operator.kinds import BY_NAME
from tunesmith_operator.observed import Reference

_BELIEVED_SECONDS = 10.0
"""A thousand jobs that share a claim need not ask for it a thousand times; what is missing is asked for each time."""


class References:
    """Knows for a moment what was there."""

    def __init__(self, client: Client, clock: Callable[[], float]) -> None:
        self._client, self._clock = client, clock
        self._there: dict[str, dict[Reference, float]] = {}

    def known(self, namespace: str) -> dict[Reference, bool]:
        """What was there a moment ago."""
        now, there = self._clock(), self._there.get(namespace, {})
        fresh = {reference: until for reference, until in there.items() if until > now}
        if there:
            self._there[namespace] = fresh
            if not fresh:
                del self._there[namespace]
        return dict.fromkeys(fresh, True)

    async def look_up(self, namespace: str, references: Iterable[Reference]) -> dict[Reference, bool]:
        """Whether each of these is there."""
        wanted = list(references)
        found = await asyncio.gather(*(self._exists(namespace, reference) for reference in wanted))
        answers = dict(zip(wanted, found, strict=True))
        until = self._clock() + _BELIEVED_SECONDS
        for reference, exists in answers.items():
            if exists:
                self._there.setdefault(namespace, {})[reference] = until
        return answers

    async def _exists(self, namespace: str, reference: Reference) -> bool:
        found = await self._client.get(BY_NAME[reference.kind], namespace, reference.name)
        return found is not None and "deletionTimestamp" not in found["metadata"]
