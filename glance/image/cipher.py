"""Locations at rest: sealed with AES-GCM where the operator set a key, in clear where not.

The registry's database layer seals what it writes and opens what it reads; everybody else sees
locations in clear. A sealed location is bound to its image by the id, so that it is of no use in
another row. New ones are sealed with `metadata_encryption_key`; what an earlier key sealed, or
nobody, is still read, so that a key can be changed while the service runs: set the new key and
name the old one in `metadata_encryption_old_keys`, restart, run `glance-manage encrypt_locations`.

The `cryptography` package is imported when there is a key and never before.
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

#: What a sealed location begins with. No other does: behind their schemes stands `://`.
PREFIX = "sealed.1:"
_NONCE = 12


def key(text: str) -> bytes:
    """Option type: a key of 16, 24 or 32 bytes, as characters or, behind `base64:`, encoded."""
    text = text.strip()
    try:
        if text.startswith("base64:"):
            found = base64.b64decode(text.removeprefix("base64:"), validate=True)
        else:
            found = text.encode("ascii")
    except (UnicodeEncodeError, binascii.Error):
        found = b""
    if len(found) not in (16, 24, 32):
        raise ValueError(
            "use 16, 24 or 32 ASCII characters, or base64: followed by that many bytes encoded"
        )
    return found


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
    """Seals locations with the first key, opens what any key sealed. Safe in many threads.

    `present` None means that nothing is sealed. ConfigError if a key is given and `cryptography`
    is not installed.
    """

    def __init__(self, present: bytes | None = None, earlier: Sequence[bytes] = ()):
        found = [*([present] if present else []), *earlier]
        self._by_name = {_name(each): _aead(each) for each in found}
        self._present = _name(present) if present else None

    @property
    def seals(self) -> bool:
        return self._present is not None

    def seal(self, image_id: int, location: str | None) -> str | None:
        """Return what to store for a location in clear; Invalid if that is too much to store."""
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

    def open(self, image_id: int, stored: str | None) -> str | None:
        """Return the location in clear.

        One that no key opens is returned as it is, which no store will understand, and an ERROR is
        logged: a wrong key must not make lists fail.
        """
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
            # What the library raises for a forged text has a class of its own.
            LOG.error(
                "The location of image %s cannot be decrypted (%s): is metadata_encryption_key "
                "the key that it was encrypted with?",
                image_id,
                type(err).__name__,
            )
            return stored

    def is_current(self, stored: str | None) -> bool:
        """Return whether a stored location is as `seal` would write it now."""
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
    """Return the cipher that a program's settings ask for. Raises ConfigError."""
    return Cipher(conf.metadata_encryption_key, conf.metadata_encryption_old_keys)


def _aead(found: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers import aead
    except ImportError as err:
        raise exception.ConfigError(
            "option metadata_encryption_key requires cryptography: pip install "
            "'glance[encryption]'"
        ) from err
    return aead.AESGCM(found)


def _name(found: bytes) -> str:
    """Return what tells a key from others and does not help to guess it."""
    return hashlib.sha256(b"glance location key " + found).hexdigest()[:8]


def _bound_to(image_id: int) -> bytes:
    return str(image_id).encode("ascii")
