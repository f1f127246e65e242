"""Digests of streamed bytes."""

import hashlib

import pytest

from glance.common import exception
from glance.streaming import digest
from glance.streaming.digest import Digester

PARTS = [b"", b"a", b"bc" * 5000, b"d" * 70_000]
WHOLE = b"".join(PARTS)


def feed(digester):
    for part in PARTS:
        digester.update(part)
    return digester


def test_md5_is_computed_unless_told_otherwise():
    digester = feed(Digester())
    assert digester.hexdigest() == hashlib.md5(WHOLE).hexdigest()
    assert digester.count == len(WHOLE)


def test_several_digests_come_from_one_pass():
    digester = feed(Digester("md5", "sha256"))
    assert digester.hexdigests() == {
        "md5": hashlib.md5(WHOLE).hexdigest(),
        "sha256": hashlib.sha256(WHOLE).hexdigest(),
    }
    assert digester.hexdigest("sha256") == hashlib.sha256(WHOLE).hexdigest()


def test_nothing_has_the_digest_of_nothing():
    assert Digester().hexdigest() == "d41d8cd98f00b204e9800998ecf8427e"


def test_a_digest_that_was_not_asked_for_is_an_error():
    with pytest.raises(KeyError):
        Digester("md5").hexdigest("sha256")


def test_an_unknown_algorithm_is_an_error():
    with pytest.raises(ValueError):
        Digester("md6")


@pytest.mark.parametrize(
    "expected", [None, "", hashlib.md5(WHOLE).hexdigest(), hashlib.md5(WHOLE).hexdigest().upper()]
)
def test_a_checksum_that_fits_or_was_not_declared_passes(expected):
    feed(Digester()).verify(expected)


def test_a_checksum_that_differs_is_refused():
    with pytest.raises(exception.ChecksumMismatch):
        feed(Digester()).verify("0" * 32)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("sha256", "sha256"),
        (" SHA512 ", "sha512"),
        ("blake2b", "blake2b"),
        ("sha3_256", "sha3_256"),
        ("sha3-256", "sha3_256"),
        ("", ""),
        ("  ", ""),
    ],
)
def test_an_algorithm_has_the_name_by_which_hashlib_knows_it(text, name):
    assert digest.algorithm(text) == name
    if name:
        assert hashlib.new(name).name == name


@pytest.mark.parametrize("text", ["md6", "shake_128", "shake_256", "sha 256", "\x00", "\u00fc"])
def test_an_algorithm_without_a_digest_of_fixed_length_is_refused(text):
    with pytest.raises(ValueError, match="use an algorithm"):
        digest.algorithm(text)
