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
    """Return the user and group that the configuration names, None for no change.

    Raises ConfigError for unknown names, and for a change that only root can make.
    """
    user, group = conf.get("user"), conf.get("group")
    if not user and not group:
        return None
    try:
        entry = pwd.getpwnam(user) if user else None
        gid = grp.getgrnam(group).gr_gid if group else None
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
    return Identity(user or None, uid, gid)


def owner(directory: str) -> Identity | None:
    """Return the owner of a directory, None if root need not switch to work in it.

    Of a directory that is missing, the owner of the one that it will be made in.
    """
    try:
        while not os.path.exists(directory) and os.path.dirname(directory) != directory:
            directory = os.path.dirname(directory)
        status = os.stat(directory)
    except OSError:
        return None
    if os.geteuid() != 0 or status.st_uid == 0:
        return None
    try:
        name = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        name = None
    return Identity(name, status.st_uid, status.st_gid)


def work_in(directory: str, conf: config.Conf) -> None:
    """Become the user of `conf`, or else the owner of a directory, if root is to work in it.

    SECURITY: a program must not have more rights than whoever can put links into the directory;
    and root's files there would be of no use to its owner. Raises ConfigError.
    """
    who = (identity(conf) or owner(directory)) if os.geteuid() == 0 else None
    if who is not None:
        become(who)


def drop(conf: config.Conf) -> None:
    """Switch to the user and group of `conf`, if any, and to the root directory.

    Warns if the process goes on as root although nobody said `user = root`.
    """
    who = identity(conf)
    if who is not None:
        become(who)
        os.chdir("/")
    warn_of_root(conf)


def warn_of_root(conf: config.Conf) -> None:
    """Warn if a daemon goes on as root although nobody said `user = root`."""
    if os.geteuid() == 0 and not conf.get("user"):
        LOG.warning(
            "This daemon runs as root, with more rights than it needs: set user = glance, or "
            "another ordinary user who may write where it writes, or start it as that user"
        )


def become(who: Identity) -> None:
    """Switch to a user and group for good. Raises ConfigError if the log cannot change hands."""
    # The open log changes its owner, too: the new user writes and reopens it.
    log.hand_over(who.uid, who.gid)
    if who.name is not None:
        os.initgroups(who.name, who.gid)
    else:
        os.setgroups([who.gid])
    os.setgid(who.gid)
    os.setuid(who.uid)
    LOG.info("Running as user %s, group %s", who.uid, who.gid)
