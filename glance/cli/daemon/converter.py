"""glance-converter: the daemon that converts images. `glance.converter` does the work."""

from __future__ import annotations

import argparse
import importlib
import logging
import math
import signal
from collections.abc import Sequence
from typing import Any

from glance.cli import streams
from glance.cli.daemon import paste, startup
from glance.cli.program import Program
from glance.common import exception, hooks, log, privileges, stop_signals
from glance.streaming import notify

PROGRAM = Program(
    "glance-converter",
    "Convert images into other disk formats",
    """
The glance-converter daemon works on the conversions that users ask glance-api for: it fetches an
image from its store, inspects it, has qemu-img convert it in a sandbox, and stores the result as a
new image. It gets its work from glance-registry, of which it needs the registry_shared_secret or a
service account. Several converters may run at the same time, on one host or on many.

It needs qemu-img, bwrap (package bubblewrap) and conversion_enabled = True, and checks that at
start. It listens on no port, unless metrics_port says so, stays in the foreground, and logs to
standard output unless the configuration says otherwise.

After SIGTERM it begins nothing more; what runs has conversion_shutdown_grace seconds to finish,
and is then given back, for another converter. SIGINT, or a second SIGTERM, gives it back at once;
SIGHUP lets it finish however long that takes. SIGUSR1 reopens the log file.

If root starts it, it becomes the user that the configuration names, otherwise the owner of
conversion_work_dir.
""",
    (startup.CONFPATH,),
    (startup.COMMON, startup.LOGGING),
    (
        (0, "The daemon was stopped."),
        (
            1,
            "The daemon could not start; lines that begin with ERROR: on standard error list all "
            "problems.",
        ),
        (2, "An option is not valid."),
    ),
)
LOG = logging.getLogger(PROGRAM.name)


class _Signals:
    """Takes the signals that stop the daemon; `text` names the first one for the log."""

    def __init__(self, worker: Any):
        self.text = ""
        self._worker = worker
        self._was_told = False
        for signum in stop_signals.SIGNALS:
            signal.signal(signum, self._take)
        signal.signal(signal.SIGUSR1, lambda *_: log.reopen())

    def _take(self, signum: int, frame: object) -> None:
        # NOTE: nothing is logged here: the handler may interrupt the writing of a line.
        self.text = self.text or f" ({stop_signals.described(signum)})"
        if signum == signal.SIGHUP:
            self._worker.stop(math.inf)
            return
        is_urgent = self._was_told or signum == signal.SIGINT
        self._was_told = True
        self._worker.stop(0.0 if is_urgent else self._worker.conf.conversion_shutdown_grace)


@streams.program(PROGRAM.name)
def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of glance-converter."""
    args = startup.parse(PROGRAM, argv)
    try:
        worker = _load(args)
    except exception.Error as err:
        return startup.report(err)
    caught = _Signals(worker)
    exposition = importlib.import_module("glance.http.exposition")
    try:
        with exposition.serve_beside(worker.conf):
            notify.notify(READY=1, STATUS="converting images")
            LOG.info("%s is ready; the registry knows it as %s", PROGRAM.name, worker.name)
            worker.run()
            notify.notify(STOPPING=1)
    except exception.ConfigError as err:
        return startup.report(err)
    finally:
        hooks.stop()
    LOG.info("%s has stopped%s", PROGRAM.name, caught.text)
    return 0


def _load(args: argparse.Namespace) -> Any:
    """Return the worker of `glance.converter`. Raises ConfigError."""
    path = paste.find_config_file(PROGRAM.name, args.config_file, args.confpath)
    converter = importlib.import_module("glance.converter")
    notifier = importlib.import_module("glance.notifier")
    conf = startup.configure(
        PROGRAM.name, path, args, startup.load_drivers, notifier.check, is_server=False
    )
    # SECURITY: before directories are made and tried.
    startup.work_in("conversion_work_dir", conf, PROGRAM.name, path)
    privileges.warn_of_root(conf)
    return paste.load_shared_app(PROGRAM.name, path, converter.app_factory)
