"""Drop root privileges: options user and group, once the port is open and the key is read."""

from __future__ import annotations

import dataclasses
import grp
import logging
import os
import pwd

from glance.common import config, exception, log

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """The user and group to run as; `name` is None where only the group was given."""

    name: str | None
    uid: int
    gid: int


def identity(conf: config.Conf) -> Identity | None:
    """Return the user and group that the daemon is to run as, None for no change.

    Raises ConfigError for unknown names, and for a change that only root can make.
    """
    if not conf.user and not conf.group:
        return None
    try:
        entry = pwd.getpwnam(conf.user) if conf.user else None
        gid = grp.getgrnam(conf.group).gr_gid if conf.group else None
    except KeyError as err:
        raise exception.ConfigError(f"{conf.source}: options user, group: {err.args[0]}") from err
    uid = entry.pw_uid if entry else os.geteuid()
    if gid is None:
        gid = entry.pw_gid if entry else os.getegid()
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return None
    if os.geteuid() != 0:
        raise exception.ConfigError(
            f"{conf.source}: options user, group: only root can run a daemon as another user"
        )
    return Identity(conf.user or None, uid, gid)


def drop(conf: config.Conf) -> None:
    """Switch to the user and group of `conf`, if any, and to the root directory."""
    who = identity(conf)
    if who is None:
        return
    # The open log changes its owner, too: the new user writes and reopens it.
    log.hand_over(who.uid, who.gid)
    if who.name is not None:
        os.initgroups(who.name, who.gid)
    else:
        os.setgroups([who.gid])
    os.setgid(who.gid)
    os.setuid(who.uid)
    os.chdir("/")
    LOG.info("Running as user %s, group %s", who.uid, who.gid)
