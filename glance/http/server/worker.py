"""One serving process: it accepts connections until told to stop, then lets requests finish."""

from __future__ import annotations

import errno
import logging
import os
import signal
import time
from typing import Any

import eventlet
from eventlet import event, hubs

from glance.common import config, hooks, log
from glance.http.server import access, balance, connection, signals

LOG = logging.getLogger(__name__)

#: Connections that one process serves at a time.
MAX_CONNECTIONS = 1000
#: What a client that has just connected gets to send its request in, when the server stops.
_FRESH_TIME = 1.0
#: What requests get to tidy up in after their connection was cut, in seconds.
TIDY_TIME = 3.0
_TICK = 0.02
#: How long a connection is left to workers that have fewer, in seconds.
_COURTESY = 0.001

STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Worker:
    """Serves `app` on the listening socket. Made and run in the process that serves.

    `seat` is its place among several workers.

    Three ways to stop: TERM gives running requests `stop_timeout`, HUP `graceful_timeout`, QUIT no
    time. A later one can only shorten the time.
    """

    def __init__(
        self,
        conf: config.Conf,
        listener: Any,
        app: connection.WSGIApp,
        *,
        tls: Any = None,
        multiprocess: bool = False,
        seat: balance.WorkerLoad | None = None,
    ):
        access.switch(conf.access_log)
        self.service = connection.ServerSettings(
            app,
            scheme="https" if tls else "http",
            multiprocess=multiprocess,
            socket_timeout=conf.client_socket_timeout or None,
            keepalive_timeout=conf.keepalive_timeout,
            max_line=conf.max_header_line,
        )
        self.times = {
            signal.SIGTERM: conf.stop_timeout,
            signal.SIGHUP: conf.graceful_timeout,
            signal.SIGQUIT: 0.0,
        }
        self.connections: set[connection.ServerConnection] = set()
        self._listener = listener
        self._seat = seat
        self._tls = tls
        self._deadline: float | None = None
        self._stopping = event.Event()

    def run(self, pipe: signals.SignalPipe, lifeline: int | None = None) -> None:
        """Serve until a signal says stop, or `lifeline` (the parent's pipe) ends."""
        eventlet.spawn(self._watch_signals, pipe)
        if lifeline is not None:
            eventlet.spawn(self._watch_parent, lifeline)
        acceptor = eventlet.spawn(self._accept_loop)
        self._stopping.wait()
        acceptor.kill()
        self._accept_the_rest()
        self._listener.close()
        self._finish()
        hooks.stop()

    def stop(self, signum: int) -> None:
        """Begin to stop, or shorten the time of a stop that is under way."""
        deadline = time.monotonic() + self.times[signal.Signals(signum)]
        if self._deadline is None or deadline < self._deadline:
            self._deadline = deadline
        if not self._stopping.ready():
            self.service.draining = True
            self._stopping.send()

    def _watch_signals(self, pipe: signals.SignalPipe) -> None:
        while True:
            hubs.trampoline(pipe.fd, read=True)
            for signum in pipe.take():
                self.handle(signum)

    def handle(self, signum: int) -> None:
        """Obey a signal."""
        if signum in STOP_SIGNALS:
            self.stop(signum)
        elif signum == signal.SIGUSR1:
            log.reopen()

    def _watch_parent(self, lifeline: int) -> None:
        hubs.trampoline(lifeline, read=True)
        LOG.error("The parent process has ended; stopping")
        self.stop(signal.SIGTERM)

    # -- accepting -------------------------------------------------------------------------------

    def _accept_loop(self) -> None:
        while True:
            while len(self.connections) >= MAX_CONNECTIONS:
                if not self._cut_longest_idle():
                    eventlet.sleep(_TICK)
            if self._seat is not None and self._seat.is_ahead():
                # PERF: of 8 clients that came at once, one of two workers could get all, and kept
                # them, while the other had nothing to do.
                eventlet.sleep(_COURTESY)
            try:
                accepted = self._accept()
            except OSError as err:
                # NOTE: without descriptors the socket stays readable: wait, or spin.
                if err.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    LOG.error("Cannot accept a connection: %s", err.strerror)
                    if not self._cut_longest_idle():
                        eventlet.sleep(0.5)
                continue
            if accepted:
                # Another process may take the next one, and this one begins to serve.
                eventlet.sleep(0)
            else:
                hubs.trampoline(self._listener.fileno(), read=True)

    def _accept(self) -> bool:
        """Accept a connection if one waits, and begin to serve it."""
        try:
            sock, peer = self._listener.accept()
        except BlockingIOError:
            return False
        except ConnectionError:
            # It was closed again before we came.
            return True
        sock.setblocking(False)
        hubs.notify_opened(sock.fileno())
        if self._tls is not None:
            sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        eventlet.spawn_n(self._serve, connection.ServerConnection(self.service, sock, peer))
        return True

    def _accept_the_rest(self) -> None:
        """Take what the kernel has accepted already: closing the socket would reset it."""
        try:
            while len(self.connections) < MAX_CONNECTIONS and self._accept():
                eventlet.sleep(0)
        except OSError as err:
            LOG.warning("Waiting connections were dropped: %s", err.strerror)

    def _serve(self, client: connection.ServerConnection) -> None:
        self.connections.add(client)
        self._tell()
        try:
            client.serve()
        finally:
            self.connections.discard(client)
            self._tell()

    def _tell(self) -> None:
        if self._seat is not None:
            self._seat.note(len(self.connections))

    def _cut_longest_idle(self) -> bool:
        """Make room by closing the connection that has been waiting for a request longest."""
        idle = [client for client in self.connections if client.idle]
        if not idle:
            return False
        oldest = min(idle, key=lambda client: client.since)
        self.connections.discard(oldest)
        oldest.stream.cut()
        eventlet.sleep(0)
        return True

    # -- stopping --------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Close idle connections, wait for the others until the deadline, then cut them."""
        grace = time.monotonic() + _FRESH_TIME
        while self.connections and not self._past_deadline():
            for client in self.connections:
                if client.idle and (client.requests or time.monotonic() > grace):
                    client.stream.cut()
            eventlet.sleep(_TICK)
        if not self.connections:
            return
        LOG.warning("Aborting %s connections that are still active", len(self.connections))
        for client in self.connections:
            client.stream.cut()
        end = time.monotonic() + TIDY_TIME
        while self.connections and time.monotonic() < end:
            eventlet.sleep(_TICK)

    def _past_deadline(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline


def leave(code: int) -> None:
    """End a child process without running what belongs to its parent (exit handlers, stack)."""
    logging.shutdown()
    os._exit(code)
