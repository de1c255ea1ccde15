"""The lines of rows.jsonl."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.evaluation.generate import Answers
from tunesmith.evaluation.measure import Measured
from tunesmith.evaluation.pairs import preferred
from tunesmith.evaluation.score import (
    TestSet,
)
from tunesmith.models.reward import Centring


def row_lines(
    test: TestSet,
    ids: Sequence[str],
    tuned: Measured,
    base: Measured | None,
    centring: Centring,
    kinds: Mapping[str, Sequence[str]],
) -> Iterator[dict[str, Any]]:
    """The lines of rows.jsonl: what a row is known by, its texts, and each model's answer and scores."""
    models = {"tuned": (tuned.scores, centring), **({"base": (base.scores, Centring())} if base else {})}
    values = {name: {m: s.of_rows() for m, s in scores.metrics.items()} for name, (scores, _) in models.items()}
    tokens = test.encoded.tokens if test.encoded is not None else None
    for row, text in zip(itertools.count(), test.texts, strict=False):
        line: dict[str, Any] = {"row": row + 1, "id": ids[row], **text}
        for name, (scores, how) in models.items():
            if scores.pairs is not None:
                line[name] = _pair(scores.pairs[row], how)
                continue
            line[name] = answer_line(scores.answers, row) if scores.answers is not None else {}
            if scores.losses is not None and tokens is not None:
                line[name] |= {"negativeLogLikelihood": float(scores.losses[row]), "tokens": int(tokens[row])}
            line[name] |= {m: float(of[row]) for m, of in values[name].items() if not np.isnan(of[row])}
            line[name] |= {"kind": kinds[name][row]} if name in kinds else {}
        yield line


def answer_line(answers: Answers, row: int) -> dict[str, Any]:
    """An answer, whether it came to its end within the limit, and its length."""
    if answers.texts[row] is None:
        return {"answer": None}
    finished = answers.ends[row] is not None
    return {"answer": answers.texts[row], "finished": finished, "answerTokens": len(answers.written(row))}


def _pair(scores: NDArray[np.float64], centring: Centring) -> dict[str, Any]:
    """Of both answers of a pair, centred; none where it was left out."""
    if np.isnan(scores).any():
        return {}
    chosen, rejected = centring.of(scores).tolist()
    return {"chosen": chosen, "rejected": rejected, "pairAccuracy": float(preferred(scores[None])[0])}
