"""Digests of streamed bytes: several algorithms and the byte count in one pass.

Uploads, cache fills and client-side verification use a `Digester`. It has no lock; to keep the
work off the event loop, call `update` through `glance.streaming.threads`.
"""

from __future__ import annotations

import hashlib

from glance.common import exception

MD5 = "md5"
#: Hexadecimal digits of the longest digest that a record can hold.
MAX_DIGITS = 128


def algorithm(name: str) -> str:
    """Return the name by which hashlib, and so a client, knows an algorithm; "" for an empty one.

    Raises ValueError for one that hashlib does not have here, whose digest has no length of its
    own (SHAKE, FIPS 202 §6.2), or whose digest is longer than MAX_DIGITS.
    """
    wanted = name.strip().lower()
    if not wanted:
        return ""
    try:
        found = hashlib.new(wanted, usedforsecurity=False)
    except (ValueError, TypeError):
        raise ValueError("use an algorithm of hashlib, such as sha256 or sha512") from None
    if not 0 < 2 * found.digest_size <= MAX_DIGITS:
        raise ValueError(f"use an algorithm with a digest of 1 to {MAX_DIGITS // 2} bytes")
    return found.name


class Digester:
    """Running digests of the bytes passed to `update`, and their `count`."""

    def __init__(self, *algorithms: str):
        """Create a digester for `algorithms` (names of hashlib; MD5 when none is given)."""
        self.count = 0
        # NOTE: MD5 is the checksum of the API, not a security measure; hosts in FIPS mode must be
        # able to compute it.
        self._hashes = {
            name: hashlib.new(name, usedforsecurity=False) for name in algorithms or (MD5,)
        }

    def update(self, data: bytes | memoryview) -> None:
        for running in self._hashes.values():
            running.update(data)
        self.count += len(data)

    def hexdigest(self, algorithm: str = MD5) -> str:
        """Return the current digest in lower-case hex. KeyError for an unknown algorithm."""
        return self._hashes[algorithm].hexdigest()

    def hexdigests(self) -> dict[str, str]:
        """Return all current digests, by algorithm."""
        return {name: running.hexdigest() for name, running in self._hashes.items()}

    def verify(self, expected: str | None, algorithm: str = MD5) -> None:
        """Raise ChecksumMismatch if `expected` is given and, ignoring case, not the digest."""
        if expected and expected.strip().lower() != self.hexdigest(algorithm):
            raise exception.ChecksumMismatch(
                f"The data's {algorithm.upper()} checksum differs from the declared one; "
                "send the data again"
            )
