"""One serving process: it accepts connections until a stop signal, then lets requests finish."""

from __future__ import annotations

import errno
import logging
import math
import os
import signal
import time
from typing import Any

import eventlet
from eventlet import event, hubs

from glance.common import config, exception, hooks, log, metrics
from glance.http.server import access, balance, connection, crowd, measuring, signals
from glance.streaming import memory, retry, threads

LOG = logging.getLogger(__name__)

#: Seconds in which a client that has just connected may send its request when the server stops.
_FRESH_TIME = 1.0
#: Seconds in which requests may clean up after their connection was cut.
TIDY_TIME = 3.0
_TICK = 0.02
#: Errors of accept that pass, and come back at once if nothing is done.
_NO_ROOM = exception.OUT_OF_DESCRIPTORS | {errno.ENOBUFS, errno.ENOMEM}
#: How often (seconds) it is logged at most that connections are refused.
_WARNING_PAUSE = 60.0
#: How often free memory is given back to the system, in seconds.
_GIVE_BACK = 10.0
#: How long a new connection is left to workers that have fewer, in seconds.
_COURTESY = 0.001

STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Worker:
    """Serves `app` on the listening socket. Created and run in the serving process.

    `seat` is its place among several workers. Unless it `is_measured`, its requests are not among
    those that `glance.http.server.measuring` counts.

    Three signals stop it: TERM gives running requests `stop_timeout`, HUP `graceful_timeout`, QUIT
    no time. A later signal can only shorten the time. Before the first two close the socket, the
    worker still accepts connections for `drain_delay`.
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
        is_measured: bool = True,
    ):
        access.switch(conf.access_log)
        self.service = connection.ServerSettings(
            app,
            scheme="https" if tls else "http",
            multiprocess=multiprocess,
            socket_timeout=conf.client_socket_timeout or None,
            keepalive_timeout=conf.keepalive_timeout,
            max_line=conf.max_header_line,
            measure=measuring.meter() if is_measured else None,
        )
        if is_measured:
            metrics.sample(self._look)
        self.times = {
            signal.SIGTERM: conf.stop_timeout,
            signal.SIGHUP: conf.graceful_timeout,
            signal.SIGQUIT: 0.0,
        }
        self._drain_delay: float = conf.drain_delay
        self.crowd: crowd.Crowd[connection.ServerConnection] = crowd.Crowd(
            conf.max_connections,
            per_address=conf.max_connections_per_address,
            unfinished=conf.max_unfinished_heads,
        )
        self._next_warning = 0.0
        self._listener = listener
        self._seat = seat
        self._tls = tls
        self._had_connections = False
        self._deadline: float | None = None
        #: When the socket closes, by the monotonic clock.
        self._closes_at = math.inf
        self._stopping = event.Event()
        self._beside: Any = None

    @property
    def connections(self) -> set[connection.ServerConnection]:
        """The connections that have not ended."""
        return self.crowd.members | self.crowd.leaving

    def run(self, pipe: signals.SignalPipe, lifeline: int | None = None) -> None:
        """Serve until a stop signal arrives, or `lifeline` (the parent's pipe) ends."""
        eventlet.spawn(self._watch_signals, pipe)
        if lifeline is not None:
            eventlet.spawn(self._watch_parent, lifeline)
        running = (eventlet.spawn(self._accept_loop), eventlet.spawn(self._give_memory_back))
        self._stopping.wait()
        for thread in running:
            thread.kill()
        self._accept_the_rest()
        self._listener.close()
        self._finish()
        hooks.stop()

    def begin(self) -> None:
        """Serve beside another worker of this process, until `end`."""
        self._beside = eventlet.spawn(self._accept_loop)

    def end(self) -> None:
        """Close the socket and the connections of a worker that was begun; idempotent."""
        if self._beside is not None:
            self._beside.kill()
            self._beside = None
            self._listener.close()
            for client in self.connections:
                client.stream.cut()

    def _look(self) -> None:
        metrics.CONNECTIONS.set(len(self.crowd.members))

    def stop(self, signum: int, *, drains: bool = True) -> None:
        """Begin to stop, or shorten the deadline of a stop in progress.

        QUIT, and a stop that does not drain, close the socket at once.
        """
        now = time.monotonic()
        delay = self._drain_delay if drains and signum != signal.SIGQUIT else 0.0
        self._closes_at = min(now + delay, self._closes_at)
        deadline = max(now, self._closes_at) + self.times[signal.Signals(signum)]
        if self._deadline is None or deadline < self._deadline:
            self._deadline = deadline
        self.service.draining = True
        if self._closes_at > now:
            eventlet.spawn_after(self._closes_at - now, self._close)
        else:
            self._close()

    def _close(self) -> None:
        if not self._stopping.ready():
            self._stopping.send()

    def _watch_signals(self, pipe: signals.SignalPipe) -> None:
        while True:
            hubs.trampoline(pipe.fd, read=True)
            for signum in pipe.take():
                self.handle(signum)

    def handle(self, signum: int) -> None:
        """Handle a signal."""
        if signum in STOP_SIGNALS:
            self.stop(signum)
        elif signum == signal.SIGUSR1:
            log.reopen()

    def _watch_parent(self, lifeline: int) -> None:
        hubs.trampoline(lifeline, read=True)
        LOG.error("The parent process has ended; stopping")
        # NOTE: the next parent needs the port.
        self.stop(signal.SIGTERM, drains=False)

    # -- accepting -------------------------------------------------------------------------------

    def _accept_loop(self) -> None:
        while True:
            self._wait_for_room()
            if self._seat is not None and self._seat.is_ahead():
                # PERF: if 8 clients connected at once, one of two workers could accept them all
                # and keep them while the other one was idle.
                eventlet.sleep(_COURTESY)
            try:
                accepted = self._accept()
            except OSError as err:
                # NOTE: without descriptors the socket stays readable: without a wait this would
                # spin.
                if err.errno in _NO_ROOM:
                    LOG.error("Cannot accept a connection: %s", err.strerror)
                    if not self._cut(self.crowd.slowest()):
                        eventlet.sleep(0.5)
                continue
            if accepted:
                # Let this one begin to be served; another process may accept the next one.
                eventlet.sleep(0)
                while self._cut(self.crowd.surplus_head()):
                    pass
            else:
                hubs.trampoline(self._listener.fileno(), read=True)

    def _wait_for_room(self) -> None:
        """Return when there is room for one more connection; make it for one that waits."""
        while self.crowd.is_full:
            hubs.trampoline(self._listener.fileno(), read=True)
            if self._seat is not None and self._seat.is_ahead():
                eventlet.sleep(_COURTESY)
                if not self._someone_waits():
                    continue
            if not self._cut(self.crowd.slowest()):
                eventlet.sleep(_TICK)

    def _someone_waits(self) -> bool:
        try:
            hubs.trampoline(
                self._listener.fileno(), read=True, timeout=_COURTESY, timeout_exc=TimeoutError
            )
        except TimeoutError:
            return False
        return True

    def _accept(self) -> bool:
        """Accept a connection if one waits, and begin to serve it; return whether one waited."""
        try:
            sock, peer = self._listener.accept()
        except BlockingIOError:
            return False
        except ConnectionError:
            # The client closed it before it was accepted.
            return True
        sock.setblocking(False)
        hubs.notify_opened(sock.fileno())
        if self._tls is not None:
            sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        client = connection.ServerConnection(self.service, sock, peer)
        # A client that has as many as it may have gets room by closing one that it does not use.
        if self.crowd.is_over(client.address) and not self._cut(
            self.crowd.slowest_of(client.address)
        ):
            self._turn_away(client)
        else:
            eventlet.spawn_n(self._serve, client)
        return True

    def _turn_away(self, client: connection.ServerConnection) -> None:
        client.turn_away()
        now = time.monotonic()
        if now >= self._next_warning:
            self._next_warning = now + _WARNING_PAUSE
            LOG.warning(
                "A client has max_connections_per_address = %s connections at work; more of them "
                "are refused",
                self.crowd.per_address,
            )

    def _accept_the_rest(self) -> None:
        """Take connections that the kernel has accepted: closing the socket would reset them."""
        try:
            while not self.crowd.is_full and self._accept():
                eventlet.sleep(0)
        except OSError as err:
            LOG.warning("Waiting connections were dropped: %s", err.strerror)

    def _serve(self, client: connection.ServerConnection) -> None:
        self.crowd.add(client)
        self._note_load()
        try:
            client.serve()
        finally:
            self._had_connections = True
            self.crowd.remove(client)
            self._note_load()

    def _give_memory_back(self) -> None:
        """Give back what the buffers of connections have left, as long as there are connections.

        NOTE: also while they last, because clients that stall may do so for long.
        """
        while True:
            eventlet.sleep(_GIVE_BACK)
            if self.connections or self._had_connections:
                self._had_connections = False
                threads.run(memory.give_back)

    def _note_load(self) -> None:
        if self._seat is not None:
            self._seat.note(len(self.crowd.members))

    def _cut(self, client: connection.ServerConnection | None) -> bool:
        """Make room by closing a connection; return False if there is none to close."""
        if client is None:
            return False
        self.crowd.cut(client)
        client.stream.cut()
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
        step = retry.Backoff.steady(_TICK, seconds=TIDY_TIME)
        retry.wait_until(lambda: not self.connections, step, sleep=eventlet.sleep)

    def _past_deadline(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline


def leave(code: int) -> None:
    """End a child process without running its parent's exit handlers and stack."""
    logging.shutdown()
    os._exit(code)
