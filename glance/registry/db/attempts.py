"""Changes that take effect once, however often their request arrives.

A caller that loses the response to a request cannot know whether it was carried out. So it gives
the requests of one attempt a random name, an *attempt*, which the record keeps together with the
status that it got. If the same change arrives again, the record shows that it has been made; if
another caller has made it, the record shows that too. The schema needs nothing for it: the mark is
a row among the properties that counts as deleted, so that nobody who reads properties sees it.
"""

from __future__ import annotations

import datetime
import re
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.registry.db import models, visibility

images, properties, members = models.images, models.image_properties, models.image_members

#: Name of the mark's row. Requests that come through the API cannot use it: `-` becomes `_`.
MARK = "glance-attempt"
#: For how long after the creation of a record its attempt is looked for.
WINDOW = datetime.timedelta(hours=6)

_ATTEMPT = re.compile(r"[0-9a-f]{32}", re.ASCII)
_MARK_OF = (
    sa.select(properties.c.value)
    .where(properties.c.image_id == sa.bindparam("image"))
    .where(properties.c.name == MARK)
    .where(properties.c.deleted == sa.true())
)
# PERF: with the index of status and creation time this reads the few records that wait for data.
_CREATED_BY = (
    sa.select(images.c.id)
    .select_from(images.join(properties, properties.c.image_id == images.c.id))
    .where(images.c.status == sa.bindparam("row_status"))
    .where(images.c.created_at >= sa.bindparam("since"))
    .where(visibility.live(images))
    .where(properties.c.name == MARK)
    .where(properties.c.deleted == sa.true())
    .where(properties.c.value == sa.bindparam("mark"))
)
_MEMBERS = (
    sa.select(members.c.id)
    .where(members.c.image_id == sa.bindparam("image"))
    .where(visibility.live(members))
    .limit(1)
)
_INSERT = properties.insert()
_RENEW = (
    properties.update()
    .where(properties.c.id == sa.bindparam("row_id"))
    .values(value=sa.bindparam("mark"), updated_at=sa.bindparam("now"))
)


def is_attempt(text: object) -> bool:
    """Return whether `text` names an attempt: 32 lower-case hexadecimal digits."""
    return isinstance(text, str) and _ATTEMPT.fullmatch(text) is not None


def leave_mark(
    conn: Connection, image_id: int, attempt: str, status: str, now: Any, row: Any = None
) -> None:
    """Note in a record that this attempt has given it its status.

    `row` is the row of an earlier mark, None if the record has none. A property of a caller that
    happens to have the mark's name stays as it is; then nothing is noted.
    """
    mark = f"{attempt} {status}"
    if row is None:
        values = {"image_id": image_id, "name": MARK, "value": mark, "deleted": True}
        times = dict.fromkeys(("created_at", "updated_at", "deleted_at"), now)
        conn.execute(_INSERT, {**values, **times})
    elif row.deleted:
        conn.execute(_RENEW, {"row_id": row.id, "mark": mark, "now": now})


def has_mark(conn: Connection, image_id: int, attempt: str, status: str) -> bool:
    """Return whether it was this attempt that gave a record its status."""
    mark: str | None = conn.execute(_MARK_OF, {"image": image_id}).scalar()
    return mark == f"{attempt} {status}"


def created_by(conn: Connection, attempt: str, status: str, now: datetime.datetime) -> int | None:
    """Return the id of the live record that this attempt created with this status, if any."""
    params = {"row_status": status, "since": now - WINDOW, "mark": f"{attempt} {status}"}
    found: int | None = conn.execute(_CREATED_BY, params).scalar()
    return found


def has_members(conn: Connection, image_id: int) -> bool:
    """Return whether an image is shared with anybody."""
    return conn.execute(_MEMBERS, {"image": image_id}).first() is not None
