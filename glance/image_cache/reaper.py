"""glance-cache-cleaner (formerly glance-cache-reaper): remove what is not needed from the cache.

That is what failed writes, dead processes and deleted images left.
`glance.image_cache.upkeep.cleaning` finds it; this module asks the registry which images are still
active.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
from collections.abc import Collection, Sequence

from glance.common import config, exception
from glance.image_cache import passes
from glance.image_cache.upkeep import cleaning
from glance.registry.link import RegistryLink
from glance.registry.service_account import ServiceAccount

LOG = logging.getLogger(__name__)

#: How many images are requested from the registry at the same time.
_AT_ONCE = 8
_COUNTED = [field.name for field in dataclasses.fields(cleaning.Cleaned) if field.name != "busy"]


@dataclasses.dataclass(frozen=True, slots=True)
class CleanOutcome:
    """What a pass removed; `is_complete` unless the registry was needed and unavailable."""

    cleaned: cleaning.Cleaned
    is_complete: bool = True

    def __str__(self) -> str:
        if self.cleaned.busy:
            return "another process is cleaning"
        counts = ", ".join(f"{getattr(self.cleaned, name)} {name}" for name in _COUNTED)
        return counts if self.is_complete else f"{counts}; the registry was not asked"


class Reaper(passes.Passes):
    """Each pass cleans once.

    NOTE: the registry is used only if the file names it: Diablo's file for this program does not,
    and images must not be removed because of some other service on the default port.
    """

    def __init__(self, conf: config.Conf):
        super().__init__(conf)
        named = conf.is_set("registry_host") or conf.is_set("registry_port")
        self.account = ServiceAccount(conf, RegistryLink(conf)) if named else None

    def make_pass(self) -> CleanOutcome:
        if self.account is None:
            return CleanOutcome(self.cache.clean())
        try:
            return CleanOutcome(self.cache.clean(self._active))
        except (exception.RegistryUnavailable, exception.NotAuthorized) as err:
            LOG.error("The registry cannot be asked which images are still active: %s", err)
            return CleanOutcome(self.cache.clean(), is_complete=False)

    def _active(self, image_ids: Sequence[str]) -> Collection[str]:
        """Return those of the ids whose images are active."""
        with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
            found = pool.map(self._is_active, image_ids)
            return {image_id for image_id, active in zip(image_ids, found, strict=True) if active}

    def _is_active(self, image_id: str) -> bool:
        assert self.account is not None
        return self.account.active_image(image_id) is not None


app_factory = Reaper.app_factory
