"""Digests of streamed bytes: several algorithms and the byte count in one pass.

Uploads, cache fills and client-side verification feed a `Digester`. It is plain and unlocked: who
wants the work off the event loop calls `update` through `glance.streaming.threads`.
"""

from __future__ import annotations

import hashlib

from glance.common import exception

MD5 = "md5"


class Digester:
    """Running digests of the bytes passed to `update`, and their `count`."""

    def __init__(self, *algorithms: str):
        """Make a digester for `algorithms` (names of hashlib; MD5 when none is given)."""
        self.count = 0
        # NOTE: MD5 is the checksum of the API contract, not a protection; hosts in FIPS mode must
        # be able to compute it.
        self._hashes = {
            name: hashlib.new(name, usedforsecurity=False) for name in algorithms or (MD5,)
        }

    def update(self, data: bytes | memoryview) -> None:
        for running in self._hashes.values():
            running.update(data)
        self.count += len(data)

    def hexdigest(self, algorithm: str = MD5) -> str:
        """Return the digest so far in lower-case hex; KeyError for one that was not asked for."""
        return self._hashes[algorithm].hexdigest()

    def hexdigests(self) -> dict[str, str]:
        """Return all digests so far, by algorithm."""
        return {name: running.hexdigest() for name, running in self._hashes.items()}

    def verify(self, expected: str | None, algorithm: str = MD5) -> None:
        """Raise ChecksumMismatch if `expected` is given and, case ignored, not the digest."""
        if expected and expected.strip().lower() != self.hexdigest(algorithm):
            raise exception.ChecksumMismatch(
                f"The data's {algorithm.upper()} checksum differs from the declared one; "
                "send the data again"
            )
