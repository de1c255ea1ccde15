"""What `tunesmith top` knows, kept up to date by changes."""

from collections.abc import Iterable

from tunesmith.cluster.client import Object
from tunesmith.cluster.follow import Change
from tunesmith.cluster.kinds import JOBS, PIPELINES, Kind
from tunesmith.cluster.rows import Row, row_of, with_utilization

KINDS = (JOBS, PIPELINES)


class Board:
    """The lines of all jobs and pipelines."""

    def __init__(self) -> None:
        self._rows: dict[Kind, dict[tuple[str, str], Row]] = {}
        self._lost: dict[Kind, str] = {}
        self.busy: dict[tuple[str, str], float] = {}
        """How busy the GPUs of jobs are, by namespace and name."""

    @property
    def is_complete(self) -> bool:
        """Whether both kinds were listed."""
        return len(self._rows) == len(KINDS)

    @property
    def trouble(self) -> str:
        """Why the lines may be old; empty where they are not."""
        return next(iter(self._lost.values()), "")

    def rows(self) -> list[Row]:
        """All lines, in no order."""
        return with_utilization((row for rows in self._rows.values() for row in rows.values()), self.busy)

    def replace(self, kind: Kind, objects: Iterable[Object]) -> None:
        """Takes in all objects of a kind."""
        rows = (row_of(kind, body) for body in objects)
        self._rows[kind] = {(row.namespace, row.name): row for row in rows}

    def apply(self, change: Change) -> None:
        """Takes in a change.

        Raises:
            Exception: of one that says that no more will come.
        """
        if change.what == "refused":
            assert change.error is not None
            raise change.error
        if change.what == "lost":
            self._lost[change.kind] = str(change.error)
            return
        self._lost.pop(change.kind, None)
        if change.what == "all":
            self.replace(change.kind, change.objects)
        for body in change.objects if change.what in ("changed", "deleted") else ():
            row = row_of(change.kind, body)
            rows = self._rows.setdefault(change.kind, {})
            if change.what == "deleted":
                rows.pop((row.namespace, row.name), None)
            else:
                rows[row.namespace, row.name] = row
