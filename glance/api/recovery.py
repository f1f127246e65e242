"""What a process that died left behind, put right at the start of the next one.

A worker that is killed in mid-upload leaves staged data in the file store and a record in status
saving. The store tells the staged data of dead writers from that of living ones; the records of
those images are settled here, and the data with them: half an image never stays, and a whole one
stays only if its record says that it is there.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable

from glance import api
from glance.common import exception
from glance.identity.context import RequestContext
from glance.image import fields, types
from glance.registry.link import AWAY
from glance.store import base
from glance.streaming import retry, tasks

LOG = logging.getLogger(__name__)

#: Tells of an image, given its record, that it is active.
Tell = Callable[[types.ImageRecord], None]

#: Between tries while the registry is not up yet; daemons start in any order.
BACKOFF = retry.Backoff(0.5, 60, seconds=3600)


def start(service: api.ImageService) -> None:
    """Look for abandoned uploads and settle them in the background."""
    found = service.stores.sweep()
    if found:
        tasks.spawn(settle, service, found)


def settle(
    service: api.ImageService,
    found: Iterable[base.AbandonedWrite],
    context: RequestContext | None = None,
    tell: Tell | None = None,
) -> None:
    """Settle abandoned uploads: records that still wait for their data become killed.

    `context` is the caller that may change the records, by default the service itself. What has
    become of an upload is told now, since whoever made it could not; `tell` is for one that has
    ended well.
    """
    who = context or RequestContext(is_admin=True, roles=(service.conf.admin_role,))
    for left in found:
        try:
            needed = _settle_record(service, context, left.image_id, tells=True)
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
    service: api.ImageService, left: base.AbandonedWrite, context: RequestContext, tell: Tell
) -> None:
    """Settle an upload whose activation may or may not have been carried out; returns at once."""
    tasks.spawn(settle, service, [left], context, tell)


def kill_later(service: api.ImageService, context: RequestContext, image_id: int) -> None:
    """Set the record of a failed upload killed once the registry is back; returns at once."""
    tasks.spawn(_kill_quietly, service, context, str(image_id))


def _kill_quietly(service: api.ImageService, context: RequestContext, image_id: str) -> None:
    try:
        _settle_record(service, context, image_id)
    except exception.Error as err:
        LOG.error("Image %s could not be killed: %s", image_id, err)


def _settle_record(
    service: api.ImageService,
    context: RequestContext | None,
    image_id: str,
    *,
    tells: bool = False,
) -> types.ImageRecord | None:
    """Return `_kill`, trying again while the registry is away."""
    return retry.retry(lambda: _authorized(service, context, image_id, tells), BACKOFF, on=AWAY)


def _authorized(
    service: api.ImageService, context: RequestContext | None, image_id: str, tells: bool
) -> types.ImageRecord | None:
    """Return `_kill` for the caller, or for the service once the caller's token is worth nothing.

    SECURITY: the service acts with its own account or not at all, never with no token instead of
    a bad one; and it does nothing but what follows from a failed upload.
    """
    if context is not None:
        try:
            return _kill(service, context, image_id, tells)
        except exception.NotAuthorized:
            LOG.info("Image %s: the caller's token has expired", image_id)
    return service.account.call(lambda account: _kill(service, account, image_id, tells))


def _kill(
    service: api.ImageService, context: RequestContext, image_id: str, tells: bool
) -> types.ImageRecord | None:
    """Set the record killed if it is saving, and tell of it; return it if it is active.

    An active record needs its data.
    """
    try:
        service.registry.update_image_metadata(
            context, image_id, {"status": "killed"}, from_state="saving"
        )
    except exception.NotFound:
        return None
    except exception.Duplicate:
        record = service.registry.get_image_metadata(context, image_id)
        return record if record["status"] == "active" else None
    LOG.warning("Image %s is killed: its upload was abandoned", image_id)
    if tells:
        service.events.failed(
            "image.upload", context, fields.parse_id(image_id), exception.ServerError()
        )
    return None
