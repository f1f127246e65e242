"""The one place that tells the operator of image data which a store has refused, lost or damaged.

A line at ERROR has the image, the store, the location with asterisks for what is secret, and the
cause. It is a WARNING where the operator has nothing to mend: at a location that a caller has
registered, and of two uploads at the same time for the one that lost.
Callers can repeat a request that fails, so the number of lines has a bound.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from glance import store
from glance.common import exception, log
from glance.store import base
from glance.store import location as store_location
from glance.store.location import HttpLocation

LOG = logging.getLogger(__name__)

#: In so many seconds each failure of an image is logged once, and at most so many failures.
WINDOW = 60.0
LINES = 60


class DataLog:
    """Logs failures of the stores of one process. Safe to use from many threads.

    What it has seen has `is_logged`, so that nobody else logs it again. Within `WINDOW` seconds a
    failure that is repeated, and all after the first `LINES`, are only counted; the next window
    begins with their number.
    """

    def __init__(self, stores: store.Stores, clock: Callable[[], float] = time.monotonic):
        self._stores, self._clock = stores, clock
        self._end = float("-inf")
        self._told: set[tuple[str, str, str]] = set()
        self._untold = 0

    def refused(self, image_id: object, target: base.Store, err: exception.StoreError) -> None:
        """Log that a store did not take the data of an image; errors of another step are no news.

        `err` is what `stage`, or a method of the staged write, has raised.
        """
        if err.during not in base.WRITING:
            return
        place = target.place_of(str(image_id))
        self._tell(
            ("refused", str(image_id), type(err).__name__),
            f"the {target.name} store did not take its data{f' at {place}' if place else ''}",
            err,
            logging.WARNING if isinstance(err, exception.Duplicate) else logging.ERROR,
        )

    def lost(
        self, image_id: object, uri: str, err: BaseException, sent: int | None = None
    ) -> None:
        """Log that the data at the stored location `uri` could not be read.

        `sent` is how many bytes of it a client has got, None if the response had not begun.
        """
        after = "" if sent is None else f" further than {sent} bytes"
        name, place = self._place(uri)
        self._tell(
            ("lost", str(image_id), type(err).__name__),
            f"its data in the {name} store at {place} cannot be read{after}",
            err,
            logging.ERROR if self._is_ours(uri, str(image_id)) else logging.WARNING,
        )

    def _is_ours(self, uri: str, image_id: str) -> bool:
        try:
            return self._stores.owns(uri, image_id)
        except (exception.UnknownScheme, exception.BadStoreUri):
            return True

    def _place(self, uri: str) -> tuple[str, str]:
        """Return the names of a store and of a place in it, without secrets."""
        try:
            place = self._stores.location(uri).store_location
            # SECURITY: the path on a server of others can be as good as a password.
            shown = place.origin_text if isinstance(place, HttpLocation) else str(place)
            return self._stores.for_uri(uri).name, shown
        except (exception.UnknownScheme, exception.BadStoreUri):
            pass
        try:
            scheme = store_location.scheme_of(uri)
        except exception.BadStoreUri:
            return "unknown", "a location that is damaged"
        # SECURITY: without its driver nobody knows what of the location is secret.
        return scheme, f"{scheme}://***"

    def _tell(self, key: tuple[str, str, str], what: str, err: BaseException, level: int) -> None:
        if isinstance(err, exception.Error):
            err.is_logged = True
        level = level if self._is_due(key) else logging.DEBUG
        request_id = log.REQUEST_ID.get()
        where = f", request {request_id}" if request_id else ""
        LOG.log(level, "Image %s: %s%s: %s", key[1], what, where, exception.described(err))

    def _is_due(self, key: tuple[str, str, str]) -> bool:
        now = self._clock()
        if now >= self._end:
            self._end = now + WINDOW
            self._told.clear()
            untold, self._untold = self._untold, 0
            if untold:
                LOG.error("%d more failures to store or read image data were not logged", untold)
        if key in self._told or len(self._told) >= LINES:
            self._untold += 1
            return False
        self._told.add(key)
        return True
