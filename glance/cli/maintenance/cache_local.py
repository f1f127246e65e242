"""The commands of glance-cache-manage that work on the cache directory of this host.

`glance.cli.maintenance.cache_manage` imports it for these commands only, because it needs code of
the servers.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Iterator

from glance import image_cache
from glance.cli.daemon import paste
from glance.common import config, privileges
from glance.image_cache import Image
from glance.image_cache.upkeep import cleaning, rebuild
from glance.registry.link import RegistryLink
from glance.registry.service_account import ServiceAccount

#: Programs whose configuration files have the options of the cache.
PROGRAMS = ("glance-cache", "glance-api")


def load(args: argparse.Namespace) -> config.Conf:
    """Return the settings that the command line names; ConfigError if they are not valid."""
    # An error is printed as one line, without log lines.
    logging.basicConfig(level=logging.DEBUG if args.debug else logging.CRITICAL)
    first, *others = PROGRAMS
    conf = paste.load_shared_conf(paste.find_config_file(first, args.config_file, others=others))
    conf.check()
    return conf


@contextlib.contextmanager
def opened(conf: config.Conf) -> Iterator[image_cache.ImageCache]:
    """Open the cache of a configuration, and close it at the end.

    Root becomes another user first (`privileges.work_in`). Raises CacheUnavailable, ConfigError.
    """
    cache = image_cache.ImageCache(conf)
    privileges.work_in(cache.directory.path, conf)
    cache.configure()
    try:
        yield cache
    finally:
        cache.close()


def verify(args: argparse.Namespace) -> cleaning.Verified:
    """Read all complete entries again, and mark those that have changed as invalid."""
    with opened(load(args)) as cache:
        return cache.verify()


def rebuild_index(args: argparse.Namespace) -> rebuild.Rebuilt:
    """Add the files that match a record of the registry to the index."""
    conf = load(args)
    account = ServiceAccount(conf, RegistryLink(conf))

    def image_of(image_id: str) -> Image | None:
        record = account.active_image(image_id)
        return None if record is None else Image.of(record)

    with opened(conf) as cache:
        return rebuild.rebuild(cache, image_of)
