"""Whether this API and its registry ask their callers for the same.

No daemon reads the other one's file, so a token filter that was added to one of them only shows
when the two talk. A registry without it takes every caller for an administrator: all tenants see
all images.
"""

from __future__ import annotations

import logging

from glance.common import config, exception, hooks
from glance.identity.context import RequestContext
from glance.registry.link import AWAY, RegistryLink
from glance.streaming import retry, tasks

LOG = logging.getLogger(__name__)

#: Between tries while the registry is not up yet; daemons start in any order.
BACKOFF = retry.Backoff(0.2, 10, seconds=120)


def watch(conf: config.Conf) -> None:
    """Ask the registry, in the background, and warn if the two disagree; returns at once.

    Only the first process of the service asks.
    """
    if hooks.level_at_start(logging.WARNING) == logging.WARNING:
        tasks.spawn(_compare, conf)


def _compare(conf: config.Conf) -> None:
    link = RegistryLink(conf)
    try:
        problem = disagreement(conf, link)
    except exception.Error as err:
        LOG.debug("Nothing is known of the registry's way to authenticate: %s", err)
    else:
        if problem:
            LOG.warning("%s", problem)
    finally:
        link.close()


def disagreement(conf: config.Conf, link: RegistryLink) -> str | None:
    """Return what to tell the operator, None if the daemons agree as far as this can be seen.

    Raises what the registry raises while it is away, after several tries.
    """
    place = f"The registry at {link.host} port {link.port}"
    asks = conf.auth_mode not in (None, "noauth")
    if asks and conf.allow_anonymous_access:
        # A registry with the same options answers callers without a token, too.
        return None
    try:
        # NOTE: a read-only context has no token and sends no identity.
        stranger = RequestContext(read_only=True)
        retry.retry(
            lambda: link.get_images_list(stranger, limit=1),
            BACKOFF,
            on=AWAY,
            # The link has logged that registry_port is wrong, which does not pass.
            retryable=lambda err: not isinstance(err.__cause__, exception.Misdirected),
        )
    except exception.NotAuthorized:
        if asks:
            return None
        return (
            f"{place} refuses the requests of this service, which asks its own callers for no "
            "token: add the token filter to both pipelines or to none, and set "
            "registry_shared_secret in both files or in none."
        )
    if not asks:
        return None
    return (
        f"{place} serves requests without a token, but this service asks its callers for one: all "
        "tenants see and change all images. Add the token filter to the registry's pipeline, or "
        "set its auth_mode = trusted-headers and this service's send_identity_headers = True."
    )
