"""A pool of connections to one server, shared by all clients of it in a process.

`glance.client.base.BaseClient` creates a pool, or is given one; `glance.registry` keeps one for
the registry. The rule about sending a request twice is implemented here only.
"""

from __future__ import annotations

import collections
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from glance.http.client import connection as http_connection
from glance.http.client import payload as payload_module
from glance.http.client import proxy as http_proxy
from glance.http.client import response

if TYPE_CHECKING:
    import ssl

CONNECT_TIMEOUT = 20.0
#: Long, because the response to an upload comes only when the image is durable in the store.
READ_TIMEOUT = 600.0
#: In seconds; servers of glance keep an idle connection longer than this.
IDLE_TIMEOUT = 30.0

_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})


class ConnectionPool:
    """Connections to one server; safe to share between threads, and between users.

    The connection used last is taken first. A forked process starts with an empty pool. Most
    callers need only `request`; one with its own rules about retries takes connections out and
    puts them back. Timeouts are in seconds; None waits for ever. A `proxy` forwards requests for
    http, and opens a tunnel for https. `adapt` is that of the connections.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        context: ssl.SSLContext | None = None,
        max_idle: int = 64,
        idle_timeout: float = IDLE_TIMEOUT,
        connect_timeout: float | None = CONNECT_TIMEOUT,
        read_timeout: float | None = READ_TIMEOUT,
        proxy: http_proxy.Proxy | None = None,
        adapt: Callable[[Any], Any] | None = None,
    ):
        self.host, self.port, self.context = host, port, context
        self.max_idle, self.idle_timeout = max_idle, idle_timeout
        self.connect_timeout, self.read_timeout = connect_timeout, read_timeout
        self.host_header = http_connection.authority(host, port, 443 if context else 80)
        self.proxy, self.adapt = proxy, adapt
        # Each request through a proxy needs its headers; a request in a tunnel does not.
        forwarder = proxy if proxy is not None and context is None else None
        self._prefix = f"http://{self.host_header}" if forwarder else ""
        self._fields = forwarder.fields if forwarder else {}
        # NOTE: append and pop of a deque are atomic, in threads and in green threads.
        self._idle: collections.deque[http_connection.ClientConnection] = collections.deque()
        self._pid = os.getpid()

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: payload_module.Payload | None = None,
        progress: http_connection.Progress | None = None,
    ) -> response.ClientResponse:
        """Send a request and return the response, body unread; the caller reads or closes it.

        Raises ClientConnectionError. A request that fails on a kept connection before a byte of
        the response arrived is sent once more, on a new one, if it is idempotent and its body is
        available; a POST never is.
        """
        if self._prefix:
            target, headers = self._prefix + target, {**headers, **self._fields}
        head = http_connection.request_head(method, target, self.host_header, headers)
        stream = body is not None and body.source is not None
        # NOTE: a stream cannot be sent again, so it must not use a connection about to close.
        connection = self.new() if stream else self.take()
        try:
            return connection.exchange(method, head, body, progress, self.put)
        except response.ConnectionTimedOut:
            raise
        except response.ConnectionBroken as err:
            if err.answered or not connection.reused or stream or method not in _IDEMPOTENT:
                raise
            first = err
        try:
            repeated = self.new().exchange(method, head, body, progress, self.put)
        except response.ConnectionBroken as err:
            # NOTE: the first request may have been executed; its error must be the visible cause.
            raise err from first
        repeated.is_repeated = True
        return repeated

    def new(self) -> http_connection.ClientConnection:
        """Return a new connection that is not open yet and not part of the pool."""
        place = (self.host, self.port, self.connect_timeout, self.read_timeout)
        made = http_connection.new_connection(*place, context=self.context, proxy=self.proxy)
        if self.adapt is not None:
            made.adapt = self.adapt
        return made

    def take(self) -> http_connection.ClientConnection:
        """Return a kept connection (with `reused` set), or a new one."""
        if self._pid != os.getpid():
            # NOTE: the sockets are shared with the parent; closing our copies leaves its open.
            self._idle, self._pid = collections.deque(), os.getpid()
        idle = self._idle
        while idle:
            try:
                connection = idle.pop()
            except IndexError:
                break
            fresh = time.monotonic() - connection.idle_since < self.idle_timeout
            if fresh and connection.is_alive():
                connection.reused = True
                return connection
            connection.close()
        return self.new()

    def put(self, connection: http_connection.ClientConnection) -> None:
        """Keep a connection whose last response was read; close it if the pool is full."""
        idle = self._idle
        if len(idle) >= self.max_idle or self._pid != os.getpid():
            connection.close()
            return
        idle.append(connection)
        try:
            if connection.idle_since - idle[0].idle_since > self.idle_timeout:
                idle.popleft().close()
        except IndexError:
            return

    def close(self) -> None:
        """Close the idle connections; the pool stays usable."""
        while self._idle:
            self._idle.pop().close()
