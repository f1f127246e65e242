"""Create the scrub queue: data that waits for its removal, with attempts and leases.

The scrubber's first pass enters images that wait already. The queue holds nothing that a downgrade
must keep: the status `pending_delete` of an image shows that it waits. (Only the queue knows what
failed uploads left in a store; `glance-manage orphans` finds that too.)
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
