"""Where a run's time goes, without making a GPU wait to be asked.

On a GPU the host runs ahead of the work that it has queued, so that its own clock tells when work was queued, not how
long it took. There each change of phase is an event in the queue. Events are read once the GPU has passed them, which
is so whenever the loop has read a loss: what is queued after that, the optimizer's update, is told a step later.
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch

from tunesmith.api.spans import span
from tunesmith.run_log import step_now

Phase = Literal["data", "forward", "backward", "optimizer", "validation", "checkpoint", "answer", "score", "other"]

_SPANS = ("validation", "checkpoint")
"""Phases that are spans of a trace, too: seldom and long, and the host waits for them."""


class StepClock:
    """Divides time among phases, without gaps: what no phase claims is "other".

    A phase within a phase counts as the outer one, so that what validation does is validation. One thread at a time.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        """
        Args:
            device: that computes; None for the CPU.
        """
        self._on_gpu = device is not None and device.type == "cuda"
        self._spare: list[Any] = []  # events are used again
        self._phase: Phase = "other"
        self._marks: deque[tuple[Phase, Any]] = deque([("other", self._mark())])

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """What is done, or queued, within belongs to a phase."""
        if self._phase != "other":
            yield
            return
        self._begin(name)
        try:
            with span(name, {"tunesmith.step": step_now() or 0}) if name in _SPANS else nullcontext():
                yield
        finally:
            self._begin("other")

    def lap(self) -> dict[Phase, float]:
        """Seconds by phase since the last lap, as far as the device has come; they add up to the time between."""
        self._begin(self._phase)
        spent = dict[Phase, float]()
        while len(self._marks) > 1 and self._passed(self._marks[1][1]):
            name, began = self._marks.popleft()
            spent[name] = spent.get(name, 0.0) + self._between(began, self._marks[0][1])
        return spent

    def _begin(self, name: Phase) -> None:
        self._phase = name
        self._marks.append((name, self._mark()))

    def _mark(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        make: Any = torch.cuda.Event
        event = self._spare.pop() if self._spare else make(enable_timing=True)
        event.record()
        return event

    def _passed(self, mark: Any) -> bool:
        return not self._on_gpu or bool(mark.query())

    def _between(self, began: Any, ended: Any) -> float:
        if not self._on_gpu:
            return float(ended - began)
        self._spare.append(began)
        return float(began.elapsed_time(ended)) / 1000
