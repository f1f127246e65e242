"""A line on a terminal that shows the progress and speed of an upload or download, or of a job.

Used by `glance add`, `glance download`, `glance convert --wait` and `glance-upload`. The line is
drawn on standard error, so that it never mixes with data; if that is not a terminal, nothing is
drawn.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

#: Seconds between two updates of the line.
STEP = 0.2
#: Period of which the rate is the average, in seconds.
WINDOW = 5.0

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")

Tell = Callable[[int, int | None], None]


class Line:
    """A line that is redrawn as bytes are transferred: percentage, amount, rate, time left.

    `clock` returns seconds. `moved(done, total)` is what a client takes as its `progress`.
    """

    def __init__(
        self, label: str, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.label, self.stream, self.clock = label, stream, clock
        self.done = 0
        self.total: int | None = None
        self._marks: list[tuple[float, int]] = []
        self._drawn_at: float | None = None

    def moved(self, done: int, total: int | None) -> None:
        """Note that `done` of `total` bytes are transferred (None: the total is unknown)."""
        now = self.clock()
        if not self._marks or done < self.done:
            # A download that resumes or restarts has not transferred its first bytes just now.
            self._marks = [(now, done)]
        self.done, self.total = done, total
        if self._drawn_at is not None and now - self._drawn_at < STEP:
            return
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[1][0] > WINDOW:
            del self._marks[0]
        self._draw(now)

    def _rate(self, now: float) -> float:
        """Return the recent rate in bytes per second, 0 if it is not known yet."""
        then, before = self._marks[0]
        return (self.done - before) / (now - then) if now > then else 0.0

    def text(self, now: float) -> str:
        """Return the text of the line, without its label."""
        rate = self._rate(now)
        parts = []
        if self.total:
            parts.append(f"{self.done * 100 // self.total:3}%")
            parts.append(f"{amount(self.done)} of {amount(self.total)}")
        else:
            parts.append(amount(self.done))
        if rate:
            parts.append(f"{amount(rate)}/s")
            if self.total and self.done < self.total:
                parts.append(f"{duration((self.total - self.done) / rate)} left")
        return "  ".join(parts)

    def _draw(self, now: float) -> None:
        self._drawn_at = now
        _redraw(self.stream, self.label, self.text(now))

    def end(self) -> None:
        """Draw the line once more, and end it with a line feed."""
        if self._drawn_at is not None:
            now = self.clock()
            first = self._marks[0]
            self._marks = [first, (now, self.done)]
            self._draw(now)
            self.stream.write("\n")
            self.stream.flush()


def _redraw(stream: TextIO, label: str, text: str) -> None:
    """Draw a line over the one that was drawn before."""
    # NOTE: with a full last column, some terminals wrap to the next line.
    width = _columns(stream) - 1
    room = width - len(text) - 2
    label = label if len(label) <= room else label[: max(0, room - 3)] + "..."
    line = f"{label}  {text}" if room > 8 else text
    stream.write(f"\r{line[:width]}\x1b[K")
    stream.flush()


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


@contextlib.contextmanager
def shown(label: object) -> Iterator[Tell | None]:
    """Yield the `progress` argument of a client's call; None if the line would not be seen."""
    stream = sys.stderr
    if stream is None or not stream.isatty():
        yield None
        return
    line = Line(_printable(str(label)), stream)
    try:
        yield line.moved
    finally:
        line.end()


@contextlib.contextmanager
def described(label: str) -> Iterator[Callable[[str], None]]:
    """Yield what draws a line with this label and a text, over the line before."""
    stream = sys.stderr
    if stream is None or not stream.isatty():
        yield lambda text: None
        return
    try:
        yield lambda text: _redraw(stream, _printable(label), _printable(text))
    finally:
        stream.write("\n")
        stream.flush()


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def amount(count: float) -> str:
    """Return a number of bytes as text, with three digits and a unit."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            break
        count /= 1024
    digits = 0 if unit == "bytes" or count >= 100 else 1 if count >= 10 else 2
    return f"{count:.{digits}f} {unit}"


def duration(seconds: float) -> str:
    """Return a time in seconds as minutes and seconds, with hours if there are any."""
    whole = min(int(seconds + 0.5), 359999)
    minutes, seconds = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
