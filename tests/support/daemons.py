"""Real daemons, started from bin/ with a directory of their own and ports of their own."""

from __future__ import annotations

import contextlib
import http.client
import os
import pathlib
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from support import databases, places, warm
from support.rawhttp import Http

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = ROOT / "bin"
READY_SECONDS = 30
STOP_SECONDS = 30

API_PIPELINE = """
[pipeline:glance-api]
pipeline = {pipeline}

[composite:rootapp]
paste.composite_factory = glance.api:root_app_factory
/v1 = apiv1app
/v2 = apiv2app

[app:apiv1app]
paste.app_factory = glance.api.v1:app_factory

[app:apiv2app]
paste.app_factory = glance.api.v2:app_factory

[filter:versionnegotiation]
paste.filter_factory = glance.api.middleware.version_negotiation:filter_factory

[filter:context]
paste.filter_factory = glance.common.context:filter_factory

[filter:cache]
paste.filter_factory = glance.api.middleware.cache:filter_factory

[filter:cachemanage]
paste.filter_factory = glance.api.middleware.cache_manage:filter_factory

[filter:imagecache]
paste.filter_factory = glance.api.middleware.image_cache:filter_factory
"""

REGISTRY_PIPELINE = """
[pipeline:glance-registry]
pipeline = {pipeline}

[app:registryapp]
paste.app_factory = glance.registry.server:app_factory

[filter:context]
context_class = glance.registry.context.RequestContext
paste.filter_factory = glance.common.context:filter_factory
"""


def free_port() -> int:
    """Return a free port of loopback below the range that the kernel hands out by itself."""
    chooser = random.SystemRandom()
    while True:
        port = chooser.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def environment() -> dict[str, str]:
    """Return the environment of a child: no settings of the tester's own, no warnings."""
    ours = ("OS_", "GLANCE_", "PYTEST_")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
    return {**kept, "PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1"}


warm.expect(environment())


