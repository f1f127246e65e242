"""One file of a spool (`glance.streaming.spool`)."""

from __future__ import annotations

import dataclasses

#: After so many messages or bytes a new segment is begun.
SEGMENT_MESSAGES = 1000
SEGMENT_BYTES = 4 * 1024 * 1024


@dataclasses.dataclass(slots=True, eq=False)
class Segment:
    """One file of the spool; `fd` holds its lock. `unsettled` counts its waiting messages.

    This process began the `own` segments; they count towards its limit.
    """

    path: str
    fd: int
    own: bool = True
    size: int = 0
    count: int = 0
    unsettled: int = 0

    @property
    def full(self) -> bool:
        return self.count >= SEGMENT_MESSAGES or self.size >= SEGMENT_BYTES
