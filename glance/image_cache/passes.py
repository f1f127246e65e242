"""Programs that look after the image cache in passes: one, or one after the other for ever.

`prefetcher`, `pruner` and `reaper` say what a pass does; `glance.cli.maintenance.cache_programs`
is the command line around them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol, Self

from glance import image_cache
from glance.common import config
from glance.streaming.periodic import PeriodicTask

LOG = logging.getLogger(__name__)

config.options(
    "cache programs",
    config.Option(
        "image_cache_wakeup_time",
        config.integer,
        300,
        unit="seconds",
        minimum=1,
        help="Pause between two passes of a cache program that was started with --daemon.",
    ),
)


class PassOutcome(Protocol):
    """What a pass did; its text is for the log."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do that should have been done."""
        ...


class Passes(PeriodicTask):
    """Makes passes over one cache, `image_cache_wakeup_time` seconds apart.

    NOTE: of image_cache_enabled the programs take no notice, as Diablo's files for them never had
    it: the cache may be filled for an API that is to use it later.
    """

    turn_name = "pass"

    def __init__(self, conf: config.Conf):
        """Take the settings; ConfigError for those that cannot be used."""
        super().__init__(conf.image_cache_wakeup_time)
        self.conf = conf
        self.cache = image_cache.ImageCache(conf)

    @classmethod
    def app_factory(cls, global_conf: Mapping[str, Any], **local_conf: Any) -> Self:
        """Paste app factory of the program's section."""
        return cls(config.from_paste(global_conf, local_conf))

    def turn(self) -> None:
        self.run_once()

    def run_once(self) -> PassOutcome:
        """Make one pass and return what it did. Raises Error when it had to be given up."""
        self.cache.configure()
        try:
            outcome = self.make_pass()
        finally:
            self.cache.close()
        LOG.info("Pass done: %s", outcome)
        return outcome

    def make_pass(self) -> PassOutcome:
        """Do the work of one pass, with the cache open."""
        raise NotImplementedError
