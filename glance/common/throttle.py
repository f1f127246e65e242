"""Limit how often a repeated message is logged."""

from __future__ import annotations

import time


class RateLimiter:
    """Permits one action in `seconds`; the first one at once."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._next = float("-inf")

    def due(self) -> bool:
        """Return whether the action is due; if so, begin the next pause."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self.seconds
        return True

    def reset(self) -> None:
        """Permit the next action at once."""
        self._next = float("-inf")
