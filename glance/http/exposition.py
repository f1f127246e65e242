"""The metrics of a program, written down by its processes and shown to Prometheus.

`glance.common.metrics` is the table of them. Here they meet prometheus_client, in its
multi-process way: each process of a program maps files of a directory that they share into its
memory, and whoever shows the metrics reads the files of all. The library is loaded only where
`metrics_port` is set.

- A process keeps its numbers in memory, and a native thread writes them to the files every second:
  a request waits for no file.
- A process keeps its numbers in memory, and a native thread writes them to its files often,
  so that no request waits for a file, nor fails for one.
- A worker's files are named after its place among the workers, not its pid, so the one that
  replaces it counts on, and the files do not become more. Gauges of a dead worker are removed.
- The space of a file is taken before it is mapped: a full disk is an error when a new series
  begins, and not a signal that ends the process at some later moment. What finds no space is
  counted in memory until there is some, and the log says so.
- A daemon shows its metrics at its own address: with workers, in a process of its own, which shows
  also that no worker is alive. A program without a server calls `serve_beside`.
"""

from __future__ import annotations

import bisect
import contextlib
import fcntl
import importlib
import logging
import math
import os
import platform
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref import simple_server

from glance.common import config, exception, files, hooks, metrics, throttle
from glance.http import wsgi
from glance.streaming import hub, periodic, threads
from glance.version import VERSION

LOG = logging.getLogger(__name__)

config.options(
    "metrics",
    config.Option(
        "metrics_port",
        config.port,
        help="Port at which this daemon shows its metrics to Prometheus, as http://HOST:PORT"
        "/metrics. Unset: there are no metrics. Each daemon of a host needs a port of its own.",
    ),
    config.Option(
        "metrics_host",
        config.host,
        default="127.0.0.1",
        help="Address for metrics_port. Everybody who can reach it can read the metrics, without "
        "a token: they tell how much the service is used, and nothing about single images, users "
        "or tenants.",
    ),
    config.Option(
        "metrics_directory",
        config.path,
        help="Directory in which each daemon makes a directory of its own for its metrics, up to "
        "a few MiB, and removes it when it stops. Best on a tmpfs. Unset: the system's directory "
        "for temporary files.",
    ),
)

PATH = "/metrics"
_PREFIX = "glance-metrics-"
#: Media type of the text form (https://prometheus.io/docs/instrumenting/exposition_formats/).
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: How long what was read from the files is shown again, in seconds: scrapes must cost little.
KEEP = 1.0
#: How often it is logged that metrics cannot be written or read, in seconds.
_LOG_PAUSE = 300.0
#: Seconds between two looks for samplers that are due.
_TICK = 2.0
#: How long a new series waits for room on a full disk, in seconds.
_RETRY = 30.0
#: The name of the process that is the parent of the workers, in the names of its files.
PARENT = "parent"
#: The name of the worker that looks at what all of them share.
FIRST = "0"
#: How long a client of `serve_beside` may take, in seconds.
_PATIENCE = 5.0


def is_wanted(conf: config.Conf) -> bool:
    """Return whether the settings switch metrics on."""
    return conf.metrics_port is not None


def check(conf: config.Conf) -> None:
    """Raise ConfigError if metrics are wanted and cannot work."""
    if not is_wanted(conf):
        return
    try:
        importlib.import_module("prometheus_client")
    except ImportError as err:
        raise exception.ConfigError(
            f"{conf.at('metrics_port')}: the library prometheus_client is not installed: {err}"
        ) from err
    path = conf.metrics_directory
    if path and os.path.lexists(path) and not os.path.isdir(path):
        raise exception.ConfigError(f"{conf.at('metrics_directory')}: {path} is not a directory")


