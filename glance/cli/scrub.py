"""glance-scrubber: remove the data of deleted images, once or for ever.

The work is done by `glance.scrubber`.

Exit codes: 0 all done (a daemon: told to end), 1 something is left for the next pass, 2 the
configuration or the command line is wrong (lines `ERROR: ...` on stderr).
"""

from __future__ import annotations

import argparse
import logging
import signal
from collections.abc import Sequence
from typing import Any

from glance import scrubber
from glance.cli import services
from glance.common import deploy, exception, log

PROGRAM = "glance-scrubber"
LOG = logging.getLogger(PROGRAM)

FAILED, WRONG = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-scrubber."""
    args = _parse(argv)
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
        LOG.info("%s has stopped", PROGRAM)
        return 0
    try:
        outcome = app.run_once()
    except exception.Error as err:
        return services.report(err)
    return FAILED if outcome.failed else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage="%(prog)s [options] [CONFPATH]",
        description="Remove the data of deleted images that wait for it.",
        allow_abbrev=False,
    )
    services.add_common_options(parser, PROGRAM)
    services.add_logging_options(parser)
    parser.add_argument("-D", "--daemon", action="store_true", help="go on for ever")
    parser.add_argument(
        "confpath", nargs="?", metavar="CONFPATH", help="configuration file or its directory"
    )
    return parser.parse_args(argv)


def _load(args: argparse.Namespace) -> tuple[scrubber.Scrubber, bool]:
    """Return the scrubber, and whether it is to go on for ever. Raises ConfigError."""
    path = deploy.find_config_file(PROGRAM, args.config_file, args.confpath)
    conf = services.configure(PROGRAM, path, args, services.load_drivers, services.check_database)
    app: Any = deploy.load_paste_app(PROGRAM, path)[1]
    return app, bool(args.daemon or conf.daemon)
