"""What glance counts and measures for Prometheus: the one table, and how the code adds to it.

Each constant below is a metric. The code calls its `inc`, `set` or `observe` with the values of
its labels; while metrics are off, which is the default, such a call returns at once.
`glance.http.exposition` switches them on in a process and writes them down; the page that lists
them is made from this table. This module knows no file, no library and no event loop.

Names and units follow https://prometheus.io/docs/practices/naming/: seconds, bytes, and `_total`
for what only grows. SECURITY: whoever scrapes need not be an administrator of glance, so no label
has a tenant, a user, an id, a path, a URL or an address. The values of a label are those that the
code or the operator's configuration names, and never a caller's: a caller must not be able to make
new series.
"""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

API, REGISTRY, CONVERTER = "glance-api", "glance-registry", "glance-converter"
SCRUBBER = "glance-scrubber"
BOTH = (API, REGISTRY)
ALL = (*BOTH, CONVERTER, SCRUBBER)

#: Upper bounds in seconds of what should take milliseconds; the last ones are for transfers.
REQUEST_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600)
CALL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)

#: The route of a request that reached none: its path is unknown, or a filter has responded.
UNMATCHED = "unmatched"
#: Key of the environ for the `Route` of a request; there is none while metrics are off.
ROUTE = "glance.metrics_route"


class Child(Protocol):
    """One series: a metric with values for its labels."""

    def inc(self, amount: float) -> None: ...

    def set(self, value: float) -> None: ...

    def observe(self, amount: float) -> None: ...


#: Returns the series of a metric with these values of its labels. Never raises.
Make = Callable[["Metric", tuple[str, ...]], Child]


class Metric:
    """One metric: its name, what it says (a sentence), and the names of its labels.

    `values` says what the values of its labels are; `programs` are those that have it.
    """

    kind: ClassVar[str] = ""

    def __init__(
        self,
        name: str,
        help: str,
        labels: Mapping[str, str] | None = None,
        *,
        programs: tuple[str, ...] = BOTH,
        buckets: tuple[float, ...] = (),
    ):
        self.name, self.help, self.programs, self.buckets = name, help, programs, buckets
        self.values: Mapping[str, str] = labels or {}
        self.labels = tuple(self.values)
        self._children: dict[tuple[str, ...], Child] = {}
        TABLE[name] = self

    def child(self, labels: tuple[str, ...]) -> Child:
        """Return the series with these values of the labels; only while metrics are on."""
        found = self._children.get(labels)
        if found is None:
            assert _state.make is not None
            found = self._children[labels] = _state.make(self, labels)
        return found

    def forget(self) -> None:
        """Drop the series of this process; what was written of them stays."""
        self._children.clear()


class Counter(Metric):
    """What only grows."""

    kind = "counter"

    def inc(self, *labels: str, by: float = 1.0) -> None:
        """Add `by` to the series with these values of the labels."""
        if _state.make is not None:
            self.child(labels).inc(by)


class Gauge(Metric):
    """What goes up and down."""

    kind = "gauge"

    def inc(self, *labels: str, by: float = 1.0) -> None:
        """Add `by`, which may be negative."""
        if _state.make is not None:
            self.child(labels).inc(by)

    def set(self, value: float, *labels: str) -> None:
        """Set the value of this process; the values of the processes of a daemon are added up."""
        if _state.make is not None:
            self.child(labels).set(value)


class Histogram(Metric):
    """How long things take, by upper bounds in seconds (`buckets`)."""

    kind = "histogram"

    def observe(self, seconds: float, *labels: str) -> None:
        """Count something that took so many seconds."""
        if _state.make is not None:
            self.child(labels).observe(seconds)


class _State:
    make: Make | None = None
    is_first = False


_state = _State()

#: All metrics by their names.
TABLE: dict[str, Metric] = {}

#: What looks at the state of this process now and then, with the seconds between two looks.
_samplers: list[tuple[Callable[[], None], float]] = []


def is_on() -> bool:
    """Return whether this process writes metrics."""
    return _state.make is not None


def is_first() -> bool:
    """Return whether this process says what is the same for all processes of its daemon."""
    return _state.is_first


