"""Remove the data that a scrubber has leased: several images at once, each in its own thread.

`glance.scrubber` takes the leases and calls this. `glance.store.removal` makes one attempt at one
image; this module does what comes before and after it: it renews leases, abandons threads that
hang, and enters the outcome of attempts into the registry's database.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import queue
import threading
import time
from collections.abc import Sequence

from glance import store
from glance.common import config, exception, metrics
from glance.notifier import events
from glance.registry.db import deletion, engine, scrub_queue
from glance.scrubber import uploads
from glance.store import removal
from glance.store.removal import Removal, RemovalOutcome

LOG = logging.getLogger(__name__)

config.options(
    "scrubber",
    config.Option(
        "scrub_workers",
        config.integer,
        10,
        unit="images",
        minimum=1,
        help="For how many images a scrubber removes data at the same time.",
    ),
    config.Option(
        "scrub_max_attempts",
        config.integer,
        0,
        minimum=0,
        help="Number of failed attempts after which the scrubber gives up on the data of an "
        "image; 0 means never. glance-scrubber --retry tries such images again.",
    ),
    config.Option(
        "scrub_timeout",
        config.real,
        1800.0,
        unit="seconds",
        minimum=0.1,
        help="How long a scrubber waits for a store to remove the data of one image. A large "
        "image in many segments takes a while.",
    ),
)

#: How long removals in progress may continue after the scrubber was stopped, in seconds.
STOP_SECONDS = 30.0
_RENEW_SECONDS = scrub_queue.LEASE.total_seconds() / 3
TICK = 0.2


@dataclasses.dataclass(slots=True)
class Summary:
    """What a pass did, counted in images (and in parts that failed uploads left)."""

    leased: int = 0
    deleted: int = 0
    gone: int = 0
    not_ours: int = 0
    postponed: int = 0
    dead: int = 0
    killed: int = 0

    def count(self, outcome: RemovalOutcome) -> None:
        name = outcome.name.lower()
        metrics.SCRUBBED.inc(name)
        setattr(self, name, getattr(self, name) + 1)

    @property
    def is_complete(self) -> bool:
        """Return whether everything that was due is done."""
        return not self.postponed and not self.dead

    def __str__(self) -> str:
        return (
            f"{self.leased} leased, {self.deleted} deleted, {self.gone} already gone, "
            f"{self.not_ours} not ours, {self.postponed} postponed, {self.dead} dead, "
            f"{self.killed} interrupted uploads killed"
        )


class Workers:
    """The workers of one scrubber, whose leases have the owner `owner`.

    When `stopped` is set, removals in progress may end, for at most `STOP_SECONDS`, and no others
    are begun.
    """

    def __init__(
        self,
        conf: config.Conf,
        db: engine.Database,
        stores: store.Stores,
        owner: str,
        stopped: threading.Event,
        teller: events.Events,
    ):
        self.conf, self.db, self.stores, self.owner = conf, db, stores, owner
        self.events = teller
        self._stopped = stopped
        self._ended: queue.SimpleQueue[tuple[scrub_queue.Claim, Removal]] = queue.SimpleQueue()
        self._hung: set[scrub_queue.Claim] = set()

    def work_off(self, claims: Sequence[scrub_queue.Claim], summary: Summary) -> bool:
        """Remove what was leased; return False if not all of it could be attempted.

        Each removal has a thread, which is abandoned if the store hangs; while the thread lives it
        takes the place of a worker, so that a store that hangs for ever stops all removals, but
        not the scrubber.
        """
        waiting = collections.deque(claims)
        running: dict[scrub_queue.Claim, float] = {}
        renewed, give_up = time.monotonic(), float("inf")
        while waiting or running:
            now = time.monotonic()
            if self._stopped.is_set() and give_up == float("inf"):
                give_up = now + STOP_SECONDS
                waiting.clear()
            while waiting and len(running) + len(self._hung) < self.conf.scrub_workers:
                claim = waiting.popleft()
                running[claim] = now
                threading.Thread(target=self._free, args=(claim,), daemon=True).start()
            if not running or now >= give_up:
                break
            self._collect_results(running, summary)
            self._leave_behind(running, summary)
            if now - renewed >= _RENEW_SECONDS:
                self._renew()
                renewed = now
        if waiting:
            LOG.error("%d images are waiting: a store blocks all workers", len(waiting))
        summary.postponed += len(waiting) + len(running)
        return not waiting

    def _free(self, claim: scrub_queue.Claim) -> None:
        """Remove the data of a claim. Runs in a thread of its own."""
        image_id, location = claim.image_id, claim.location
        leftover = claim.item != scrub_queue.DATA
        freed = None
        if leftover and location:
            freed = uploads.hold_back(self.db, self.stores, image_id, location)
        if freed is None:
            freed = removal.free(self.stores, self.conf, image_id, location, ours=leftover)
        self._ended.put((claim, freed))

    def _collect_results(self, running: dict[scrub_queue.Claim, float], summary: Summary) -> None:
        """Settle the next removal that ends, if one ends soon."""
        try:
            claim, freed = self._ended.get(timeout=TICK)
        except queue.Empty:
            return
        running.pop(claim, None)
        late = claim in self._hung
        self._hung.discard(claim)
        # NOTE: an abandoned removal has been queued again already, and its failure counted.
        if not late or freed.outcome.is_final:
            self._settle(claim, freed, summary)

    def _leave_behind(self, running: dict[scrub_queue.Claim, float], summary: Summary) -> None:
        now = time.monotonic()
        for claim, since in list(running.items()):
            if now - since >= self.conf.scrub_timeout:
                LOG.warning("Image %s: the store does not finish", claim.image_id)
                del running[claim]
                self._hung.add(claim)
                self._settle(claim, Removal(RemovalOutcome.POSTPONED, "ScrubTimeout"), summary)

    def _renew(self) -> None:
        try:
            scrub_queue.renew(self.db, self.owner)
        except exception.ServiceUnavailable as err:
            LOG.warning("The leases could not be renewed: %s", err)

    def _settle(self, claim: scrub_queue.Claim, freed: Removal, summary: Summary) -> None:
        """Enter the outcome of an attempt into the registry's database, and count it."""
        outcome = freed.outcome
        try:
            if outcome.is_final:
                deletion.settle(self.db, claim.image_id, claim.item)
                if outcome is RemovalOutcome.DELETED and claim.item == scrub_queue.DATA:
                    self.events.scrubbed(claim.image_id, claim.attempts + 1)
            else:
                outcome = self._postpone(claim, freed)
        except exception.Error as err:
            # The lease expires, and the next attempt finds that the data is gone.
            LOG.error("Image %s stays pending_delete: %s", claim.image_id, err)
            outcome = RemovalOutcome.POSTPONED
        summary.count(outcome)

    def _postpone(self, claim: scrub_queue.Claim, freed: Removal) -> RemovalOutcome:
        entry = scrub_queue.postpone(
            self.db,
            claim.image_id,
            claim.item,
            freed.error,
            owner=self.owner,
            dead=freed.outcome is RemovalOutcome.DEAD,
            max_attempts=self.conf.scrub_max_attempts,
        )
        if entry is None or not entry.dead:
            return RemovalOutcome.POSTPONED
        LOG.error(
            "Image %s: giving up on its data after %d attempts (%s); glance-scrubber --retry "
            "tries again",
            claim.image_id,
            entry.attempts,
            freed.error,
        )
        if claim.item == scrub_queue.DATA:
            self.events.scrub_given_up(claim.image_id, entry.attempts, freed.error)
        return RemovalOutcome.DEAD
