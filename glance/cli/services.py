"""The daemons: glance-api and glance-registry.

This module alone patches sockets (eventlet's green ones replace the blocking ones of the standard
library), and it does so when a daemon starts, never at import.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib
import ipaddress
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from glance import version
from glance.common import config, deploy, exception, httpwire, log, plugin

LOG = logging.getLogger(__name__)


def load_drivers(conf: config.Conf) -> None:
    """Import the store drivers, which declare options."""
    store = importlib.import_module("glance.store")
    for name in {*(conf.enabled_stores or store.BUILTIN), *conf.known_stores}:
        try:
            plugin.load(store.GROUP, name, store.BUILTIN)
        except (ImportError, LookupError):
            # The stores themselves say what becomes of it.
            LOG.debug("Store driver %s cannot be loaded", name, exc_info=True)


def _prepare_api(conf: config.Conf) -> None:
    """Load the store drivers; try the files for the registry's TLS."""
    load_drivers(conf)
    if conf.registry_client_protocol == "https":
        names = ("key_file", "cert_file", "ca_file", "insecure")
        try:
            httpwire.TLS(*[conf[f"registry_client_{name}"] for name in names]).context()
        except exception.BadInputError as err:
            raise exception.ConfigError(f"{conf.source}: registry_client_protocol: {err}") from err


def check_database(conf: config.Conf) -> None:
    """Find out whether `sql_connection` names a database; connects to none."""
    engine = importlib.import_module("glance.registry.db.engine")
    # NOTE: an idle time that is no number is told when all options are checked.
    engine.from_conf(conf.with_(sql_idle_timeout=0))


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """A daemon: its program name, default port, and the module whose application it serves.

    `prepare` is the check of `configure`.
    """

    program: str
    port: int
    module: str
    help: str
    prepare: Callable[[config.Conf], None]


API = Service("glance-api", 9292, "glance.api.v1", "Serve the Images API.", _prepare_api)
REGISTRY = Service(
    "glance-registry",
    9191,
    "glance.registry.server",
    "Serve image records to glance-api.",
    check_database,
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
    patch()
    # The modules declare their options, so that all problems are found before a worker starts.
    importlib.import_module(service.module)
    server = importlib.import_module("glance.common.server")
    conf = configure(service.program, path, args, service.prepare, server.check)
    if not conf.is_set("bind_port"):
        conf = conf.with_(bind_port=service.port)
    _warn(conf, service)

    def make_app() -> Any:
        request_id = importlib.import_module("glance.common.request_id")
        return request_id.RequestId(deploy.load_paste_app(service.program, path)[1])

    code: int = server.serve(conf, make_app, service.program)
    return code


def configure(
    program: str,
    path: str,
    args: argparse.Namespace,
    *checks: Callable[[config.Conf], None],
) -> config.Conf:
    """Return a program's settings, all of them checked, with its log set up.

    `checks` get the settings that hold for the application, before options are checked: they load
    what declares more of them, and raise ConfigError for what is wrong beyond single options.
    Raises ConfigError with all problems at once.
    """
    conf = override(deploy.load_conf(program, path), args)
    stages = deploy.load_stages(program, path)
    parts = [conf, *_parts(stages)]
    merged = conf.over(stages[-1].own, conf.source) if stages else conf
    _require(
        lambda: log.setup(conf, program),
        *[functools.partial(check, merged) for check in checks],
        *[part.check for part in parts],
    )
    logger = logging.getLogger(program)
    logger.info("Using the configuration file %s", path)
    log.dump(conf, program, path)
    for part in parts:
        part.report()
    exposed = deploy.exposed_secrets(path)
    if exposed:
        logger.warning(
            "Everybody on this host may read %s, which holds secrets (%s): chmod o-r",
            path,
            ", ".join(exposed),
        )
    return conf


def _parts(stages: Sequence[deploy.Stage]) -> list[config.Conf]:
    """Return what sections of glance's own set; their modules are loaded and so declare it."""
    parts = []
    for stage in stages:
        if not stage.is_ours:
            continue
        try:
            importlib.import_module(stage.factory.partition(":")[0])
        except ImportError:
            # Loading the application will say so, with the file's name.
            LOG.debug("Factory %s cannot be imported", stage.factory, exc_info=True)
        parts.append(config.Conf(stage.own, source=stage.source))
    return parts


def _require(*checks: Callable[[], None]) -> None:
    """Run all checks, then raise one ConfigError with everything that they complained of."""
    problems: list[str] = []
    for check in checks:
        try:
            check()
        except exception.ConfigError as err:
            problems += err.problems
    if problems:
        raise exception.ConfigError(list(dict.fromkeys(problems)))


def _warn(conf: config.Conf, service: Service) -> None:
    """Tell the operator of settings that work and are dangerous, or must agree elsewhere."""
    logger = logging.getLogger(service.program)
    logger.info("auth_mode is %s, owner_is_tenant is %s", conf.auth_mode, conf.owner_is_tenant)
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
    with warnings.catch_warnings():
        # It announces the end of its feature work; operators can do nothing about that.
        warnings.filterwarnings("ignore", r"\s*Eventlet is deprecated")
        import eventlet

    eventlet.monkey_patch()


def api_main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-api."""
    return run(API, argv)


def registry_main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-registry."""
    return run(REGISTRY, argv)
