"""Health checks of both daemons: whether a process is alive, and whether it can do its work.

`GET /healthcheck` says that the process serves requests. `GET /healthcheck/ready` returns 503 and
one word if something that the daemon needs is missing (`database`, `registry`, `store`), or if it
is about to stop (`draining`). The applications of a process say with `require` what they need.

A check needs no token, shows no secret, and costs little however often it is repeated: what was
found is kept for a moment, and is found out once at a time, beside the requests.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from glance.common import exception, hooks
from glance.http import wsgi
from glance.streaming import hub, tasks

LOG = logging.getLogger(__name__)

ALIVE = "/healthcheck"
READY = "/healthcheck/ready"

DRAINING = "draining"
DATABASE = "database"
REGISTRY = "registry"
STORE = "store"

#: How long a finding is kept, in seconds.
KEEP = 1.0
#: How long a check waits to find out, in seconds. Balancers wait for two seconds or more.
LIMIT = 1.0
_PATHS = frozenset({ALIVE, f"{ALIVE}/", READY, f"{READY}/"})

Probe = Callable[[], str | None]

_LATE = "no response in time"


class ProbeResult(NamedTuple):
    """What is missing, "" for nothing, and why that is known, for the log."""

    word: str
    reason: str


class Need:
    """Something that this process needs, by its name in responses.

    `probe` finds out whether it is there: it returns None, or the name of what is missing instead
    of `name`, or raises. It may wait through the hub or in native threads. What it finds counts
    for `keep` seconds. A check waits for it for `limit` seconds; then the last finding counts, and
    after `patience` (default: `limit`) the thing is missing. No other probe begins before that
    one has ended.
    """

    def __init__(
        self,
        name: str,
        probe: Probe,
        *,
        keep: float = KEEP,
        limit: float = LIMIT,
        patience: float | None = None,
    ):
        self.name, self.probe, self.keep, self.limit = name, probe, keep, limit
        self.patience = limit if patience is None else patience
        self._guard = hub.native_lock()
        self._is_running = False
        self._task: tasks.Task | None = None
        self._begun = self._until = 0.0
        self._finding = ProbeResult(name, _LATE)

    def begin(self) -> None:
        """Begin to find out, unless that is known or under way."""
        with self._guard:
            now = time.monotonic()
            if self._is_running or now < self._until:
                return
            self._is_running, self._begun = True, now
            self._task = tasks.spawn(self._run)

    def find(self) -> ProbeResult | None:
        """Return what is missing, None if nothing is; waits at most until `limit` has passed."""
        task = self._task
        if self._is_running and task is not None:
            task.join(max(0.0, self._begun + self.limit - time.monotonic()))
        if self._is_running and time.monotonic() >= self._begun + self.patience:
            return ProbeResult(self.name, _LATE)
        return self._finding if self._finding.word else None

    def _run(self) -> None:
        word: str | None = self.name
        reason = _LATE
        try:
            with hub.deadline(self.patience):
                word = self.probe()
                reason = ""
        except Exception as err:
            # The boundary of the probe: whatever it raises, what it looks for is not there.
            reason = exception.described(err)
        finally:
            self._finding = ProbeResult(word or "", reason)
            self._until = time.monotonic() + self.keep
            self._is_running = False


_needs: dict[str, Need] = {}


def require(need: Need) -> None:
    """Have `/healthcheck/ready` probe for something that this process needs.

    Call it while the application is created. It replaces what had the same name.
    """
    _needs[need.name] = need


# What the parent of the workers needs is not for them to probe.
os.register_at_fork(after_in_child=_needs.clear)


class HealthCheck:
    """Middleware that responds to the two paths itself and passes all other requests on.

    It stands before every filter of a pipeline, so that it works without a token and with every
    configuration file. Checks that succeed are not in the access log; when the daemon is no longer
    ready, or is ready again, the log says so once.
    """

    def __init__(self, app: wsgi.WSGIApp):
        self.app = app
        self._router: wsgi.Router[wsgi.Request] = wsgi.Router(wsgi.Request)
        self._router.add(ALIVE, GET=_alive, HEAD=_alive)
        self._router.add(READY, GET=self._ready, HEAD=self._ready)
        self._logged = ""

    def __call__(
        self, environ: dict[str, Any], start_response: wsgi.StartResponse
    ) -> Iterable[bytes]:
        if environ["PATH_INFO"] not in _PATHS:
            return self.app(environ, start_response)
        return self._router(environ, start_response)

    def _ready(self, request: wsgi.Request) -> wsgi.Response:
        is_draining = request.environ.get(hooks.IS_DRAINING)
        if is_draining is not None and is_draining():
            return _response(request, DRAINING)
        found = _find()
        word = found.word if found else ""
        if word != self._logged:
            self._logged = word
            if found:
                why = f" ({found.reason})" if found.reason else ""
                LOG.warning("The service is not ready: %s%s", word, why)
            else:
                LOG.info("The service is ready again")
        return _response(request, word)


def _find() -> ProbeResult | None:
    """Return the first thing that is missing, None if nothing is."""
    needs = list(_needs.values())
    for need in needs:
        need.begin()
    return next(filter(None, [need.find() for need in needs]), None)


def _alive(request: wsgi.Request) -> wsgi.Response:
    return _response(request, "")


def _response(request: wsgi.Request, word: str) -> wsgi.Response:
    """Return 200, or 503 and the word for what is missing."""
    request.environ[hooks.UNLOGGED] = True
    status = 503 if word else 200
    headers = [("Cache-Control", "no-store")]
    offers = request.accept.acceptable_offers(["text/plain", "application/json"])
    if offers and offers[0][0] == "application/json":
        return wsgi.json_response({"status": word or "OK"}, status, headers)
    headers.append(("Content-Type", "text/plain; charset=UTF-8"))
    return wsgi.Response(status, headers, f"{word or 'OK'}\n".encode())