def switch_on(make: Make, *, is_first: bool = True) -> None:
    """Have the calls of this process write to the series that `make` returns.

    Of the processes of a daemon one `is_first`: it looks at what they share, such as the disk.
    """
    switch_off()
    _state.make, _state.is_first = make, is_first


def switch_off() -> None:
    """Have the calls of this process do nothing."""
    _state.make, _state.is_first = None, False
    for metric in TABLE.values():
        metric.forget()


def sample(look: Callable[[], None], every: float = 5.0) -> None:
    """Call `look` every so many seconds while metrics are on; it sets gauges, and may wait.

    Call this while the application is created, after any fork.
    """
    _samplers.append((look, every))


def samplers() -> Iterator[tuple[Callable[[], None], float]]:
    """Return the functions of `sample`, each with its seconds."""
    return iter(list(_samplers))


# What the parent of the workers looks at is not for them to look at.
os.register_at_fork(after_in_child=_samplers.clear)


def begin(counter: Counter, *words: Iterable[str]) -> None:
    """Begin the series for all combinations of values of the labels with 0.

    A rule that looks for growth does not see the first event of a series that begins with it.
    """
    for labels in itertools.product(*words):
        counter.inc(*labels, by=0)


class Growth:
    """Adds to counters what other counters of this process have grown by since the last look."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, tuple[str, ...]], float] = {}

    def note(self, counter: Counter, value: float, *labels: str) -> None:
        """Take the present value of what `counter` follows."""
        key = (counter.name, labels)
        grown = value - self._last.get(key, 0.0)
        if grown > 0 or key not in self._last:
            self._last[key] = value
            counter.inc(*labels, by=grown)


class Route:
    """The template of the route of one request, once it is known."""

    __slots__ = ("template",)

    def __init__(self) -> None:
        self.template = UNMATCHED


def took(environ: Mapping[str, Any], template: str) -> None:
    """Note the route that a request takes, such as `/v1/images/{id}`."""
    route = environ.get(ROUTE)
    if route is not None:
        route.template = template


def timed(
    method: Callable[P, T],
    calls: Counter,
    seconds: Histogram,
    labels: Callable[..., tuple[str, ...]],
    outcome: Callable[[BaseException], str],
) -> Callable[P, T]:
    """Return `method`, as a call of something else: counts its outcome, and measures its seconds.

    `labels` returns the labels from the arguments, `outcome` the word for an error; without one it
    is "ok".
    """

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if _state.make is None:
            return method(*args, **kwargs)
        begun = time.monotonic()
        word = "ok"
        try:
            return method(*args, **kwargs)
        except BaseException as err:
            word = outcome(err)
            raise
        finally:
            # Metrics may have been switched off meanwhile.
            if _state.make is not None:
                found = labels(*args, **kwargs)
                seconds.child(found).observe(time.monotonic() - begun)
                calls.child((*found, word)).inc(1.0)

    return call


# -- both daemons --------------------------------------------------------------------------------

_ROUTE = {
    "route": "the template of the path, such as `/v1/images/{id}`; `unmatched` for a request that "
    "reached no route",
    "method": "the method of the request; `OTHER` for one that HTTP APIs do not use",
}

BUILD = Gauge(
    "glance_build_info",
    "Always 1; the labels say which release is running.",
    {"version": "the release of glance", "python": "the version of Python"},
    programs=ALL,
)
WORKERS = Gauge("glance_workers", "Worker processes that there should be.")
WORKERS_ALIVE = Gauge("glance_workers_alive", "Worker processes that serve requests now.")
WORKER_RESTARTS = Counter(
    "glance_worker_restarts_total", "Worker processes that have died and were replaced."
)
CONNECTIONS = Gauge("glance_http_connections", "Connections of clients that are open.")
REQUESTS = Counter(
    "glance_http_requests_total",
    "Requests that have ended.",
    {**_ROUTE, "status": "the status of the response; `none` if there was none"},
)
REQUEST_SECONDS = Histogram(
    "glance_http_request_duration_seconds",
    "Time from the head of a request to the end of its response, transfers included.",
    _ROUTE,
    buckets=REQUEST_BUCKETS,
)
REQUESTS_IN_PROGRESS = Gauge(
    "glance_http_requests_in_progress", "Requests whose responses have not ended."
)
RECEIVED_BYTES = Counter(
    "glance_http_received_bytes_total",
    "Bytes of the bodies of requests, counted while they arrive.",
    _ROUTE,
)
SENT_BYTES = Counter(
    "glance_http_sent_bytes_total",
    "Bytes of the bodies of responses, counted while they are sent.",
    _ROUTE,
)

# -- glance-api ----------------------------------------------------------------------------------

_API = (API,)
#: What those do that ask the registry, and those that use the stores and tell of it.
_ASKING = (API, CONVERTER)
_WORKING = (*_ASKING, SCRUBBER)

UPLOADS_IN_PROGRESS = Gauge(
    "glance_uploads_in_progress",
    "Uploads that receive data now, copies from elsewhere included.",
    programs=_API,
)
UPLOADS = Counter(
    "glance_uploads_total",
    "Uploads that have ended.",
    {
        "source": "`client` for data that a client sends, `copy` for a copy from elsewhere",
        "outcome": "`stored`, `refused` (an error of the client or of a limit), or `failed`",
    },
    programs=_API,
)
UNFINISHED = Gauge(
    "glance_unfinished_uploads",
    "Records that wait for data which only this daemon brings: running uploads, waiting copies.",
    programs=_API,
)
COPIES = Gauge(
    "glance_copies",
    "Copies from elsewhere in the background.",
    {"state": "`running` or `waiting`"},
    programs=_API,
)
DOWNLOADS_IN_PROGRESS = Gauge(
    "glance_downloads_in_progress", "Downloads whose data is being sent.", programs=_API
)
DOWNLOADS = Counter(
    "glance_downloads_total",
    "Downloads that have ended.",
    {
        "source": "`cache` for data of the image cache, `store` for any other",
        "outcome": "`whole`, or `cut` if the client got less than was announced",
    },
    programs=_API,
)
DOWNLOAD_BYTES = Counter(
    "glance_download_bytes_total",
    "Bytes of image data that clients got, counted at the end of each download.",
    {"source": "`cache` or `store`"},
    programs=_API,
)
REGISTRY_CALLS = Counter(
    "glance_registry_calls_total",
    "Calls to glance-registry, repeated ones each by itself.",
    {
        "call": "the name of the call, such as `get_image_metadata`",
        "outcome": "`ok`, `refused` (not found, forbidden, in conflict ...), `unavailable`, or "
        "`failed`",
    },
    programs=_ASKING,
)
REGISTRY_SECONDS = Histogram(
    "glance_registry_call_duration_seconds",
    "Time of a call to glance-registry.",
    {"call": "the name of the call"},
    programs=_ASKING,
    buckets=CALL_BUCKETS,
)
STORE_CALLS = Counter(
    "glance_store_calls_total",
    "Calls to the stores.",
    {
        "store": "the name of the store, such as `file`",
        "call": "`get`, `get_size`, `stage`, `commit`, `delete`, or `check`",
        "outcome": "`ok`, `missing`, `refused` (forbidden, full, exists ...), `unavailable`, or "
        "`failed`",
    },
    programs=_WORKING,
)
STORE_SECONDS = Histogram(
    "glance_store_call_duration_seconds",
    "Time of a call to a store, without the transfer of data.",
    {"store": "the name of the store", "call": "the name of the call"},
    programs=_WORKING,
    buckets=CALL_BUCKETS,
)
CACHE_REQUESTS = Counter(
    "glance_cache_requests_total",
    "Downloads that the image cache was asked for.",
    {
        "result": "`hit`; `miss`, which fills the cache; `follow`, which shares such a fill; or "
        "`bypass`, which the cache has no part in"
    },
    programs=_API,
)
CACHE_FILLS = Counter(
    "glance_cache_fills_total",
    "Fills of the image cache by downloads that have ended.",
    {"outcome": "`complete` or `aborted`"},
    programs=_API,
)
CACHE_REMOVED = Counter(
    "glance_cache_removed_total",
    "Copies that the image cache has removed.",
    {"reason": "`evicted` to make room, or `invalidated` because the image has changed"},
    programs=_API,
)
CACHE_BYTES = Gauge(
    "glance_cache_bytes", "Bytes that the image cache of this host has in use.", programs=_API
)
CACHE_LIMIT = Gauge(
    "glance_cache_limit_bytes",
    "Bytes that the image cache may use (`image_cache_max_size`); 0 means no limit.",
    programs=_API,
)
NOTIFICATIONS = Counter(
    "glance_notifications_total",
    "What has become of notifications.",
    {
        "event": "`queued` (put in), `published` (sent), `retried` (sent again), `confirmed` "
        "(safe at the receiver), `spooled` (put on the disk), or `dropped` (lost)"
    },
    programs=_WORKING,
)
NOTIFICATIONS_WAITING = Gauge(
    "glance_notifications_waiting", "Notifications that wait in memory.", programs=_WORKING
)
NOTIFICATION_SPOOL = Gauge(
    "glance_notification_spool_bytes",
    "Bytes of notifications that wait on the disk, those of earlier processes included.",
    programs=_WORKING,
)
NOTIFIER_CONNECTED = Gauge(
    "glance_notification_connections",
    "Worker processes that have a connection to the receiver of notifications.",
    programs=_WORKING,
)
PURGES_WAITING = Gauge(
    "glance_http_cache_purges_waiting",
    "Requests to HTTP caches to forget an image that wait to be sent.",
    programs=_API,
)

# -- glance-registry -----------------------------------------------------------------------------

_REGISTRY = (REGISTRY,)
#: What those do that open the database.
_DATABASE = (REGISTRY, SCRUBBER)

DATABASE_CONNECTIONS = Gauge(
    "glance_database_connections",
    "Connections to the database that are open.",
    {"state": "`in_use` or `idle`"},
    programs=_DATABASE,
)
DATABASE_LIMIT = Gauge(
    "glance_database_connections_limit",
    "Connections to the database that there may be.",
    programs=_DATABASE,
)
DATABASE_WAITING = Gauge(
    "glance_database_waiting",
    "Requests that wait for a connection to the database.",
    programs=_DATABASE,
)
DATABASE_ERRORS = Counter(
    "glance_database_errors_total",
    "Uses of the database that have failed.",
    {
        "reason": "`busy` (no connection, or a lock was not released), `late` (no response in "
        "time), `read_only`, `unreachable`, or `other`"
    },
    programs=_DATABASE,
)
SCRUB_QUEUE = Gauge(
    "glance_scrub_queue_images",
    "Deleted images whose data is not removed yet.",
    {
        "state": "`waiting`, or `failed` for those that cannot be removed without an operator",
    },
    programs=_REGISTRY,
)

# -- glance-converter ----------------------------------------------------------------------------

_CONVERTER = (CONVERTER,)

CONVERSIONS = Counter(
    "glance_conversions_total",
    "Conversions whose work has ended in this converter.",
    {
        "outcome": "`succeeded`, `stopped` (cancelled), `released` (given back), or the code of a "
        "failure"
    },
    programs=_CONVERTER,
)
CONVERSIONS_RUNNING = Gauge(
    "glance_conversions_running", "Conversions that are worked on now.", programs=_CONVERTER
)

# -- glance-scrubber -----------------------------------------------------------------------------

_SCRUBBER = (SCRUBBER,)

SCRUBBED = Counter(
    "glance_scrubbed_images_total",
    "Attempts to remove the data of a deleted image, or what a failed upload has left.",
    {
        "outcome": "`deleted`, `gone` (it was not there), `not_ours` (nothing of this service), "
        "`postponed`, or `dead` (given up until an operator tries again)"
    },
    programs=_SCRUBBER,
)
SCRUB_KILLED = Counter(
    "glance_scrub_killed_uploads_total",
    "Uploads that had died, and whose images are `killed` now.",
    programs=_SCRUBBER,
)
SCRUB_PASSES = Counter(
    "glance_scrub_passes_total",
    "Passes that have ended.",
    {
        "outcome": "`complete`, `incomplete` (something was postponed or given up), or `failed` "
        "(the database did not respond, for example)"
    },
    programs=_SCRUBBER,
)
SCRUB_PASS_TIME = Gauge(
    "glance_scrub_pass_end_timestamp_seconds",
    "When the last pass has ended that did not fail, or the daemon has begun, in seconds of Unix "
    "time.",
    programs=_SCRUBBER,
)
