"""Select the proxy of a client, from the program's settings or the usual variables.

`glance.client.base` and `glance.identity.keystone` select one before they connect;
`glance.http.client.connection` connects through it. The services of glance use none between each
other.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Mapping
from typing import NamedTuple

from glance.common import exception, numbers

_HERE = frozenset({"localhost", "::1", "::", "0.0.0.0"})


class Proxy(NamedTuple):
    """A proxy for http requests and for tunnels; `authorization` is a header value or None."""

    host: str
    port: int
    authorization: str | None = None

    def __repr__(self) -> str:
        # SECURITY: without the credential.
        return f"Proxy({self.host!r}, {self.port!r})"

    @property
    def fields(self) -> dict[str, str]:
        """The headers for the proxy only."""
        return {"proxy-authorization": self.authorization} if self.authorization else {}


def choose(
    use_ssl: bool, host: str, port: int, proxies: Mapping[str, str] | None = None
) -> Proxy | None:
    """Return the proxy for a server, None for a direct connection.

    Arguments are as for `find`. Raises BadInputError for a URL that names no http proxy.
    """
    url = find(use_ssl, host, port, proxies)
    return parse(url) if url else None


def find(
    use_ssl: bool, host: str, port: int, proxies: Mapping[str, str] | None = None
) -> str | None:
    """Return the URL of the proxy for a server, None for a direct connection.

    `proxies` maps http, https and all to URLs of proxies, and no to the hosts that need none. If
    it is None, the environment counts (http_proxy, https_proxy, all_proxy, no_proxy), and loopback
    is always reached directly.
    """
    if proxies is None:
        if _is_here(host):
            return None
        proxies = from_environment(os.environ)
    url = proxies.get("https" if use_ssl else "http") or proxies.get("all")
    if not url or bypasses(host, port, proxies.get("no") or ""):
        return None
    return url


def from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the proxies that variables name, in lower or upper case."""
    found = {}
    for kind in ("http", "https", "all", "no"):
        name = f"{kind}_proxy"
        value = environ.get(name)
        # SECURITY: a CGI program gets the header "Proxy" of its client as HTTP_PROXY.
        if value is None and not (kind == "http" and "REQUEST_METHOD" in environ):
            value = environ.get(name.upper())
        if value:
            found[kind] = value
    return found


def parse(url: str) -> Proxy:
    """Return the proxy of a URL; without a scheme it is an http URL."""
    try:
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = parts = None
    if parts is None or parts.scheme != "http" or not host:
        # NOTE: the URL may hold a password, so it is not repeated.
        raise exception.BadInputError("A proxy URL must look like http://host:port")
    authorization = None
    if parts.username:
        user = urllib.parse.unquote(parts.username)
        password = urllib.parse.unquote(parts.password or "")
        import base64  # PERF: for a proxy with a password only

        pair = base64.b64encode(f"{user}:{password}".encode())
        authorization = f"Basic {pair.decode('ascii')}"
    return Proxy(host, port or 80, authorization)


def bypasses(host: str, port: int, exceptions: str) -> bool:
    """Return whether a list as in no_proxy names a server: by host, domain, network, port."""
    host = host.lower().rstrip(".")
    for entry in exceptions.lower().replace(",", " ").split():
        if entry == "*":
            return True
        name, colon, number = entry.rpartition(":")
        stated = numbers.whole(number) if colon else None
        if stated is not None and (":" not in name or name.endswith("]")):
            if stated != port:
                continue
            entry = name
        entry = entry.strip("[]").removeprefix("*").removeprefix(".").rstrip(".")
        if host == entry or (entry and host.endswith(f".{entry}")) or _in_network(host, entry):
            return True
    return False


def _in_network(host: str, network: str) -> bool:
    if "/" not in network:
        return False
    import ipaddress  # PERF: rarely needed, and not small

    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _is_here(host: str) -> bool:
    host = host.lower().rstrip(".")
    return host in _HERE or host.endswith(".localhost") or host.startswith("127.")
