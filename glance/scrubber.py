"""glance-scrubber: remove the data of images whose deletion has waited long enough.

A pass looks at the registry's database directly: images in status `pending_delete` lose their data
and become `deleted`, one after the other; what could not be removed is tried again by the next
pass. It also settles uploads that died: staged data whose writer is gone, and records that have
been `saving` for too long. The program around it is `glance.cli.scrub`.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import datetime
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from glance import store
from glance.common import config, exception
from glance.common.context import RequestContext
from glance.registry.db import api, engine, maintenance
from glance.store import base

LOG = logging.getLogger(__name__)

config.options(
    "scrubber",
    config.Option(
        "daemon",
        config.boolean,
        False,
        help="Go on until told to end, with pauses of wakeup_time, instead of making one pass.",
    ),
    config.Option(
        "wakeup_time",
        config.integer,
        300,
        unit="seconds",
        minimum=1,
        help="Pause between two passes of the daemon.",
    ),
    config.Option(
        "scrub_time",
        config.integer,
        0,
        unit="seconds",
        minimum=0,
        help="How long the data of a deleted image is kept.",
    ),
    config.Option(
        "scrub_workers",
        config.integer,
        10,
        unit="images",
        minimum=1,
        help="How many images lose their data at the same time.",
    ),
    config.Option(
        "stalled_upload_time",
        config.integer,
        86400,
        unit="seconds",
        minimum=0,
        help="Age after which an upload that is not done is given up and its image killed; 0 "
        "never does that. Choose more than the longest upload takes.",
    ),
)


@dataclasses.dataclass(slots=True)
class Outcome:
    """What a pass did, in images."""

    deleted: int = 0
    gone: int = 0
    failed: int = 0
    killed: int = 0

    def __str__(self) -> str:
        return (
            f"{self.deleted} deleted, {self.gone} already gone or not ours, {self.failed} left "
            f"for the next pass, {self.killed} broken uploads killed"
        )


class Scrubber:
    """Makes passes; `stop` (from any thread, or a signal handler) ends the running one early."""

    def __init__(self, conf: config.Conf):
        self.conf = conf
        self.db = engine.from_conf(conf)
        self.stores = store.create_stores(conf)
        self.context = RequestContext(is_admin=True, show_deleted=True)
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        """Make a pass now and after every `wakeup_time` seconds, until stopped.

        A pass that fails, for lack of a database say, is logged; the next one tries again.
        """
        while not self._stopped.is_set():
            try:
                self.run_once()
            except exception.Error as err:
                LOG.error("The pass was given up: %s", err)
            self._stopped.wait(self.conf.wakeup_time)

    def run_once(self) -> Outcome:
        """Make one pass, all of it, and return what it did. Raises ServiceUnavailable."""
        started = time.monotonic()
        outcome = Outcome()
        self._settle_uploads(outcome)
        now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        due = now - datetime.timedelta(seconds=self.conf.scrub_time)
        # Those that have waited longest come first.
        waiting = maintenance.images_to_scrub(self.db, due)[::-1]
        with concurrent.futures.ThreadPoolExecutor(self.conf.scrub_workers) as pool:
            tasks = {pool.submit(self._free, image): image["id"] for image in waiting}
            for task in concurrent.futures.as_completed(tasks):
                if not task.cancelled():
                    self._settle(tasks[task], task.result(), outcome)
                if self._stopped.is_set():
                    # Those under way are finished; the others wait for another pass.
                    for other in tasks:
                        other.cancel()
        LOG.info("Pass done: %s (%.1f seconds)", outcome, time.monotonic() - started)
        return outcome

    # -- deleted images --------------------------------------------------------------------------

    def _free(self, image: Mapping[str, Any]) -> str:
        """Remove the data of an image; return the counter of `Outcome` to raise. Runs in a thread.

        SECURITY: locations hold credentials, so that the log names errors by their class.
        """
        image_id, location = image["id"], image["location"]
        if not location:
            return "gone"
        try:
            if not self.stores.wrote(location, str(image_id)):
                return "gone"
            self.stores.delete(location)
        except (exception.StoreObjectNotFound, exception.StoreDeleteNotSupported) as err:
            LOG.warning("Image %s: nothing to remove: %s", image_id, type(err).__name__)
            return "gone"
        except (exception.UnknownScheme, exception.BadStoreUri) as err:
            LOG.error(
                "Image %s: its data cannot be found with these settings: %s",
                image_id,
                type(err).__name__,
            )
            return "failed"
        except Exception as err:
            # Whatever a driver raises concerns this image alone.
            LOG.error("Image %s: its data was not removed: %s", image_id, type(err).__name__)
            LOG.debug("Image %s: where that comes from", image_id, exc_info=True)
            return "failed"
        return "deleted"

    def _settle(self, image_id: int, result: str, outcome: Outcome) -> None:
        if result != "failed":
            try:
                api.image_settle(self.db, self.context, image_id)
            except exception.ImageNotFound:
                LOG.debug("Image %s was settled by somebody else", image_id)
            except exception.Error as err:
                LOG.error("Image %s stays pending_delete: %s", image_id, err)
                result = "failed"
        setattr(outcome, result, getattr(outcome, result) + 1)

    # -- broken uploads --------------------------------------------------------------------------

    def _settle_uploads(self, outcome: Outcome) -> None:
        for left in self.stores.sweep():
            try:
                needed = self._is_needed(left.image_id, outcome)
            except exception.Error as err:
                LOG.error("Image %s: its upload is not settled: %s", left.image_id, err)
                left.leave()
                continue
            _end(left, needed=needed)
        if not self.conf.stalled_upload_time:
            return
        now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        age = datetime.timedelta(seconds=self.conf.stalled_upload_time)
        for image in maintenance.images_stalled(self.db, now - age):
            self._kill(image["id"], outcome)

    def _is_needed(self, image_id: str, outcome: Outcome) -> bool:
        """Tell whether a record says that the data is there; one that waits for it is killed."""
        if not image_id.isdecimal():
            return False
        try:
            status = api.image_get(self.db, self.context, int(image_id))["status"]
        except exception.NotFound:
            return False
        if status == "saving":
            return not self._kill(int(image_id), outcome)
        return bool(status in ("active", "pending_delete"))

    def _kill(self, image_id: int, outcome: Outcome) -> bool:
        """Give up an upload; False if it has ended by itself meanwhile."""
        try:
            api.image_update(
                self.db, self.context, image_id, {"status": "killed"}, from_state="saving"
            )
        except (exception.Conflict, exception.NotFound):
            return False
        LOG.warning("Image %s is killed: its upload was abandoned", image_id)
        outcome.killed += 1
        return True


def _end(left: base.AbandonedWrite, *, needed: bool) -> None:
    if needed and left.committed:
        left.keep()
    else:
        left.discard()


def app_factory(global_conf: Mapping[str, Any], **local_conf: Any) -> Scrubber:
    """Paste app factory of `[app:glance-scrubber]`, under its old name glance.store.scrubber."""
    return Scrubber(config.from_paste(global_conf, local_conf))
