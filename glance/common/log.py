"""Set up logging for a program: where lines go, their form, and what must not be in them.

Each program calls `setup` once at its start. `reopen` is for rotation by a signal. Modules log to
`logging.getLogger(__name__)` and do not use this module. A line about a request can show the
request's id: `%(request_id)s` in log_format, a member of the object with log_json.
"""

from __future__ import annotations

import _thread
import contextvars
import datetime
import json
import logging
import logging.config
import logging.handlers
import os
import stat
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from glance.common import config, exception, files, ini, log_file

DEFAULT_FORMAT = "%(asctime)s %(levelname)8s [%(name)s] %(message)s"
DEFAULT_DATE_FORMAT = "%Y-%m-%d %H:%M:%S"

#: The socket of the system's logger.
SYSLOG = "/dev/log"

#: Id of the request that this greenthread works on. Native threads and background tasks of a
#: request have none.
REQUEST_ID: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)


def _facility_number(text: str) -> int:
    name = text.lower().removeprefix("log_")
    return logging.handlers.SysLogHandler.facility_names[name]


def _facility(text: str) -> str:
    try:
        _facility_number(text.strip())
    except KeyError:
        raise ValueError("syslog has no such facility") from None
    return text.strip()


config.options(
    "logging",
    config.Option("verbose", config.boolean, False, help="Log at INFO level instead of WARNING."),
    config.Option(
        "debug",
        config.boolean,
        False,
        help="Log at DEBUG level, including all settings at start, with secrets masked.",
    ),
    config.Option("log_file", config.path, help="File to log to. Unset: standard output."),
    config.Option("log_dir", config.path, help="Directory that log_file is relative to."),
    config.Option(
        "log_format",
        default=DEFAULT_FORMAT,
        help="Format of a log line, in the syntax of Python's logging package. %(request_id)s "
        "is the id of the request that the line belongs to.",
    ),
    config.Option(
        "log_date_format",
        default=DEFAULT_DATE_FORMAT,
        help="Format of the time in a log line, in the syntax of Python's time.strftime.",
    ),
    config.Option(
        "log_json",
        config.boolean,
        False,
        help="Write each log line as a JSON object with time (UTC), level, logger, message and, "
        "if there is one, request_id. log_format and log_date_format then have no effect.",
    ),
    config.Option(
        "log_config",
        config.path,
        help="Configuration file for Python's logging package. It overrides all other logging "
        "options.",
        in_files=False,
    ),
    config.Option("use_syslog", config.boolean, False, help="Log to syslog instead of a file."),
    config.Option(
        "syslog_log_facility",
        _facility,
        default="LOG_USER",
        help="Syslog facility of the log lines, such as LOG_LOCAL0.",
    ),
)


class Record(logging.LogRecord):
    """A log record with the id of the request that it is about in `request_id`, or a dash."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.request_id = REQUEST_ID.get() or "-"


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object on one line.

    Members: `time` (ISO 8601, UTC), `level`, `logger`, `message`, `process`; where there is one,
    `request_id` and `exception`, a traceback; and the caller's `extra={"fields": {}}`.
    A logging configuration names it as `class=glance.common.log.JsonFormatter`.
    """

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        shown: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        request_id = getattr(record, "request_id", "-")
        if request_id != "-":
            shown["request_id"] = request_id
        shown |= getattr(record, "fields", {})
        if record.exc_info:
            shown["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            shown["stack"] = record.stack_info
        return json.dumps(shown, default=str)


def setup(conf: config.Conf, program: str, *, prints: bool = False) -> None:
    """Configure the root logger as `conf` says. Raises ConfigError if that is impossible.

    With `prints`, standard output is for results, and log lines for it go to standard error.
    """
    logging.setLogRecordFactory(Record)
    log_file.harden()
    if conf.log_config:
        _from_file(conf.log_config)
        _redirect(_handlers(), prints)
        _hide_rows()
        return
    root = logging.getLogger()
    level = logging.DEBUG if conf.debug else logging.INFO if conf.verbose else logging.WARNING
    root.setLevel(level)
    # SECURITY: INFO is the text of each statement, without the values of its parameters (see
    # `hide_parameters` in glance.registry.db.engine); DEBUG would be the rows of all tenants.
    logging.getLogger("sqlalchemy.engine").setLevel(
        logging.INFO if conf.debug else logging.WARNING
    )
    handler = _handler(conf, program)
    handler.setFormatter(_formatter(conf))
    _use_native_locks([handler])
    _redirect([handler], prints)
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)


def _hide_rows() -> None:
    """Keep rows, with the locations of all tenants, out of a log that is to have everything."""
    for name in ("sqlalchemy.engine", "sqlalchemy.engine.Engine"):
        logger = logging.getLogger(name)
        if logger.getEffectiveLevel() < logging.INFO:
            logger.setLevel(logging.INFO)


