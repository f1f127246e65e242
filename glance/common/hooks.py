"""Callbacks for the end of a response and of the process, and for its first start.

Parts of an application register here what has to be done last: send what is queued, write down
what is only in memory. The server runs the callbacks after a response has ended, and, in a serving
process, after its last request has ended; other middleware between server and application does not
matter. Programs without a server call `stop` themselves. This module knows nothing of what the
callbacks do.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

LOG = logging.getLogger(__name__)

#: Key of the environ for the callbacks that the server runs after the end of the response.
AFTER_RESPONSE = "glance.after_answer"
#: Key of the environ for a function that returns whether the process is about to stop.
IS_DRAINING = "glance.is_draining"
#: Key of the environ that a request has when it does not belong in the access log.
UNLOGGED = "glance.unlogged"

#: Key of the environ for the callback that the server runs when it cannot send a body.
_ON_FAILURE = "glance.on_failure"

_first_has_started = False
_work: list[tuple[Callable[[], None], float]] = []


def after_response(environ: Mapping[str, Any], work: Callable[[int, bool], None]) -> None:
    """Call `work(sent, whole)` once when the response to this request has ended.

    `sent` is how many bytes of its body the client's connection accepted, `whole` is whether that
    was all of it; both describe what the client got, whatever a middleware in between did with the
    body. `work` must neither raise nor wait for anything. Servers other than glance's own never
    call it.
    """
    waiting = environ.get(AFTER_RESPONSE)
    if waiting is not None:
        waiting.append(work)


def on_failure(environ: dict[str, Any], work: Callable[[BaseException, int], None]) -> None:
    """Call `work(error, sent)` if the body of the response to this request fails while it is sent.

    `sent` is how many bytes had been sent. It is called at most once, before those of
    `after_response`, not for a client that went away, and it logs the failure in the server's
    place. `work` must neither raise nor wait for anything.
    """
    environ[_ON_FAILURE] = work


def failed(environ: Mapping[str, Any], err: BaseException, sent: int) -> bool:
    """Run the callback of `on_failure`; return False if there is none."""
    work = environ.get(_ON_FAILURE)
    if work is None:
        return False
    work(err, sent)
    return True


def at_stop(work: Callable[[], None], *, stop_timeout: float = 0.0) -> None:
    """Call `work` once when this process stops in an orderly way, after its last request.

    The last one registered runs first. It may wait (through `glance.streaming.hub`) for up to
    `stop_timeout` seconds, which the parent process allows in addition to the time for requests;
    after that it kills the process. Register it while the application is created: a worker reports
    the sum of these times to the parent when it is ready.
    """
    _work.append((work, stop_timeout))


def stop_timeout() -> float:
    """Return how many seconds `stop` may take altogether."""
    return sum(seconds for _, seconds in _work)


def stop() -> None:
    """Run the callbacks for the end of the process; log each failure."""
    while _work:
        work, _ = _work.pop()
        try:
            work()
        except Exception:
            # The error would be lost otherwise, and the other callbacks have to run.
            LOG.exception("%s failed at shutdown", getattr(work, "__qualname__", work))


def first_has_started() -> None:
    """Note that the first process of this service has started; later ones are not the first.

    The parent of the workers calls it.
    """
    global _first_has_started
    _first_has_started = True


def level_at_start(level: int) -> int:
    """Return the level for a log line about the settings that each worker would repeat.

    It is `level` in the first process of a service and DEBUG in the others, so that the line
    appears once.
    """
    return logging.DEBUG if _first_has_started else level


# The callbacks of the parent run in the parent only.
os.register_at_fork(after_in_child=_work.clear)
