"""Addresses of hosts as people write them. Uses only the standard library, for clients."""

from __future__ import annotations


def bare(host: str) -> str:
    """Return a host without the brackets of an IPv6 address, which only a URL needs.

    The source of the form with brackets is RFC 3986, section 3.2.2.
    """
    text = host.strip()
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


def split(text: str, default_port: int) -> tuple[str, str]:
    """Return host and port, as text, of `host`, `host:port`, `[address]:port` or `address`.

    Raises ValueError for other text.
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("use [address]:port")
        return host, rest[1:] or str(default_port)
    if is_ipv6(text):
        return text, str(default_port)
    host, _, port = text.partition(":")
    return host, port or str(default_port)


def is_ipv6(text: str) -> bool:
    """Return whether a text is an IPv6 address without brackets."""
    import ipaddress  # PERF: clients do not need it

    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Return whether only this host can connect to a socket that is bound to `host`.

    `host` is an address, with or without brackets, or a name; of names, only `localhost` counts.
    """
    import ipaddress  # PERF: clients do not need it

    try:
        return ipaddress.ip_address(bare(host)).is_loopback
    except ValueError:
        return host.strip().lower() == "localhost"
