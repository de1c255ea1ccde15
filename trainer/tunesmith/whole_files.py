"""Files that readers find whole or not at all, whenever a process is killed."""

from pathlib import Path


def write_whole(file: Path, text: str) -> None:
    """Writes a file beside its place, then moves it there.

    Raises:
        OSError: it cannot be written; what was there before is there still.
    """
    partial = file.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)
