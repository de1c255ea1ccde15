"""Metrics of `evaluation.own`: functions of code that comes with the image, where the administrator allows it."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from tunesmith.api.evaluation import OwnMetric
from tunesmith.api.load import InputError, Problem
from tunesmith.evaluation.metrics.base import MeanOfRows, Text, mean_parts
from tunesmith.evaluation.statistics import Floats


class Own(MeanOfRows):
    """The mean of what a function gives each answer; a missing answer counts as the worst that is given, and never as
    more than 0.

    Args:
        metric: its name and function.
        place: the field of the spec, for messages.
        allowed: modules that may be used, each with what is below it.

    Raises:
        InputError: it may not be used, or is not there.
    """

    is_share = False

    def __init__(self, metric: OwnMetric, place: str, allowed: Sequence[str]) -> None:
        super().__init__()
        self._metric, self._place = metric, f"{place}.function"
        self._function = self._load(allowed)

    def parts(self, answers: Sequence[Text], references: Sequence[str]) -> Floats:
        """A score and 1 for each row.

        Raises:
            InputError: the function fails, or does not give a number for each answer.
        """
        given = [answer for answer in answers if answer is not None]
        right = [reference for reference, answer in zip(references, answers, strict=True) if answer is not None]
        scores = self._numbers(given, right) if given else np.zeros(0)
        worst = min([0.0, *scores]) if self._metric.better == "higher" else max([0.0, *scores])
        return mean_parts(answers, scores, worst)

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        numbers: list[float] = self._numbers([answer for answer, _ in pairs], [right for _, right in pairs]).tolist()
        return numbers

    def _numbers(self, answers: list[str], references: list[str]) -> Floats:
        try:
            result = self._function(list(answers), list(references))
            numbers = np.array([float(value) for value in result])
        except Exception as error:  # the user's code may raise anything
            reason = (str(error).strip().splitlines() or [""])[0]
            raise self._refuse(f"raised {type(error).__name__}: {reason}; mend it") from None
        if len(numbers) != len(answers):
            raise self._refuse(f"gave {len(numbers)} numbers for {len(answers)} answers; return one for each")
        if not np.isfinite(numbers).all():
            row = int(np.argmin(np.isfinite(numbers)))
            raise self._refuse(f"gave {numbers[row]} for the answer {answers[row][:60]!r}; return finite numbers")
        return numbers

    def _load(self, allowed: Sequence[str]) -> Callable[[list[str], list[str]], Any]:
        module, _, name = self._metric.function.partition(":")
        if not _is_below(module, allowed):
            listing = ", ".join(allowed) or "none"
            raise self._refuse(
                f"module {module} is not allowed here (allowed: {listing}); add --allow-metrics {module}, or have the "
                "administrator of the cluster list it"
            )
        try:
            function = getattr(import_module(module), name, None)
        except Exception as error:  # a module may raise anything while it is imported
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            message = f"cannot be imported: {reason}; install it into the image, or name its folder in PYTHONPATH"
            raise self._refuse(message) from None
        if not callable(function):
            raise self._refuse(f"module {module} has no function {name}; correct the name")
        if not _is_below(str(getattr(function, "__module__", "")), allowed):  # what a module has imported, run for one
            raise self._refuse(f"{name} is not a function of {module}, which only imports it; name one of its own")
        return function  # type: ignore[no-any-return]

    def _refuse(self, message: str) -> InputError:
        return InputError(Problem(f"{self._metric.function}: {message}", self._place))


def _is_below(module: str, allowed: Sequence[str]) -> bool:
    return any(module == one or module.startswith(f"{one}.") for one in allowed)
