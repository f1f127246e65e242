"""glance-scrubber: remove the data of deleted images that has waited long enough.

A pass works off the scrub queue in the registry's database: it leases what is due, oldest first,
removes the data and settles the records; what could not be removed waits longer from try to try.
Any number of scrubbers may run, on any hosts. A pass looks at the uploads that died, too
(`glance.scrubber.uploads`). Those who remove are the `workers`; the program around it all is
`glance.cli.maintenance.scrub`.
"""

from __future__ import annotations

import datetime
import functools
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

from glance import store
from glance.common import config, exception
from glance.notifier import events
from glance.registry.db import engine, scrub_queue
from glance.scrubber import uploads
from glance.scrubber.workers import STOP_SECONDS, TICK, Summary, Workers

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


class Scrubber:
    """Makes passes; `stop` (from any thread, or a signal handler) ends the running one early."""

    def __init__(self, conf: config.Conf):
        self.conf = conf
        self.db = engine.from_conf(conf)
        self.stores = store.create_stores(conf)
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"
        self._stopped = threading.Event()
        self._settling: uploads.Settling | None = None

    @functools.cached_property
    def events(self) -> events.Events:
        """Tells of what a pass does. Who only looks at the queue has no use for it."""
        return events.create(self.conf)

    @functools.cached_property
    def crew(self) -> Workers:
        return Workers(self.conf, self.db, self.stores, self.owner, self._stopped, self.events)

    def stop(self) -> None:
        self._stopped.set()

    @property
    def was_stopped(self) -> bool:
        return self._stopped.is_set()

    def run(self) -> None:
        """Make a pass now and after every `wakeup_time` seconds, until stopped.

        A pass that fails, for lack of a database say, is logged; the next one tries again.
        """
        while not self._stopped.is_set():
            try:
                self.run_once()
            except exception.Error as err:
                LOG.error("The pass was aborted: %s", err)
            self._stopped.wait(self.conf.wakeup_time)

    def run_once(self) -> Summary:
        """Make one pass, all of it, and return what it did. Raises ServiceUnavailable.

        Stopped, it takes nothing more, waits `STOP_SECONDS` at most for what is under way, and
        gives its leases back.
        """
        started = time.monotonic()
        summary = Summary()
        if self._settling is None:
            self._settling = uploads.Settling(self.conf, self.db, self.stores)
        adopted = scrub_queue.adopt(self.db)
        if adopted:
            LOG.info("Added %d images of an older release to the queue", adopted)
        try:
            while not self._stopped.is_set():
                claims = self._lease()
                if not claims:
                    break
                summary.leased += len(claims)
                if not self.crew.work_off(claims, summary):
                    break
        finally:
            self._release()
        self._finish_settling(summary)
        LOG.info("Pass done: %s, %.1f seconds", summary, time.monotonic() - started)
        return summary

    def _finish_settling(self, summary: Summary) -> None:
        """Wait for the end of the look at broken uploads; one that hangs goes on for itself."""
        assert self._settling is not None
        give_up = time.monotonic() + self.conf.scrub_timeout
        while not self._settling.wait(TICK):
            if self._stopped.is_set():
                give_up = min(give_up, time.monotonic() + STOP_SECONDS)
            if time.monotonic() >= give_up:
                LOG.warning("A store delays the search for interrupted uploads")
                return
        done, self._settling = self._settling, None
        summary.killed = len(done.killed)
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
