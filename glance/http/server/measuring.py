"""Counts the requests of a worker for the metrics, by the templates of their routes.

What a request has moved is added while it runs, at every look at the worker's state, so that a
download of an hour does not count at its end only.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from glance.common import metrics
from glance.http import wsgi

if TYPE_CHECKING:
    from glance.http.server.exchange import Exchange

_OTHER = "OTHER"
#: The status of a request whose client got no response.
_NONE = "none"


class Meter:
    """The requests of one worker."""

    def __init__(self) -> None:
        self.running: set[_Measured] = set()
        # PERF: one look-up for each request.
        self.series: dict[tuple[str, str, str], tuple[metrics.Child, metrics.Child]] = {}
        metrics.sample(self._look)

    def request(self, work: Exchange, environ: dict[str, Any]) -> _Measured:
        """Return what measures one request, as a context manager around its `run`."""
        return _Measured(self, work, environ)

    def refused(self, status_line: str) -> None:
        """Count a request that could not be read."""
        metrics.REQUESTS.inc(metrics.UNMATCHED, _OTHER, status_line[:3])

    def _look(self) -> None:
        metrics.REQUESTS_IN_PROGRESS.set(len(self.running))
        for one in list(self.running):
            one.count_bytes()

    def count(self, route: str, method: str, status: str, seconds: float) -> None:
        """Count a request that has ended."""
        key = (route, method, status)
        found = self.series.get(key)
        if found is None:
            found = metrics.REQUEST_SECONDS.child(key[:2]), metrics.REQUESTS.child(key)
            self.series[key] = found
        found[0].observe(seconds)
        found[1].inc(1.0)


def meter() -> Meter | None:
    """Return what measures the requests of a worker, None while metrics are off."""
    return Meter() if metrics.is_on() else None


class _Measured:
    __slots__ = ("_begun", "_meter", "_method", "_received", "_route", "_sent", "_work")

    def __init__(self, meter: Meter, work: Exchange, environ: dict[str, Any]):
        self._meter, self._work = meter, work
        self._route = environ[metrics.ROUTE] = metrics.Route()
        method = work.head.method
        self._method = method if method in wsgi.KNOWN_METHODS else _OTHER
        self._received = self._sent = 0
        self._begun = time.monotonic()

    def __enter__(self) -> None:
        self._meter.running.add(self)

    def __exit__(self, *exc_info: object) -> None:
        self._meter.running.discard(self)
        seconds = time.monotonic() - self._begun
        status = self._work.status[:3] or _NONE
        self._meter.count(self._route.template, self._method, status, seconds)
        self.count_bytes()

    def count_bytes(self) -> None:
        """Count what was moved since the last time."""
        received, sent = self._work.input.received, self._work.sent
        if received > self._received:
            more, self._received = received - self._received, received
            metrics.RECEIVED_BYTES.inc(self._route.template, self._method, by=more)
        if sent > self._sent:
            more, self._sent = sent - self._sent, sent
            metrics.SENT_BYTES.inc(self._route.template, self._method, by=more)
