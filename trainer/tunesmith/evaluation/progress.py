"""What a log tells of an evaluation that goes on."""

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


def log_tenths() -> Callable[[str, int, int], None]:
    """A progress callback for a log: a line at each tenth of the way."""
    told: dict[str, int] = {}

    def tell(what: str, done: int, total: int) -> None:
        tenth = 10 * done // total
        if tenth > told.get(what, -1):
            told[what] = tenth
            log.info("%s: %d of %d", what, done, total)

    return tell