class Exposition:
    """The metrics of one program, in a directory that its processes share.

    Create it before any fork, as the user that the processes run as. Each process calls `join`;
    the one that created it calls `close`, which removes the directory, and `forget` for a worker
    that has died. Without a directory (a full or read-only disk), there are no metrics, and
    `page` says why.
    """

    def __init__(self, conf: config.Conf):
        self._pid = os.getpid()
        self._fd = -1
        self.path = ""
        self.problem = ""
        base = conf.metrics_directory or tempfile.gettempdir()
        try:
            files.make_directories(base, 0o700)
            _sweep(base)
            self.path = tempfile.mkdtemp(prefix=_PREFIX, dir=base)
            # The lock tells those who look for remains, and systemd-tmpfiles, that it is in use.
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            # SECURITY: the path is for the log, and not for who scrapes.
            self.problem = err.strerror or type(err).__name__
            LOG.error(
                "There are no metrics: no directory for them can be made in %s: %s", base, err
            )
            self.close()
            self.path = ""
        # NOTE: loaded before the fork, so that the processes share the memory.
        _library()
        self._writer: _Writer | None = None
        self._guard: Any = None
        self._page = b""
        self._until = 0.0
        self._complaints = throttle.RateLimiter(_LOG_PAUSE)

    def join(self, name: str, *, at_once: bool = False) -> None:
        """Have this process write its metrics under `name`, which no other living one has.

        Without `at_once`, `flush` or the task that `sample` begins writes them.
        """
        if self.path:
            self._writer = _Writer(self.path, name, at_once=at_once)
            metrics.switch_on(self._writer.make, is_first=name == FIRST)

    def leave(self) -> None:
        """Have this process write no metrics any more; it may go on to show them."""
        self._writer = None
        metrics.switch_off()

    def sample(self) -> None:
        """Begin to write, and to look at the state of this process now and then."""
        if self._writer is not None:
            sampling = _Sampling(self.flush)
            hooks.at_stop(sampling.finish)
            sampling.start()

    def flush(self) -> None:
        """Write what has changed since the last time, in a native thread."""
        if self._writer is not None and self._writer.has_changed:
            threads.run(self._writer.flush)

    def forget(self, name: str) -> None:
        """Remove the gauges of a process that has died; what it has counted stays."""
        if self.path:
            with contextlib.suppress(OSError):
                os.remove(os.path.join(self.path, f"gauge_livesum_{name}.db"))

    def close(self) -> None:
        """Remove the directory, in the process that has made it; idempotent, never raises."""
        if os.getpid() == self._pid and self.path:
            shutil.rmtree(self.path, ignore_errors=True)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # -- showing ---------------------------------------------------------------------------------

    def page(self) -> bytes:
        """Return the metrics of all processes in the text form of Prometheus.

        Raises ServiceUnavailable if they cannot be read.
        """
        if not self.path:
            raise exception.ServiceUnavailable(f"There are no metrics: {self.problem}")
        if self._guard is None:
            self._guard = hub.lock()
        with self._guard:
            if time.monotonic() >= self._until:
                self.flush()
                try:
                    self._page = threads.run(_read, self.path)
                except Exception as err:
                    # The library raises whatever a damaged or vanished file makes it raise.
                    if self._complaints.due():
                        LOG.error("The metrics cannot be read: %s", exception.described(err))
                    raise exception.ServiceUnavailable("The metrics cannot be read") from err
                self._until = time.monotonic() + KEEP
            return self._page


class Application:
    """WSGI application that shows the metrics at /metrics."""

    def __init__(self, exposition: Exposition):
        self._exposition = exposition
        self._router: wsgi.Router[wsgi.Request] = wsgi.Router(wsgi.Request)
        self._router.add("/", GET=self._index, HEAD=self._index)
        self._router.add(PATH, GET=self._show, HEAD=self._show)

    def __call__(
        self, environ: dict[str, Any], start_response: wsgi.StartResponse
    ) -> Iterable[bytes]:
        return self._router(environ, start_response)

    def _index(self, request: wsgi.Request) -> wsgi.Response:
        headers = [("Content-Type", "text/plain; charset=UTF-8")]
        return wsgi.Response(200, headers, b"The metrics are at /metrics\n")

    def _show(self, request: wsgi.Request) -> wsgi.Response:
        request.environ[hooks.UNLOGGED] = True
        headers = [("Content-Type", MEDIA_TYPE), ("Cache-Control", "no-store")]
        return wsgi.Response(200, headers, self._exposition.page())


class _Handler(simple_server.WSGIRequestHandler):
    """A client of `serve_beside`, which has a moment for its request."""

    timeout = _PATIENCE

    def log_message(self, format: str, *args: object) -> None:
        LOG.debug(format, *args)


@contextlib.contextmanager
def serve_beside(conf: config.Conf) -> Iterator[Exposition | None]:
    """Show the metrics of a program without a server of its own for the block.

    Yields None unless `metrics_port` is set. One native thread serves one client at a time. Raises
    ConfigError for settings that cannot be used, and if the port is taken.
    """
    check(conf)
    if not is_wanted(conf):
        yield None
        return
    where = f"{conf.metrics_host} port {conf.metrics_port}"
    exposition = Exposition(conf)
    try:
        try:
            server = simple_server.make_server(
                conf.metrics_host,
                conf.metrics_port,
                Application(exposition),
                handler_class=_Handler,
            )
        except OSError as err:
            raise exception.ConfigError(f"Cannot listen on {where}: {err.strerror}") from err
        with server:
            exposition.join(FIRST)
            exposition.sample()
            about_this_program()
            thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
            thread.start()
            LOG.info("The metrics are at %s", where)
            try:
                yield exposition
            finally:
                server.shutdown()
                thread.join(_PATIENCE)
    finally:
        exposition.leave()
        exposition.close()


