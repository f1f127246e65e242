"""glance-cache-prefetcher, glance-cache-pruner and glance-cache-cleaner, by cron or as daemons.

The work is done by `prefetcher`, `pruner` and `reaper` in `glance.image_cache`.
glance-cache-reaper is the cleaner under Diablo's name.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import logging
import signal
from collections.abc import Callable, Sequence
from typing import Any

from glance.cli.daemon import paste, services
from glance.cli.option import ProgramOption
from glance.cli.program import Program
from glance.common import config, exception, log

FAILED, WRONG = 1, 2

#: Configuration files that serve as well, if the program has none of its own.
SHARED = ("glance-cache", "glance-api")

_DAEMON = ProgramOption(
    ("-D", "--daemon"),
    "daemon",
    "Make a pass now and one after every image_cache_wakeup_time seconds, until told to end.",
)
_ONCE = ProgramOption(("--once",), "once", "Fetch one image only, the oldest in the queue.")

_TEXT = """
It makes one pass and ends, as suits cron; --daemon makes it go on until SIGTERM or SIGINT. A pass
may be made while glance-api runs, and several at once do no harm.

Its configuration is {file}.conf or, where there is none, glance-cache.conf or glance-api.conf: the
options of the image cache must be those of glance-api, on the same host.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class CacheProgram:
    """A program: its command line, and the module that makes its passes.

    `name` is what Diablo calls its application and, with `.conf`, its configuration file.
    """

    declared: Program
    name: str
    module: str
    checks: tuple[Callable[[config.Conf], None], ...] = ()


def _declare(
    program: str, name: str, summary: str, text: str, done: str, failed: str, *own: ProgramOption
) -> Program:
    return Program(
        program,
        summary,
        text + _TEXT.format(file=name),
        (services.CONFPATH,),
        (services.COMMON, services.LOGGING, (f"Options of {program}", (_DAEMON, *own))),
        (
            (0, f"{done}; a daemon was told to end."),
            (1, f"{failed}; the log says why."),
            (
                2,
                "The configuration or an option is wrong; lines ERROR: on standard error say how.",
            ),
        ),
    )


PREFETCHER = CacheProgram(
    _declare(
        "glance-cache-prefetcher",
        "glance-prefetcher",
        "Fetch queued images into the image cache",
        """
The glance-cache-prefetcher program works off the queue that glance cache-prefetch and
glance-cache-manage queue-image fill. It asks the registry for each image, the oldest in the queue
first, reads its data from its store and verifies it. What cannot be fetched is tried again after
a minute, then two, four and so on, five times.
""",
        "Nothing is left in the queue whose time had come",
        "An image could not be fetched",
        _ONCE,
    ),
    "glance-prefetcher",
    "glance.image_cache.prefetcher",
    (services.load_drivers,),
)
PRUNER = CacheProgram(
    _declare(
        "glance-cache-pruner",
        "glance-pruner",
        "Make room in the image cache",
        """
The glance-cache-pruner program removes the least recently used images from the image cache if it
is larger than image_cache_max_size, or if its file system has less room than
image_cache_min_free_disk. Downloads that are under way are not disturbed.
""",
        "The cache is within its limits",
        "It could not be brought within its limits",
    ),
    "glance-pruner",
    "glance.image_cache.pruner",
)


def _cleaner(program: str) -> CacheProgram:
    return CacheProgram(
        _declare(
            program,
            "glance-reaper",
            "Remove what nobody needs from the image cache",
            f"""
The {program} program removes invalid entries that are older than
image_cache_invalid_entry_grace_period, what dead processes left half-written, what has not got on
for image_cache_stall_time, strays, and images that the registry no longer calls active. The
registry is asked if the configuration says where it is.
""",
            "The cache is clean",
            "Something could not be found out or removed",
        ),
        "glance-reaper",
        "glance.image_cache.reaper",
    )


CLEANER = _cleaner("glance-cache-cleaner")
#: The same under its name of old.
REAPER = _cleaner("glance-cache-reaper")


def run(program: CacheProgram, argv: Sequence[str] | None = None) -> int:
    """Run a program with `argv` (without its name) and return the exit code."""
    args = services.parse(program.declared, argv)
    name = program.declared.name
    try:
        app = load(program, args)
    except exception.Error as err:
        services.report(err)
        return WRONG
    if getattr(args, "once", False):
        app.once = True
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, lambda *_: app.stop())
    signal.signal(signal.SIGUSR1, lambda *_: log.reopen())
    if args.daemon:
        app.run()
        logging.getLogger(name).info("%s has stopped", name)
        return 0
    try:
        outcome = app.run_once()
    except exception.Error as err:
        return services.report(err)
    return 0 if outcome.is_complete else FAILED


def load(program: CacheProgram, args: argparse.Namespace) -> Any:
    """Return the application of a program, with its log set up. Raises ConfigError."""
    path = paste.find_config_file(program.name, args.config_file, args.confpath, others=SHARED)
    module = importlib.import_module(program.module)
    services.configure(program.name, path, args, *program.checks, is_server=False)
    return paste.load_shared_app(program.name, path, module.app_factory)


def prefetcher_main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-cache-prefetcher."""
    return run(PREFETCHER, argv)


def pruner_main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-cache-pruner."""
    return run(PRUNER, argv)


def cleaner_main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-cache-cleaner."""
    return run(CLEANER, argv)


def reaper_main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-cache-reaper."""
    return run(REAPER, argv)
