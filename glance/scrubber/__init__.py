"""glance-scrubber: remove the data of deleted images that has waited long enough.

A pass processes the scrub queue in the registry's database: it leases the due rows, oldest first,
removes the data and settles the records; what could not be removed waits longer after each
attempt. Any number of scrubbers may run, on any hosts. A pass also settles uploads that died
(`glance.scrubber.uploads`). `workers` removes the data; the program is
`glance.cli.maintenance.scrub`.
"""

from __future__ import annotations

import datetime
import functools
import logging
import os
import secrets
import socket
import time
from collections.abc import Mapping
from typing import Any

from glance import store
from glance.common import config, exception, metrics
from glance.notifier import events
from glance.registry.db import engine, scrub_queue
from glance.scrubber import uploads
from glance.scrubber.workers import STOP_SECONDS, TICK, Summary, Workers
from glance.store.removal import RemovalOutcome
from glance.streaming.periodic import PeriodicTask

LOG = logging.getLogger(__name__)

config.options(
    "scrubber",
    config.Option(
        "daemon",
        config.boolean,
        False,
        help="Keep running, with a pause of wakeup_time between two passes, instead of making "
        "one pass.",
    ),
    config.Option(
        "wakeup_time",
        config.integer,
        300,
        unit="seconds",
        minimum=1,
        help="Pause between two passes in daemon mode.",
    ),
    config.Option(
        "scrub_batch",
        config.integer,
        100,
        unit="images",
        minimum=1,
        help="How many images a scrubber takes from the queue at a time. Other scrubbers skip "
        "these images.",
    ),
)


class Scrubber(PeriodicTask):
    """Makes passes, `wakeup_time` seconds apart; `stop` ends the current one early."""

    turn_name = "pass"

    def __init__(self, conf: config.Conf):
        super().__init__(conf.wakeup_time)
        self.conf = conf
        self.db = engine.from_conf(conf)
        self.stores = store.create_stores(conf)
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"
        self._settling: uploads.Settling | None = None

    @functools.cached_property
    def events(self) -> events.Events:
        """The events of this scrubber, created at the first use."""
        return events.create(self.conf)

    @functools.cached_property
    def workers(self) -> Workers:
        return Workers(self.conf, self.db, self.stores, self.owner, self.stopped, self.events)

    def turn(self) -> None:
        self.run_once()

    def show(self) -> None:
        """Begin the metrics of this scrubber, while they are on."""
        metrics.sample(self.db.look)
        metrics.begin(metrics.DATABASE_ERRORS, engine.FAILURES)
        metrics.begin(metrics.SCRUBBED, [each.name.lower() for each in RemovalOutcome])
        metrics.begin(metrics.SCRUB_KILLED)
        metrics.begin(metrics.SCRUB_PASSES, ["complete", "incomplete", "failed"])
        metrics.SCRUB_PASS_TIME.set(time.time())

    def run_once(self) -> Summary:
        """Make one complete pass and return what it did. Raises ServiceUnavailable.

        When stopped, it begins nothing more, waits at most `STOP_SECONDS` for removals in
        progress, and releases its leases.
        """
        try:
            summary = self._pass()
        except exception.Error:
            metrics.SCRUB_PASSES.inc("failed")
            raise
        metrics.SCRUB_PASSES.inc("complete" if summary.is_complete else "incomplete")
        metrics.SCRUB_PASS_TIME.set(time.time())
        return summary

    def _pass(self) -> Summary:
        started = time.monotonic()
        summary = Summary()
        if self._settling is None:
            self._settling = uploads.Settling(self.conf, self.db, self.stores)
        adopted = scrub_queue.adopt(self.db)
        if adopted:
            LOG.info("Added %d images of an older release to the queue", adopted)
        try:
            while not self.stopped.is_set():
                claims = self._lease()
                if not claims:
                    break
                summary.leased += len(claims)
                if not self.workers.work_off(claims, summary):
                    break
        finally:
            self._release()
        self._finish_settling(summary)
        LOG.info("Pass done: %s, %.1f seconds", summary, time.monotonic() - started)
        return summary

    def _finish_settling(self, summary: Summary) -> None:
        """Wait until broken uploads are settled; if that hangs, it continues in its thread."""
        assert self._settling is not None
        give_up = time.monotonic() + self.conf.scrub_timeout
        while not self._settling.wait(TICK):
            if self.stopped.is_set():
                give_up = min(give_up, time.monotonic() + STOP_SECONDS)
            if time.monotonic() >= give_up:
                LOG.warning("A store delays the search for interrupted uploads")
                return
        done, self._settling = self._settling, None
        summary.killed = len(done.killed)
        metrics.SCRUB_KILLED.inc(by=len(done.killed))
        for image_id in done.killed:
            self.events.failed("image.upload", None, image_id, exception.ServerError())
        if done.error is not None:
            raise done.error

    # -- the queue -------------------------------------------------------------------------------

    def _lease(self) -> list[scrub_queue.Claim]:
        kept_for = datetime.timedelta(seconds=self.conf.scrub_time)
        return scrub_queue.lease(self.db, self.owner, self.conf.scrub_batch, kept_for=kept_for)

    def _release(self) -> None:
        try:
            scrub_queue.release(self.db, self.owner)
        except exception.ServiceUnavailable as err:
            LOG.error("The leases remain until they expire: %s", err)


def app_factory(global_conf: Mapping[str, Any], **local_conf: Any) -> Scrubber:
    """Paste app factory of `[app:glance-scrubber]`, under its old name glance.store.scrubber."""
    return Scrubber(config.from_paste(global_conf, local_conf))
