"""Figures and addresses as people read them."""

import math
import re
from typing import Any, TypeGuard, cast

from tunesmith.api.metric import MetricName
from tunesmith.api.outcome import Overrides
from tunesmith.evaluation.table import TITLES

_NO_TEXT = {code: 0x2400 + code for code in range(32) if code not in (9, 10, 13)} | {127: 0x2421}
"""Control characters have pictures; a page may not hold them."""


def title_of(metric: str) -> str:
    """What a metric is called."""
    return TITLES.get(cast(MetricName, metric), metric)


def shown(text: str) -> str:
    """A text that any page can hold: control characters become their pictures, halves of a character a sign."""
    return text.encode("utf-8", "replace").decode("utf-8").translate(_NO_TEXT)


def duration(seconds: float) -> str:
    """In the unit that a person would use."""
    if seconds < 90:
        return f"{seconds:.1f} seconds" if seconds < 10 else f"{seconds:.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def size(count: float) -> str:
    """Bytes."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}" if count < 1000 else f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


def counted(count: int, noun: str) -> str:
    """1 row, 2,000 rows."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def many(count: float) -> str:
    """A large number in a few characters: 1.2 M."""
    for unit, factor in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g}\N{NO-BREAK SPACE}{unit}"
    return f"{count:.4g}"


def listed(items: list[str], most: int = 4) -> str:
    """a, b and c."""
    if len(items) > most:
        items = [*items[: most - 1], f"{len(items) - most + 1} more"]
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    text = text.strip()
    return text if not text else text[0].upper() + text[1:] + ("" if text[-1] in ".!?…" else ".")


def plain(value: Any) -> str:
    """A value of a configuration."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else str(value)
    return "—" if value is None else str(value)


def changes(overrides: Overrides) -> str:
    """What an attempt changed in the spec."""
    size, scale = overrides.micro_batch_size, overrides.learning_rate_scale
    rate = f"{plain(scale)} of the learning rate" if scale != 1 else ""
    return ", ".join(filter(None, (f"micro-batch {size}" if size is not None else "", rate))) or "the spec as it is"


def source_name(address: str) -> str:
    """An address without what only says where it is kept: the last part of a path."""
    return re.sub(r"^(file|pvc|configmap|hf|job)://", "", address) if "://" in address else address.rsplit("/", 1)[-1]


def cell(text: str) -> str:
    """A text inside Markdown, on one line: it neither ends a cell of a table nor begins an element of HTML."""
    text = re.sub(r"\s+", " ", shown(text)).strip()
    for sign, escaped in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("`", "\\`"), ("[", "\\[")):
        text = text.replace(sign, escaped)
    return text
