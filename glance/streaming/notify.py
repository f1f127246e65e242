"""Reports the daemon's state to the process that started it, as in systemd's sd_notify(3).

`glance-control` receives these reports, and any other service manager may.
"""

from __future__ import annotations

import logging
import os
import socket

from glance.streaming import hub

LOG = logging.getLogger(__name__)


def notify(**fields: object) -> None:
    """Send fields such as READY=1 to the socket named by NOTIFY_SOCKET, if it is set.

    Never raises: a manager that has gone away is no reason to stop serving.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    message = "\n".join(f"{name}={' '.join(str(value).split())}" for name, value in fields.items())
    native = hub.native(socket)
    try:
        with native.socket(native.AF_UNIX, native.SOCK_DGRAM | native.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            sock.sendto(message.encode("utf-8", "replace"), address)
    except OSError as err:
        LOG.debug("Nobody listens at NOTIFY_SOCKET: %s", err)
