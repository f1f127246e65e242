"""Removing the data of a deleted image: one attempt, and what its end means.

The API makes it when an image is deleted, `glance-scrubber` makes it for what waits. `free` raises
nothing: whatever a driver does, the image is deleted, and only its data may have to wait. The
settings that both go by are here too.
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
        """Return whether the record can be settled: nothing remains that could be removed."""
        return self in (RemovalOutcome.DELETED, RemovalOutcome.GONE, RemovalOutcome.NOT_OURS)


class Removal(NamedTuple):
    """The outcome of one attempt, with the class of the error that stood in the way."""

    outcome: RemovalOutcome
    error: str = ""


def free(
    stores: store.Stores, conf: config.Conf, image_id: int, location: str | None, *, ours: bool
) -> Removal:
    """Try to remove what lies at `location` for an image. Raises nothing.

    With `ours` the location is known to be written by this service (a part that a failed upload
    left); else the store is asked whether it is.
    """
    if not location:
        return Removal(RemovalOutcome.GONE)
    if not cipher.is_clear(location):
        # NOTE: not dead, as it would be for a bad URI: the operator has forgotten the key here.
        return Removal(RemovalOutcome.POSTPONED, "LocationEncrypted")
    # SECURITY: locations hold credentials, so the log names errors by their class.
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
        LOG.error("Image %s: the store refuses to remove its data", image_id)
        return Removal(RemovalOutcome.POSTPONED, type(err).__name__)
    except Exception as err:
        # Whatever a driver raises concerns this image alone.
        LOG.warning("Image %s: its data was not removed: %s", image_id, type(err).__name__)
        LOG.debug("Image %s: where that comes from", image_id, exc_info=True)
        return Removal(RemovalOutcome.POSTPONED, type(err).__name__)
    return Removal(RemovalOutcome.DELETED)
