"""glance-converter: works on the conversions that users ask for, on this host.

A converter leases jobs from the registry, over HTTP and known to it as a service like glance-api,
so it needs no password of the database. It reads sources from the stores, has `glance.conversion`
do the work, and stores a result like any upload (`glance.api.upload`); so what a converter that
was killed has left is settled as after a killed upload (`glance.api.recovery`). Several converters
may run, on one host or on many. `worker` leases jobs and stops; `work` is one job under its lease,
which `lease` keeps; `delivery` stores the result. The program is `glance.cli.daemon.converter`.

What does not belong here: states and rights of jobs, which are the registry's, and how an image is
converted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from glance import api, store
from glance.api import recovery
from glance.common import config, exception
from glance.conversion import engine, inspection, qemu, workspace
from glance.converter.worker import JobWorker
from glance.image import cipher

LOG = logging.getLogger(__name__)

T = TypeVar("T")


def create(conf: config.Conf) -> JobWorker:
    """Return the worker of a process, which has not begun yet.

    Begins to settle what dead processes left. Raises ConfigError, with all problems at once, if
    conversions are switched off, or if this host lacks something that they need.
    """
    if not conf.conversion_enabled:
        raise exception.ConfigError(
            f"{conf.at('conversion_enabled')} is False, so there is nothing to do: set it to True "
            "here and in glance-api.conf"
        )
    problems: list[str] = []

    def checked(make: Callable[[config.Conf], T]) -> T | None:
        try:
            return make(conf)
        except exception.ConfigError as err:
            problems.extend(err.problems)
            return None

    box = checked(qemu.checked_sandbox)
    work_dir = checked(workspace.WorkDir)
    stores = checked(_stores)
    service = checked(lambda conf: api.ImageService(conf, stores)) if stores else None
    if problems or box is None or work_dir is None or stores is None or service is None:
        raise exception.ConfigError(problems)
    work_dir.remove_leftovers()
    recovery.start(service)
    converter = engine.Converter(conf, box, work_dir, stores, inspection.inspect)
    return JobWorker(service, converter)


def _stores(conf: config.Conf) -> store.Stores:
    stores = store.create_stores(conf)
    stores.check_default()
    if not cipher.is_configured(conf):
        stores.warn_of_credentials()
    return stores


def app_factory(global_conf: Mapping[str, Any], **local_conf: Any) -> JobWorker:
    """Paste app factory of `[app:glance-converter]`."""
    conf = config.from_paste(global_conf, local_conf)
    # What is stored was inspected as a whole, so a second look at its beginning is of no use.
    return create(conf.replace(inspect_on_upload="off"))
