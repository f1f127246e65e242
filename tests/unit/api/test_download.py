"""Ranges."""

import pytest

from glance import api
from glance.api import download
from glance.common import body, config, exception
from glance.store import base


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


class Stores:
    """One location whose origin knows its size by HEAD only."""

    capabilities = base.Capability.READ | base.Capability.RANDOM_READ

    def __init__(self, length):
        self.data = body.IterBody([b"x" * length], length)

    def for_uri(self, uri):
        return self

    def get_size(self, uri):
        return 10

    def get(self, uri, offset=0, length=None):
        return self.data


def open_part(stores):
    image = {"id": 5, "status": "active", "location": "http://origin/x", "size": 0}
    return download.open_image(api.Service(config.Conf(), stores), image, "bytes=2-4")


def test_a_part_is_called_a_part_even_if_the_answer_does_not_tell_the_whole_size():
    opened = open_part(Stores(3))
    assert (opened.part, opened.total, opened.length) == (download.Range(2, 3), 10, 3)


def test_another_part_than_was_asked_for_is_never_sent():
    stores = Stores(10)
    closed = []
    stores.data.close = lambda: closed.append(True)
    with pytest.raises(exception.BackendCorrupt):
        open_part(stores)
    assert closed
