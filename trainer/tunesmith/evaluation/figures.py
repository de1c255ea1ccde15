"""Figures as people read them, on a terminal and in sentences."""

from tunesmith.api.outcome import Interval


def number_text(value: float, sign: str = "") -> str:
    """Three decimals; fewer for large numbers, an exponent for what would look like zero.

    Args:
        value: the number.
        sign: "+" to write the sign of positive numbers too.
    """
    if value == 0:
        return "0"
    size = abs(value)
    if size < 0.0005:
        return format(value, f"{sign}.1e")
    decimals = 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0
    return format(value, f"{sign},.{decimals}f")


def range_text(interval: Interval, sign: str = "") -> str:
    """[LOW, HIGH]."""
    return f"[{number_text(interval.low, sign)}, {number_text(interval.high, sign)}]"


def interval_text(interval: Interval, sign: str = "") -> str:
    """VALUE [LOW, HIGH]."""
    return f"{number_text(interval.value, sign)} {range_text(interval, sign)}"


def p_text(p: float) -> str:
    """p 0.012, or p <0.001."""
    return "p <0.001" if p < 0.001 else f"p {p:.3f}"
