"""glance-cache-pruner: make room in the image cache when it has exceeded a limit.

`glance.image_cache.upkeep.limits` decides what to remove, and how much.
"""

from __future__ import annotations

import dataclasses

from glance.image_cache import passes


@dataclasses.dataclass(frozen=True, slots=True)
class PruneOutcome:
    """What a pass removed, in files and bytes, and whether all limits hold now."""

    files: int
    bytes: int
    is_complete: bool

    def __str__(self) -> str:
        done = f"{self.files} files of {self.bytes} bytes removed"
        return done if self.is_complete else f"{done}, which is not enough"


class Pruner(passes.Passes):
    """Each pass removes the least recently used entries if a limit is exceeded."""

    def make_pass(self) -> PruneOutcome:
        done = self.cache.prune()
        return PruneOutcome(done.files, done.bytes, done.enough)


app_factory = Pruner.app_factory
