"""Create the tables of conversions and of those who do them.

A downgrade forgets the jobs. Nobody will fill the images of those that had not ended, so these are
killed, as after a failed upload.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from glance.registry.db.migrate_repo import operations, schema

_KILL = sa.text(
    "UPDATE images SET status = 'killed' WHERE status IN ('queued', 'saving') AND id IN"
    " (SELECT image_id FROM conversion_jobs WHERE finished_at IS NULL)"
)


def upgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        operations.create_table(conn, schema.conversion_jobs(25), 25)
        operations.create_table(conn, schema.conversion_workers(25), 25)


def downgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        # On MySQL, an interrupted run may have dropped it.
        if sa.inspect(conn).has_table("conversion_jobs"):
            conn.execute(_KILL)
        operations.drop_table(conn, "conversion_workers")
        operations.drop_table(conn, "conversion_jobs")
