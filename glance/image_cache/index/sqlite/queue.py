"""The prefetch queue as a table."""

from __future__ import annotations

import dataclasses

from glance.image_cache.index.queue import IN_PROGRESS, PrefetchQueue, QueueItem
from glance.image_cache.index.sqlite.database import IndexDatabase

_COLUMNS = [field.name for field in dataclasses.fields(QueueItem)]
_QUEUE = f"SELECT {', '.join(_COLUMNS)} FROM queue"
_INSERT = (
    f"INSERT OR IGNORE INTO queue ({', '.join(_COLUMNS)}) "
    f"VALUES ({', '.join(':' + name for name in _COLUMNS)})"
)


class SqliteQueue(PrefetchQueue):
    """See the module."""

    def __init__(self, database: IndexDatabase):
        self._database = database

    def add(self, item: QueueItem) -> bool:
        with self._database.connection() as connection:
            return connection.execute(_INSERT, dataclasses.asdict(item)).rowcount == 1

    def items(self) -> list[QueueItem]:
        with self._database.connection() as connection:
            rows = connection.execute(f"{_QUEUE} ORDER BY enqueued_at, image_id").fetchall()
        return [QueueItem(*row) for row in rows]

    def take(self, owner: str, now: float) -> QueueItem | None:
        with self._database.atomic() as connection:
            row = connection.execute(
                f"{_QUEUE} WHERE state = 'queued' AND not_before <= ? "
                "ORDER BY enqueued_at, image_id LIMIT 1",
                (now,),
            ).fetchone()
            if row is None:
                return None
            item = dataclasses.replace(QueueItem(*row), state=IN_PROGRESS, owner=owner)
            self.put_back(item)
        return item

    def put_back(self, item: QueueItem) -> None:
        assignments = ", ".join(f"{name} = :{name}" for name in _COLUMNS)
        with self._database.connection() as connection:
            connection.execute(
                f"UPDATE queue SET {assignments} WHERE image_id = :image_id",
                dataclasses.asdict(item),
            )

    def remove(self, image_id: str, *, only: str | None = None) -> bool:
        with self._database.connection() as connection:
            done = connection.execute(
                "DELETE FROM queue WHERE image_id = ? AND state = coalesce(?, state)",
                (image_id, only),
            )
            return done.rowcount == 1
