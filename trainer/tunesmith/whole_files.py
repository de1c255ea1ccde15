"""Files that readers find whole or not at all, whenever a process is killed."""

from collections.abc import Iterable
from pathlib import Path


def write_whole(file: Path, text: str | Iterable[str]) -> None:
    """Writes a file beside its place, then moves it there.

    Args:
        file: where to; what was there goes.
        text: all of it, or pieces that are written one after the other.

    Raises:
        OSError: it cannot be written; what was there before is there still.
    """
    partial = file.with_name(f".partial-{file.name}")
    try:
        with partial.open("w", encoding="utf-8") as opened:
            opened.writelines([text] if isinstance(text, str) else text)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
