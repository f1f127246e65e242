"""The parent process: starts the workers, replaces those that die, and stops them in order.

The parent never runs the event loop and never loads the application: everything with a socket, a
thread or a database connection is created in the workers, after the fork.
"""

from __future__ import annotations

import dataclasses
import gc
import logging
import math
import os
import re
import signal
import time
import warnings
from collections.abc import Callable
from typing import Any

from eventlet import hubs, patcher

from glance.common import config, exception, hooks, log, metrics, privileges, stop_signals
from glance.http import exposition
from glance.http.server import balance, connection, listen, options, signals, worker
from glance.streaming import notify

LOG = logging.getLogger(__name__)

MakeApp = Callable[[], connection.WSGIApp]

# What a worker reports when it serves, with the seconds that its application may take to stop.
_READY = re.compile(rb"ready ([0-9.]+)\n")
# NOTE: eventlet's own os.write retries for ever when the parent has died.
_write = patcher.original("os").write
#: The slot of the process that shows the metrics; it is no worker.
_EXPORTER = -1
#: A worker that dies younger than this (seconds) is replaced after a pause, longer each time.
_YOUNG = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0

_SIGNALS = (
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGCHLD,
)
# The signal that the workers get for each signal: INT and QUIT stop at once, in order.
_STOPS = {
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGHUP: signal.SIGHUP,
    signal.SIGINT: signal.SIGQUIT,
    signal.SIGQUIT: signal.SIGQUIT,
}


def check(conf: config.Conf) -> None:
    """Raise ConfigError if something that the server needs besides valid options is missing."""
    privileges.identity(conf)
    listen.tls_context(conf)
    exposition.check(conf)


def serve(conf: config.Conf, make_app: MakeApp, name: str) -> int:
    """Serve the application that `make_app` creates until a signal; return the exit code.

    `make_app` runs in each serving process. `name` is the program's name for the log. Raises
    ConfigError when the socket cannot be opened or the first worker cannot create the
    application.

    Signals: after `drain_delay`, TERM and HUP stop accepting and let requests finish for
    `stop_timeout` and `graceful_timeout`; INT does not wait for them; a second TERM or INT ends
    everything at once. USR1 reopens the log files.
    """
    tls = listen.tls_context(conf)
    listener = listen.bind(conf)
    url = listen.describe(listener, tls=tls is not None)
    metrics_listener = _metrics_listener(conf)
    privileges.drop(conf)
    shown = None
    if metrics_listener is not None:
        LOG.info("The metrics are at %s/metrics", listen.describe(metrics_listener, tls=False))
        shown = _Shown(exposition.Exposition(conf), metrics_listener)
    count = options.worker_count(conf)
    try:
        if count:
            return Parent(conf, make_app, name, listener, tls, count, url, shown).run()
        return _serve_alone(conf, make_app, name, listener, tls, url, shown)
    finally:
        if shown is not None:
            shown.exposition.close()


@dataclasses.dataclass(frozen=True, slots=True)
class _Shown:
    """The metrics of this daemon, and the socket at which they are shown."""

    exposition: exposition.Exposition
    listener: Any


def _metrics_listener(conf: config.Conf) -> Any:
    """Return the socket for the metrics, None if there are none. Raises ConfigError."""
    if not exposition.is_wanted(conf):
        return None
    return listen.bind(conf.replace(bind_host=conf.metrics_host, bind_port=conf.metrics_port))


def _announce(name: str, url: str, processes: int) -> None:
    LOG.info("%s serves %s with %s process(es)", name, url, processes)
    notify.notify(READY=1, STATUS=f"serving {url}", MAINPID=os.getpid())


def _serve_alone(
    conf: config.Conf,
    make_app: MakeApp,
    name: str,
    listener: Any,
    tls: Any,
    url: str,
    shown: _Shown | None,
) -> int:
    pipe = signals.SignalPipe(signum for signum in _SIGNALS if signum != signal.SIGCHLD)
    if shown is not None:
        shown.exposition.join(exposition.FIRST)
        shown.exposition.sample()
        exposition.about_this_program()
        metrics.WORKERS.set(1)
        metrics.WORKERS_ALIVE.set(1)
        metrics.WORKER_RESTARTS.inc(by=0)
    app = make_app()
    server = _Alone(conf, listener, app, tls=tls)
    server.name = name
    if shown is not None:
        server.beside = worker.Worker(
            conf, shown.listener, exposition.Application(shown.exposition), is_measured=False
        )
    _announce(name, url, 1)
    server.run(pipe)
    notify.notify(STOPPING=1)
    LOG.info("%s has stopped", name)
    return 0


