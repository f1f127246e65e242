"""Changes that take effect once, however often their request arrives.

A caller that loses the response to a request cannot know whether it was carried out. So it gives
the requests of one attempt a random name, an *attempt*, which the record keeps as long as it has
the status that the attempt gave it. If the same change arrives again, the record shows that it has
been made; if another caller has made it, the record shows that too. A caller that gives up gives
the name of the attempt to a record as it is, and so the call that may still arrive is refused.
"""

from __future__ import annotations

import datetime
import re

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.registry.db import direct, models, visibility

images, members = models.images, models.image_members

#: For how long after the creation of a record its attempt is looked for.
WINDOW = datetime.timedelta(hours=6)

#: The form of a name, for a search.
PATTERN = "^[0-9a-f]{32}$"

_ATTEMPT = re.compile(r"[0-9a-f]{32}", re.ASCII)
_ATTEMPT_OF = sa.select(images.c.attempt).where(images.c.id == sa.bindparam("image"))
# PERF: with the index of status and creation time, which begins with `deleted`, this reads the few
# records that wait for data.
_CREATED_BY = (
    sa.select(images.c.id)
    .where(images.c.status == sa.bindparam("row_status"))
    .where(images.c.created_at >= sa.bindparam("since"))
    .where(images.c.attempt == sa.bindparam("attempt"))
    .where(images.c.deleted == sa.false())
)
_MEMBERS = (
    sa.select(members.c.id)
    .where(members.c.image_id == sa.bindparam("image"))
    .where(visibility.live(members))
    .limit(1)
)


def is_attempt(text: object) -> bool:
    """Return whether `text` names an attempt: 32 lower-case hexadecimal digits."""
    return isinstance(text, str) and _ATTEMPT.fullmatch(text) is not None


def has_made(conn: Connection, image_id: int, attempt: str) -> bool:
    """Return whether it was this attempt that gave a record its status."""
    found = direct.fetch(conn, _ATTEMPT_OF, {"image": image_id})
    return bool(found) and found[0].attempt == attempt


def created_by(conn: Connection, attempt: str, status: str, now: datetime.datetime) -> int | None:
    """Return the id of the live record that this attempt created with this status, if any."""
    params = {"row_status": status, "since": now - WINDOW, "attempt": attempt}
    found: int | None = conn.execute(_CREATED_BY, params).scalar()
    return found


def has_members(conn: Connection, image_id: int) -> bool:
    """Return whether an image is shared with anybody."""
    return conn.execute(_MEMBERS, {"image": image_id}).first() is not None
