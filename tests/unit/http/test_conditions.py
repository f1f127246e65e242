"""Conditions of requests, by the tables of RFC 9110 §13."""

import pytest

from glance.common import exception
from glance.http import conditions, dates

TAG = "0" * 31 + "a"
THEN = 1_000_000_000
CURRENT = conditions.Validators(TAG, "2001-09-09T01:46:40.700000")
BEFORE, SAME, AFTER = (dates.format_date(THEN + step) for step in (-1, 0, 1))


def outcome(method, current=CURRENT, **headers):
    """Return 200, 304 or 412."""
    environ = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    try:
        unchanged = conditions.evaluate({"REQUEST_METHOD": method, **environ}, current)
    except exception.PreconditionFailed as err:
        assert err.header.upper().replace("-", "_") in {name.upper() for name in headers}
        return 412
    return 304 if unchanged else 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize(
    ("header", "status"),
    [
        (TAG, 200),
        (f'"{TAG}"', 200),
        (f' "{TAG}" ', 200),
        (f'"x", "{TAG}"', 200),
        (f"x,{TAG}", 200),
        ("*", 200),
        (f'W/"{TAG}"', 412),
        (f"W/{TAG}", 412),
        ('"*"', 412),
        ('"x"', 412),
        ('"x", W/"y"', 412),
        (f'"{TAG.upper()}"', 412),
        ("", 412),
        (",", 412),
        ('"', 412),
    ],
)
def test_if_match_wants_one_strong_tag_that_is_the_same(method, header, status):
    assert outcome(method, if_match=header) == status


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        (TAG, True),
        (f'"{TAG}"', True),
        (f'W/"{TAG}"', True),
        (f'"x", W/"{TAG}"', True),
        ("*", True),
        ('"x"', False),
        ('"*"', False),
        ("", False),
    ],
)
def test_if_none_match_takes_a_weak_tag_as_well(header, matches):
    for method in ("GET", "HEAD"):
        assert outcome(method, if_none_match=header) == (304 if matches else 200)
    for method in ("PUT", "DELETE"):
        assert outcome(method, if_none_match=header) == (412 if matches else 200)


@pytest.mark.parametrize(
    ("header", "modified_since", "unmodified_since"),
    [
        (BEFORE, 200, 412),
        (SAME, 304, 200),
        (AFTER, 304, 200),
        ("Sunday, 09-Sep-01 01:46:40 GMT", 304, 200),
        ("Sun Sep  9 01:46:39 2001", 200, 412),
        ("Sun, 09 Sep 2001 01:46:40", 200, 200),
        (f"{AFTER}, {AFTER}", 200, 200),
        ("2001-09-09T01:46:40Z", 200, 200),
        ("tomorrow", 200, 200),
        ("", 200, 200),
    ],
)
def test_a_date_is_compared_in_whole_seconds_and_ignored_unless_it_is_one(
    header, modified_since, unmodified_since
):
    for method in ("GET", "HEAD"):
        assert outcome(method, if_modified_since=header) == modified_since
        assert outcome(method, if_unmodified_since=header) == unmodified_since
    for method in ("PUT", "DELETE"):
        assert outcome(method, if_modified_since=header) == 200
        assert outcome(method, if_unmodified_since=header) == unmodified_since


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if_match": TAG, "if_unmodified_since": BEFORE}, 200),
        ({"if_match": "x", "if_unmodified_since": AFTER}, 412),
        ({"if_none_match": "x", "if_modified_since": AFTER}, 200),
        ({"if_none_match": TAG, "if_modified_since": BEFORE}, 304),
        ({"if_match": "x", "if_none_match": TAG}, 412),
        ({"if_match": TAG, "if_none_match": TAG}, 304),
        ({"if_unmodified_since": BEFORE, "if_none_match": TAG}, 412),
        ({"if_unmodified_since": AFTER, "if_modified_since": AFTER}, 304),
        ({"if_none_match": "", "if_modified_since": AFTER}, 200),
        ({}, 200),
    ],
)
def test_the_order_is_that_of_section_13_2_2(headers, status):
    assert outcome("GET", **headers) == status


def test_what_has_no_validators_still_exists():
    for current in (("",), (None, None), (None, "lately")):
        current = conditions.Validators(*current)
        assert outcome("GET", current, if_match="*") == 200
        assert outcome("GET", current, if_match='""') == 412
        assert outcome("GET", current, if_none_match="*") == 304
        assert outcome("GET", current, if_none_match='""') == 200
        assert outcome("GET", current, if_modified_since=AFTER) == 200
        assert outcome("GET", current, if_unmodified_since=BEFORE) == 200


@pytest.mark.parametrize(
    ("header", "counts"),
    [
        (None, True),
        (TAG, True),
        (f'"{TAG}"', True),
        (SAME, True),
        (f'W/"{TAG}"', False),
        ("*", False),
        ('"*"', False),
        (f'"{TAG}", "{TAG}"', False),
        (f'"x", "{TAG}"', False),
        (f"{TAG}, {TAG}", False),
        (f'"{TAG}', False),
        ('"x"', False),
        ('""', False),
        ("", False),
        (BEFORE, False),
        (AFTER, False),
        ("Sun, 32 Sep 2001 01:46:40 GMT", False),
    ],
)
def test_if_range_wants_exactly_the_current_strong_validator(header, counts):
    environ = {"HTTP_RANGE": "bytes=0-1"}
    if header is not None:
        environ["HTTP_IF_RANGE"] = header
    assert conditions.range_of(environ, CURRENT) == ("bytes=0-1" if counts else None)


def test_if_range_never_holds_for_what_has_no_validators():
    for header in ('""', "", "*", "None", SAME):
        environ = {"HTTP_RANGE": "bytes=0-1", "HTTP_IF_RANGE": header}
        assert conditions.range_of(environ, conditions.Validators(None)) is None


def test_a_date_that_is_not_a_minute_past_is_no_strong_validator(monkeypatch):
    environ = {"HTTP_RANGE": "bytes=0-1", "HTTP_IF_RANGE": SAME}
    for age, counts in ((0, False), (59.9, False), (60, True)):
        monkeypatch.setattr(conditions.time, "time", lambda age=age: THEN + age)
        assert (conditions.range_of(environ, CURRENT) is not None) == counts


def test_without_a_range_if_range_means_nothing():
    assert conditions.range_of({"HTTP_IF_RANGE": TAG}, CURRENT) is None