class _Alone(worker.Worker):
    """A worker without a parent: it handles second signals itself."""

    stops = 0
    name = ""
    #: What shows the metrics, in this process.
    beside: worker.Worker | None = None

    def run(self, pipe: signals.SignalPipe, lifeline: int | None = None) -> None:
        """Serve as any worker does; show the metrics until the end."""
        if self.beside is not None:
            self.beside.begin()
        super().run(pipe, lifeline)

    def stop(self, signum: int, *, drains: bool = True) -> None:
        """Begin to stop; the port of the metrics is free at once for the next daemon."""
        if self.beside is not None:
            self.beside.end()
        super().stop(signum, drains=drains)

    def handle(self, signum: int) -> None:
        stop = _STOPS.get(signal.Signals(signum))
        if stop is None:
            super().handle(signum)
            return
        if stop != signal.SIGHUP:
            self.stops += 1
        if self.stops > 1:
            LOG.warning("Second signal: exiting immediately")
            worker.leave(1)
        if not self.service.draining:
            LOG.info("%s is stopping (%s)", self.name, stop_signals.described(signum))
        self.stop(stop)


@dataclasses.dataclass(slots=True)
class _Child:
    """One worker as the parent sees it. `report` is what has arrived over its pipe so far."""

    pid: int
    slot: int
    pipe: int
    born: float
    report: bytes = b""

    @property
    def ready(self) -> bool:
        return _READY.match(self.report) is not None

    @property
    def app_stop_timeout(self) -> float:
        """Seconds that its application may take to stop, once its requests have ended."""
        report = _READY.match(self.report)
        return float(report[1]) if report else 0.0


