"""The signals by which an operator stops a program, and how the log names them."""

from __future__ import annotations

import signal
from collections.abc import Callable

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def described(signum: int) -> str:
    """Return the name of a signal for the log, with the key that sends it."""
    name = signal.Signals(signum).name
    return f"{name}, Ctrl-C" if signum == signal.SIGINT else name


class StopSignals:
    """Catches SIGNALS for a program without a server; the first one stays known.

    `text` is how to name it in the log line about the end, "" as long as none has come.
    """

    def __init__(self, stop: Callable[[], None]):
        """Call `stop`, which must only set a flag, when a signal arrives."""
        self.text = ""
        self._stop = stop
        for signum in SIGNALS:
            signal.signal(signum, self._take)

    def _take(self, signum: int, frame: object) -> None:
        # NOTE: nothing is logged here: the handler may interrupt the writing of a line.
        self.text = self.text or f" ({described(signum)})"
        self._stop()
