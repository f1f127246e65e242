"""What every program that has a configuration file does first.

It parses its command line, finds its settings and checks all of them, and sets up its log. The
daemons are in `glance.cli.daemon.services`, the programs for operators in
`glance.cli.maintenance`.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

from glance.cli.daemon import paste, readers
from glance.cli.option import ProgramOption
from glance.cli.program import Program, Word
from glance.cli.user.screen import console
from glance.common import config, exception, log, plugin, privileges

LOG = logging.getLogger(__name__)


def load_drivers(conf: config.Conf) -> None:
    """Import the store drivers, because they declare options."""
    store = importlib.import_module("glance.store")
    for name in {*(conf.enabled_stores or store.BUILTIN), *conf.known_stores}:
        try:
            plugin.load(store.GROUP, name, store.BUILTIN)
        except (ImportError, LookupError):
            # The stores report it themselves.
            LOG.debug("Store driver %s cannot be loaded", name, exc_info=True)


def check_database(conf: config.Conf) -> None:
    """Check that `sql_connection` names a database, without connecting to it."""
    engine = importlib.import_module("glance.registry.db.engine")
    # NOTE: an invalid idle time is reported when all options are checked.
    engine.from_conf(conf.replace(sql_idle_timeout=0))


COMMON_OPTIONS = (
    ProgramOption(("-v", "--verbose"), "verbose", "Log at INFO level instead of WARNING."),
    ProgramOption(("-d", "--debug"), "debug", "Log at DEBUG level."),
    ProgramOption(
        ("--config-file",),
        "config_file",
        "Configuration file to use.",
        "PATH",
        "string",
        values="file",
    ),
)

#: Each overrides the same option of the file; a flag is on if either sets it.
LOGGING_OPTIONS = (
    ProgramOption(
        ("--log-config",),
        "log_config",
        "Configuration file for Python's logging package; it overrides all other logging options.",
        "PATH",
        "string",
        values="file",
    ),
    ProgramOption(("--log-format",), "log_format", "Format of a log line.", "FORMAT", "string"),
    ProgramOption(
        ("--log-date-format",),
        "log_date_format",
        "Format of the time in a log line.",
        "FORMAT",
        "string",
    ),
    ProgramOption(("--log-file",), "log_file", "File to log to.", "PATH", "string", values="file"),
    ProgramOption(
        ("--log-dir",), "log_dir", "Directory of the log file.", "LOG_DIR", "string", values="file"
    ),
    ProgramOption(("--use-syslog",), "use_syslog", "Log to syslog."),
)

COMMON = ("Common Options", COMMON_OPTIONS)

LOGGING = ("Logging Options", LOGGING_OPTIONS)

CONFPATH = Word(
    "[CONFPATH]",
    "The configuration file, or the directory that contains it; the same as --config-file.",
    values="file",
)


def parse(declared: Program, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line of a program whose only argument is a configuration."""
    parser = declared.parser()
    parser.add_argument("confpath", nargs="?", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def override(conf: config.Conf, args: argparse.Namespace) -> config.Conf:
    """Return `conf` with the options of the command line."""
    values: dict[str, Any] = {}
    words = {option.dest: option.names[-1] for option in (*COMMON_OPTIONS, *LOGGING_OPTIONS)}
    for option in (*COMMON_OPTIONS, *LOGGING_OPTIONS):
        said = getattr(args, option.dest, None)
        if option.dest in config.TABLE and said is not None and said is not False:
            values[option.dest] = said
    return conf.overridden(values, words) if values else conf


def report(err: exception.Error) -> int:
    """Print an error for the operator, a line for each problem, and return the exit code."""
    problems = err.problems if isinstance(err, exception.ConfigError) else [str(err)]
    for problem in problems:
        # SECURITY: it may quote what was mistyped.
        console.say(*f"ERROR: {config.mask_text(problem)}".split("\n"), to=sys.stderr)
    return 1


def configure(
    program: str,
    path: str,
    args: argparse.Namespace,
    *checks: Callable[[config.Conf], None],
    prints: bool = False,
    is_server: bool = True,
) -> config.Conf:
    """Return a program's settings, all of them checked, with its log set up.

    With `prints`, standard output is for the program's results, and log lines do not go there.
    `checks` get the settings of the application before the options are checked: they load modules
    that declare more options, and raise ConfigError for problems beyond single options.
    The file of a program that is not a server may be another program's (`paste.load_shared_conf`).
    Settings that only another program reads are warned of (`readers.misplaced`).
    Raises ConfigError with all problems at once.
    """
    found = paste.load_conf(program, path) if is_server else paste.load_shared_conf(path)
    sections = paste.load_sections(program, path)
    own = _parts(sections)
    names = {name for part in (found, *own) for name in part.names()}
    if "stores" in readers.groups_of(program):
        # PERF: every such file has options of these, and whoever declares others is not to be
        # looked for in the whole package.
        load_drivers(found)
    # So that what is wrong is told also for a store or a strategy that is not in use.
    readers.declare(names)
    conf = override(found.redone(), args)
    parts = [conf, *(part.redone() for part in own)]
    reads = functools.partial(readers.reads, program)
    merged = conf.merged(sections[-1].own, conf.source) if sections else conf
    _require(
        lambda: log.setup(conf, program, prints=prints),
        *[paste.naming(path)(functools.partial(check, merged)) for check in checks],
        *[functools.partial(part.check, reads) for part in parts],
    )
    logger = logging.getLogger(program)
    logger.info("Using the configuration file %s", path)
    log.dump(conf, program, path)
    elsewhere = readers.misplaced(program, path, names)
    for part in parts:
        part.report(elsewhere)
    exposed = paste.exposed_secrets(path)
    if exposed:
        logger.warning(
            "Everybody on this host may read %s, which contains secrets (%s); run chmod o-r",
            path,
            ", ".join(exposed),
        )
    return conf


def work_in(option: str, conf: config.Conf, program: str, path: str) -> None:
    """Become another user if root is to work in the directory that an option names.

    See `privileges.work_in`; the section of the program wins over `conf`. A directory that is not
    named has no owner. Raises ConfigError.
    """
    sections = paste.load_sections(program, path)
    merged = conf.merged(sections[-1].own, conf.source) if sections else conf
    privileges.work_in(merged.get(option) or "", merged)


def _parts(sections: Sequence[paste.Section]) -> list[config.Conf]:
    """Return the settings of glance's own sections; import their modules, which declare them."""
    parts = []
    for section in sections:
        if not section.is_ours:
            continue
        try:
            importlib.import_module(section.factory.partition(":")[0])
        except ImportError:
            # Loading the application will report it, with the name of the file.
            LOG.debug("Factory %s cannot be imported", section.factory, exc_info=True)
        parts.append(config.Conf(section.own, source=section.source))
    return parts


def _require(*checks: Callable[[], None]) -> None:
    """Run all checks, then raise one ConfigError with all their problems."""
    problems: list[str] = []
    for check in checks:
        try:
            check()
        except exception.ConfigError as err:
            problems += err.problems
    if problems:
        raise exception.ConfigError(list(dict.fromkeys(problems)))