def about_this_program() -> None:
    """Set what stays the same as long as a program runs; in one of its processes."""
    metrics.BUILD.set(1, VERSION, platform.python_version())


def _sweep(base: str) -> None:
    """Remove the directories of daemons of this user that were killed."""
    for entry in os.scandir(base):
        if not entry.name.startswith(_PREFIX) or not entry.is_dir(follow_symlinks=False):
            continue
        status = entry.stat(follow_symlinks=False)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) != 0o700:
            continue
        try:
            fd = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            # NOTE: a directory is locked a moment after it was made; spare what is that young.
            if time.time() - status.st_mtime > 1.0:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry.path, ignore_errors=True)
        except BlockingIOError:
            # Its daemon is alive.
            pass
        finally:
            os.close(fd)


def _library() -> Any:
    return importlib.import_module("prometheus_client")


def _read(path: str) -> bytes:
    client = _library()
    multiprocess = importlib.import_module("prometheus_client.multiprocess")
    registry = client.CollectorRegistry(auto_describe=False)
    multiprocess.MultiProcessCollector(registry, path)
    page: bytes = client.generate_latest(registry)
    return page


class _Series:
    """One series of this process: its numbers in memory, and where they are in the files.

    A counter and a gauge have one number; a histogram has the sum, and a count for each bound.
    """

    __slots__ = (
        "_bounds",
        "_lock",
        "_writer",
        "is_changed",
        "labels",
        "metric",
        "numbers",
        "places",
    )

    def __init__(self, writer: _Writer, metric: metrics.Metric, labels: tuple[str, ...]):
        self._writer, self._lock = writer, writer.lock
        self.metric, self.labels = metric, labels
        self._bounds = metric.buckets
        self.numbers = [0.0] * (len(metric.buckets) + 2 if metric.buckets else 1)
        self.is_changed = False
        #: For each number its key in a file and what an earlier process has left there.
        self.places: list[tuple[Any, str, float]] | None = None

    def inc(self, amount: float) -> None:
        with self._lock:
            self.numbers[0] += amount
            if not self.is_changed:
                self._writer.note(self)

    def set(self, value: float) -> None:
        if self.places is not None and self.numbers[0] == value:
            return
        with self._lock:
            self.numbers[0] = value
            if not self.is_changed:
                self._writer.note(self)

    def observe(self, amount: float) -> None:
        with self._lock:
            self.numbers[0] += amount
            self.numbers[1 + bisect.bisect_left(self._bounds, amount)] += 1
            if not self.is_changed:
                self._writer.note(self)


