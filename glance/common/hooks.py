"""Work that waits for an end, of one answer or of the process; and whose start is the first.

Parts of an application leave here what has to be done last: send what is queued, write down what
is known in memory. The server runs it, whatever stages of other makers stand between: after an
answer has ended, and in the process that serves when its last request has ended. Programs without
a server call `stop` by themselves. What does not belong here: knowledge of what the work is.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

LOG = logging.getLogger(__name__)

#: Key of the environ under which the server keeps the work that waits for the end of the answer.
AFTER_ANSWER = "glance.after_answer"

_first_has_started = False
_work: list[tuple[Callable[[], None], float]] = []


def after_answer(environ: Mapping[str, Any], work: Callable[[int, bool], None]) -> None:
    """Have `work(sent, whole)` called once when the answer to this request has ended.

    `sent` is how many bytes of its body the client's connection took, `whole` tells whether that
    was all of it; both are the truth about the client, whatever a stage in between did with the
    body. It must neither raise nor wait for anything. Under another server than ours, which knows
    nothing of this, it is never called.
    """
    waiting = environ.get(AFTER_ANSWER)
    if waiting is not None:
        waiting.append(work)


def at_stop(work: Callable[[], None], *, patience: float = 0.0) -> None:
    """Have `work` called once when this process stops in good order, after its last request.

    The one asked for last comes first. It may wait (through `glance.streaming.offload`) for up to
    `patience` seconds, which the parent process allows on top of what requests get; with more than
    that it is killed. Ask while the application is made: the parent hears of the patience when the
    worker reports that it is ready.
    """
    _work.append((work, patience))


def patience() -> float:
    """Return how many seconds `stop` may take."""
    return sum(seconds for _, seconds in _work)


def stop() -> None:
    """Do the work that was left for the end of the process; each failure is logged."""
    while _work:
        work, _ = _work.pop()
        try:
            work()
        except Exception:
            # Nobody else would hear of it, and the others have a right to their turn.
            LOG.exception("%s failed at shutdown", getattr(work, "__qualname__", work))


def first_has_started() -> None:
    """Note that a process of this service has started: those forked from here on are not first.

    For the parent of the workers.
    """
    global _first_has_started
    _first_has_started = True


def level_at_start(level: int) -> int:
    """Return the level for a log line about the settings, which each worker finds anew.

    It is `level` in the first process of a service and DEBUG in the others, so that the operator
    reads it once.
    """
    return logging.DEBUG if _first_has_started else level


# Work of the parent is the parent's own.
os.register_at_fork(after_in_child=_work.clear)
