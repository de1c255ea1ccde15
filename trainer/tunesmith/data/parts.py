"""The parts of a run's rows: to train on, set by set, to validate on, and to be tested with."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunesmith.api.dataset import DataSource
from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.data.encode import prompt_columns
from tunesmith.data.rows import Row, count_rows, iterate_rows, source_files
from tunesmith.data.split import GroupBy, held_out
from tunesmith.sources import Resolver


@dataclass(frozen=True)
class RunRows:
    """The rows of a run, read anew each time they are asked for: they need not fit into memory."""

    spec: FineTuneJobSpec
    resolver: Resolver

    @property
    def sets(self) -> dict[str, DataSource]:
        """The training sets by their field: one, or those of a mixture."""
        return self.spec.dataset.train_sources

    @cached_property
    def files(self) -> list[Path]:
        """Everything that is read."""
        sources = self.spec.dataset.sources.items()
        return [file for place, s in sources for file in source_files(s, self.resolver, f"{place}.source")]

    def train(self, place: str) -> Iterator[Row]:
        """The rows of one training set, without those that are set aside."""
        return self._side(place, False)

    def all_train(self) -> Iterator[Row]:
        """The training rows of all sets, one set after the other."""
        for place in self.sets:
            yield from self.train(place)

    def validation(self) -> Iterator[Row]:
        """The rows to validate on; none without dataset.validation."""
        for rows in self.validation_sets().values():
            yield from rows

    def validation_sets(self) -> dict[str, Iterator[Row]]:
        """The same by the field that they come from: of a fraction, those set aside of each training set."""
        if self._fraction is not None:
            return {place: self._side(place, True) for place in self.sets}
        place = "spec.dataset.validation"
        return {place: self._read(place)} if self.spec.dataset.validation is not None else {}

    def test(self) -> Iterator[Row]:
        """The rows of the evaluation; none without dataset.test."""
        if self.spec.dataset.test is not None:
            yield from self._read("spec.dataset.test")

    def _read(self, place: str) -> Iterator[Row]:
        return iterate_rows(self.spec.dataset.sources[place], self.resolver, f"{place}.source")

    @property
    def _fraction(self) -> float | None:
        return self.spec.dataset.validation.fraction if self.spec.dataset.validation is not None else None

    @cached_property
    def _set_aside(self) -> dict[str, NDArray[np.bool_]]:
        """For each training set, which of its rows are validated on."""
        assert self.spec.dataset.validation is not None
        assert self._fraction is not None
        validation, seed = self.spec.dataset.validation, self.spec.training.seed
        group_by: GroupBy = validation.group_by
        if group_by is None and self.spec.objective.reward is not None:
            group_by = partial(prompt_columns, spec=self.spec)  # a known prompt with other answers would flatter
        if group_by is None:
            sizes = {place: count_rows(s, self.resolver, f"{place}.source") for place, s in self.sets.items()}
            mask = held_out(range(sum(sizes.values())), self._fraction, None, seed)
        else:
            sizes = dict.fromkeys(self.sets, 0)
            mask = held_out(self._counted(sizes), self._fraction, group_by, seed)
        parts = np.split(mask, np.cumsum(list(sizes.values()))[:-1])
        return dict(zip(self.sets, parts, strict=True))

    def _counted(self, sizes: dict[str, int]) -> Iterator[Row]:
        """The rows of all sets; counts those of each on the way."""
        for place in self.sets:
            for row in self._read(place):
                sizes[place] += 1
                yield row

    def _side(self, place: str, aside: bool) -> Iterator[Row]:
        if self._fraction is None:
            yield from self._read(place)
            return
        mask = self._set_aside[place]
        for index, row in enumerate(self._read(place)):
            if index >= len(mask):
                raise InputError(
                    Problem("has grown while it was read; start again when it is whole", f"{place}.source")
                )
            if mask[index] == aside:
                yield row