class Daemon:
    """One server process with its workers; what it prints goes to a file.

    It is forked from a process that has the modules (`support.warm`), unless it is to be `fresh`.
    A fresh one is started from `programs`, which is the checkout's bin unless somebody sets it.
    """

    programs = BIN

    def __init__(
        self,
        program: str,
        conf: pathlib.Path,
        output: pathlib.Path,
        port: int,
        *,
        fresh: bool = False,
    ):
        self.program, self.conf, self.output, self.port = program, conf, output, port
        self.fresh = fresh
        self.process: subprocess.Popen[bytes] | warm.Process | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.program} was never started"
        return self.process.pid

    @property
    def http(self) -> Http:
        return Http(self.port)

    def start(self, *, wait: bool = True) -> None:
        words, environ = [f"--config-file={self.conf}"], environment()
        if not self.fresh and warm.serves(self.program, environ):
            self.process = warm.start(
                self.program, words, output=self.output, cwd=self.conf.parent, environ=environ
            )
        else:
            with self.output.open("ab") as output:
                self.process = subprocess.Popen(
                    [sys.executable, str(self.programs / self.program), *words],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=self.conf.parent,
                    env=environ,
                    start_new_session=True,
                )
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self.answers():
            if self.process is None or self.process.poll() is not None:
                raise AssertionError(f"{self.program} ended at start:\n{self.log()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.program} does not answer:\n{self.log()}")
            time.sleep(0.05)

    def answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/", headers={"Connection": "close"})
            connection.getresponse().read()
            return True
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> int:
        """Ask the daemon to end, as an operator does; return its exit status."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.program} does not stop:\n{self.log()}") from None

    def kill(self) -> None:
        """End the parent and all workers at once, as a power cut would."""
        if self.process is None:
            return
        workers = children(self.process.pid)
        # The daemon leads a process group of its own; nobody else is in it.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        # A dying worker may still hold the port for a moment, and take a connection with it.
        while any(is_running(pid) for pid in workers):
            time.sleep(0.01)

    def pids(self) -> list[int]:
        """Return the process ids of the parent and its workers."""
        return [self.pid, *children(self.pid)]

    def log(self) -> str:
        try:
            return self.output.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""


class EmptyDatabase:
    """A database as a registry makes it at its first start, kept for other sites."""

    def __init__(self) -> None:
        self._pages: bytes | None = None

    def keep(self, path: pathlib.Path) -> None:
        if self._pages is None:
            with contextlib.closing(sqlite3.connect(path)) as database:
                self._pages = database.serialize()

    def copy_to(self, path: pathlib.Path) -> None:
        if self._pages is not None:
            path.write_bytes(self._pages)


_empty_database = EmptyDatabase()


class Site:
    """A registry and an API that belong together.

    `auth_mode` is noauth or trusted-headers (callers are named by `rawhttp.identity`). `api` and
    `registry` hold further options for the two files; their values may be anything with a text.
    `sections` is text that ends both files, for the filters that the pipelines name. `store` is
    where images go, by default what the run was started for (`support.places`). The daemons of a
    `fresh` site start as they do at an operator's, with an interpreter of their own. The first
    site of a process lets the registry make the tables; others begin with a copy of its database.
    A context manager that stops what it started.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        auth_mode: str = "noauth",
        workers: int = 1,
        api: Mapping[str, Any] | None = None,
        registry: Mapping[str, Any] | None = None,
        api_pipeline: str = "versionnegotiation context apiv1app",
        registry_pipeline: str = "context registryapp",
        sections: str = "",
        store: places.Place | None = None,
        fresh: bool = False,
    ):
        self.directory, self.fresh = directory, fresh
        self.data_dir = directory / "images"
        self.store = store or places.place(directory)
        self.database = directory / "glance.sqlite"
        common = {"verbose": True, "debug": False, "bind_host": "127.0.0.1", "workers": workers}
        if auth_mode != "noauth":
            common |= {"auth_mode": auth_mode}
        registry_port, api_port = free_port(), free_port()
        self.registry_options: dict[str, Any] = {
            **common,
            "bind_port": registry_port,
            "sql_connection": databases.for_site(directory),
            **(registry or {}),
        }
        self.api_options: dict[str, Any] = {
            **common,
            "bind_port": api_port,
            "registry_host": "127.0.0.1",
            "registry_port": registry_port,
            "filesystem_store_datadir": self.data_dir,
            **self.store.options(),
            "send_identity_headers": auth_mode != "noauth",
            # Tests name their images by ids of their own.
            "policy_choose_id": "anyone",
            **(api or {}),
        }
        self._has_other_database = databases.Run.server is not None or any(
            name.startswith(("sql_", "metadata_")) for name in registry or {}
        )
        self.pipelines = (api_pipeline, registry_pipeline)
        self.sections = sections
        self.registry = self._daemon("glance-registry", registry_port)
        self.api = self._daemon("glance-api", api_port)

    def _daemon(self, program: str, port: int) -> Daemon:
        conf = self.directory / f"{program}.conf"
        output = self.directory / f"{program}.log"
        return Daemon(program, conf, output, port, fresh=self.fresh)

    def write(self) -> None:
        """Write both configuration files from the options as they are now."""
        self.directory.mkdir(parents=True, exist_ok=True)
        api_pipeline, registry_pipeline = self.pipelines
        for daemon, options, sections in (
            (self.api, self.api_options, API_PIPELINE.format(pipeline=api_pipeline)),
            (
                self.registry,
                self.registry_options,
                REGISTRY_PIPELINE.format(pipeline=registry_pipeline),
            ),
        ):
            lines = "".join(f"{name} = {value}\n" for name, value in options.items())
            text = f"[DEFAULT]\n{lines}{sections}\n{self.sections}"
            daemon.conf.write_text(text, encoding="utf-8")

    def start(self) -> Site:
        self.write()
        is_new = not (self.fresh or self._has_other_database or self.database.exists())
        if is_new:
            _empty_database.copy_to(self.database)
        self.registry.start()
        if is_new:
            _empty_database.keep(self.database)
        self.api.start()
        return self

    def stop(self) -> None:
        try:
            self.api.stop()
        finally:
            self.registry.stop()
            self.api.kill()
            self.registry.kill()

    def __enter__(self) -> Site:
        try:
            return self.start()
        except BaseException:
            self.kill()
            raise

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def kill(self) -> None:
        self.api.kill()
        self.registry.kill()

    def sql(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Run a statement in the database of the site, whatever its kind; return its rows."""
        engine = sa.create_engine(self.registry_options["sql_connection"])
        try:
            with engine.begin() as conn:
                done = conn.execute(sa.text(statement), values)
                return [tuple(row) for row in done] if done.returns_rows else []
        finally:
            engine.dispose()

    @property
    def http(self) -> Http:
        return self.api.http

    @property
    def port(self) -> int:
        return self.api.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.api.port}"

    def data_files(self) -> list[pathlib.Path]:
        """Return everything in the store: images, and what uploads left behind."""
        return self.store.held()

    def logs(self) -> Iterator[tuple[str, str]]:
        for daemon in (self.registry, self.api):
            yield daemon.program, daemon.log()


def is_running(pid: int) -> bool:
    """Return whether a process runs; one that only waits to be collected has closed its files.

    NOTE: its other threads may still end when the first one is a zombie, and hold its files.
    """
    try:
        tasks = list(pathlib.Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return False
    return any(_state(task / "stat") not in ("Z", "X") for task in tasks)


def _state(stat: pathlib.Path) -> str:
    """Return the letter for the state of a thread, `X` if there is none any more."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def children(pid: int) -> list[int]:
    """Return the ids of a process's direct children."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return sorted(found)


def processor_time(pids: Iterable[int]) -> float:
    """Return the seconds that processes have had of the processors, to a nanosecond."""
    tasks = (task for pid in pids for task in pathlib.Path(f"/proc/{pid}/task").iterdir())
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def resident(pid: int) -> int:
    """Return the bytes of RAM that a process has, its share of code and libraries included."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no memory figures for process {pid}")
