"""Figures and times as the commands show them."""

from datetime import datetime

NOTHING = "-"


def span(seconds: float) -> str:
    """45s, 3m20s, 2h05m, 5d3h."""
    whole = max(0, int(seconds))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d{hours}h" if days < 10 else f"{days}d"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{whole % 60:02}s" if minutes else f"{whole}s"


def figure(value: float | None, form: str) -> str:
    """A number in a format; a dash for none."""
    return NOTHING if value is None else format(value, form)


def clock(when: datetime, now: datetime) -> str:
    """The time of the day here; with the date, where that is not today's."""
    local = when.astimezone()
    return local.strftime("%H:%M:%S" if local.date() == now.astimezone().date() else "%Y-%m-%d %H:%M:%S")
