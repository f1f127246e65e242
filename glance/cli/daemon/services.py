"""The daemons: glance-api and glance-registry.

This module alone patches sockets (eventlet's green ones replace the blocking ones of the standard
library), and it does so when a daemon starts, never at import.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from glance.cli import streams
from glance.cli.daemon import paste, startup
from glance.cli.program import Program
from glance.common import config, exception, hosts, stop_signals
from glance.http.client import connection
from glance.streaming import threads

LOG = logging.getLogger(__name__)

#: The variable of the environment that keeps eventlet from importing its resolver.
_NO_RESOLVER = "EVENTLET_NO_GREENDNS"


def _prepare_api(conf: config.Conf) -> None:
    """Load the store drivers; check the files for TLS to the registry."""
    startup.load_drivers(conf)
    importlib.import_module("glance.notifier").check(conf)
    if conf.registry_client_protocol == "https":
        names = ("key_file", "cert_file", "ca_file", "insecure")
        try:
            connection.TLS(*[conf[f"registry_client_{name}"] for name in names]).context()
        except exception.BadInputError as err:
            raise exception.ConfigError(f"{conf.at('registry_client_protocol')}: {err}") from err


@dataclasses.dataclass(frozen=True, slots=True)
class DaemonProgram:
    """A daemon: its command line, default port, and the module whose application it serves.

    `prepare` is the check of `configure`.
    """

    declared: Program
    port: int
    module: str
    prepare: Callable[[config.Conf], None]

    @property
    def program(self) -> str:
        return self.declared.name


_EXIT_CODES = (
    (0, "The daemon was stopped."),
    (
        1,
        "The daemon could not start; lines that begin with ERROR: on standard error list all "
        "problems.",
    ),
    (2, "An option is not valid."),
)
_DAEMON_TEXT = """
It stays in the foreground, and logs to standard output unless the configuration says otherwise.
After SIGTERM, running requests have stop_timeout seconds to finish; after SIGHUP, they have
graceful_timeout seconds. SIGINT stops the daemon at once. SIGUSR1 reopens its log files.
"""

API = DaemonProgram(
    Program(
        "glance-api",
        "Serve the Images API",
        """
The glance-api daemon serves version 1 of the Images API over HTTP, and transfers image data to and
from stores. It gets the records of images from glance-registry.
"""
        + _DAEMON_TEXT,
        (startup.CONFPATH,),
        (startup.COMMON, startup.LOGGING),
        _EXIT_CODES,
    ),
    9292,
    "glance.api.v1",
    _prepare_api,
)
REGISTRY = DaemonProgram(
    Program(
        "glance-registry",
        "Serve image records to glance-api",
        """
The glance-registry daemon keeps the records of images and their members in a database, and serves
them to glance-api. Users never connect to it.
"""
        + _DAEMON_TEXT,
        (startup.CONFPATH,),
        (startup.COMMON, startup.LOGGING),
        _EXIT_CODES,
    ),
    9191,
    "glance.registry.server",
    startup.check_database,
)


def run(service: DaemonProgram, argv: Sequence[str] | None = None) -> int:
    """Run a daemon until it is stopped; return its exit code."""
    args = startup.parse(service.declared, argv)
    try:
        return _serve(service, args)
    except exception.Error as err:
        return startup.report(err)
    except KeyboardInterrupt:
        # The server itself takes the signal as soon as it runs.
        name = stop_signals.described(signal.SIGINT)
        LOG.info("%s has stopped before it was ready (%s)", service.program, name)
        raise


def _serve(service: DaemonProgram, args: argparse.Namespace) -> int:
    path = paste.find_config_file(service.program, args.config_file, args.confpath)
    patch(has_database=service is REGISTRY)
    # The modules declare their options, so that all problems are found before a worker starts.
    importlib.import_module(service.module)
    server = importlib.import_module("glance.http.server")
    conf = startup.configure(service.program, path, args, service.prepare, server.check)
    if not conf.is_set("bind_port"):
        conf = conf.replace(bind_port=service.port)
    _warn(conf, service)

    def make_app() -> Any:
        request_id = importlib.import_module("glance.http.request_id")
        health = importlib.import_module("glance.http.health")
        own, app = paste.load_paste_app(service.program, path)
        if service is API:
            importlib.import_module("glance.api.agreement").watch(own)
        front = importlib.import_module("glance.registry.wrong_port")
        app = (front.ApiFront if service is API else front.RegistryFront)(app)
        return request_id.RequestId(health.HealthCheck(app))

    code: int = server.serve(conf, make_app, service.program)
    return code


def _warn(conf: config.Conf, service: DaemonProgram) -> None:
    """Warn of dangerous settings, and log those that must agree between daemons."""
    logger = logging.getLogger(service.program)
    logger.info("auth_mode is %s, owner_is_tenant is %s", conf.auth_mode, conf.owner_is_tenant)
    for problem in _exposures(conf, service):
        logger.warning("%s", problem)


def _exposures(conf: config.Conf, service: DaemonProgram) -> Iterator[str]:
    """Yield who could do what they should not, and what to set."""
    if conf.registry_shared_secret:
        return
    if service is API:
        if conf.send_identity_headers:
            yield (
                "send_identity_headers is set without registry_shared_secret: a registry that "
                "trusts these headers trusts them from everybody. Set the same secret in both "
                "files."
            )
        return
    everywhere = not hosts.is_loopback(conf.bind_host)
    place = f"The registry listens on {conf.bind_host}"
    if conf.auth_mode == "trusted-headers":
        yield (
            f"{place} and trusts the identity headers of everybody who can reach it. Set the same "
            "registry_shared_secret here and in glance-api.conf."
        )
    elif everywhere and conf.auth_mode == "keystone":
        yield (
            f"{place} without registry_shared_secret: tenants who can reach it can send it their "
            "own requests. Set bind_host = 127.0.0.1, or the same registry_shared_secret here and "
            "in glance-api.conf."
        )
    elif everywhere:
        yield (
            f"{place} without authentication: everybody who can reach it is an administrator. Set "
            "bind_host = 127.0.0.1, or the same registry_shared_secret here and in "
            "glance-api.conf."
        )


#: What looks up names, and waits for the network.
_LOOKUPS = ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "getnameinfo")


def patch(*, has_database: bool = True) -> None:
    """Replace the blocking sockets of the standard library with green ones.

    With `has_database` the driver of PostgreSQL, if there is one, waits for green sockets, too.
    Names are looked up by the system's resolver in native threads, not by eventlet's.

    PERF: that one imports dnspython, which takes a quarter of a second and 10 MiB.
    """
    set_by_operator = os.environ.get(_NO_RESOLVER)
    os.environ[_NO_RESOLVER] = "yes"
    try:
        import eventlet

        green = importlib.import_module("eventlet.green.socket")
    finally:
        if set_by_operator is None:
            del os.environ[_NO_RESOLVER]
        else:
            os.environ[_NO_RESOLVER] = set_by_operator
    for name in _LOOKUPS:
        setattr(green, name, functools.partial(threads.look_up, getattr(green, name)))
    # NOTE: what is named and true would be all that is patched.
    eventlet.monkey_patch(**({} if has_database else {"psycopg": False}))


@streams.program("glance-api")
def api_main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-api."""
    return run(API, argv)


@streams.program("glance-registry")
def registry_main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-registry."""
    return run(REGISTRY, argv)
