"""Locations at rest: what keys seal, what opens them, what is no key."""

import logging
import sys

import pytest

from glance.common import config, exception
from glance.image import cipher

URI = "swift+https://account:user:canary@h/v1/c/5"
OLD, NEW = b"o" * 16, b"n" * 32


@pytest.mark.parametrize("key", [b"k" * 16, b"k" * 24, b"k" * 32])
def test_what_is_sealed_is_opened_again(key):
    safe = cipher.Cipher(key)
    stored = safe.seal(5, URI)
    assert "canary" not in stored and not cipher.is_clear(stored)
    assert safe.open(5, stored) == URI
    assert safe.is_current(stored)


def test_no_two_seals_are_alike():
    safe = cipher.Cipher(NEW)
    assert safe.seal(5, URI) != safe.seal(5, URI)


def test_any_text_survives():
    safe = cipher.Cipher(NEW)
    text = "file:///\u00e4 \udcff%00"
    assert safe.open(5, safe.seal(5, text)) == text


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_location_stays_none(nothing):
    safe = cipher.Cipher(NEW)
    assert safe.seal(5, nothing) == safe.open(5, nothing) == nothing
    assert safe.is_current(nothing)


def test_without_a_key_all_is_in_clear():
    none = cipher.Cipher()
    assert not none.seals
    assert none.seal(5, URI) == none.open(5, URI) == URI
    assert none.is_current(URI) and not none.is_current(cipher.Cipher(NEW).seal(5, URI))


def test_an_earlier_key_opens_and_does_not_seal():
    stored = cipher.Cipher(OLD).seal(5, URI)
    both = cipher.Cipher(NEW, [OLD])
    assert both.open(5, stored) == URI
    assert not both.is_current(stored)
    assert cipher.Cipher(NEW).open(5, both.seal(5, URI)) == URI


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-4] + ("AAAA" if text[-4:] != "AAAA" else "BBBB"),
        lambda text: text[:-8],
        lambda text: text.rpartition(":")[0] + ":",
        lambda text: text.rpartition(":")[0] + ":not base64!",
    ],
)
def test_what_was_tampered_with_is_not_opened(spoil, caplog):
    safe = cipher.Cipher(NEW)
    spoilt = spoil(safe.seal(5, URI))
    assert safe.open(5, spoilt) == spoilt
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "image 5" in caplog.text


def test_a_location_of_another_image_is_not_opened(caplog):
    safe = cipher.Cipher(NEW)
    stored = safe.seal(5, URI)
    assert safe.open(6, stored) == stored


def test_another_key_does_not_open(caplog):
    stored = cipher.Cipher(OLD).seal(5, URI)
    assert cipher.Cipher(NEW).open(5, stored) == cipher.Cipher().open(5, stored) == stored
    assert "canary" not in caplog.text


def test_a_location_that_would_not_fit_is_refused():
    with pytest.raises(exception.Invalid):
        cipher.Cipher(NEW).seal(5, "file:///" + "x" * 60000)


@pytest.mark.parametrize(
    ("text", "length"),
    [("k" * 16, 16), (" " + "k" * 24 + " ", 24), ("base64:" + "QUFB" * 8, 24), ("-!%$" * 8, 32)],
)
def test_keys_are_characters_or_base64(text, length):
    conf = config.Conf({"metadata_encryption_key": text})
    assert len(conf.metadata_encryption_key) == length
    assert cipher.from_conf(conf).seals


@pytest.mark.parametrize("text", ["short", "k" * 17, "\u00e4" * 16, "base64:QUFB", "base64:!!!!"])
def test_what_is_no_key_is_refused_without_showing_it(text):
    conf = config.Conf({"metadata_encryption_key": text})
    with pytest.raises(exception.ConfigError, match="use 16, 24 or 32") as caught:
        cipher.from_conf(conf)
    assert text not in str(caught.value)


def test_several_old_keys_may_be_named():
    old = f"{OLD.decode()}, base64:{'QUFB' * 8}"
    conf = config.Conf({"metadata_encryption_key": "n" * 32, "metadata_encryption_old_keys": old})
    assert cipher.from_conf(conf).open(5, cipher.Cipher(OLD).seal(5, URI)) == URI
    assert old not in str(conf.public())


def test_a_key_without_the_library_stops_the_start(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers", None)
    with pytest.raises(exception.ConfigError, match="requires cryptography"):
        cipher.Cipher(NEW)
    assert cipher.Cipher().seal(5, URI) == URI
