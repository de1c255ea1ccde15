"""What a run trains and validates on: tokenized once, in a stream, to a cache on a disk.

In memory are three chunks of rows (one is read while the one before is tokenized and the one before that is written)
and, for each row of the whole, a few bytes: whether it is set aside, and a hash.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from transformers import PreTrainedTokenizerBase

from tunesmith.api.job import FineTuneJobSpec
from tunesmith.api.load import InputError, Problem
from tunesmith.data import cache
from tunesmith.data.encode import encode
from tunesmith.data.pairs import Pair, encode_pairs, pairs_of
from tunesmith.data.parts import RunRows
from tunesmith.data.prefetch import read_ahead
from tunesmith.data.rows import Row
from tunesmith.data.summary import DataSummary, Hashes, Part, summarise
from tunesmith.data.tokenized import TokenizedRows

CHUNK_ROWS, CHUNK_CHARACTERS = 1000, 500_000
"""Rows that are tokenized at once: enough for a tokenizer to share them among all cores. Meanwhile a character takes
some 60 bytes."""


Item = TypeVar("Item", Row, Pair)


@dataclass(frozen=True)
class TrainingData:
    """The tokenized rows of a run."""

    train: TokenizedRows
    validation: TokenizedRows | None
    sets: tuple[int, ...]
    """Rows of each training set; the sets follow each other in `train`."""
    weights: tuple[float, ...]
    """Weight of each training set."""
    digest: str
    """SHA-256 of the training rows: a run resumes only on the data that it started with."""
    summary: DataSummary


def prepare_data(
    rows: RunRows,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    first: bool = True,
    between: Callable[[], None] = lambda: None,
) -> TrainingData:
    """Opens the cache of a run's rows; makes it where there is none, or one of something else.

    Args:
        rows: of the run.
        tokenizer: of the model.
        folder: of the cache, shared by all workers.
        first: whether this is the first worker; the others take what it has made.
        between: is called after each chunk of rows, and may raise.

    Raises:
        InputError: a row cannot be read, or nothing is left to learn from, or to validate on.
        OSError: for want of space, say; nothing of the cache is left then.
    """
    if first:
        key = cache.cache_key(rows.spec, tokenizer, rows.files)
        described = cache.description_of(folder)
        if described is None or described["key"] != key:
            with cache.new_cache(folder) as partial:
                cache.describe(partial, {"key": key} | _make(rows, tokenizer, partial, between))
    return open_prepared(folder, rows.spec)


def open_prepared(folder: Path, spec: FineTuneJobSpec) -> TrainingData:
    """What `prepare_data` has left in a folder."""
    described = cache.description_of(folder)
    if described is None:
        raise FileNotFoundError(f"{folder} does not hold what the first worker has prepared: is it shared by all?")
    return TrainingData(
        train=cache.open_rows(folder / "train"),
        validation=cache.open_rows(folder / "validation") if (folder / "validation").exists() else None,
        sets=tuple(part["rows"] for part in described["summary"]["sets"]),
        weights=spec.dataset.train_weights,
        digest=described["digest"],
        summary=DataSummary.read(described["summary"]),
    )


def _make(
    rows: RunRows, tokenizer: PreTrainedTokenizerBase, folder: Path, between: Callable[[], None]
) -> dict[str, Any]:
    """Writes the rows; returns their digest and their summary."""
    spec, nothing = rows.spec, np.zeros(0, np.uint64)

    def encoded(part: Iterable[Row], place: str) -> Iterator[TokenizedRows]:
        if spec.objective.reward is not None:
            pairs = read_ahead(chunks(pairs_of(part, spec, tokenizer)))
            parts = (encode_pairs(chunk, spec, tokenizer) for chunk in pairs)
        else:
            parts = (encode(chunk, spec, tokenizer) for chunk in read_ahead(chunks(part)))
        with _naming(place, spec):
            for encoded_rows in read_ahead(parts):
                yield encoded_rows
                between()

    validation = Part()
    if spec.dataset.validation is not None:
        sets = (encoded(part, place) for place, part in rows.validation_sets().items())
        with cache.RowWriter(folder / "validation") as writer:
            validation = _take(chain.from_iterable(sets), nothing, False, writer)
        _refuse_empty(validation, "validation", spec)
    test = _take(encoded(rows.test(), "spec.dataset.test"), nothing, False)
    held = np.unique(np.concatenate([validation.hashes, test.hashes]))

    train = []
    with cache.RowWriter(folder / "train") as writer:
        for place in rows.sets:
            train.append(_take(encoded(rows.train(place), place), held, spec.dataset.deduplicate, writer))
            _refuse_empty(train[-1], "training", spec, place)
    sizes = [part.rows for part in train]
    digest = hashlib.sha256(repr(sizes).encode() + writer.digest).hexdigest()
    summary = summarise(spec, train, validation, test, cache.open_rows(folder / "train").lengths)
    return {"digest": digest, "summary": asdict(summary)}


@contextmanager
def _naming(place: str, spec: FineTuneJobSpec) -> Iterator[None]:
    """Says of which set the rows are in which something is wrong, where there are several."""
    try:
        yield
    except InputError as error:
        sources = spec.dataset.sources
        if len(sources) == 1:
            raise
        of = f" (in the rows of {place}, {sources[place].source})"
        named = (p if p.file else replace(p, message=p.message + of) for p in error.problems)
        raise InputError(*named) from None


def _take(
    encoded: Iterable[TokenizedRows], held: Hashes, leave_out: bool, writer: cache.RowWriter | None = None
) -> Part:
    """Writes rows, but, if asked to, not those whose hashes are held; without a writer they are only counted."""
    part = Part()
    for rows in encoded:
        part.truncated += rows.truncated
        part.dropped += rows.dropped
        part.equal += rows.equal
        hashes = hash_rows(rows)
        overlapping = np.isin(hashes, held)
        part.overlapping += int(overlapping.sum())
        if leave_out and overlapping.any():
            kept = np.flatnonzero(~overlapping)
            rows, hashes = rows.select(kept), hashes[kept]
        part.add(rows, hashes)
        if writer is not None:
            writer.write(rows)
    return part


def chunks(rows: Iterable[Item]) -> Iterator[list[Item]]:
    """Rows in lists of a size that fits into memory."""
    chunk: list[Item] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += len(str(row))
        if len(chunk) >= CHUNK_ROWS or size >= CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def hash_rows(rows: TokenizedRows) -> Hashes:
    """A hash of each row's tokens; shape [rows]."""
    tokens = memoryview(rows.tokens.tobytes())
    spans = pairwise((rows.offsets * rows.tokens.itemsize).tolist())
    digests = (hashlib.blake2b(tokens[start:end], digest_size=8).digest() for start, end in spans)
    return np.frombuffer(b"".join(digests), np.uint64)


def _refuse_empty(part: Part, name: str, spec: FineTuneJobSpec, place: str = "") -> None:
    ppo = spec.objective.ppo
    if part.learned_tokens or (ppo is not None and part.rows):
        return
    if part.overlapping:
        message = "every row of it stands in the validation or test rows too: nothing is left to learn from"
        raise InputError(Problem(message, place))
    if ppo is not None:
        message = f"is that of prompt and answer together: no {name} prompt leaves room for {ppo.max_new_tokens} tokens"
        raise InputError(Problem(f"{message}; raise it", "spec.training.maxLength"))
    if part.equal and not part.dropped:
        message = f"chosen equals rejected in every {name} pair: nothing is left to learn from"
        raise InputError(Problem(message, place or "spec.dataset"))
    if spec.dataset.columns.rating is not None and not part.dropped:
        message = f"no two answers to a {name} prompt are rated differently: there is no pair to learn from"
        raise InputError(Problem(message, "spec.dataset.columns.rating"))
    of = f" of {spec.dataset.sources[place].source}" if len(spec.dataset.train_sources) > 1 and place else ""
    message = f"no {name} row{of} has anything left to learn from within {spec.training.max_length} tokens; raise it"
    raise InputError(Problem(message, "spec.training.maxLength"))
