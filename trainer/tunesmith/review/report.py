"""What a review leaves in results.json."""

from typing import Literal

from tunesmith.api.base import Record
from tunesmith.api.outcome import Interval
from tunesmith.evaluation.verdict import Verdict
from tunesmith.review.agreement import Level
from tunesmith.review.kinds import Kind


class ModelResult(Record):
    """One model."""

    name: str
    mean: Interval | None = None
    """Of its Likert ratings, 1 to 5."""
    win_rate: Interval | None = None
    """How often it is preferred to another model; ties count half."""
    strength: Interval | None = None
    """Bradley-Terry: its log-odds against a model of strength 0, which is the mean of all."""


class PairResult(Record):
    """Two models on the rows that were rated for both."""

    model: str
    other: str
    rows: int
    ties: float | None = None
    """The share of ratings that are ties; of rankings and Likert ratings none."""
    win_rate: Interval | None = None
    """How often the first is preferred to the second; ties count half."""
    difference: Interval | None = None
    """Of Likert means, the first - the second."""
    p: float
    """Of the paired randomisation test that both are alike; not corrected."""
    corrected_p: float
    """The same, corrected for all pairs of models (Holm)."""
    verdict: Verdict
    """What the test shows of the first, and no more."""


class Agreement(Record):
    """Krippendorff's alpha."""

    level: Level
    """What ratings are taken for."""
    items: int
    """Rated by two at least."""
    alpha: Interval | None = None
    """None where it cannot be told."""


class FirstPlace(Record):
    """Whether the answer that stands first is preferred for standing there."""

    preferred: Interval
    """How often it was; ties count half."""
    expected: float
    """How often it would be without such a taste."""
    verdict: Literal["shown", "not shown"]


class RaterResult(Record):
    """What a rater gave."""

    name: str
    rated: int
    ties: float | None = None
    """Share of its ratings; only where ties are possible."""
    mean: float | None = None
    """Of its Likert ratings."""
    first: float | None = None
    """How often it preferred the answer that stood first."""


class ReviewResults(Record):
    """Everything that results.json holds."""

    id: str
    kind: Kind
    items: int
    rated: int
    """Items that somebody has rated."""
    rows: int
    """Test rows that all models answered."""
    same: int
    """Rows, or rows with two of the models, whose answers are the same: not asked about, and not counted."""
    left_out: int
    agreement: Agreement
    models: list[ModelResult]
    pairs: list[PairResult]
    first_place: FirstPlace | None = None
    raters: list[RaterResult]
    warnings: list[str]
    """What the ratings cannot show, a sentence each."""
