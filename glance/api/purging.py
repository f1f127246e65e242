"""Tells HTTP caches in front of the service what they must not keep (`http_cache_purge_urls`).

A change through a cache invalidates its copy there (RFC 9111 §4.4), and nowhere else. So the
process that has made a change asks every cache by itself. The request that made it never waits:
it puts a *purge* into a queue, and a task for each cache sends them. While a cache is down its
purges wait, in memory and, with `http_cache_purge_spool_dir`, on the disk.

With `http_cache_mode = validate` nothing depends on it: caches ask before each use. With ttl, they
may show a deleted image until its time is over, if a purge fails.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import logging
import math
import os
import ssl
import threading
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from glance.api import versions
from glance.common import config, exception, hooks, metrics, throttle
from glance.http.client import connection as http_connection
from glance.image import fields, types
from glance.streaming import hub, retry, spool, tasks, threads
from glance.streaming.segment import Segment

LOG = logging.getLogger(__name__)


def _bases(text: str) -> tuple[str, ...]:
    found = []
    for word in config.words(text):
        base = config.url(word).rstrip("/")
        parts = urllib.parse.urlsplit(base)
        try:
            known = parts.port is None or parts.port > 0
        except ValueError:
            known = False
        if "@" in parts.netloc or parts.query or parts.fragment or not known:
            raise ValueError("use URLs such as http://cache:6081, without credentials or a query")
        if not base.isascii() or not base.isprintable():
            raise ValueError("use URLs of ASCII characters such as http://cache:6081")
        if base not in found:
            found.append(base)
    return tuple(found)


def _token(text: str) -> str:
    token = text.strip()
    if not (token.isascii() and token.isprintable()):
        raise ValueError("use printable ASCII characters")
    return token


config.options(
    "HTTP caches",
    config.Option(
        "http_cache_purge_urls",
        _bases,
        (),
        help="URLs of HTTP caches, separated by commas, that are told which images they must not "
        "keep any longer.",
    ),
    config.Option(
        "http_cache_purge_method",
        default="PURGE",
        choices=("PURGE", "BAN"),
        help="Method of the requests that tell them.",
    ),
    config.Option(
        "http_cache_purge_token",
        _token,
        secret=True,
        help="Secret that these requests have in the header X-Purge-Token.",
    ),
    config.Option(
        "http_cache_purge_spool_dir",
        config.path,
        help="Directory in which requests to caches that are down are kept on disk, across "
        "restarts. Unset: a restart forgets them.",
    ),
)

#: How many purges wait for each cache.
QUEUE = 1000
#: How many bytes the spool of one process has.
SPOOL_BYTES = 4 * 1024 * 1024
#: How long a cache may take for one request, in seconds.
TIMEOUT = 5.0
#: Between tries while a cache is down.
BACKOFF = retry.Backoff(1, 300)
#: A purge that is older is given up, in seconds: with the default, all copies have ended by then.
LIFE = 24 * 3600.0
_LOG_PAUSE = 60.0
#: Key of the environ with the purger, if there is one.
ENVIRON = "glance.purger"


@dataclasses.dataclass(slots=True, eq=False)
class Purge:
    """One image that one cache must not keep.

    `deleted` is for an image that nobody may read any longer; `urgent` for that and for one that
    not everybody may read any longer. Otherwise only its metadata has changed. `uuid` is its id in
    version 2, "" if that is not known.
    """

    base: str
    image_id: int
    urgent: bool
    deleted: bool
    since: float
    uuid: str = ""
    data: bytes = b""
    settled: bool = False
    segment: Segment | None = None

    @property
    def rank(self) -> int:
        return self.urgent + self.deleted

    def __post_init__(self) -> None:
        names = ("base", "image_id", "urgent", "deleted", "since", "uuid")
        values = {name: getattr(self, name) for name in names}
        self.data = json.dumps(values, sort_keys=True).encode("ascii")


def parse(line: bytes) -> Purge:
    """Return the purge in a line of a spool. Raises ValueError for anything else."""
    values = json.loads(line)
    kinds = {"base": str, "image_id": int, "urgent": bool, "deleted": bool}
    kinds |= {"since": float, "uuid": str}
    if not isinstance(values, dict) or {k: type(v) for k, v in values.items()} != kinds:
        raise ValueError("this is no purge")
    if values["uuid"] and fields.parse_uuid(values["uuid"]) is None:
        # SECURITY: it becomes a part of a path.
        raise ValueError("this is no uuid")
    if not math.isfinite(values["since"]):
        raise ValueError("this is no time")
    return Purge(**values)


class _Cache:
    """The purges that wait for one cache; one task sends them."""

    def __init__(self, purger: Purger, base: str):
        self.purger, self.base = purger, base
        self.wake = threading.Event()
        self._parts = urllib.parse.urlsplit(base)
        self._lock = hub.native_lock()
        #: By image, those of deleted and hidden images first.
        self._urgent: collections.OrderedDict[int, Purge] = collections.OrderedDict()
        self._lax: collections.OrderedDict[int, Purge] = collections.OrderedDict()
        #: What is being sent now. It may come too early for a change that is made meanwhile.
        self._flying: Purge | None = None
        self._outage, self._loss = (throttle.RateLimiter(_LOG_PAUSE) for _ in range(2))
        self.failures = 0

    def __len__(self) -> int:
        return len(self._urgent) + len(self._lax)

    def put(self, one: Purge) -> list[Purge]:
        """Add a purge; return those that need not, or cannot, wait any longer: they are settled.

        An image waits once, however often it has changed.
        """
        dropped: list[Purge] = []
        with self._lock:
            earlier = self._urgent.get(one.image_id) or self._lax.get(one.image_id)
            if earlier is not None and earlier.rank >= one.rank:
                one.settled = True
                return [one]
            if earlier is not None:
                (self._urgent if earlier.urgent else self._lax).pop(one.image_id)
                dropped.append(earlier)
            elif len(self) >= QUEUE:
                oldest = self._lax or self._urgent
                if not one.urgent and not self._lax:
                    self._lose(one)
                    return [one]
                dropped.append(oldest.popitem(last=False)[1])
                self._lose(dropped[-1])
            (self._urgent if one.urgent else self._lax)[one.image_id] = one
            for other in dropped:
                other.settled = True
        self.wake.set()
        return dropped

    def _lose(self, one: Purge) -> None:
        one.settled = True
        if self._loss.due():
            LOG.log(
                self._level(one),
                "More than %s purges wait for the HTTP cache %s: that of image %s, and perhaps "
                "others, is dropped",
                *(QUEUE, self.base, one.image_id),
            )

    def _level(self, one: Purge) -> int:
        """Return the level for a purge that fails: with ttl, a deleted image can be read on."""
        return logging.ERROR if one.deleted and self.purger.has_ttl else logging.WARNING

    def all(self) -> list[Purge]:
        """Return what is not done, including what is being sent."""
        with self._lock:
            flying = [] if self._flying is None else [self._flying]
            return [*flying, *self._urgent.values(), *self._lax.values()]

    def _take(self) -> Purge | None:
        """Return the purge whose turn it is, until `_done`, or `put` again."""
        with self._lock:
            waiting = self._urgent or self._lax
            self._flying = waiting.popitem(last=False)[1] if waiting else None
            return self._flying

    def _done(self, one: Purge) -> None:
        one.settled = True
        self._flying = None
        self.purger.settle([one])

    def run(self) -> None:
        """Send what waits, until the process ends."""
        while not self.purger.halt.is_set():
            self.wake.clear()
            one = self._take()
            if one is None:
                self.wake.wait()
                continue
            self.purger.keep(one)
            problem = self._try(one)
            if problem is None:
                self._done(one)
                if self.failures:
                    LOG.info("The HTTP cache %s takes purges again", self.base)
                    self.failures = 0
                    self._outage.reset()
                continue
            if time.time() - one.since > LIFE:
                LOG.log(
                    self._level(one),
                    "The purge of image %s at the HTTP cache %s is given up: %s",
                    *(one.image_id, self.base, problem),
                )
                self._done(one)
                continue
            self.failures += 1
            if self._outage.due():
                LOG.log(
                    self._level(one),
                    "The HTTP cache %s cannot be told to drop image %s; %s purges are waiting: %s",
                    *(self.base, one.image_id, len(self) + 1, problem),
                )
            # NOTE: behind the others, so that one that the cache refuses is in nobody's way.
            self.purger.settle(self.put(one))
            self._flying = None
            self.purger.halt.wait(BACKOFF.pause(self.failures))

    def _try(self, one: Purge) -> str | None:
        """Send the requests of a purge; return None, or why it did not succeed."""
        for path in self.purger.paths(one.image_id, one.uuid):
            try:
                status = self._send(path, one.image_id)
            except (OSError, exception.Error) as err:
                return exception.described(err)
            if not (200 <= status < 300 or status == 404):
                return f"it returned status {status}"
        return None

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        # PERF: once, because reading the authorities takes tens of milliseconds.
        return http_connection.TLS().context()

    def _send(self, path: str, image_id: int) -> int:
        parts = self._parts
        tls = self._tls if parts.scheme == "https" else None
        default = 80 if tls is None else 443
        port = parts.port or default
        deadline = time.monotonic() + TIMEOUT
        host = parts.hostname or ""
        connection = http_connection.new_connection(host, port, TIMEOUT, TIMEOUT, context=tls)
        try:
            with hub.deadline(TIMEOUT):
                head = http_connection.request_head(
                    self.purger.method,
                    parts.path + path,
                    http_connection.authority(host, port, default),
                    {**self.purger.headers, "X-Image-Id": str(image_id), "Connection": "close"},
                )
                response = connection.exchange(self.purger.method, head, deadline=deadline)
                return int(response.status)
        finally:
            connection.close()


class Purger:
    """Sends the purges of one process. Create and start it after the fork.

    Raises ConfigError for a spool that cannot be used.
    """

    def __init__(self, conf: config.Conf):
        self.halt = threading.Event()
        self.method: str = conf.http_cache_purge_method
        self.has_ttl: bool = conf.http_cache_mode == "ttl"
        self.shares_private: bool = conf.http_cache_share_private
        self.headers: dict[str, str] = {"User-Agent": "glance"}
        if conf.http_cache_purge_token:
            self.headers["X-Purge-Token"] = conf.http_cache_purge_token
        self._prefixes = versions.prefixes(conf)
        self._spool: spool.Spool[Purge] | None = None
        if conf.http_cache_purge_spool_dir:
            self._spool = spool.Spool(
                conf.http_cache_purge_spool_dir,
                SPOOL_BYTES,
                parse,
                what="purges",
                option="http_cache_purge_spool_dir",
            )
        self._caches = {base: _Cache(self, base) for base in conf.http_cache_purge_urls}

    def start(self) -> None:
        """Begin to send, with what earlier processes left."""
        tasks.spawn(self._take_over)
        for cache in self._caches.values():
            tasks.spawn(cache.run)
        hooks.at_stop(self.stop)
        metrics.sample(self._look)

    def _look(self) -> None:
        metrics.PURGES_WAITING.set(sum(len(cache.all()) for cache in self._caches.values()))

    def _take_over(self) -> None:
        if self._spool is None:
            return
        count = 0
        for segment in threads.run(self._spool.claim):
            try:
                found = threads.run(self._spool.read, segment)
            except OSError as err:
                LOG.error("Purges in %s cannot be read: %s", segment.path, err.strerror)
                continue
            for one in found:
                cache = self._caches.get(one.base)
                if cache is None:
                    # That cache is no longer one of ours.
                    one.settled = True
                    self.settle([one])
                else:
                    count += 1
                    self.settle(cache.put(one))
        if count:
            LOG.info("%s purges of HTTP caches are left from earlier processes", count)

    def paths(self, image_id: int, uuid: str = "") -> Sequence[str]:
        """Return the paths under which caches may have an image, by its number and its uuid."""
        found = [
            f"{prefix}/images/{name}{end}"
            for name in (str(image_id), uuid)
            if name
            for end in ("", "/file")
            for prefix in self._prefixes
        ]
        return [*found, f"/v2/images/{uuid}/file"] if uuid else found

    def changed(self, before: types.ImageRecord, after: types.ImageRecord | None) -> None:
        """Have caches drop an image that was changed or deleted (None), if they may have it.

        Never waits and never raises.
        """
        if before["status"] != "active":
            return
        gone = after is None or after["status"] != "active"
        hidden = after is not None and before["is_public"] and not after["is_public"]
        record: Mapping[str, Any] = before
        self._put(before["id"], record.get("uuid") or "", urgent=gone or hidden, deleted=gone)

    def unshared(self, image_id: int, uuid: str = "") -> None:
        """Have caches drop a private image that fewer may read, if they may have it."""
        if self.shares_private:
            self._put(image_id, uuid, urgent=True, deleted=False)

    def _put(self, image_id: int, uuid: str, *, urgent: bool, deleted: bool) -> None:
        now = time.time()
        for cache in self._caches.values():
            one = Purge(cache.base, image_id, urgent, deleted, now, uuid)
            noted = [other for other in cache.put(one) if other.segment is not None]
            if noted:
                tasks.spawn(self.settle, noted)
            if self._spool is not None and not one.settled and self._is_down(one):
                tasks.spawn(self.keep, one)

    def keep(self, one: Purge) -> None:
        """Note a purge for a cache that is down on the disk, in case this process dies."""
        if self._spool is None or one.segment is not None or not self._is_down(one):
            return
        threads.run(self._spool.note, one)
        if one.settled:
            # It was sent, or covered by another one, while it was being written.
            self.settle([one])

    def _is_down(self, one: Purge) -> bool:
        # PERF: no file is written for what a cache takes at once.
        return self._caches[one.base].failures > 0

    def settle(self, messages: Sequence[Purge]) -> None:
        noted = [one for one in messages if one.segment is not None]
        if noted and self._spool is not None:
            threads.run(self._spool.settle, noted)

    def stop(self) -> None:
        """Put what waits on the disk; the next process sends it."""
        for key in [key for key, purger in _made.items() if purger is self]:
            del _made[key]
        self.halt.set()
        for cache in self._caches.values():
            cache.wake.set()
        left = [one for cache in self._caches.values() for one in cache.all()]
        if self._spool is None:
            if left:
                LOG.warning("%s purges of HTTP caches are forgotten", len(left))
            return
        refused = threads.run(self._spool.store, [one for one in left if one.segment is None])
        if refused:
            LOG.warning("%s purges of HTTP caches are forgotten", len(refused))
        threads.run(self._spool.close)


#: The purgers of this process, by what their settings are: applications of one file share one.
_made: dict[tuple[Any, ...], Purger] = {}
_SETTINGS = ("urls", "method", "token", "spool_dir")

os.register_at_fork(after_in_child=_made.clear)


def create(conf: config.Conf) -> Purger | None:
    """Return the purger of this process, started; None if there are no caches to tell.

    Raises ConfigError for a spool that cannot be used.
    """
    if not conf.http_cache_purge_urls:
        return None
    key = tuple(conf[f"http_cache_purge_{name}"] for name in _SETTINGS)
    if key not in _made:
        _made[key] = Purger(conf)
        _made[key].start()
    return _made[key]


def of(environ: Mapping[str, Any]) -> Purger | None:
    """Return the purger that a request was given, if there is one."""
    found: Purger | None = environ.get(ENVIRON)
    return found


def unshared(environ: Mapping[str, Any], image_id: int, uuid: str = "") -> None:
    """Have HTTP caches forget an image that fewer may read, perhaps."""
    purger = of(environ)
    if purger is not None:
        purger.unshared(image_id, uuid)
