"""Remove the data of a deleted image: one attempt, and its outcome.

The API makes an attempt when an image is deleted, `glance-scrubber` makes attempts for the data
that waits. `free` never raises: whatever a driver does, the image is deleted, and only its data
may have to wait. The settings of both are here too.
"""

from __future__ import annotations

import enum
import logging
from typing import NamedTuple

from glance import store
from glance.common import config, exception
from glance.image import cipher

LOG = logging.getLogger(__name__)

config.options(
    "deletion",
    config.Option(
        "scrub_time",
        config.integer,
        0,
        unit="seconds",
        minimum=0,
        help="Minimum time for which the data of a deleted image is kept. If glance-api (with "
        "delayed_delete) and glance-scrubber have different values, the longer time "
        "applies.",
    ),
    config.Option(
        "delete_registered_images",
        config.boolean,
        False,
        help="When an image is deleted, also remove its data if its location was registered and "
        "this service did not write it. Use the same value for glance-api and "
        "glance-scrubber. Stores that cannot delete keep the data.",
    ),
)


class RemovalOutcome(enum.Enum):
    """How an attempt ended."""

    DELETED = "deleted"
    GONE = "already gone"
    NOT_OURS = "not ours"
    POSTPONED = "postponed"
    DEAD = "dead"

    @property
    def is_final(self) -> bool:
        """Return whether the record can be settled: no data remains that could be removed."""
        return self in (RemovalOutcome.DELETED, RemovalOutcome.GONE, RemovalOutcome.NOT_OURS)


class Removal(NamedTuple):
    """The outcome of one attempt, with the class of the error that prevented it."""

    outcome: RemovalOutcome
    error: str = ""


def free(
    stores: store.Stores, conf: config.Conf, image_id: int, location: str | None, *, ours: bool
) -> Removal:
    """Try to remove the data of an image at `location`. Never raises.

    With `ours` this service is known to have written the location (a part that a failed upload
    left); otherwise the store decides whether it has.
    """
    if not location:
        return Removal(RemovalOutcome.GONE)
    if not cipher.is_clear(location):
        # NOTE: not dead, as for a bad URI: the operator has not configured the key here.
        return Removal(RemovalOutcome.POSTPONED, "LocationEncrypted")
    # SECURITY: locations hold credentials, so the log names only the classes of errors.
    try:
        ours = ours or conf.delete_registered_images or stores.owns(location, str(image_id))
        if not ours:
            LOG.debug("Image %s: its data is not ours to remove", image_id)
            return Removal(RemovalOutcome.NOT_OURS)
        stores.delete(location)
    except exception.StoreDeleteNotSupported:
        LOG.debug("Image %s: its store removes nothing", image_id)
        return Removal(RemovalOutcome.NOT_OURS)
    except exception.StoreObjectNotFound:
        LOG.warning("Image %s: its data is already gone", image_id)
        return Removal(RemovalOutcome.GONE)
    except (exception.UnknownScheme, exception.BadStoreUri) as err:
        name = type(err).__name__
        LOG.error("Image %s: its data cannot be found with these settings: %s", image_id, name)
        return Removal(RemovalOutcome.DEAD, name)
    except exception.StoreForbidden as err:
        cause = exception.described(err)
        LOG.error("Image %s: the store refuses to remove its data: %s", image_id, cause)
        return Removal(RemovalOutcome.POSTPONED, type(err).__name__)
    except Exception as err:
        # Any other error of a driver affects this image only.
        cause = exception.described(err)
        LOG.warning("Image %s: its data was not removed: %s", image_id, cause)
        LOG.debug("Image %s: where that comes from", image_id, exc_info=True)
        return Removal(RemovalOutcome.POSTPONED, type(err).__name__)
    return Removal(RemovalOutcome.DELETED)
