"""Ranges."""

import pytest

from glance.api import download
from glance.common import exception


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
    wanted = download.parse_range(header, 10)
    assert (wanted and (wanted.offset, wanted.length)) == part


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99-"])
def test_a_range_behind_the_end_is_refused(header):
    with pytest.raises(exception.RangeNotSatisfiable) as caught:
        download.parse_range(header, 10)
    assert caught.value.size == 10


def test_content_range():
    assert download.Range(2, 3).content_range(10) == "bytes 2-4/10"