def _redirect(handlers: Iterable[logging.Handler], prints: bool) -> None:
    """Let handlers write to the standard streams without counting as output of the program."""
    for handler in handlers:
        stream = getattr(handler, "stream", None)
        if stream is not None and stream in (sys.stdout, sys.stderr):
            target = sys.stderr if prints else stream
            handler.setStream(getattr(target, "log", target))  # type: ignore[attr-defined]  # has it


def _formatter(conf: config.Conf) -> logging.Formatter:
    if conf.log_json:
        return JsonFormatter()
    try:
        return logging.Formatter(conf.log_format, conf.log_date_format)
    except ValueError as err:
        raise exception.ConfigError(f"{conf.at('log_format')} is not valid: {err}") from err


def _handler(conf: config.Conf, program: str) -> logging.Handler:
    if conf.use_syslog:
        return _syslog(conf, program)
    if not conf.log_file:
        return logging.StreamHandler(sys.stdout)
    path = os.path.join(conf.log_dir or "", conf.log_file)
    try:
        return log_file.LogFile(path, encoding="utf-8", errors="backslashreplace")
    except OSError as err:
        raise exception.ConfigError(
            f"{program} cannot write its log file {path}: {err.strerror}"
        ) from err


def _syslog(conf: config.Conf, program: str) -> logging.Handler:
    number = _facility_number(conf.syslog_log_facility)
    address = SYSLOG if os.path.exists(SYSLOG) else ("127.0.0.1", 514)
    handler = logging.handlers.SysLogHandler(address, number)
    handler.ident = f"{program}: "
    return handler


def _from_file(path: str) -> None:
    if not os.path.isfile(path):
        raise exception.ConfigError(f"Unable to locate specified logging config file: {path}")
    try:
        parser = ini.IniParser()
        parser.read_path(path)
        for name in parser.sections():
            if parser.get(name, "class", fallback="") in log_file.PLAIN:
                parser.set(name, "class", f"{log_file.__name__}.{log_file.LogFile.__name__}")
        logging.config.fileConfig(parser, disable_existing_loggers=False)
    except Exception as err:  # the file names classes and expressions, which may raise anything
        # SECURITY: not the expression itself, as in the text of a SyntaxError.
        what = err.msg if isinstance(err, SyntaxError) else ini.describe(err)
        raise exception.ConfigError(
            f"The logging config file {path} is not valid: "
            f"{type(err).__name__}: {config.mask_text(what)}"
        ) from None
    _use_native_locks(_handlers())


def _use_native_locks(handlers: Iterable[logging.Handler]) -> None:
    # NOTE: in a patched process the lock would be one for greenthreads, and a native thread that
    # logs would wait for it for ever. No holder of this lock waits in the hub.
    for handler in handlers:
        handler.lock = _thread.RLock()


def _handlers() -> set[logging.Handler]:
    """Return all handlers of all loggers."""
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    return {handler for log in loggers for handler in getattr(log, "handlers", ())}


def hand_over(uid: int, gid: int) -> None:
    """Give the open log files to another user, to whom this process is about to switch.

    Terminals and other devices keep their owners. Raises ConfigError for a file that this process
    must not give away: a third user's, or one that has another name.
    """
    for handler in _handlers():
        stream = getattr(handler, "stream", None)
        if not isinstance(handler, logging.FileHandler) or stream is None:
            continue
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            continue
        reason = files.SECOND_NAME if status.st_nlink > 1 else None
        if status.st_uid not in (uid, os.geteuid()):
            reason = files.OTHER_OWNER
        if reason is not None:
            raise exception.ConfigError(
                f"The log file {handler.baseFilename} cannot be given to user {uid}: {reason}"
            )
        os.fchown(stream.fileno(), uid, gid)


def reopen() -> None:
    """Reopen log files that were moved away, including those of a logging configuration."""
    for handler in _handlers():
        stream = getattr(handler, "stream", None)
        if not isinstance(handler, logging.FileHandler) or stream is None:
            continue
        handler.acquire()
        try:
            if isinstance(handler, log_file.LogFile):
                handler.reopenIfNeeded()
            elif _is_moved(handler.baseFilename, stream):
                # It reopens its file with the next line.
                handler.stream = None
                stream.close()
        except OSError as err:
            log_file.complain(f"A log file cannot be closed: {err.strerror or err}")
        finally:
            handler.release()


def _is_moved(path: str, stream: TextIO) -> bool:
    try:
        return not os.path.samestat(os.stat(path), os.fstat(stream.fileno()))
    except OSError:
        return True


def dump(conf: config.Conf, program: str, path: str) -> None:
    """Log all settings of the file at debug level, with secrets masked."""
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