class Parent:
    """Keeps `count` workers alive. `run` is its whole life."""

    def __init__(
        self,
        conf: config.Conf,
        make_app: MakeApp,
        name: str,
        listener: Any,
        tls: Any,
        count: int,
        url: str,
        shown: _Shown | None = None,
    ):
        self.conf = conf
        self._shown = shown
        self.make_app = make_app
        self.name = name
        self.listener = listener
        self.tls = tls
        self.count = count
        self.url = url
        self.children: dict[int, _Child] = {}
        self._balance = balance.WorkerLoads(count)
        #: When a slot without a worker gets its next one, by the monotonic clock.
        self.due: dict[int, float] = {}
        self._pauses: dict[int, float] = {}
        #: Whether any worker has ever served, and whether all have at one moment.
        self._came_up = False
        self._others_spawned = False
        self._announced = False
        self._stops = 0
        self._stop_signal: signal.Signals | None = None
        self._deadline: float | None = None
        #: When the workers close their socket, by the monotonic clock.
        self._closes_at = math.inf
        # Its writing end is open as long as the parent lives: the workers notice when it closes.
        self._lifeline, self._life = os.pipe2(os.O_CLOEXEC)
        self._signals = signals.SignalPipe(_SIGNALS)
        self._poll = patcher.original("select").poll()
        self._poll.register(self._signals.fd)
        if shown is not None:
            shown.exposition.join(exposition.PARENT, at_once=True)
            exposition.about_this_program()
            metrics.WORKERS.set(count)
            metrics.WORKER_RESTARTS.inc(by=0)
            self._count_alive()

    def run(self) -> int:
        # PERF: what is there now stays. The workers share it, and their garbage collections, which
        # would write to its pages, need not look at it: 1 of 12 MiB less of its own for each.
        gc.collect()
        gc.freeze()
        # NOTE: one worker starts first, so that what it prepares for all (tables of a new
        # database) exists when the others start.
        self._spawn(0)
        failure: exception.ConfigError | None = None
        while self.children or not self._stop_signal:
            try:
                self._turn()
            except exception.ConfigError as err:
                failure = failure or err
                self._begin_stop(signal.SIGQUIT, "it cannot start")
        notify.notify(STOPPING=1)
        if failure is not None:
            raise failure
        LOG.info("%s has stopped", self.name)
        return 1 if self._stops > 1 else 0

    def _turn(self) -> None:
        """Wait for an event and handle it."""
        readable = {fd for fd, _ in self._poll.poll(self._poll_timeout())}
        if self._signals.fd in readable:
            for signum in self._signals.take():
                self._handle(signal.Signals(signum))
        for child in list(self.children.values()):
            if child.pipe in readable:
                self._read_report(child)
        self._reap()
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            self._kill_all()
        if self._stop_signal is None:
            self._fill(now)

    def _poll_timeout(self) -> int:
        """Return how many milliseconds to wait for an event until something is due."""
        moments = list(self.due.values())
        if self._deadline is not None:
            moments.append(self._deadline)
        if not moments:
            return 60_000
        return max(0, int((min(moments) - time.monotonic()) * 1000) + 1)

    # -- workers ---------------------------------------------------------------------------------

    def _fill(self, now: float) -> None:
        """Start the workers that are due, and announce readiness once."""
        if not self._announced:
            if self._came_up and not self._others_spawned:
                self._others_spawned = True
                hooks.first_has_started()
                for slot in range(1, self.count):
                    self._spawn(slot)
                if self._shown is not None:
                    self._spawn(_EXPORTER)
            if self._alive() == self.count:
                self._announced = True
                _announce(self.name, self.url, self.count)
        for slot in [slot for slot, moment in self.due.items() if moment <= now]:
            del self.due[slot]
            if slot != _EXPORTER:
                metrics.WORKER_RESTARTS.inc()
            self._spawn(slot)

    def _alive(self) -> int:
        """Return how many workers serve."""
        return sum(child.ready and child.slot != _EXPORTER for child in self.children.values())

    def _count_alive(self) -> None:
        metrics.WORKERS_ALIVE.set(self._alive())

    def _spawn(self, slot: int) -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        with warnings.catch_warnings():
            # eventlet warns about forks; this process has no hub that a fork could copy.
            warnings.simplefilter("ignore", DeprecationWarning)
            # NOTE: until a worker has its own handlers it has the parent's, which would report a
            # signal to the parent: a first TERM would count as a second one there.
            with signals.held(_SIGNALS):
                pid = os.fork()
                if not pid:
                    os.close(reading)
                    self._be_worker(slot, writing)
        os.close(writing)
        self.children[pid] = _Child(pid, slot, reading, time.monotonic())
        self._poll.register(reading)

    def _be_worker(self, slot: int, writing: int) -> None:
        """Run as a worker; never return."""
        code = 1
        try:
            self._signals.close()
            os.close(self._life)
            for child in self.children.values():
                self._close_pipe(child)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            pipe = signals.SignalPipe((*worker.STOP_SIGNALS, signal.SIGUSR1))
            signals.release(_SIGNALS)
            hubs.use_hub()
            try:
                server = self._exporter() if slot == _EXPORTER else self._worker(slot)
            except exception.ConfigError as err:
                _write(writing, "\0".join(err.problems).encode("utf-8", "backslashreplace"))
                worker.leave(1)
            try:
                _write(writing, b"ready %.1f\n" % hooks.stop_timeout())
            except BrokenPipeError:
                LOG.error("The parent process has ended; stopping")
                worker.leave(1)
            os.close(writing)
            server.run(pipe, self._lifeline)
            code = 0
        except BaseException:
            # The outermost frame of the worker: below it is the parent's stack.
            LOG.exception("A worker of %s failed", self.name)
        finally:
            worker.leave(code)

    def _worker(self, slot: int) -> worker.Worker:
        """Return the worker that this process is. Raises ConfigError."""
        if self._shown is not None:
            self._shown.listener.close()
            self._shown.exposition.join(str(slot))
            self._shown.exposition.sample()
        return worker.Worker(
            self.conf,
            self.listener,
            self.make_app(),
            tls=self.tls,
            multiprocess=self.count > 1,
            seat=self._balance.seat(slot),
        )

    def _exporter(self) -> worker.Worker:
        """Return what shows the metrics, in a process of its own."""
        assert self._shown is not None
        self.listener.close()
        self._shown.exposition.leave()
        application = exposition.Application(self._shown.exposition)
        return worker.Worker(self.conf, self._shown.listener, application)

    def _read_report(self, child: _Child) -> None:
        """Read a worker's report about its start. Call it when the pipe is readable."""
        if child.pipe < 0:
            return
        report = os.read(child.pipe, 65536)
        child.report += report
        self._came_up = self._came_up or child.ready
        if not report or child.ready:
            self._close_pipe(child)
            self._count_alive()

    def _close_pipe(self, child: _Child) -> None:
        if child.pipe >= 0:
            self._poll.unregister(child.pipe)
            os.close(child.pipe)
            child.pipe = -1

    def _reap(self) -> None:
        for pid, child in list(self.children.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if not done:
                continue
            self._read_report(child)
            self._close_pipe(child)
            del self.children[pid]
            if child.slot != _EXPORTER:
                self._balance.leave(child.slot)
            if self._shown is not None:
                self._shown.exposition.forget(str(child.slot))
                self._count_alive()
            if self._stop_signal is None:
                self._lost(child, os.waitstatus_to_exitcode(status))

    def _lost(self, child: _Child, code: int) -> None:
        """Schedule the replacement of a dead worker.

        Raises ConfigError if no worker has ever served. After that, what ends one worker, such as
        the kernel for want of memory, does not end the service of the others.
        """
        reason = f"signal {-code}" if code < 0 else f"status {code}"
        problem = "" if child.ready else child.report.decode("utf-8", "replace")
        if not self._came_up:
            problem = problem or f"A worker exited at start with {reason}"
            raise exception.ConfigError(problem.split("\0"))
        now = time.monotonic()
        pause = 0.0
        if now - child.born < _YOUNG:
            pause = self._pauses.get(child.slot, 0.0 if child.ready else _FIRST_PAUSE)
            self._pauses[child.slot] = min(max(pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
        else:
            self._pauses.pop(child.slot, None)
        self.due[child.slot] = now + pause
        LOG.error(
            "%s %s exited with %s; its replacement starts in %.1f s%s",
            "Metrics process" if child.slot == _EXPORTER else "Worker",
            child.pid,
            reason,
            pause,
            f" ({problem})" if problem else "",
        )

    # -- signals ---------------------------------------------------------------------------------

    def _handle(self, signum: signal.Signals) -> None:
        if signum in _STOPS:
            if signum != signal.SIGHUP:
                self._stops += 1
            if self._stops > 1:
                LOG.warning("Second signal: exiting immediately")
                self._kill_all()
            self._begin_stop(_STOPS[signum], stop_signals.described(signum))
        elif signum == signal.SIGUSR1:
            log.reopen()
            self._signal_workers(signum)

    def _begin_stop(self, signum: signal.Signals, reason: str) -> None:
        times = {
            signal.SIGTERM: self.conf.stop_timeout,
            signal.SIGHUP: self.conf.graceful_timeout,
            signal.SIGQUIT: 0.0,
        }
        # NOTE: never kill a worker that is still saving data that exists nowhere else.
        ending = max((child.app_stop_timeout for child in self.children.values()), default=0.0)
        now = time.monotonic()
        delay = 0.0 if signum == signal.SIGQUIT else self.conf.drain_delay
        self._closes_at = min(now + delay, self._closes_at)
        closes_at = max(now, self._closes_at)
        deadline = closes_at + times[signum] + worker.TIDY_TIME + ending + 1.0
        self._deadline = min(deadline, self._deadline or deadline)
        if self._stop_signal is None:
            LOG.info("%s is stopping (%s)", self.name, reason)
            # NOTE: before the workers close theirs: the port is free when the last one has.
            self.listener.close()
            if self._shown is not None:
                self._shown.listener.close()
        self._stop_signal = signum
        self.due.clear()
        self._signal_workers(signum)

    def _signal_workers(self, signum: int) -> None:
        for pid in self.children:
            # NOTE: not reaped yet, so the pid is still that worker's.
            os.kill(pid, signum)

    def _kill_all(self) -> None:
        self._deadline = None
        self._signal_workers(signal.SIGKILL)
