"""The prefetch queue as a list in the shared state."""

from __future__ import annotations

import dataclasses

from glance.image_cache.index.queue import IN_PROGRESS, QUEUED, PrefetchQueue, QueueItem
from glance.image_cache.index.xattr.state import SharedState


class XattrQueue(PrefetchQueue):
    """See the module."""

    def __init__(self, state: SharedState):
        self._state = state

    def add(self, item: QueueItem) -> bool:
        with self._state.change() as state:
            if any(known["image_id"] == item.image_id for known in state["queue"]):
                return False
            state["queue"].append(dataclasses.asdict(item))
        return True

    def items(self) -> list[QueueItem]:
        items = [QueueItem(**item) for item in self._state.read()["queue"]]
        return sorted(items, key=lambda item: (item.enqueued_at, item.image_id))

    def take(self, owner: str, now: float) -> QueueItem | None:
        with self._state.change():
            for item in self.items():
                if item.state == QUEUED and item.not_before <= now:
                    taken = dataclasses.replace(item, state=IN_PROGRESS, owner=owner)
                    self.put_back(taken)
                    return taken
        return None

    def put_back(self, item: QueueItem) -> None:
        with self._state.change() as state:
            state["queue"] = [
                dataclasses.asdict(item) if known["image_id"] == item.image_id else known
                for known in state["queue"]
            ]

    def remove(self, image_id: str, *, only: str | None = None) -> bool:
        with self._state.change() as state:
            kept = [
                item
                for item in state["queue"]
                if item["image_id"] != image_id or (only is not None and item["state"] != only)
            ]
            removed = len(kept) < len(state["queue"])
            state["queue"] = kept
        return removed
