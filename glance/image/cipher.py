"""Locations at rest: encrypted with AES-GCM if the operator set a key, otherwise in clear.

The registry's database layer seals (encrypts and authenticates) what it writes and opens what it
reads; all other code sees locations in clear. A sealed location is bound to the id of its image,
so that it cannot be used in another row. New ones are sealed with `metadata_encryption_key`; those
sealed with an earlier key, or in clear, can still be read, so that a key can be changed while the
service runs: set the new key and name the old one in `metadata_encryption_old_keys`, restart, run
`glance-manage encrypt_locations`.

The `cryptography` package is imported only if there is a key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import os
from collections.abc import Sequence
from typing import Any

from glance.common import config, exception
from glance.image import fields

LOG = logging.getLogger(__name__)

#: The prefix of a sealed location. No other location has it: their schemes end with `://`.
PREFIX = "sealed.1:"
_NONCE = 12


def key(text: str) -> bytes:
    """Option type: a key of 16, 24 or 32 bytes, as characters or as `base64:` and its encoding."""
    text = text.strip()
    try:
        if text.startswith("base64:"):
            secret = base64.b64decode(text.removeprefix("base64:"), validate=True)
        else:
            secret = text.encode("ascii")
    except (UnicodeEncodeError, binascii.Error):
        secret = b""
    if len(secret) not in (16, 24, 32):
        raise ValueError(
            "use 16, 24 or 32 ASCII characters, or base64: followed by that many bytes encoded"
        )
    return secret


def keys(text: str) -> tuple[bytes, ...]:
    """Option type: several keys, separated by commas or blanks."""
    return tuple(key(word) for word in config.words(text))


config.options(
    "encryption",
    config.Option(
        "metadata_encryption_key",
        key,
        secret=True,
        help="Key that encrypts locations in the registry's database, because they may contain "
        "credentials of a store: 16, 24 or 32 characters, or base64: followed by that many "
        "bytes encoded. glance-registry and glance-scrubber need the same key; glance-api "
        "warns of a store with credentials if it has no key. Requires pip install "
        "'glance[encryption]'.",
    ),
    config.Option(
        "metadata_encryption_old_keys",
        keys,
        (),
        secret=True,
        help="Previous keys with which locations may still be encrypted. glance-manage "
        "encrypt_locations encrypts all of them with the current key, or decrypts them if "
        "there is none.",
    ),
)


class Cipher:
    """Seals locations with the first key, opens those sealed with any key. Thread-safe.

    If `present` is None, nothing is sealed. Raises ConfigError if a key is given and
    `cryptography` is not installed.
    """

    def __init__(self, present: bytes | None = None, earlier: Sequence[bytes] = ()):
        secret = [*([present] if present else []), *earlier]
        self._by_name = {_fingerprint(each): _aead(each) for each in secret}
        self._present = _fingerprint(present) if present else None

    @property
    def seals(self) -> bool:
        return self._present is not None

    def seal(self, image_id: int, location: str | None) -> str | None:
        """Return what to store for a location in clear. Raises Invalid if it is too long."""
        if self._present is None or not location:
            return location
        nonce = os.urandom(_NONCE)
        sealed = self._by_name[self._present].encrypt(
            nonce, location.encode("utf-8", "surrogateescape"), _bound_to(image_id)
        )
        text = base64.urlsafe_b64encode(nonce + sealed).decode("ascii")
        stored = f"{PREFIX}{self._present}:{text}"
        if len(stored) > fields.MAX_LOCATION:
            raise exception.Invalid("The location is too long to be encrypted")
        return stored

    def open(self, image_id: int, stored: str | bytes | None) -> str | None:
        """Return the location in clear. Bytes, which SQLite takes from others, are read as UTF-8.

        A location that no key opens is returned as it is, which no store accepts, and logged as an
        ERROR: a wrong key must not make lists fail.
        """
        if isinstance(stored, bytes):
            stored = stored.decode("utf-8", "replace")
        if not stored or is_clear(stored):
            return stored
        name, _, text = stored.removeprefix(PREFIX).partition(":")
        aead = self._by_name.get(name)
        try:
            if aead is None:
                raise ValueError("no such key")
            raw = base64.urlsafe_b64decode(text)
            clear: bytes = aead.decrypt(raw[:_NONCE], raw[_NONCE:], _bound_to(image_id))
            return clear.decode("utf-8", "surrogateescape")
        except Exception as err:
            # The library raises an error class of its own for a forged text.
            LOG.error(
                "The location of image %s cannot be decrypted (%s): is metadata_encryption_key "
                "the key that it was encrypted with?",
                image_id,
                type(err).__name__,
            )
            return stored

    def is_current(self, stored: str | None) -> bool:
        """Return whether a stored location has the form that `seal` would write now."""
        if not stored:
            return True
        if self._present is None:
            return is_clear(stored)
        return stored.startswith(f"{PREFIX}{self._present}:")


def is_clear(location: str) -> bool:
    """Return whether a location is not sealed."""
    return not location.startswith(PREFIX)


def is_configured(conf: config.Conf) -> bool:
    """Return whether there is a key for new locations."""
    return conf.metadata_encryption_key is not None


def from_conf(conf: config.Conf) -> Cipher:
    """Return the cipher for a program's settings. Raises ConfigError."""
    return Cipher(conf.metadata_encryption_key, conf.metadata_encryption_old_keys)


def _aead(secret: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers import aead
    except ImportError as err:
        raise exception.ConfigError(
            "option metadata_encryption_key requires cryptography: pip install "
            "'glance[encryption]'"
        ) from err
    return aead.AESGCM(secret)


def _fingerprint(secret: bytes) -> str:
    """Return a fingerprint that identifies a key and does not help to guess it."""
    return hashlib.sha256(b"glance location key " + secret).hexdigest()[:8]


def _bound_to(image_id: int) -> bytes:
    return str(image_id).encode("ascii")
