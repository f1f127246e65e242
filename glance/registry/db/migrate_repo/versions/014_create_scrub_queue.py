"""Create the scrub queue: data that waits for its removal, with attempts and leases.

Images that wait already are entered by the scrubber's first pass. The queue holds nothing that a
downgrade must keep: images in `pending_delete` say by themselves that they wait. (What failed
uploads left in a store is known to the queue alone; `glance-manage orphans` finds it too.)
"""

from __future__ import annotations

from typing import Any

from glance.registry.db.migrate_repo import operations, schema


def upgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        operations.create_table(conn, schema.scrub_queue(14), 14)


def downgrade(migrate_engine: Any) -> None:
    with operations.begin(migrate_engine) as conn:
        operations.drop_table(conn, "scrub_queue")
