"""One file of the spool (`glance.notifier.spool`)."""

from __future__ import annotations

import dataclasses

#: A segment that has as many messages, or bytes, is followed by a new one.
SEGMENT_MESSAGES = 1000
SEGMENT_BYTES = 4 * 1024 * 1024


@dataclasses.dataclass(slots=True, eq=False)
class Segment:
    """One file of the spool; `fd` holds its lock. `unsettled` counts messages of it that wait.

    `own` segments were begun by this process and count towards its limit.
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
