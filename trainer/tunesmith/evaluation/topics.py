"""Rows with like prompts: clusters of their embeddings, named by their most telling words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunesmith.evaluation.metrics.words import words
from tunesmith.evaluation.statistics import FEWEST_ROWS

_SEED = 0
_STARTS = 4
_ROWS_OF_SILHOUETTE = 1_000
"""Rows that the number of clusters is chosen on: the silhouette needs all distances between them."""
_WORDS = 3


@dataclass(frozen=True)
class Topic:
    """A group of rows."""

    name: str
    rows: list[int]


def topics_of(texts: Sequence[str], vectors: NDArray[np.float64], most: int) -> list[Topic]:
    """Groups texts by k-means of their vectors, the largest group first.

    Of 2 up to `most` clusters those are taken that lie apart best (the mean silhouette, Rousseeuw 1987). There are at
    most as many as have six rows each on average; none where there are too few rows for two, or all are the same.

    Args:
        texts: give the names.
        vectors: of each text, at length 1; [texts, width].
        most: topics.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    distinct = len(np.unique(vectors.round(6), axis=0))
    most = min(most, len(texts) // FEWEST_ROWS, distinct - 1)
    best, chosen = -1.0, None
    for count in range(2, most + 1):
        labels = KMeans(count, n_init=_STARTS, random_state=_SEED).fit_predict(vectors)
        size = min(len(texts), _ROWS_OF_SILHOUETTE)
        if len(set(labels)) < 2:
            continue
        score = float(silhouette_score(vectors, labels, sample_size=size, random_state=_SEED))
        if score > best:
            best, chosen = score, labels
    if chosen is None:
        return []
    groups = [np.flatnonzero(chosen == label).tolist() for label in sorted(set(chosen))]
    names = telling_words(texts, groups)
    topics = [Topic(name, rows) for name, rows in zip(names, groups, strict=True)]
    return sorted(topics, key=lambda topic: (-len(topic.rows), topic.name))


def telling_words(texts: Sequence[str], groups: Sequence[Sequence[int]]) -> list[str]:
    """A name for each group: the words whose mean tf-idf in it exceeds that in all texts most.

    Letters of scripts without spaces count in pairs; numbers only where a group has nothing else.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer=_terms, sublinear_tf=True)
    try:
        weights = vectorizer.fit_transform(texts)
    except ValueError:  # no text has a word
        return [f"topic {number}" for number in range(1, len(groups) + 1)]
    terms = vectorizer.get_feature_names_out()
    everywhere = np.asarray(weights.mean(axis=0)).ravel()
    wordless = np.array([not any(map(str.isalpha, term)) for term in terms])
    names: list[str] = []
    for number, rows in enumerate(groups, 1):
        lead = np.asarray(weights[list(rows)].mean(axis=0)).ravel() - everywhere
        order = sorted(range(len(terms)), key=lambda term: (wordless[term], -lead[term], terms[term]))
        telling = [str(terms[term]) for term in order if lead[term] > 0][:_WORDS]
        name = ", ".join(telling) or f"topic {number}"
        names.append(name if name not in names else f"{name} ({number})")
    return names


def _terms(text: str) -> list[str]:
    """Words; where single letters of a script without spaces follow each other, each two of them."""
    found = words(text)
    single = [len(word) == 1 and not word.isascii() and word.isalpha() for word in found]
    pairs = [a + b for a, b, one, two in zip(found, found[1:], single, single[1:], strict=False) if one and two]
    return [word for word, alone in zip(found, single, strict=True) if not alone] + pairs
