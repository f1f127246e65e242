"""Dates in headers."""

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


def test_the_present_is_remembered_for_its_second_only(monkeypatch):
    shown = []
    for seconds in (1000.0, 1000.9, 1001.0, 1000.5):
        monkeypatch.setattr(dates.time, "time", lambda seconds=seconds: seconds)
        shown.append(dates.now())
    ends = [text.removesuffix(" GMT")[-5:] for text in shown]
    assert ends == ["16:40", "16:40", "16:41", "16:40"]
