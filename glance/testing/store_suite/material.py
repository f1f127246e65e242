"""What the tests of store drivers share: data, locations, sources that fail."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Callable
from typing import TypeVar

from glance.store.base import CHUNK

SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 17]
GOOD_IDS = ["1", "0a", "A.b_c-d", "9..9", "x" * 255]
GOOD_URIS = [
    "file:///srv/images/17",
    "http://mirror.example.net/disk7",
    "https://ann:pw1@mirror.example.net:8443/iso/disk7",
    "swift://proj:ann:pw1@auth.example.net/boxes/17",
    "swift+https://proj:ann:pw1@auth.example.net/boxes/17",
    "swift+http://ann:pw1@auth.example.net:8080/v1/boxes/17",
    "swift://auth.example.net/boxes/17",
    "s3://AKEY:SKEY@s3.example.net/pail/17",
    "s3+http://AKEY:SKEY@s3.example.net/pail/17",
    "s3+https://AKEY:SKEY@s3.example.net/pail/17",
]
BAD_URIS = [
    "file://",
    "file://relative/17",
    "http://",
    "http://ann@mirror.example.net:8443/disk7",
    "swift://",
    "swift://ann@auth.example.net:8080/boxes/17",
    "swift://ann:pw1@http://auth.example.net:8080/boxes/17",
    "swift://a:b:c:d@auth.example.net/boxes/17",
    "swift://ann:pw1@auth.example.net/17",
    "s3://",
    "s3://AKEY@s3.example.net:8080/pail/17",
    "s3://AKEY:SKEY@http://s3.example.net:8080/pail/17",
    "s3://pail/17",
]
BAD_IDS = ["", ".", "..", "../x", ".hidden", "a/b", "a\0b", "-x", "a\n", "ä", "x" * 256, 7]


def make_data(size: int, seed: int = 0) -> bytes:
    """Return `size` bytes that are the same in every run and have no repetition."""
    return random.Random(f"{size}/{seed}").randbytes(size)


class ScriptedSource:
    """The source of an upload: `data`, in reads of at most the requested size.

    `fault` is called before each read with the number of bytes returned so far; it may raise.
    """

    def __init__(self, data: bytes, fault: Callable[[int], object] = lambda count: None):
        self.data, self.fault, self.count = data, fault, 0

    def read(self, size: int) -> bytes:
        self.fault(self.count)
        chunk = self.data[self.count : self.count + size]
        self.count += len(chunk)
        return chunk


class Boom(Exception):
    """The error that the tests inject."""


class Killed(BaseException):
    """Like the kill of a greenthread: no Exception, so that no broad handler stops it."""


def failing_after(count: int, error: BaseException) -> Callable[[int], None]:
    """Return a fault that raises `error` once `count` bytes have been returned."""

    def fault(done: int) -> None:
        if done >= count:
            raise error

    return fault


_Case = TypeVar("_Case", bound=Callable[..., None])


def about_texts(case: _Case) -> _Case:
    """Mark a case that asks no backend."""
    case.about = "texts"  # type: ignore[attr-defined]  # as a mark
    return case


def about_few_bytes(case: _Case) -> _Case:
    """Mark a case whose images are too small for a layout of their own."""
    case.about = "few bytes"  # type: ignore[attr-defined]  # as a mark
    return case


#: In what a configuration may differ from one that has passed -> what its cases need not be about.
SAME = {"access": ("texts",), "layout": ("texts", "few bytes")}


def descriptors() -> int:
    """Return how many file descriptors this process has open."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))
