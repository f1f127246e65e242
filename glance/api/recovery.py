"""What a process that died, or a registry that did not respond, left behind, put right.

A worker that is killed in mid-upload leaves staged data in the file store and a record in status
saving. The store tells the staged data of dead writers from that of living ones; at the start of a
process the records of those images are settled here, and the data with them: half an image never
stays, and a whole one stays only if its record says that it is there.

A call to the registry whose response was lost may have been carried out. What it may have left,
no caller can know of; it is settled here when the registry is back.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from glance import api
from glance.common import exception, hooks
from glance.identity.context import RequestContext
from glance.image import fields, types
from glance.image.uploads import KILLED, STILL_QUEUED, Outcome, begun, outcome_of
from glance.registry import unfinished
from glance.registry.link import AWAY
from glance.store import base
from glance.streaming import retry, tasks

LOG = logging.getLogger(__name__)

T = TypeVar("T")

#: Tells of an image, given its record, that it is active.
Tell = Callable[[types.ImageRecord], None]

#: Between tries while the registry is not up yet; daemons start in any order.
BACKOFF = retry.Backoff(0.5, 10, seconds=3600)
#: When to look again whether a registry that is back has carried out a call that was lost.
LATE_CALLS = retry.Backoff(1, 30, retries=3, factor=5)

# PERF: each waits in a greenthread with little of its own.
_TASKS = tasks.Limited(1000)
#: Tasks that hold a descriptor each, of which a process has not many.
_HOLDING = tasks.Limited(100)


def start(service: api.ImageService) -> None:
    """Look for what dead processes left, and settle it in the background."""
    found = service.stores.sweep()
    hooks.at_stop(service.unfinished.close)
    noted = [
        left
        for directory in service.stores.local_directories()
        for left in unfinished.take(directory, service.conf.incoming_max_age)
    ]
    if found or noted:
        tasks.spawn(_settle_all, service, found, noted)


def _settle_all(
    service: api.ImageService,
    found: Iterable[base.AbandonedWrite],
    noted: Iterable[unfinished.Left],
) -> None:
    """Settle staged data, and then the notes.

    The other way round, a note would make an image queued, and the data, which does not know its
    attempt, would take the next upload of that image for its own.
    """
    settle(service, found)
    for left in noted:
        tasks.spawn(_settle_notes, service, left)


def _settle_notes(service: api.ImageService, left: unfinished.Left) -> None:
    """Settle the records that a dead process has noted: nobody will bring their data."""
    waiting = list(left.notes)
    failures = 0

    def settle_all() -> bool:
        nonlocal waiting, failures
        remaining = []
        for note in waiting:
            try:
                if not _settle_note(service, note):
                    remaining.append(note)
            except exception.Error as err:
                failures += 1
                LOG.error("A record that a dead process began may remain: %s", err)
        waiting = remaining
        return not waiting or left.age > unfinished.LATE_CALL

    # NOTE: the registry may carry out the last call of a dead process after it has answered this.
    retry.wait_until(settle_all, LATE_CALLS)
    left.leave() if failures else left.remove()


def _settle_note(service: api.ImageService, note: unfinished.Note) -> bool:
    """Return whether this was the end of the record; it may come into being later."""
    image_id = note.image_id
    if image_id is None:
        return _persist(service, None, lambda who: withdraw(service, who, note.attempt))
    _persist(
        service,
        None,
        lambda who: kill(service, who, image_id, "queued", note.attempt, note.outcome, tells=True),
    )
    return True


def settle(
    service: api.ImageService,
    found: Iterable[base.AbandonedWrite],
    context: RequestContext | None = None,
    tell: Tell | None = None,
    outcome: Outcome | None = None,
) -> None:
    """Settle abandoned uploads: records that still wait for their data become killed, or queued.

    `context` is the caller that may change the records, by default the service itself. What has
    become of an upload is told now, since whoever made it could not; `tell` is for one that has
    ended well. `outcome` is what the records become; None for that of the API that each upload
    came by, which the record knows.
    """
    who = context or RequestContext(is_admin=True, roles=(service.conf.admin_role,))
    for left in found:
        try:
            needed = _settle_record(service, context, left.image_id, outcome)
        except exception.Error as err:
            LOG.error(
                "Image %s: its interrupted upload cannot be cleaned up: %s", left.image_id, err
            )
            # Half an image is of no use to anybody, whatever its record says.
            left.leave() if left.committed else left.discard()
            continue
        if needed is not None and left.committed:
            left.keep()
            (tell or functools.partial(service.events.uploaded, who))(needed)
        else:
            left.discard()


def settle_later(
    service: api.ImageService,
    left: base.AbandonedWrite,
    context: RequestContext,
    tell: Tell,
    outcome: Outcome = KILLED,
) -> None:
    """Settle an upload whose activation may or may not have been carried out; returns at once."""
    if not _HOLDING.spawn(settle, service, [left], context, tell, outcome):
        _log_too_many(left.image_id)
        left.leave()


def kill_later(
    service: api.ImageService,
    context: RequestContext,
    image_id: int,
    from_state: str,
    attempt: str | None = None,
    outcome: Outcome = KILLED,
) -> None:
    """Do as `kill` does, once the registry is back; returns at once."""
    if not _TASKS.spawn(_kill_quietly, service, context, image_id, from_state, attempt, outcome):
        _log_too_many(image_id)


def withdraw_later(service: api.ImageService, context: RequestContext, attempt: str) -> None:
    """Do as `withdraw` does, once the registry is back; returns at once.

    The record may not be there yet: the creation may arrive after all.
    """
    if not _TASKS.spawn(_withdraw, service, context, attempt):
        _log_too_many("whose creation got no response")


def _log_too_many(image_id: object) -> None:
    LOG.error(
        "Image %s stays as it is: too many wait for the registry; glance-scrubber will settle it",
        image_id,
    )


def _kill_quietly(
    service: api.ImageService,
    context: RequestContext,
    image_id: int,
    from_state: str,
    attempt: str | None,
    outcome: Outcome,
) -> None:
    def persist(who: RequestContext) -> None:
        kill(service, who, image_id, from_state, attempt, outcome)

    try:
        _persist(service, context, persist)
    except exception.Error as err:
        LOG.error("Image %s could not be %s: %s", image_id, outcome["status"], err)


def withdraw(service: api.ImageService, context: RequestContext, attempt: str) -> bool:
    """Delete the record that this attempt has created, unless somebody uses it.

    Returns whether there was one. Raises what the registry raises.
    """
    try:
        record = service.registry.withdraw_image(context, attempt)
    except exception.NotFound:
        return False
    LOG.warning("Image %s is deleted: the request that created it has failed", record["id"])
    return True


def _withdraw(service: api.ImageService, context: RequestContext, attempt: str) -> None:
    def persist() -> bool:
        return _persist(service, context, lambda who: withdraw(service, who, attempt))

    try:
        # NOTE: the registry may carry out the lost call only after it has answered another one.
        retry.wait_until(persist, LATE_CALLS)
    except exception.Error as err:
        LOG.error("A record whose creation got no response may remain: %s", err)


def _settle_record(
    service: api.ImageService,
    context: RequestContext | None,
    image_id: str,
    outcome: Outcome | None,
) -> types.ImageRecord | None:
    """Return `_kill`, telling of it and trying again while the registry is away."""

    def settle_record(who: RequestContext) -> types.ImageRecord | None:
        ending = outcome
        if ending is None:
            try:
                record: Mapping[str, Any] = service.registry.get_image_metadata(who, image_id)
            except exception.NotFound:
                return None
            ending = outcome_of(record)
        return _kill(service, who, image_id, "saving", ending, tells=True)

    return _persist(service, context, settle_record)


def _persist(
    service: api.ImageService,
    context: RequestContext | None,
    act: Callable[[RequestContext], T],
) -> T:
    """Return what `act` returns for the caller, trying again while the registry is away.

    Once the caller's token is worth nothing, or without a caller, it acts for the service.

    SECURITY: the service acts with its own account or not at all, never with no token instead of
    a bad one; and it does nothing but what follows from a failed upload.
    """

    def attempt() -> T:
        if context is not None:
            try:
                return act(context)
            except exception.NotAuthorized:
                LOG.info("The token of the caller of a failed upload has expired")
        return service.account.call(act)

    return retry.retry(attempt, BACKOFF, on=AWAY)


def kill(
    service: api.ImageService,
    context: RequestContext,
    image_id: int,
    from_state: str,
    attempt: str | None = None,
    outcome: Outcome = KILLED,
    *,
    tells: bool = False,
) -> None:
    """Set the record of a failed upload to `outcome`, unless it has left the status `from_state`.

    `tells` is for an upload of whose failure nobody else tells. With an `attempt`, it is not known
    whether this upload has begun, and the lost call may still arrive. So a queued image that is to
    stay queued gets the name of the attempt, which the registry then refuses; otherwise the upload
    begins now, unless another one has. Raises what the registry raises, but no error if the record
    is not this upload's any more.
    """
    if attempt is not None:
        if outcome["status"] == "queued" and _is_given_up(service, context, image_id, attempt):
            return
        try:
            service.registry.update_image_metadata(
                context, image_id, begun(outcome), from_state="queued", attempt=attempt
            )
            from_state = "saving"
        except (exception.NotFound, exception.Duplicate):
            return
        except exception.LimitExceeded:
            from_state = "queued"
    _kill(service, context, image_id, from_state, outcome, attempt, tells=tells)


def _is_given_up(
    service: api.ImageService, context: RequestContext, image_id: int, attempt: str
) -> bool:
    """Have the registry refuse to begin this upload, if the image is queued; return whether."""
    try:
        service.registry.update_image_metadata(
            context, image_id, STILL_QUEUED, from_state="queued", attempt=attempt
        )
    except exception.Duplicate:
        return False
    except exception.NotFound:
        pass
    return True


def _kill(
    service: api.ImageService,
    context: RequestContext,
    image_id: object,
    from_state: str,
    outcome: Outcome,
    attempt: str | None = None,
    *,
    tells: bool = False,
) -> types.ImageRecord | None:
    """Set the record to `outcome` if it has this status, and tell of it.

    With an `attempt`, the registry refuses the call that would have begun the upload, should it
    arrive later. Returns the record if it is active, or deactivated: then it needs its data.
    """
    if outcome["status"] == from_state:
        return None
    try:
        service.registry.update_image_metadata(
            context, image_id, outcome, from_state=from_state, attempt=attempt
        )
    except exception.NotFound:
        return None
    except exception.Duplicate:
        try:
            record = service.registry.get_image_metadata(context, image_id)
        except exception.NotFound:
            # It was deleted after the first call.
            return None
        return record if record["status"] in fields.WITH_DATA else None
    if tells:
        LOG.warning("Image %s is %s: its upload was abandoned", image_id, outcome["status"])
        service.events.failed(
            "image.upload", context, fields.parse_id(str(image_id)), exception.ServerError()
        )
    return None
