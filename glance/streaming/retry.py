"""Trying again: pauses that grow, at most so many tries or so many seconds, and one loop for both.

`retry` repeats a call that fails for a passing reason; `wait_until` asks for a state until it is
there; `Retries` is for loops that cannot be one call, such as a download that goes on where it was
cut. How long and how often is a value, `Backoff`, which its owner declares as a constant. What
does not belong here: which errors pass by themselves; each caller knows its own.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable
from typing import TypeVar

from glance.streaming import hub

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses in seconds: `first`, then each `factor` times the one before, `longest` at most.

    Each pause is shortened at random by up to the share `jitter` (0 to 1), so that those who
    failed together do not return together. `retries` bounds the number of further tries and
    `seconds` the time until the last of them begins; None is no bound.
    """

    first: float
    longest: float
    retries: int | None = None
    seconds: float | None = None
    factor: float = 2.0
    jitter: float = 0.5

    @classmethod
    def steady(
        cls, pause: float, *, retries: int | None = None, seconds: float | None = None
    ) -> Backoff:
        """Return one whose pauses are all alike."""
        return cls(pause, pause, retries, seconds, factor=1.0, jitter=0.0)

    def pause(self, failures: int) -> float:
        """Return the pause after failure number `failures`, counted from 1, in seconds."""
        # NOTE: the exponent is bounded because a float is.
        grown = min(self.first * self.factor ** min(failures - 1, 64), self.longest)
        return grown * (1.0 - self.jitter * random.random()) if self.jitter else grown


class Retries:
    """The failures of one piece of work so far, and whether another try follows."""

    def __init__(
        self,
        backoff: Backoff,
        *,
        sleep: Callable[[float], object] = hub.sleep,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._backoff, self._sleep, self._clock = backoff, sleep, clock
        self._failures = 0
        self._end = None if backoff.seconds is None else clock() + backoff.seconds

    def reset(self) -> None:
        """Take note that the work has got on: the next failure is a first one."""
        self._failures = 0

    def next_pause(self) -> float | None:
        """Count a failure; return the pause before the next try, None if there is to be none."""
        self._failures += 1
        backoff = self._backoff
        if backoff.retries is not None and self._failures > backoff.retries:
            return None
        pause = backoff.pause(self._failures)
        if self._end is None:
            return pause
        left = self._end - self._clock()
        return min(pause, left) if left > 0 else None

    def again(self) -> bool:
        """Count a failure and wait for the next try; False, at once, if there is to be none."""
        pause = self.next_pause()
        if pause is None:
            return False
        self._sleep(pause)
        return True


def retry(
    attempt: Callable[[], T],
    backoff: Backoff,
    *,
    on: type[Exception] | tuple[type[Exception], ...],
    retryable: Callable[[Exception], bool] | None = None,
    report: Callable[[Exception], object] | None = None,
    sleep: Callable[[float], object] = hub.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """Return what `attempt` returns, calling it again after each error of `on` that may pass.

    Raises its other errors at once, and the last one when `backoff` allows no further try.
    `retryable` says of an error of `on` whether it may pass (default: each may); `report` is
    called with an error that another try follows, before the pause.
    """
    retries = Retries(backoff, clock=clock)
    while True:
        try:
            return attempt()
        except on as err:
            if retryable is not None and not retryable(err):
                raise
            pause = retries.next_pause()
            if pause is None:
                raise
            if report is not None:
                report(err)
        # NOTE: outside of the handler, so that nothing keeps the error's frames alive meanwhile.
        sleep(pause)


def wait_until(
    condition: Callable[[], bool],
    backoff: Backoff,
    *,
    sleep: Callable[[float], object] = hub.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Return True once `condition` holds, False if it does not within the bounds of `backoff`.

    It is asked at once, after every pause, and at the end of the time.
    """
    retries = Retries(backoff, sleep=sleep, clock=clock)
    while not condition():
        if not retries.again():
            return False
    return True
