"""Notifications on the disk; consumers recognise those that are sent again by their message id."""

from __future__ import annotations

from glance.notifier import message
from glance.streaming import spool


class NotificationSpool(spool.Spool[message.Message]):
    """The spool of notifications, whose lines are their envelopes as JSON; see `spool.Spool`."""

    def __init__(self, directory: str, limit: int, *, sync: bool = False):
        super().__init__(
            directory,
            limit,
            message.parse,
            what="notifications",
            option="notification_spool_dir",
            sync=sync,
        )
