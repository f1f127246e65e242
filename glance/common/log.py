"""Set up logging for a program: where lines go, what they look like, what is kept out of them.

Called once by each program at start. `reopen` serves a rotation by signal. Modules log to
`logging.getLogger(__name__)` and know nothing of this.
"""

from __future__ import annotations

import _thread
import logging
import logging.config
import logging.handlers
import os
import sys

from glance.common import config, exception

DEFAULT_FORMAT = "%(asctime)s %(levelname)8s [%(name)s] %(message)s"
DEFAULT_DATE_FORMAT = "%Y-%m-%d %H:%M:%S"

config.options(
    "logging",
    config.Option("verbose", config.boolean, False, help="Log what is done, not only troubles."),
    config.Option(
        "debug",
        config.boolean,
        False,
        help="Log much detail, and all settings at start with secrets masked.",
    ),
    config.Option("log_file", config.path, help="File to log to; unset: standard output."),
    config.Option("log_dir", config.path, help="Directory that log_file is taken relative to."),
    config.Option("log_format", default=DEFAULT_FORMAT, help="Layout of a log line."),
    config.Option(
        "log_date_format", default=DEFAULT_DATE_FORMAT, help="Layout of the time in a log line."
    ),
    config.Option(
        "log_config",
        config.path,
        help="Configuration file of Python's logging package; it overrides all other log options.",
    ),
    config.Option(
        "use_syslog", config.boolean, False, help="Log to the system's logger instead of a file."
    ),
    config.Option(
        "syslog_log_facility",
        default="LOG_USER",
        help="Facility of lines sent to the system's logger, such as LOG_LOCAL0.",
    ),
)


def setup(conf: config.Conf, program: str) -> None:
    """Make the root logger write as `conf` says; raises ConfigError if it cannot."""
    if conf.log_config:
        _from_file(conf.log_config)
        return
    root = logging.getLogger()
    level = logging.DEBUG if conf.debug else logging.INFO if conf.verbose else logging.WARNING
    root.setLevel(level)
    # SECURITY: statements hold values of all tenants; they are for those who debug.
    logging.getLogger("sqlalchemy.engine").setLevel(
        logging.INFO if conf.debug else logging.WARNING
    )
    handler = _handler(conf, program)
    handler.setFormatter(logging.Formatter(conf.log_format, conf.log_date_format))
    # NOTE: in a patched process the lock would be one between greenthreads, and a native thread
    # that logs would wait inside of it for ever. Nothing waits in the hub while it holds this one.
    handler.lock = _thread.RLock()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)


def _handler(conf: config.Conf, program: str) -> logging.Handler:
    if conf.use_syslog:
        return _syslog(conf.syslog_log_facility)
    if not conf.log_file:
        return logging.StreamHandler(sys.stdout)
    path = os.path.join(conf.log_dir or "", conf.log_file)
    try:
        return logging.handlers.WatchedFileHandler(path, encoding="utf-8")
    except OSError as err:
        raise exception.ConfigError(
            f"{program} cannot write its log file {path}: {err.strerror}"
        ) from err


def _syslog(facility: str) -> logging.Handler:
    name = facility.lower().removeprefix("log_")
    numbers = logging.handlers.SysLogHandler.facility_names
    if name not in numbers:
        raise exception.ConfigError(f"syslog_log_facility {facility} is not known to syslog")
    address = "/dev/log" if os.path.exists("/dev/log") else ("localhost", 514)
    return logging.handlers.SysLogHandler(address, numbers[name])


def _from_file(path: str) -> None:
    if not os.path.isfile(path):
        raise exception.ConfigError(f"Unable to locate specified logging config file: {path}")
    try:
        logging.config.fileConfig(path, disable_existing_loggers=False)
    except Exception as err:
        raise exception.ConfigError(f"The logging config file {path} is wrong: {err!r}") from err


def reopen() -> None:
    """Open log files anew, after they were moved away."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.handlers.WatchedFileHandler):
            handler.reopenIfNeeded()


def dump(conf: config.Conf, program: str, path: str) -> None:
    """Log all settings of the file at debug level, secrets masked."""
    log = logging.getLogger(program)
    if not log.isEnabledFor(logging.DEBUG):
        return
    log.debug("*" * 80)
    log.debug("Configuration options gathered from config file:")
    log.debug(path)
    log.debug("=" * 48)
    for name, value in conf.public().items():
        log.debug("%-30s %s", name, value)
    log.debug("*" * 80)
