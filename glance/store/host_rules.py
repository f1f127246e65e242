"""Which hosts callers may make this service contact: the rules that protect internal addresses.

A caller that registers `http://…` makes this service send requests. It must not be a way to reach
what only this host or its network can reach. The rules apply to addresses, after resolving; the
http store connects to exactly the address that was checked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import logging
import socket
from collections.abc import Iterator

from glance.common import config, exception, hosts, numbers
from glance.streaming import threads

LOG = logging.getLogger(__name__)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# The options of the daemons' ports, with their defaults.
_OWN_PORTS = {"bind_port": 9292, "registry_port": 9191}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")


config.options(
    "http store",
    config.Option(
        "http_store_allowed_hosts",
        config.words,
        default=(),
        help="Hosts (host or host:port) that registered locations may name. If the list is not "
        "empty, only these hosts are allowed, whatever their addresses; if it is empty, "
        "the rules for addresses apply.",
    ),
    config.Option(
        "http_store_allow_private",
        config.boolean,
        default=True,
        help="Allow images to be read from addresses of private networks. Loopback and "
        "link-local addresses are always refused.",
    ),
)


@dataclasses.dataclass(frozen=True)
class HostRules:
    """The rules of one configuration.

    `allowed_hosts` are lower-case `host` or `host:port` texts; if there are any, only they may be
    contacted, whatever their addresses are. `allow_private` permits addresses of private networks.
    `own_ports` are refused on every address of this host.
    """

    allowed_hosts: frozenset[str] = frozenset()
    allow_private: bool = True
    own_ports: frozenset[int] = frozenset()

    @classmethod
    def from_conf(cls, conf: config.Conf) -> HostRules:
        ports = [str(conf.get(name) or port) for name, port in _OWN_PORTS.items()]
        return cls(
            frozenset(name.lower() for name in conf.http_store_allowed_hosts),
            conf.http_store_allow_private,
            frozenset(port for port in map(numbers.whole, ports) if port),
        )

    def check(self, host: str, port: int) -> None:
        """Raise BadStoreUri if no location at this host may be registered.

        An unknown name passes: images may be registered before their server exists.
        """
        try:
            self.addresses(host, port)
        except exception.StoreForbidden as err:
            raise exception.LocationRefused(
                reason="this server does not read images from that host"
            ) from err
        except exception.BackendUnavailable:
            LOG.info("The host of a location to register cannot be resolved at the moment")

    def addresses(self, host: str, port: int) -> list[tuple[str, int]]:
        """Return the addresses (and the port) to connect to for a host, at least one.

        Raises StoreForbidden if the rules permit none, BackendUnavailable if the name has no
        address.
        """
        listed = self._is_listed(host.lower(), port)
        if self.allowed_hosts and not listed:
            raise exception.StoreForbidden(
                "The location's host is not on this server's list of allowed hosts"
            ).because(f"host {host}")
        found = _resolve(host.strip("[]"), port)
        permitted = [text for text in found if listed or self.permits(text, port)]
        if not permitted:
            raise exception.StoreForbidden(
                "The location's host has an address that this server does not read from"
            ).because(f"host {host}")
        return [(text, port) for text in permitted]

    def permits(self, text: str, port: int) -> bool:
        """Return whether connections to the address `text` are permitted, apart from lists."""
        return all(self._permits(each) for each in _meanings(text)) and not (
            port in self.own_ports and _is_local(text)
        )

    def _permits(self, address: Address) -> bool:
        if (
            address.is_loopback
            or address.is_link_local
            or address.is_multicast
            or address.is_unspecified
            or address.is_reserved
            or (address.version == 4 and address in _THIS_NETWORK)
        ):
            return False
        if address.version == 6 and address.is_site_local:
            return self.allow_private
        return self.allow_private or address.is_global

    def _is_listed(self, host: str, port: int) -> bool:
        bare = hosts.bare(host)
        shown = f"[{bare}]" if ":" in bare else bare
        names = {bare, shown, f"{bare}:{port}", f"{shown}:{port}"}
        return not names.isdisjoint(self.allowed_hosts)


def _resolve(host: str, port: int) -> Iterator[str]:
    try:
        found = threads.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as err:
        raise exception.BackendUnavailable().because(f"host {host} has no address") from err
    seen = set()
    for *_, address in found:
        if address[0] not in seen:
            seen.add(address[0])
            yield address[0]


def _meanings(text: str) -> Iterator[Address]:
    """Yield the addresses that packets for `text` may reach."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        yield address
    elif address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif address in _NAT64:
        # NOTE: networks without IPv4 reach all IPv4 addresses through this prefix.
        yield ipaddress.IPv4Address(address.packed[-4:])
    else:
        yield address
        if address.sixtofour is not None:
            yield address.sixtofour
        if address.teredo is not None:
            yield from address.teredo


def _is_local(text: str) -> bool:
    """Return whether an address belongs to this host: only then can a socket be bound to it."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((text.partition("%")[0], 0))
        return True
    return False
