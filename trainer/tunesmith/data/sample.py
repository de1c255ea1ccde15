"""A part of many texts that stands for all of them."""

from collections.abc import Iterable

SAMPLE_CHARACTERS = 32_000_000
"""Of the texts that the tokenizer of a new model is trained on: more would add little to its vocabulary, and its memory
grows with them."""


def spread_sample(texts: Iterable[str], limit: int = SAMPLE_CHARACTERS) -> list[str]:
    """All texts, or every 2nd, 4th, 8th ... of them: the most that have at most `limit` characters (or one text)."""
    kept: list[str] = []
    size, stride = 0, 1
    for index, text in enumerate(texts):
        if index % stride:
            continue
        kept.append(text)
        size += len(text)
        while size > limit and len(kept) > 1:
            kept, stride = kept[::2], stride * 2
            size = sum(map(len, kept))
    return kept
