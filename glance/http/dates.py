"""Dates as HTTP writes them (RFC 9110 §5.6.7)."""

from __future__ import annotations

import calendar
import datetime
import functools
import re
import time

# NOTE: English whatever the locale is, which strftime is not.
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_last = (0, "")

_DAY, _MONTH = "|".join(_DAYS), "|".join(_MONTHS)
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_FORMS = tuple(
    re.compile(form, re.ASCII)
    for form in (
        # The form to send, and the two obsolete ones that a recipient has to accept.
        rf"(?:{_DAY}), (?P<day>\d\d) (?P<month>{_MONTH}) (?P<year>\d{{4}}) {_TIME} GMT",
        r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, "
        rf"(?P<day>\d\d)-(?P<month>{_MONTH})-(?P<year>\d\d) {_TIME} GMT",
        rf"(?:{_DAY}) (?P<month>{_MONTH}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",
    )
)


# PERF: Last-Modified of an image is the same each time.
@functools.lru_cache(maxsize=1024)
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


def parse_date(text: str | None) -> int | None:
    """Return the time of a header, in seconds since the epoch; None unless it is one valid date.

    All three forms of RFC 9110 §5.6.7 are read. Whether the name of the day is the right one is
    not checked.
    """
    text = (text or "").strip(" \t")
    for form in _FORMS:
        if match := form.fullmatch(text):
            return _seconds(match)
    return None


def _seconds(match: re.Match[str]) -> int | None:
    year = int(match["year"])
    if len(match["year"]) == 2:
        # A year that seems to be more than 50 years ahead is the last one that ended like this.
        this = time.gmtime().tm_year
        year += this - this % 100
        year -= 100 * (year > this + 50)
    # NOTE: a leap second is the last one of its minute that can be told from others.
    second = min(int(match["second"]), 59) if match["second"] <= "60" else 60
    month, day = _MONTHS.index(match["month"]) + 1, int(match["day"])
    try:
        moment = datetime.datetime(
            *(year, month, day, int(match["hour"]), int(match["minute"]), second)
        )
    except ValueError:
        return None
    return calendar.timegm(moment.timetuple())
