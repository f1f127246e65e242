"""The connections of one worker: how many there may be, and who has to go for another one.

Pure bookkeeping: the worker accepts connections and closes those that are named here.
"""

from __future__ import annotations

import collections
import dataclasses
import ipaddress
import time
from typing import Any, Generic, Protocol, TypeVar

#: How long (seconds) a client may leave the server waiting in the middle of a request, without
#: progress, until its connection may be closed to make room.
STALL = 5.0
#: How long (seconds) a client has for the head of a request until its connection may be closed
#: for another one. Many clients may come at the same moment.
HEAD_GRACE = 2.0


class CrowdMember(Protocol):
    """What is known of a connection.

    `address` is the client's as `address_of` returns it. `busy` is whether a request is being
    handled; otherwise one is waited for or its head is arriving, since `since`. `waiting` is when
    the present wait for the client without progress began, 0.0 if there is none; both by the
    monotonic clock.
    `idle` is whether no byte of a request has arrived since the last response, `requests` how many
    have begun.
    """

    @property
    def address(self) -> str: ...

    @property
    def busy(self) -> bool: ...

    @property
    def idle(self) -> bool: ...

    @property
    def since(self) -> float: ...

    @property
    def requests(self) -> int: ...

    @property
    def waiting(self) -> float: ...


def address_of(peer: Any) -> str:
    """Return the client that the address of a socket stands for, "" for one of this host.

    NOTE: everybody who has IPv6 has at least 64 bits of addresses; they count as one.
    """
    if not isinstance(peer, tuple):
        return ""
    try:
        address = ipaddress.ip_address(peer[0].partition("%")[0])
    except ValueError:
        return str(peer[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return "" if address.is_loopback else address.packed[:8].hex()
        address = address.ipv4_mapped
    return "" if address.is_loopback else str(address)


def _is_between(member: CrowdMember) -> bool:
    """Return whether a connection has had a response and not begun another request."""
    return member.idle and member.requests > 0


M = TypeVar("M", bound=CrowdMember)


@dataclasses.dataclass(slots=True)
class Crowd(Generic[M]):
    """The connections of a worker and the limits for them; 0 means no limit for the last two.

    `unfinished` limits the connections whose first request has not arrived yet, and those in the
    middle of a head: for them a client needs no token. `per_address` does not apply to this host
    itself, whose daemons and proxies speak for many clients.
    """

    limit: int
    per_address: int = 0
    unfinished: int = 0
    members: set[M] = dataclasses.field(default_factory=set)
    #: Connections that were cut, and have not ended yet: their requests still clean up.
    leaving: set[M] = dataclasses.field(default_factory=set)
    _counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def add(self, member: M) -> None:
        self.members.add(member)
        self._counts[member.address] += 1

    def cut(self, member: M) -> None:
        """Note that a connection was cut: it no longer counts, but has yet to end."""
        self._uncount(member)
        self.leaving.add(member)

    def remove(self, member: M) -> None:
        """Forget a connection, which has ended."""
        self._uncount(member)
        self.leaving.discard(member)

    def _uncount(self, member: M) -> None:
        if member not in self.members:
            return
        self.members.discard(member)
        self._counts[member.address] -= 1
        if not self._counts[member.address]:
            del self._counts[member.address]

    @property
    def is_full(self) -> bool:
        return len(self.members) >= self.limit or len(self.leaving) >= self.limit

    def is_over(self, address: str) -> bool:
        """Return whether a client has as many connections as it may have."""
        return 0 < self.per_address <= self._counts[address] and address != ""

    def slowest(self) -> M | None:
        """Return the connection to close to make room for another one, None if all are at work.

        Those that wait for a request or for the end of its head come first, unless the client has
        just begun; then those whose client has stalled in the middle of a request. In both groups
        those of the client with the most connections come first, and of them the one that has
        waited longest.
        """
        if len(self.leaving) >= self.limit:
            return None
        now = time.monotonic()
        fresh = now - HEAD_GRACE
        at_rest = [
            one
            for one in self.members
            # NOTE: in a full worker each client would end the one that came just before it.
            if not one.busy and (_is_between(one) or one.since <= fresh)
        ]
        if at_rest:
            return self._longest(at_rest)
        before = now - STALL
        return self._longest([one for one in self.members if 0.0 < one.waiting <= before])

    def slowest_of(self, address: str) -> M | None:
        """Return the connection of one client to close for its next, None if all are at work."""
        return self._longest(
            [one for one in self.members if one.address == address and not one.busy]
        )

    def surplus_head(self) -> M | None:
        """Return the slowest connection with an unfinished head if there are too many, else None.

        None also if it has existed for a moment only.
        """
        if not 0 < self.unfinished < len(self.members):
            return None
        heads = [member for member in self.members if not member.busy and not _is_between(member)]
        if len(heads) <= self.unfinished:
            return None
        before = time.monotonic() - HEAD_GRACE
        return self._longest([member for member in heads if member.since <= before])

    def _longest(self, found: list[M]) -> M | None:
        """Return the one that has waited longest, of those whose client has most connections.

        Those of this host count as one each: a daemon or a proxy on it speaks for many clients.
        """

        def rank(one: M) -> tuple[int, float]:
            count = self._counts[one.address] if one.address else 1
            return -count, one.waiting if one.busy else one.since

        return min(found, key=rank, default=None)
