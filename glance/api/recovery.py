"""What a process that died left behind, put right at the start of the next one.

A worker that is killed in mid-upload leaves staged data in the file store and a record in status
saving. The store tells staged data of dead writers from that of living ones and removes it; the
records of those images are set killed here, so that nobody waits for them.
"""

from __future__ import annotations

import logging

from glance import api, registry
from glance.common import exception, offload
from glance.common.context import RequestContext

LOG = logging.getLogger(__name__)

#: Seconds between tries while the registry is not up yet; daemons start in any order.
PAUSES = (0.5, 1, 2, 4, 8, 15, 30, 60)


def start(service: api.Service) -> None:
    """Sweep the stores, then settle the records in the background."""
    orphans = service.stores.sweep()
    if orphans:
        offload.spawn(settle, service, orphans)


def settle(service: api.Service, image_ids: list[str]) -> None:
    """Set the records of abandoned uploads killed; others are left as they are."""
    context = RequestContext(is_admin=True, roles=(service.conf.admin_role,))
    for image_id in image_ids:
        for pause in (*PAUSES, None):
            try:
                registry.update_image_metadata(
                    service.conf,
                    context,
                    image_id,
                    {"status": "killed"},
                    from_state="saving",
                )
                LOG.warning("Image %s is killed: its upload was abandoned", image_id)
            except (exception.NotFound, exception.Duplicate):
                LOG.info("Image %s has no upload to settle", image_id)
            except exception.NotAuthorized:
                LOG.warning("Image %s: the registry needs a token to settle it", image_id)
            except (exception.ServiceUnavailable, exception.ClientConnectionError):
                if pause is not None:
                    offload.sleep(pause)
                    continue
                LOG.error(
                    "Image %s: the registry is away, its upload stays unsettled",
                    image_id,
                )
            break
