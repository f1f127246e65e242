"""Ranges of bytes: asked for, and told."""

import pytest

from glance.common import exception
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
        ("Bytes = 1-2", (1, 2)),
        (None, None),
        ("", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=4-2", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
        ("bytes=1-2" + "3" * 100, None),
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


def test_content_range():
    assert ranges.Range(2, 3).content_range(10) == "bytes 2-4/10"


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
