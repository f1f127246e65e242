"""The daemons: glance-api and glance-registry.

This module alone patches sockets (eventlet's green ones replace the blocking ones of the standard
library), and it does so when a daemon starts, never at import.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import ipaddress
import logging
import sys
from collections.abc import Sequence
from typing import Any

from glance import version
from glance.common import config, deploy, exception, log


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """A daemon: its program name, default port, and the module whose application it serves."""

    program: str
    port: int
    module: str
    help: str


API = Service("glance-api", 9292, "glance.api.v1", "Serve the Images API.")
REGISTRY = Service(
    "glance-registry", 9191, "glance.registry.server", "Serve image records to glance-api."
)

#: Command-line options that override the same option of the file.
_OVERRIDES = (
    "log_config",
    "log_format",
    "log_date_format",
    "log_file",
    "log_dir",
)
#: Switches that are on when the command line or the file says so.
_SWITCHES = ("verbose", "debug", "use_syslog")


def add_common_options(parser: argparse.ArgumentParser, program: str) -> None:
    """Declare the options that every program has."""
    group = parser.add_argument_group("Common Options")
    shown = f"{program} {version.version_string()}"
    parser.add_argument("--version", action="version", version=shown)
    group.add_argument("-v", "--verbose", action="store_true", help="log what is done")
    group.add_argument("-d", "--debug", action="store_true", help="log much detail")
    group.add_argument("--config-file", metavar="PATH", help="configuration file to use")


def add_logging_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options about logging that daemons and cron jobs have."""
    group = parser.add_argument_group("Logging Options")
    group.add_argument("--log-config", metavar="PATH", help="Python logging config file")
    group.add_argument("--log-format", metavar="FORMAT", help="layout of a log line")
    group.add_argument("--log-date-format", metavar="FORMAT", help="layout of the time")
    group.add_argument("--log-file", metavar="PATH", help="file to log to")
    group.add_argument("--log-dir", metavar="LOG_DIR", help="directory of the log file")
    group.add_argument("--use-syslog", action="store_true", help="log to the system's logger")


def override(conf: config.Conf, args: argparse.Namespace) -> config.Conf:
    """Return `conf` with what the command line says."""
    values: dict[str, Any] = {
        name: getattr(args, name) for name in _OVERRIDES if getattr(args, name, None) is not None
    }
    values |= {name: True for name in _SWITCHES if getattr(args, name, False)}
    return conf.with_(**values) if values else conf


def report(err: exception.Error) -> int:
    """Print an error for the operator, a line for each problem, and return the exit code."""
    problems = err.problems if isinstance(err, exception.ConfigError) else [str(err)]
    for problem in problems:
        print(f"ERROR: {problem}", file=sys.stderr)
    return 1


def run(service: Service, argv: Sequence[str] | None = None) -> int:
    """Run a daemon until it is told to end; return its exit code."""
    args = _parse(service, argv)
    try:
        return _serve(service, args)
    except exception.Error as err:
        return report(err)


def _parse(service: Service, argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=service.program,
        usage="%(prog)s [options] [CONFPATH]",
        description=service.help,
        allow_abbrev=False,
    )
    add_common_options(parser, service.program)
    add_logging_options(parser)
    parser.add_argument(
        "confpath", nargs="?", metavar="CONFPATH", help="configuration file or its directory"
    )
    return parser.parse_args(argv)


def _serve(service: Service, args: argparse.Namespace) -> int:
    path = deploy.find_config_file(service.program, args.config_file, args.confpath)
    conf = override(deploy.load_conf(service.program, path), args)
    patch()
    # The modules declare their options, so that all problems are found before a worker starts.
    importlib.import_module(service.module)
    server = importlib.import_module("glance.common.server")
    if not conf.is_set("bind_port"):
        conf = conf.with_(bind_port=service.port)
    conf.check()
    log.setup(conf, service.program)
    logger = logging.getLogger(service.program)
    logger.info("Using the configuration file %s", path)
    log.dump(conf, service.program, path)
    _warn(conf, service, logger)

    def make_app() -> Any:
        request_id = importlib.import_module("glance.common.request_id")
        return request_id.RequestId(deploy.load_paste_app(service.program, path)[1])

    code: int = server.serve(conf, make_app, service.program)
    return code


def _warn(conf: config.Conf, service: Service, logger: logging.Logger) -> None:
    """Tell the operator of a registry that anybody on the network could administer."""
    if service is REGISTRY and conf.auth_mode == "noauth" and not _is_loopback(conf.bind_host):
        logger.warning(
            "The registry listens on %s without authentication: everybody who can reach it is "
            "an administrator. Set bind_host = 127.0.0.1 or put a token filter into its pipeline.",
            conf.bind_host,
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def patch() -> None:
    """Replace the blocking sockets of the standard library by green ones."""
    import eventlet

    eventlet.monkey_patch()


def api_main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-api."""
    return run(API, argv)


def registry_main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-registry."""
    return run(REGISTRY, argv)
