"""What an address that a daemon listens on means."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Return whether only this host can connect to a socket that is bound to `host`.

    `host` is an address, with or without the brackets of a URL, or a name; of names, only
    `localhost` counts.
    """
    try:
        return ipaddress.ip_address(host.strip().strip("[]")).is_loopback
    except ValueError:
        return host.strip().lower() == "localhost"
