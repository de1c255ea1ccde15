"""What a metric is, for those that serve it and for the table of all of them (docs/metrics-reference.md)."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Series:
    """A metric of Prometheus, as it is declared once."""

    name: str
    """As it is queried: a counter's with _total, a histogram's without _bucket, _sum and _count."""
    kind: Literal["gauge", "counter", "histogram"]
    text: str
    """What it means, in a sentence, with its unit."""
    labels: tuple[str, ...] = ()
    """Its own; those that a scrape adds are not among them."""
    since: str = "0.1.0"
    """The release that brought it."""
