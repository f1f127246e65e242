"""glance-scrubber: remove the data of deleted images, once or as a daemon.

`glance.scrubber` does the work.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import logging
import signal
from collections.abc import Sequence
from typing import Any

from glance import notifier, scrubber
from glance.cli import streams
from glance.cli.daemon import paste, startup
from glance.cli.option import ProgramOption
from glance.cli.program import Program
from glance.common import exception, hooks, log, stop_signals
from glance.image import fields
from glance.registry.db import scrub_queue
from glance.scrubber import recovery

PROGRAM = Program(
    "glance-scrubber",
    "Remove the data of deleted images",
    """
The glance-scrubber program processes the scrub queue in the registry's database: it removes the
data of deleted images that have waited for scrub_time, oldest first, and cleans up after uploads
that never ended. Several scrubbers may run at the same time, on one host or on many.

It makes one pass and ends, which suits cron. As a daemon, it makes a pass at start and one after
every wakeup_time seconds, until SIGTERM or SIGINT. When it is stopped, it starts no more removals
and finishes the current ones, for at most 30 seconds.

If root starts it, it becomes the user that the configuration names, otherwise the owner of
filesystem_store_datadir.

A removal that fails is retried after one minute, then after two, four and so on, up to six hours.
""",
    (startup.CONFPATH,),
    (
        startup.COMMON,
        startup.LOGGING,
        (
            "Options of glance-scrubber",
            (
                ProgramOption(("-D", "--daemon"), "daemon", "Keep running until stopped."),
                ProgramOption(
                    ("--list",),
                    "list",
                    "Make no pass; print the queue: each image, when it is due (UTC), the number "
                    "of attempts and the last error.",
                ),
                ProgramOption(
                    ("--restore",),
                    "restore",
                    "Make no pass; restore the deleted image with this ID, which becomes active "
                    "again. Its data must not have been removed yet.",
                    "ID",
                    "string",
                ),
                ProgramOption(
                    ("--retry",),
                    "retry",
                    "Before the pass, make all images due that failed before or were given up.",
                ),
            ),
        ),
    ),
    (
        (0, "The pass is complete, or the daemon was stopped."),
        (
            1,
            "A removal was postponed or given up, or the database is unavailable; the log says "
            "why.",
        ),
        (
            2,
            "The configuration or an option is not valid; lines that begin with ERROR: on "
            "standard error say why.",
        ),
        (3, "The image that --restore names cannot be restored; standard error says why."),
    ),
)
LOG = logging.getLogger(PROGRAM.name)

FAILED, WRONG, NOT_RESTORED = 1, 2, 3


@streams.program(PROGRAM.name)
def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-scrubber."""
    args = startup.parse(PROGRAM, argv)
    try:
        app, daemon = _load(args)
    except exception.Error as err:
        startup.report(err)
        return WRONG
    if args.list or args.restore is not None:
        return _serve(app, args)
    caught = stop_signals.StopSignals(app.stop)
    signal.signal(signal.SIGUSR1, lambda *_: log.reopen())
    try:
        if args.retry:
            LOG.info("%d images are due again", scrub_queue.retry(app.db))
        if daemon:
            exposition = importlib.import_module("glance.http.exposition")
            with exposition.serve_beside(app.conf):
                app.show()
                app.run()
            LOG.info("%s has stopped%s", PROGRAM.name, caught.text)
            return 0
        summary = app.run_once()
        if caught.text:
            LOG.info("%s has stopped before the end of the pass%s", PROGRAM.name, caught.text)
    except exception.ConfigError as err:
        startup.report(err)
        return WRONG
    except exception.Error as err:
        return startup.report(err)
    finally:
        hooks.stop()
    return 0 if summary.is_complete or app.stopped.is_set() else FAILED


def _serve(app: scrubber.Scrubber, args: argparse.Namespace) -> int:
    """Execute --list or --restore."""
    try:
        if args.list:
            kept_for = datetime.timedelta(seconds=app.conf.scrub_time)
            print_queue(scrub_queue.entries(app.db, kept_for=kept_for))
            return 0
        restore(app, args.restore)
    except exception.ServiceUnavailable as err:
        return startup.report(err)
    except exception.Error as err:
        startup.report(err)
        return NOT_RESTORED
    return 0


def restore(app: scrubber.Scrubber, image_id: str) -> None:
    """Restore a deleted image; raises the errors of `recovery.restore`."""
    image = recovery.restore(app.db, app.stores, fields.path_id(image_id))
    print(f"Image {image['id']} is active again")


def print_queue(entries: Sequence[scrub_queue.ScrubEntry]) -> None:
    """Print the queue as a table, without locations."""
    print(f"{'ID':<10} {'WHAT':<8} {'DUE':<19} {'ATTEMPTS':>8} {'STATE':<7} LAST ERROR")
    for entry in entries:
        what = "image" if entry.item == scrub_queue.DATA else "leftover"
        state = "dead" if entry.dead else "leased" if entry.leased else "waiting"
        due = entry.due_at.isoformat(" ", "seconds")
        print(
            f"{entry.image_id:<10} {what:<8} {due} {entry.attempts:>8} {state:<7} "
            f"{entry.last_error or '-'}"
        )


def _load(args: argparse.Namespace) -> tuple[scrubber.Scrubber, bool]:
    """Return the scrubber, and whether it runs as a daemon. Raises ConfigError."""
    path = paste.find_config_file(PROGRAM.name, args.config_file, args.confpath)
    conf = startup.configure(
        PROGRAM.name,
        path,
        args,
        startup.load_drivers,
        startup.check_database,
        notifier.check,
        prints=args.list or args.restore is not None,
        is_server=False,
    )
    # SECURITY: before the stores are set up, which make and try their directories.
    startup.work_in("filesystem_store_datadir", conf, PROGRAM.name, path)
    app: Any = paste.load_shared_app(PROGRAM.name, path, scrubber.app_factory)
    return app, bool(args.daemon or conf.daemon)
