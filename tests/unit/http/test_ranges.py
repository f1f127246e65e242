"""Ranges of bytes: asked for, and told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glance.common import exception, httperror
from glance.http import ranges


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-9", (0, 10)),
        ("bytes=2-4", (2, 3)),
        ("bytes=5-", (5, 5)),
        ("bytes=9-", (9, 1)),
        ("bytes=0-999", (0, 10)),
        ("bytes=-3", (7, 3)),
        ("bytes=-999", (0, 10)),
        ("Bytes=1-2", (1, 2)),
        ("\tbytes=1-2 ", (1, 2)),
        ("bytes = 1-2", None),
        ("bytes= 1-2", None),
        ("bytes=1 -2", None),
        ("bytes=1-2\n", None),
        ("bytes=1-2\xa0", None),
        ("bytes=+1-2", None),
        ("bytes=1_0-", None),
        ("bytes=\xb2-", None),
        (None, None),
        ("", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=4-2", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
        ("bytes=1-2" + "3" * 100, (1, 9)),
        ("bytes=" + "0" * 5000 + "-" + "0" * 5000 + "1", (0, 2)),
        ("bytes=" + "4" * 30 + "-" + "3" * 29, None),
        ("bytes=-" + "9" * 9999, (0, 10)),
        (",bytes=1-2", None),
        ("bytes=,1-2, ", (1, 2)),
    ],
)
def test_one_byte_range_is_honoured_and_the_rest_ignored(header, part):
    wanted = ranges.parse_range(header, 10)
    assert (wanted and (wanted.offset, wanted.length)) == part


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99-"])
def test_a_range_behind_the_end_is_refused(header):
    with pytest.raises(exception.RangeNotSatisfiable) as caught:
        ranges.parse_range(header, 10)
    assert caught.value.size == 10


def test_a_part_as_a_request_and_a_response_name_it():
    part = ranges.Range(2, 3)
    assert part.request == "bytes=2-4"
    assert part.content_range(10) == "bytes 2-4/10"
    assert part.end == 5


def test_an_empty_part_cannot_be_expressed():
    empty = ranges.Range(2, 0)
    for express in (lambda: empty.request, lambda: empty.content_range(10)):
        with pytest.raises(ValueError, match="empty range"):
            express()


@pytest.mark.parametrize(
    ("offset", "length", "part"),
    [
        (0, None, (0, 10)),
        (0, 10, (0, 10)),
        (0, 99, (0, 10)),
        (4, None, (4, 6)),
        (4, 3, (4, 3)),
        (4, 7, (4, 6)),
        (4, 0, (4, 0)),
        (10, None, (10, 0)),
        (10, 5, (10, 0)),
    ],
)
def test_a_part_is_clipped_to_what_there_is(offset, length, part):
    assert ranges.clip(10, offset, length) == ranges.Range(*part)


@pytest.mark.parametrize("length", [None, 0, 1])
def test_a_part_behind_the_end_cannot_be_clipped(length):
    with pytest.raises(exception.RangeNotSatisfiable) as caught:
        ranges.clip(10, 11, length)
    assert caught.value.size == 10


@pytest.mark.parametrize(
    ("offset", "length", "header"),
    [
        (0, None, None),
        (5, None, "bytes=5-"),
        (0, 1, "bytes=0-0"),
        (5, 10, "bytes=5-14"),
    ],
)
def test_what_is_asked_for_is_understood(offset, length, header):
    assert ranges.format_range(offset, length) == header
    part = ranges.parse_range(header, 100)
    assert part is None or part == ranges.Range(offset, length or 100 - offset)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("bytes 2-4/10", (2, 3, 10)),
        (" Bytes  0-0/1 ", (0, 1, 1)),
        ("bytes 2-4/*", (2, 3, None)),
        ("bytes */10", None),
        ("bytes 4-2/10", None),
        ("bytes 2-10/10", None),
        ("bytes 2-4", None),
        ("lines 2-4/10", None),
        ("bytes 2-4/10, 5-6/10", None),
        (f"bytes 0-{'9' * 20}/*", None),
        ("bytes \u0662-4/10", None),
        ("", None),
        (None, None),
    ],
)
def test_a_part_is_what_its_header_says_or_nothing(header, told):
    found = ranges.parse_content_range(header)
    assert (found and (found[0].offset, found[0].length, found[1])) == told


@given(st.integers(0, 10**18), st.integers(1, 10**18 - 1), st.integers(0, 10**18))
def test_what_is_formatted_is_parsed_to_the_same_part(offset, length, rest):
    part, total = ranges.Range(offset, length), offset + length + rest
    assert ranges.parse_range(part.request, total) == part
    assert ranges.parse_content_range(part.content_range(total)) == (part, total)


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ("bytes */10", 10),
        (" Bytes  */0 ", 0),
        ("bytes */*", None),
        ("bytes 0-4/10", None),
        ("lines */10", None),
        ("bytes */-1", None),
        ("bytes */\u0662", None),
        (f"bytes */{'9' * 20}", None),
        ("10", None),
        ("", None),
        (None, None),
    ],
)
def test_the_size_of_what_a_range_missed(header, size):
    assert ranges.parse_unsatisfied(header) == size


def test_the_size_that_an_error_tells_is_understood():
    _, headers, _ = httperror.render(exception.RangeNotSatisfiable(10), {})
    assert ranges.parse_unsatisfied(dict(headers)["Content-Range"]) == 10
