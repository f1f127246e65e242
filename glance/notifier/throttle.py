"""How often something repeated may be said in the log."""

from __future__ import annotations

import time


class RateLimiter:
    """Lets something through at most once in `seconds`; the first time at once."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._next = float("-inf")

    def due(self) -> bool:
        """Return whether it is time again; a yes begins the next pause."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self.seconds
        return True

    def reset(self) -> None:
        """Let the next one through at once."""
        self._next = float("-inf")
