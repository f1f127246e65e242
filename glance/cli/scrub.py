"""glance-scrubber: remove the data of deleted images, once or for ever.

The work is done by `glance.scrubber`.
"""

from __future__ import annotations

import argparse
import logging
import signal
from collections.abc import Sequence
from typing import Any

from glance import scrubber
from glance.cli import services
from glance.cli.option import Option
from glance.cli.program import Program
from glance.common import deploy, exception, log

PROGRAM = Program(
    "glance-scrubber",
    "Remove the data of deleted images",
    """
The glance-scrubber program looks at the registry's database, removes the data of deleted images
that have waited for scrub_time, and settles uploads that never ended.

It makes one pass and ends, as suits cron. As a daemon it makes a pass now and one after every
wakeup_time seconds, until SIGTERM or SIGINT.
""",
    (services.CONFPATH,),
    (
        services.COMMON,
        services.LOGGING,
        (
            "Options of glance-scrubber",
            (Option(("-D", "--daemon"), "daemon", "Go on until told to end."),),
        ),
    ),
    (
        (0, "All is done; a daemon was told to end."),
        (1, "Something is left for the next pass; the log says why."),
        (2, "The configuration or an option is wrong; lines ERROR: on standard error say how."),
    ),
)
LOG = logging.getLogger(PROGRAM.name)

FAILED, WRONG = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-scrubber."""
    args = services.parse(PROGRAM, argv)
    try:
        app, daemon = _load(args)
    except exception.Error as err:
        services.report(err)
        return WRONG
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, lambda *_: app.stop())
    signal.signal(signal.SIGUSR1, lambda *_: log.reopen())
    if daemon:
        app.run()
        LOG.info("%s has stopped", PROGRAM.name)
        return 0
    try:
        outcome = app.run_once()
    except exception.Error as err:
        return services.report(err)
    return FAILED if outcome.failed else 0


def _load(args: argparse.Namespace) -> tuple[scrubber.Scrubber, bool]:
    """Return the scrubber, and whether it is to go on for ever. Raises ConfigError."""
    path = deploy.find_config_file(PROGRAM.name, args.config_file, args.confpath)
    conf = services.configure(
        PROGRAM.name, path, args, services.load_drivers, services.check_database
    )
    app: Any = deploy.load_paste_app(PROGRAM.name, path)[1]
    return app, bool(args.daemon or conf.daemon)
