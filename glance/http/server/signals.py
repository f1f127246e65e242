"""Signals as bytes of a pipe, so that a loop can wait for them as for any descriptor."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator


def _noted(signum: int, frame: object) -> None:
    """Do nothing here: Python has written the number into the wake-up descriptor."""


@contextlib.contextmanager
def held(signums: Iterable[int]) -> Iterator[None]:
    """Hold `signums` back meanwhile; those that arrived are delivered afterwards.

    A child that is forked meanwhile holds them back until it calls `release`.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signums)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release(signums: Iterable[int]) -> None:
    """Let `signums` arrive in a child that was forked while they were held back."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signums)


class SignalPipe:
    """Catches `signums`; when one has arrived, `fd` is readable and `take` returns it.

    SIGHUP stays ignored for a program that was started by nohup.
    """

    def __init__(self, signums: Iterable[int]):
        self.fd, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for signum in signums:
            if signum == signal.SIGHUP and signal.getsignal(signum) == signal.SIG_IGN:
                continue
            signal.signal(signum, _noted)

    def take(self) -> bytes:
        """Return the numbers of the signals that arrived, in order. Call it when `fd` is readable.

        NOTE: in a patched process reading a descriptor without data would wait in the hub.
        """
        return os.read(self.fd, 4096)

    def close(self) -> None:
        """Close the pipe. The handlers stay until others are installed."""
        signal.set_wakeup_fd(-1)
        os.close(self.fd)
        os.close(self._wake)
