"""Dates as HTTP writes them (RFC 9110 §5.6.7)."""

from __future__ import annotations

import time

# NOTE: English whatever the locale is, which strftime is not.
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_last = (0, "")


def format_date(seconds: int) -> str:
    """Return a time, in seconds since the epoch, as it stands in a header."""
    year, month, day, hour, minute, second, weekday, _, _ = time.gmtime(seconds)
    return (
        f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} "
        f"{hour:02}:{minute:02}:{second:02} GMT"
    )


def now() -> str:
    """Return the present time for a Date header."""
    global _last
    seconds = int(time.time())
    # PERF: made once per second.
    if _last[0] != seconds:
        _last = (seconds, format_date(seconds))
    return _last[1]
