"""What a model is asked of test rows, in a form that can be cut anywhere, done by anybody, and told apart."""

import gc
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from transformers import AutoConfig, PreTrainedModel

from tunesmith.api.outcome import Reason
from tunesmith.models.load import ModelLocation
from tunesmith.models.prompts import virtual_tokens

Keep = Callable[[dict[int, Any]], None]
"""Is given outputs by the numbers of their items as soon as they are there; what JSON can hold."""

_CARD = "README.md"


class RowsFailedError(Exception):
    """Rows that no worker gets done."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Source:
    """A model that is evaluated."""

    name: str
    """tuned, base, or what else it is to the evaluation; a part of file names."""
    identity: str
    """Differs where the weights do."""
    load: Callable[[], PreTrainedModel]
    """Loads it; can be pickled."""


@dataclass(frozen=True)
class Work:
    """Something that a model is asked of each of some items: rows, or pieces of rows."""

    name: str
    """A part of file names."""
    items: Sequence[int]
    """Numbers, the most demanding first; neighbours are alike."""
    size: int
    """Items that are done at once, halved where memory runs out."""
    facts: Sequence[Any]
    """What the outputs follow from, beside the model: arrays, and what JSON can hold."""
    do: Callable[[PreTrainedModel, list[int], int, Keep], int]
    """Does some items, so many at once; returns how many at once worked. Can be pickled."""
    row_of: Sequence[int] | None = None
    """The test row of each item, where items are not rows themselves."""

    def row(self, item: int) -> int:
        """The test row of an item, counted from 1."""
        return 1 + (item if self.row_of is None else int(self.row_of[item]))


class Crew(Protocol):
    """Who does work: this process, or workers."""

    def do(self, source: Source, work: Work, items: Sequence[int], keep: Keep) -> int:
        """Does some of a work's items; returns how many at once worked.

        Raises:
            Exception: what the model or its loading raises.
        """

    def release(self) -> None:
        """Lets models go from memory."""

    def close(self) -> None:
        """Ends the work."""


class Here:
    """This process; a model is loaded when it is first needed."""

    def __init__(self) -> None:
        self._present = ("", "")
        self._model: PreTrainedModel | None = None
        self._sizes: dict[str, int] = {}

    def do(self, source: Source, work: Work, items: Sequence[int], keep: Keep) -> int:
        if self._model is None or self._present != (source.name, source.identity):
            self.release()
            self._model, self._present = loaded(source), (source.name, source.identity)
        size = min(self._sizes.get(work.name, work.size), work.size)
        self._sizes[work.name] = work.do(self._model, list(items), size, keep)
        return self._sizes[work.name]

    def release(self) -> None:
        self._model, self._sizes = None, {}
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def close(self) -> None:
        self.release()


def loaded(source: Source) -> PreTrainedModel:
    """A model in evaluation mode, on this machine's device."""
    model = source.load().eval()
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return model


def digest(*facts: Any) -> str:
    """A short name of facts, the same wherever and whenever it is made."""
    summary = hashlib.blake2b(digest_size=8)
    for fact in facts:
        if isinstance(fact, np.ndarray):
            parts = [f"{fact.dtype}{fact.shape}".encode(), np.ascontiguousarray(fact).tobytes()]
        else:
            parts = [json.dumps(fact, sort_keys=True).encode()]
        for part in parts:
            summary.update(len(part).to_bytes(8, "big") + part)
    return summary.hexdigest()


def fingerprint(location: ModelLocation) -> list[Any]:
    """What tells the files of a model from others, without reading the large ones: names, sizes and times; of the Hub
    the commit. Its card is not of the model: an evaluation writes it anew."""
    folder, base = Path(location.name), location.adapter_base
    if not folder.is_dir():
        config = AutoConfig.from_pretrained(location.name, revision=location.revision)
        return [location.name, getattr(config, "_commit_hash", None) or location.revision]
    files = [(path.name, path.stat()) for path in sorted(folder.iterdir()) if path.is_file() and path.name != _CARD]
    found: list[Any] = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in files]
    return [*found, fingerprint(base)] if base is not None else found


def describe_model() -> Work:
    """The type of a model's weights, the device that it is on, and the places of its context that are free."""
    return Work("model", [0], 1, [], _describe)


def _describe(model: PreTrainedModel, items: list[int], size: int, keep: Keep) -> int:
    places = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    found = {
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "context": None if places is None else places - virtual_tokens(model),
    }
    keep(dict.fromkeys(items, found))
    return size
