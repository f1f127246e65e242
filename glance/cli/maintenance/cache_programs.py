"""glance-cache-prefetcher, glance-cache-pruner and glance-cache-cleaner, by cron or as daemons.

The modules `prefetcher`, `pruner` and `reaper` of `glance.image_cache` do the work.
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

from glance.cli import streams
from glance.cli.daemon import paste, startup
from glance.cli.option import ProgramOption
from glance.cli.program import Program
from glance.common import config, exception, log, stop_signals

FAILED, WRONG = 1, 2

#: Programs whose configuration file is used if the program has none of its own.
SHARED = ("glance-cache", "glance-api")

_DAEMON = ProgramOption(
    ("-D", "--daemon"),
    "daemon",
    "Make a pass now and one after every image_cache_wakeup_time seconds, until stopped.",
)
_ONCE = ProgramOption(("--once",), "once", "Fetch only one image, the oldest in the queue.")

_TEXT = """
It makes one pass and ends, which suits cron. With --daemon, it keeps running until SIGTERM or
SIGINT. It may run while glance-api is running, and several may run at the same time.

If root starts it, it becomes the user that the configuration names, otherwise the owner of the
cache directory.

Its configuration file is {file}.conf or, if there is none, glance-cache.conf or glance-api.conf.
The options of the image cache must be those of glance-api on the same host.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class CacheProgram:
    """A program: its command line, and the module that makes its passes.

    `name` is Diablo's name of its application and, with `.conf`, of its configuration file.
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
        (startup.CONFPATH,),
        (startup.COMMON, startup.LOGGING, (f"Options of {program}", (_DAEMON, *own))),
        (
            (0, f"{done}, or the daemon was stopped."),
            (1, f"{failed}; the log says why."),
            (
                2,
                "The configuration or an option is not valid; lines that begin with ERROR: on "
                "standard error say why.",
            ),
        ),
    )


PREFETCHER = CacheProgram(
    _declare(
        "glance-cache-prefetcher",
        "glance-prefetcher",
        "Fetch queued images into the image cache",
        """
The glance-cache-prefetcher program processes the queue that glance cache-prefetch and
glance-cache-manage queue-image fill. It gets the record of each image, the oldest in the queue
first, reads the data from the store and verifies it. A fetch that fails is retried after one
minute, then after two, four and so on, five times.
""",
        "No image that was due is left in the queue",
        "An image could not be fetched",
        _ONCE,
    ),
    "glance-prefetcher",
    "glance.image_cache.prefetcher",
    (startup.load_drivers,),
)
PRUNER = CacheProgram(
    _declare(
        "glance-cache-pruner",
        "glance-pruner",
        "Make room in the image cache",
        """
The glance-cache-pruner program removes the least recently used images from the image cache if the
cache is larger than image_cache_max_size, or if its file system has less free space than
image_cache_min_free_disk. Running downloads are not affected.
""",
        "The cache is within its limits",
        "The cache could not be brought within its limits",
    ),
    "glance-pruner",
    "glance.image_cache.pruner",
)


def _cleaner(program: str) -> CacheProgram:
    return CacheProgram(
        _declare(
            program,
            "glance-reaper",
            "Clean up the image cache",
            f"""
The {program} program removes from the image cache: invalid entries older than
image_cache_invalid_entry_grace_period, incomplete entries of dead processes, incomplete entries
without progress for image_cache_stall_time, stray files, and images that are no longer active. It
asks the registry which images are active if the configuration names the registry.
""",
            "The cache is clean",
            "Something could not be checked or removed",
        ),
        "glance-reaper",
        "glance.image_cache.reaper",
    )


CLEANER = _cleaner("glance-cache-cleaner")
#: The same program under its old name.
REAPER = _cleaner("glance-cache-reaper")


def run(program: CacheProgram, argv: Sequence[str] | None = None) -> int:
    """Run a program with `argv` (without its name) and return the exit code."""
    args = startup.parse(program.declared, argv)
    name = program.declared.name
    try:
        app = load(program, args)
    except exception.Error as err:
        startup.report(err)
        return WRONG
    if getattr(args, "once", False):
        app.once = True
    caught = stop_signals.StopSignals(app.stop)
    signal.signal(signal.SIGUSR1, lambda *_: log.reopen())
    if args.daemon:
        app.run()
        logging.getLogger(name).info("%s has stopped%s", name, caught.text)
        return 0
    try:
        outcome = app.run_once()
    except exception.Error as err:
        return startup.report(err)
    if caught.text:
        text = "%s has stopped before the end of the pass%s"
        logging.getLogger(name).info(text, name, caught.text)
    return 0 if outcome.is_complete else FAILED


def load(program: CacheProgram, args: argparse.Namespace) -> Any:
    """Return the application of a program, with its log set up. Raises ConfigError."""
    path = paste.find_config_file(program.name, args.config_file, args.confpath, others=SHARED)
    module = importlib.import_module(program.module)
    conf = startup.configure(program.name, path, args, *program.checks, is_server=False)
    # SECURITY: before the stores are set up, which make and try their directories.
    startup.work_in("image_cache_dir", conf, program.name, path)
    return paste.load_shared_app(program.name, path, module.app_factory)


@streams.program("glance-cache-prefetcher")
def prefetcher_main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-cache-prefetcher."""
    return run(PREFETCHER, argv)


@streams.program("glance-cache-pruner")
def pruner_main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-cache-pruner."""
    return run(PRUNER, argv)


@streams.program("glance-cache-cleaner")
def cleaner_main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-cache-cleaner."""
    return run(CLEANER, argv)


@streams.program("glance-cache-reaper")
def reaper_main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-cache-reaper."""
    return run(REAPER, argv)
