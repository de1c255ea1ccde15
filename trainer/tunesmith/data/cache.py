"""Tokenized rows on a disk: written in a stream, mapped into memory when used, and reused by a run that goes on.

A cache is a folder with the rows of each part (`train/`, `validation/`) as flat files, and `cache.json`, which
tells what it was made from. It is written under another name and then renamed, so that a folder with its name is whole.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from tunesmith import __version__
from tunesmith.api.job import FineTuneJobSpec
from tunesmith.data.tokenized import TokenizedRows

_FILES: dict[str, type[np.generic]] = {
    "tokens": np.int32,
    "learned": np.bool_,
    "offsets": np.int64,
    "targets": np.int64,
}
_MARGINS = "margins"
"""A file more, where rows are pairs: float32 [rows]."""
_DESCRIPTION = "cache.json"


@dataclass
class RowWriter:
    """Appends tokenized rows to the flat files of a folder."""

    folder: Path
    rows: int = 0
    tokens: int = 0

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        self._files: dict[str, BufferedWriter] = {}
        self._digests: dict[str, Any] = {}
        for name in _FILES:
            self._append(name, np.zeros(1 if name == "offsets" else 0, np.int64))  # the first row starts at 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()

    @property
    def digest(self) -> bytes:
        """Of everything written so far, however it was cut."""
        return b"".join(self._digests[name].digest() for name in sorted(self._digests))

    def write(self, rows: TokenizedRows) -> None:
        """Appends rows."""
        arrays = {"tokens": rows.tokens, "learned": rows.learned, "targets": rows.targets}
        arrays["offsets"] = rows.offsets[1:] + self.tokens
        for name, kind in _FILES.items():
            self._append(name, np.ascontiguousarray(arrays[name], kind))
        if rows.margins is not None:
            self._append(_MARGINS, rows.margins)
        self.rows += len(rows)
        self.tokens += len(rows.tokens)

    def _append(self, name: str, array: NDArray[Any]) -> None:
        if name not in self._files:
            self._files[name], self._digests[name] = (self.folder / name).open("wb"), hashlib.sha256()
        self._files[name].write(array.data)  # not tofile, whose error does not say that the disk is full
        self._digests[name].update(array.data)


def cache_key(spec: FineTuneJobSpec, tokenizer: PreTrainedTokenizerBase, files: list[Path]) -> str:
    """A digest of all that decides the tokens: the spec's part, the tokenizer, and the names, sizes and times of change
    of the files."""
    fields = spec.model_dump(mode="json", include={"dataset", "objective"})
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = [
        __version__,
        fields,
        [spec.training.max_length, spec.training.seed],
        backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items()),
        [tokenizer.chat_template, tokenizer.eos_token_id, tokenizer.pad_token_id],
        [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files],
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@contextmanager
def new_cache(folder: Path) -> Iterator[Path]:
    """A folder to write a cache to, which takes the place of an earlier one when all is well, and else is removed.

    Raises:
        OSError: for want of space, say.
    """
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def describe(cache: Path, description: dict[str, Any]) -> None:
    """Notes what a cache was made from; the last thing that is written to it."""
    (cache / _DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")


def description_of(cache: Path) -> dict[str, Any] | None:
    """What a cache was made from; None where there is none."""
    try:
        description: dict[str, Any] = json.loads((cache / _DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return description


def open_rows(folder: Path) -> TokenizedRows:
    """The rows of one part; the tokens are read from the disk when they are needed."""
    arrays = {name: _open(folder / name, kind) for name, kind in _FILES.items() if name in ("tokens", "learned")}
    offsets, targets = (np.fromfile(folder / name, np.int64) for name in ("offsets", "targets"))
    margins = np.fromfile(folder / _MARGINS, np.float32) if (folder / _MARGINS).exists() else None
    rows = TokenizedRows(arrays["tokens"], arrays["learned"], offsets, margins=margins)
    vars(rows)["targets"] = targets  # known already: nothing has to be read for it
    return rows


def _open(file: Path, kind: type[np.generic]) -> NDArray[Any]:
    if not file.stat().st_size:
        return np.zeros(0, kind)
    return np.memmap(file, kind, "r").view(np.ndarray)
