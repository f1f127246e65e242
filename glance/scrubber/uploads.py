"""Uploads that died: staged data without a writer, records that are `saving` for too long.

Each pass of the scrubber calls `settle`, possibly during uploads: the stores distinguish the
staged data of running and dead writers. `hold_back` decides before anything that a failed upload
left is removed.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import threading

from glance import store
from glance.common import config, exception
from glance.identity.context import RequestContext
from glance.image import fields, uploads
from glance.registry import unfinished
from glance.registry.db import api, engine, records
from glance.registry.db.upkeep import maintenance
from glance.store import base, removal

LOG = logging.getLogger(__name__)

config.options(
    "scrubber",
    config.Option(
        "upload_stall_timeout",
        config.integer,
        86400,
        unit="seconds",
        minimum=0,
        aliases=("stalled_upload_time",),
        help="Age after which an unfinished upload is abandoned and its image is killed; 0 "
        "means never. Choose more than the longest upload takes.",
    ),
)

_ADMIN = RequestContext(is_admin=True, show_deleted=True)
#: Statuses in which an image needs its data.
_NEEDED = fields.WITH_DATA | {"pending_delete"}


class Settling:
    """Settles all uploads that died, in a thread of its own, because stores may hang.

    `killed` holds the ids of the images whose upload was given up, `error` what ended it early.
    """

    def __init__(self, conf: config.Conf, db: engine.Database, stores: store.Stores):
        self.killed: list[int] = []
        self.error: exception.Error | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._work, args=(conf, db, stores), daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most for `seconds`; return whether it has ended."""
        return self._ended.wait(seconds)

    def _work(self, conf: config.Conf, db: engine.Database, stores: store.Stores) -> None:
        try:
            self.killed = settle(conf, db, stores)
        except exception.Error as err:
            self.error = err
        except Exception:
            # A thread has no caller to raise to, and the queue does not depend on it.
            LOG.exception("Interrupted uploads cannot be cleaned up")
        finally:
            self._ended.set()


def settle(conf: config.Conf, db: engine.Database, stores: store.Stores) -> list[int]:
    """Settle all dead uploads; return the ids of the images that were killed.

    Raises ServiceUnavailable.
    """
    killed: list[int] = []
    for left in stores.sweep():
        try:
            needed, ended = _settle_record(db, left.image_id)
        except exception.Error as err:
            LOG.error(
                "Image %s: its interrupted upload cannot be cleaned up: %s", left.image_id, err
            )
            left.leave()
            continue
        killed += [int(left.image_id)] * ended
        _end(left, needed=needed)
    for directory in stores.local_directories():
        for noted in unfinished.take(directory, conf.incoming_max_age):
            killed += _settle_notes(db, noted)
    if conf.upload_stall_timeout:
        age = datetime.timedelta(seconds=conf.upload_stall_timeout)
        for image in maintenance.images_stalled(db, records.utcnow() - age):
            killed += [image["id"]] * _kill(db, image["id"])
    # What a vanished host left in a remote backend, without a journal on this host.
    stores.drop_stale_uploads()
    return killed


def _settle_notes(db: engine.Database, left: unfinished.Left) -> list[int]:
    """Settle the records that a dead process has noted; return the ids of those killed."""
    killed: list[int] = []
    is_settled = True
    for note in left.notes:
        try:
            if note.image_id is None:
                api.image_withdraw(db, _ADMIN, note.attempt)
            elif _kill_unbegun(db, note.image_id, note):
                killed.append(note.image_id)
        except exception.NotFound:
            # It may come into being yet.
            is_settled &= left.age > unfinished.LATE_CALL
        except exception.Error as err:
            LOG.error("A record that a dead process began may remain: %s", err)
            is_settled = False
    left.remove() if is_settled else left.leave()
    return killed


def _kill_unbegun(db: engine.Database, image_id: int, note: unfinished.Note) -> bool:
    """Kill an image that only the upload of this note would fill; return whether it was so."""
    # NOTE: without this, the call that began the upload would have its effect if it came late.
    try:
        if note.queued_size is not None:
            with contextlib.suppress(exception.Conflict):
                still = uploads.STILL_QUEUED
                api.image_update(
                    db, _ADMIN, image_id, still, from_state="queued", attempt=note.attempt
                )
                return False
        begin = uploads.begun(note.outcome)
        api.image_update(db, _ADMIN, image_id, begin, from_state="queued", attempt=note.attempt)
    except (exception.NotFound, exception.Conflict):
        return False
    return _kill(db, image_id, note)


def hold_back(
    db: engine.Database, stores: store.Stores, image_id: int, location: str
) -> removal.Removal | None:
    """Return why the remains of a failed upload must not be removed; None if they may be.

    A later upload of the same image may be writing there now, or may have activated the image with
    data in the same place. Never raises.
    """
    try:
        image = api.image_get(db, _ADMIN, image_id)
    except exception.NotFound:
        return None
    except exception.Error as err:
        return removal.Removal(removal.RemovalOutcome.POSTPONED, type(err).__name__)
    if image["status"] in ("queued", "saving") and not image["deleted"]:
        return removal.Removal(removal.RemovalOutcome.POSTPONED, "UploadInProgress")
    own = image["location"] if image["status"] in _NEEDED else None
    if own and stores.name_of(own) == stores.name_of(location):
        LOG.warning("Image %s: what an upload left is now the image's own data", image_id)
        return removal.Removal(removal.RemovalOutcome.NOT_OURS)
    return None


def _settle_record(db: engine.Database, image_id: str) -> tuple[bool, bool]:
    """Return whether a record refers to the data, and whether one had to be killed."""
    number = fields.parse_id(image_id)
    if number is None:
        return False, False
    try:
        status = api.image_get(db, _ADMIN, number)["status"]
    except exception.NotFound:
        return False, False
    if status == "saving":
        killed = _kill(db, number)
        return not killed, killed
    return status in _NEEDED, False


def _kill(db: engine.Database, image_id: int, note: unfinished.Note | None = None) -> bool:
    """Give up an upload, of which `note` tells; return False if it has ended by itself meanwhile.

    The image waits for data again if version 2 of the API had begun the upload.
    """
    attempt = None if note is None else note.attempt
    try:
        outcome = (
            uploads.outcome_of(api.image_get(db, _ADMIN, image_id))
            if note is None
            else note.outcome
        )
        api.image_update(db, _ADMIN, image_id, outcome, from_state="saving", attempt=attempt)
    except (exception.Conflict, exception.NotFound):
        return False
    LOG.warning("Image %s is %s: its upload was abandoned", image_id, outcome["status"])
    return True


def _end(left: base.AbandonedWrite, *, needed: bool) -> None:
    if needed and left.committed:
        left.keep()
    else:
        left.discard()
