"""Reading whole tables in pages: bounded memory, and no long statement beside the services."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from glance.registry.db import engine

#: Rows of a page.
BATCH = 1000


def behind(key: Sequence[Any], after: Sequence[Any]) -> Any:
    """Return the clause for rows that come after the values `after` in the order of columns."""
    first = key[0] > after[0]
    if len(key) == 1:
        return first
    return sa.or_(first, sa.and_(key[0] == after[0], behind(key[1:], after[1:])))


def each(
    db: engine.Database, statement: Any, key: Sequence[Any], batch: int | None = None
) -> Iterator[Any]:
    """Yield the rows of a SELECT whose first columns are `key`, in that order, in pages.

    `key` is unique in the result. Each page is a statement of its own. Raises ServiceUnavailable.
    """
    batch = batch or BATCH
    ordered = statement.order_by(*key).limit(batch)
    page = ordered
    while True:
        with db.read() as conn:
            found = conn.execute(page).all()
        yield from found
        if len(found) < batch:
            return
        page = ordered.where(behind(key, tuple(found[-1])))
