"""Programs that look after the image cache in passes: one, or one after the other for ever.

`prefetcher`, `pruner` and `reaper` say what a pass does; `glance.cli.maintenance.cache_programs`
is the command line around them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any, Protocol, Self

from glance import image_cache
from glance.common import config, exception

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


class Passes:
    """Makes passes over one cache; `stop` (from any thread, or a signal handler) ends them early.

    NOTE: of image_cache_enabled the programs take no notice, as Diablo's files for them never had
    it: the cache may be filled for an API that is to use it later.
    """

    def __init__(self, conf: config.Conf):
        """Take the settings; ConfigError for those that cannot be used."""
        self.conf = conf
        self.cache = image_cache.ImageCache(conf)
        self.stopped = threading.Event()

    @classmethod
    def app_factory(cls, global_conf: Mapping[str, Any], **local_conf: Any) -> Self:
        """Paste app factory of the program's section."""
        return cls(config.from_paste(global_conf, local_conf))

    def stop(self) -> None:
        self.stopped.set()

    def run(self) -> None:
        """Make a pass now and after every `image_cache_wakeup_time` seconds, until stopped.

        A pass that fails is logged; the next one tries again.
        """
        while not self.stopped.is_set():
            try:
                self.run_once()
            except exception.Error as err:
                LOG.error("The pass was aborted: %s", err)
            self.stopped.wait(self.conf.image_cache_wakeup_time)

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
