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
from dataclasses import dataclass, field
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
    digest: Any = field(default_factory=hashlib.sha256)
    """Of everything written so far, however it was cut."""

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        self._files = {name: (self.folder / name).open("wb") for name in _FILES}
        self._files["offsets"].write(np.zeros(1, np.int64).data)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()

    def write(self, rows: TokenizedRows) -> None:
        """Appends rows."""
        arrays = {"tokens": rows.tokens, "learned": rows.learned, "targets": rows.targets}
        arrays["offsets"] = rows.offsets[1:] + self.tokens
        for name, kind in _FILES.items():
            array = np.ascontiguousarray(arrays[name], kind)
            self._files[name].write(array.data)  # not tofile, whose error does not say that the disk is full
        for index, length in enumerate(rows.lengths.tolist()):
            tokens, learned = rows.row(index)
            self.digest.update(length.to_bytes(8, "little") + tokens.tobytes() + learned.tobytes())
        if rows.margins is not None:
            if _MARGINS not in self._files:
                self._files[_MARGINS] = (self.folder / _MARGINS).open("wb")
            self._files[_MARGINS].write(rows.margins.data)
            self.digest.update(rows.margins.tobytes())
        self.rows += len(rows)
        self.tokens += len(rows.tokens)


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
