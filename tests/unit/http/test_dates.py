"""Dates in headers."""

import datetime
import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glance.http import dates


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (784111777, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (951782400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        (253402300799, "Fri, 31 Dec 9999 23:59:59 GMT"),
    ],
)
def test_a_date_has_the_form_of_the_standard(seconds, text):
    assert dates.format_date(seconds) == text


@given(st.integers(0, 253402300799))
def test_every_date_is_as_the_standard_library_writes_it(seconds):
    assert dates.format_date(seconds) == email.utils.formatdate(seconds, usegmt=True)
    assert dates.parse_date(dates.format_date(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        ("  Sun, 06 Nov 1994 08:49:37 GMT\t", 784111777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
        ("Sun Nov  6 08:49:37 1994", 784111777),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1483228799),
        ("Sun, 06 Nov 1994 08:49:61 GMT", None),
        ("Sun, 06 Nov 1994 24:00:00 GMT", None),
        ("Mon, 29 Feb 2001 00:00:00 GMT", None),
        ("Sun, 00 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 0000 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 +0000", None),
        ("Sun, 06 Nov 1994 08:49:37", None),
        ("Sun, 6 Nov 1994 08:49:37 GMT", None),
        ("sun, 06 nov 1994 08:49:37 gmt", None),
        ("Sun, 0\u0666 Nov 1994 08:49:37 GMT", None),
        ("784111777", None),
        ("", None),
        (None, None),
    ],
)
def test_a_date_is_read_in_each_of_its_forms_or_not_at_all(text, seconds):
    assert dates.parse_date(text) == seconds


@pytest.mark.parametrize(("this_year", "year"), [(1970, 1970), (2026, 2070), (2019, 1970)])
def test_a_year_of_two_digits_is_at_most_50_years_ahead(monkeypatch, this_year, year):
    monkeypatch.setattr(
        dates.time, "gmtime", lambda *_: datetime.datetime(this_year, 1, 1).timetuple()
    )
    seconds = dates.parse_date("Sunday, 01-Jan-70 00:00:00 GMT")
    assert datetime.datetime.fromtimestamp(seconds, datetime.UTC).year == year


def test_the_present_is_remembered_for_its_second_only(monkeypatch):
    shown = []
    for seconds in (1000.0, 1000.9, 1001.0, 1000.5):
        monkeypatch.setattr(dates.time, "time", lambda seconds=seconds: seconds)
        shown.append(dates.now())
    ends = [text.removesuffix(" GMT")[-5:] for text in shown]
    assert ends == ["16:40", "16:40", "16:41", "16:40"]
