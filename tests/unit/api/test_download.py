"""The parts of an image, and the checksum on the way out."""

import contextlib
import hashlib

import pytest

from glance import api
from glance.api import download
from glance.common import config, exception
from glance.http import ranges
from glance.store import base
from glance.streaming import body


class Stores:
    """One location whose origin knows its size by HEAD only."""

    capabilities = base.Capability.READ | base.Capability.RANDOM_READ

    def __init__(self, length):
        self.data = body.IterBody([b"x" * length], length)
        self.data.etag = "v1"

    def local_directories(self):
        return []

    def for_uri(self, uri):
        return self

    def location(self, uri):
        raise exception.UnknownScheme(scheme="http")

    def owns(self, uri, image_id):
        return False

    def get_size(self, uri, trail=()):
        return 10

    def get(self, uri, offset=0, length=None, trail=()):
        return self.data


def open_part(stores):
    image = {"id": 5, "status": "active", "location": "http://origin/x", "size": 0}
    return download.open_image(api.ImageService(config.Conf(), stores), image, "bytes=2-4")


def test_a_part_is_called_a_part_even_if_the_answer_does_not_tell_the_whole_size():
    opened = open_part(Stores(3))
    assert (opened.part, opened.total, opened.length) == (ranges.Range(2, 3), 10, 3)


def test_another_part_than_was_asked_for_is_never_sent():
    stores = Stores(10)
    closed = []
    stores.data.close = lambda: closed.append(True)
    with pytest.raises(exception.BackendCorrupt):
        open_part(stores)
    assert closed


# -- the checksum --------------------------------------------------------------------------------

CHUNKS = [b"a" * 10, b"b" * 10, b"c" * 5]
MD5 = hashlib.md5(b"".join(CHUNKS)).hexdigest()


class Remote(Stores):
    def __init__(self, chunks, ours=True):
        self.ours, self.closed = ours, []
        self.data = body.IterBody(
            chunks, sum(map(len, chunks)), lambda: self.closed.append(True), size=25
        )

    def owns(self, uri, image_id):
        return self.ours


def open_whole(stores, checksum):
    image = {"id": 5, "status": "active", "location": "x://y/5", "size": 25, "checksum": checksum}
    return download.open_image(api.ImageService(config.Conf(), stores), image)


def all_of(opened):
    found = []
    with opened.body as data, contextlib.suppress(exception.BackendCorrupt):
        found.extend(data)
    return found


@pytest.mark.parametrize("checksum", [MD5, MD5.upper(), None, ""])
def test_data_with_its_checksum_is_sent_as_it_is(checksum):
    stores = Remote(CHUNKS)
    opened = open_whole(stores, checksum)
    assert opened.length == 25
    assert all_of(opened) == CHUNKS
    assert stores.closed == [True]


@pytest.mark.parametrize("chunks", [CHUNKS, [b"".join(CHUNKS)]])
def test_the_end_of_data_with_another_checksum_is_never_sent(chunks):
    opened = open_whole(Remote(chunks), "0" * 32)
    assert all_of(opened) == chunks[:-1]
    with pytest.raises(exception.BackendCorrupt) as caught:
        list(open_whole(Remote(chunks), "0" * 32).body)
    assert "image 5" in exception.described(caught.value)


def test_the_checksum_of_data_that_is_not_ours_is_what_its_owner_says():
    assert all_of(open_whole(Remote(CHUNKS, ours=False), "0" * 32)) == CHUNKS


def test_a_download_that_is_given_up_closes_the_data():
    stores = Remote(CHUNKS)
    opened = open_whole(stores, MD5)
    chunks = iter(opened.body)
    next(chunks)
    opened.body.close()
    chunks.close()
    assert stores.closed == [True]
