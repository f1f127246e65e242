"""Copies of data from elsewhere, in the background, in turns.

`x-glance-api-copy-from` names a location whose data becomes that of an image after the response.
How an image gets its data, and what becomes of it after a failure, is `glance.api.upload`.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator

from glance.api.upload import Upload
from glance.common import config, exception, hooks, metrics
from glance.registry import unfinished
from glance.streaming import body, tasks

LOG = logging.getLogger(__name__)

config.options(
    "images API",
    config.Option(
        "copies_at_once",
        config.integer,
        20,
        unit="images",
        minimum=1,
        help="Number of images that a process copies from elsewhere at the same time; the others "
        "wait, in status queued.",
    ),
    config.Option(
        "copies_per_owner",
        config.integer,
        5,
        unit="images",
        minimum=1,
        help="Number of images of one owner among copies_at_once. Owners whose images wait take "
        "turns.",
    ),
    config.Option(
        "copies_waiting",
        config.integer,
        5000,
        unit="images",
        minimum=0,
        help="Number of images that may wait to be copied in a process, half of them for one "
        "owner; a request for another copy is refused with 503.",
    ),
)

#: How long a process that stops takes to kill the records of its copies, and with how many tasks.
STOP_SECONDS = 15.0
STOP_WORKERS = 4


@dataclasses.dataclass(frozen=True, slots=True)
class _Copy:
    """The data at the location `source` for an upload, noted as unfinished."""

    upload: Upload
    source: str
    kept: unfinished.Kept


class Copies:
    """The copies in the background of one process, which take turns.

    A copy that waits for its turn has a record in status `queued`. When the process stops in an
    orderly way, the records of all copies that wait or run become `killed`; what is left then, or
    by a process that is killed, is noted for the next one.
    """

    def __init__(self, conf: config.Conf):
        self._turns: tasks.Turns[_Copy] = tasks.Turns(
            _copy,
            limit=conf.copies_at_once,
            each=conf.copies_per_owner,
            waiting=conf.copies_waiting,
        )
        hooks.at_stop(self._stop, stop_timeout=STOP_SECONDS)
        metrics.sample(self._look)

    def _look(self) -> None:
        running, waiting = self._turns.counts()
        metrics.COPIES.set(running, "running")
        metrics.COPIES.set(waiting, "waiting")

    @contextlib.contextmanager
    def place(self, owner: str | None) -> Iterator[Callable[[Upload, str], None]]:
        """Hold a place for a copy into an image of `owner` for the block.

        Yields a function that has the data at a location, its second argument, copied into the
        image of an upload, and returns at once. Raises ServiceUnavailable if too many copies wait.
        """
        place = self._turns.reserve(owner)
        if place is None:
            raise exception.ServiceUnavailable(
                "Too many images wait to be copied at the moment; try again later"
            )

        def start(upload: Upload, source: str) -> None:
            upload.is_copy = True
            note = unfinished.Note(upload.beginning.attempt, upload.image_id)
            kept = upload.kept = upload.service.unfinished.keep(note)
            try:
                place.start(_Copy(upload, source, kept))
            except BaseException as err:
                upload.kill(err)
                kept.strike()
                raise

        try:
            yield start
        finally:
            place.leave()

    def _stop(self) -> None:
        left = collections.deque(self._turns.close())
        if not left:
            return
        end = time.monotonic() + STOP_SECONDS

        def kill() -> None:
            with contextlib.suppress(IndexError):
                while time.monotonic() < end:
                    copy = left.popleft()
                    if copy.upload.kill(exception.ServiceUnavailable()):
                        copy.kept.strike()

        workers = [tasks.spawn(kill) for _ in range(STOP_WORKERS)]
        for worker in workers:
            worker.join(max(0.0, end - time.monotonic()))
        if left:
            LOG.error("%d images that wait to be copied are left to the next process", len(left))


def _copy(job: _Copy) -> None:
    upload = job.upload
    try:
        with _open(upload, job.source) as data:
            upload.receive(body.BodyReader(data), data.length)
    except exception.Error as err:
        level = logging.INFO if err.is_logged else logging.WARNING
        LOG.log(level, "Image %s was not copied: %s", upload.image_id, exception.described(err))
    except Exception:  # the outermost frame of a background task: otherwise the error is lost
        LOG.exception("Image %s was not copied", upload.image_id)
    finally:
        job.kept.strike()


def _open(upload: Upload, source: str) -> body.Body:
    try:
        return upload.service.stores.get(source)
    except Exception as err:
        upload.kill(err)
        upload.service.events.failed("image.upload", upload.context, upload.image_id, err)
        raise