class _Writer:
    """The series of one process, and its files.

    PERF: a request changes numbers in memory only, which takes half a microsecond each. `flush`
    writes to the files what has changed; a process that is killed loses what it has counted since.
    With `at_once` every change is written immediately, for a process without an event loop.
    """

    def __init__(self, path: str, name: str, *, at_once: bool = False):
        self._path, self._name, self._at_once = path, name, at_once
        # NOTE: a native lock that can be taken again: finalizers, and native threads beside the
        # hub, may count, too. Nobody waits for anything while holding it.
        self.lock = hub.native(threading).RLock()
        self._writing = hub.native_lock()
        self._changed: list[_Series] = []
        self._files: dict[str, Any] = {}
        self._complaints = throttle.RateLimiter(_LOG_PAUSE)
        self._next_try = 0.0

    def make(self, metric: metrics.Metric, labels: tuple[str, ...]) -> metrics.Child:
        """Return a series; see `metrics.Make`."""
        return _Series(self, metric, labels)

    def note(self, series: _Series) -> None:
        """Note that a series has changed; the caller holds the lock."""
        series.is_changed = True
        self._changed.append(series)
        if self._at_once:
            self.flush()

    @property
    def has_changed(self) -> bool:
        """Whether there is something to write."""
        return bool(self._changed)

    def flush(self) -> None:
        """Write what has changed. Blocks; never raises an OSError."""
        with self._writing:
            with self.lock:
                changed, self._changed = self._changed, []
                for series in changed:
                    series.is_changed = False
            left = [series for series in changed if not self._write(series)]
            with self.lock:
                for series in left:
                    if not series.is_changed:
                        series.is_changed = True
                        self._changed.append(series)

    def _write(self, series: _Series) -> bool:
        """Write a series; return False if there is no room for it."""
        if series.places is None and not self._find_places(series):
            return False
        assert series.places is not None
        for (pages, key, before), number in zip(series.places, list(series.numbers), strict=True):
            pages.write_value(key, before + number, 0.0)
        return True

    def _find_places(self, series: _Series) -> bool:
        if time.monotonic() < self._next_try:
            return False
        try:
            series.places = self._places(series.metric, series.labels)
            return True
        except OSError as err:
            # What is served is worth more than what is counted, which stays in memory.
            self._next_try = time.monotonic() + _RETRY
            if self._complaints.due():
                LOG.error("Some metrics cannot be written for now: %s", err.strerror)
            return False

    def _places(
        self, metric: metrics.Metric, labels: tuple[str, ...]
    ) -> list[tuple[Any, str, float]]:
        mmap_dict: Any = importlib.import_module("prometheus_client.mmap_dict")
        is_gauge = metric.kind == "gauge"
        prefix = "gauge_livesum" if is_gauge else metric.kind
        pages = self._files.get(prefix)
        if pages is None:
            path = os.path.join(self._path, f"{prefix}_{self._name}.db")
            pages = self._files[prefix] = _open_pages(path)
        # The library adds the suffix of counters itself.
        name = metric.name.removesuffix("_total")
        found = []
        for suffix, more in _numbers_of(metric):
            names, values = [*metric.labels, *more], [*labels, *more.values()]
            key = mmap_dict.mmap_key(name, name + suffix, names, values, metric.help)
            before = 0.0 if is_gauge else pages.read_value(key)[0]
            found.append((pages, key, before))
        return found


def _numbers_of(metric: metrics.Metric) -> Iterator[tuple[str, dict[str, str]]]:
    """Return for each number of a series the suffix of its name, and its further labels."""
    if not metric.buckets:
        yield ("_total" if metric.kind == "counter" else ""), {}
        return
    utils: Any = importlib.import_module("prometheus_client.utils")
    yield "_sum", {}
    for bound in (*metric.buckets, math.inf):
        yield "_bucket", {"le": utils.floatToGoString(bound)}


def _open_pages(path: str) -> Any:
    """Return the library's mapped dictionary in a file whose space is taken first.

    A file that a process left damaged when it was killed is begun anew. Raises OSError.
    """
    mmap_dict: Any = importlib.import_module("prometheus_client.mmap_dict")

    class Pages(mmap_dict.MmapedDict):  # type: ignore[misc]  # loaded late
        def _init_value(self, key: str) -> None:
            # NOTE: what the library adds besides the key is less than this.
            if self._used + len(key.encode()) + 64 > self._capacity:
                os.posix_fallocate(self._f.fileno(), 0, 2 * self._capacity)
            super()._init_value(key)

    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            os.posix_fallocate(fd, 0, mmap_dict._INITIAL_MMAP_SIZE)
        except OSError:
            if not os.fstat(fd).st_size:
                # NOTE: an empty file would be taken for one with room.
                os.remove(path)
            raise
    finally:
        os.close(fd)
    try:
        return Pages(path)
    except (RuntimeError, ValueError):
        os.truncate(path, 0)
        return _open_pages(path)


class _Sampling(periodic.PeriodicTask):
    """Calls the samplers of this process when they are due, and then `flush`."""

    turn_name = "look at the state for the metrics"

    def __init__(self, flush: Callable[[], None]) -> None:
        super().__init__(_TICK)
        self._flush = flush
        self._due: dict[int, float] = {}
        self._complaints = throttle.RateLimiter(_LOG_PAUSE)

    def turn(self) -> None:
        now = time.monotonic()
        for number, (look, every) in enumerate(metrics.samplers()):
            if now >= self._due.get(number, 0.0):
                self._due[number] = now + every
                self._look(look)
        self._flush()

    def _look(self, look: Callable[[], None]) -> None:
        try:
            look()
        except Exception as err:
            # A look must not end the others, nor fill the log.
            if self._complaints.due():
                LOG.warning("A part of the metrics is not known: %s", exception.described(err))

    def finish(self) -> None:
        """Look and write for the last time, so that nothing that was counted is missing."""
        self.stop()
        for look, _ in metrics.samplers():
            self._look(look)
        self._flush()
