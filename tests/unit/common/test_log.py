"""Where log lines go and what they look like."""

import _thread
import contextvars
import datetime
import json
import logging
import os
import socket

import pytest

from glance.common import config, exception, log

OPEN, HANDLE_ERROR = logging.FileHandler._open, logging.Handler.handleError


@pytest.fixture(autouse=True)
def _restore():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.setLogRecordFactory(logging.LogRecord)
    logging.FileHandler._open, logging.Handler.handleError = OPEN, HANDLE_ERROR


def setup(**options):
    log.setup(config.Conf(options), "glance-test")
    return logging.getLogger()


@pytest.mark.parametrize(
    ("options", "level"),
    [({}, "WARNING"), ({"verbose": "True"}, "INFO"), ({"debug": "True"}, "DEBUG")],
)
def test_levels(options, level):
    assert logging.getLevelName(setup(**options).level) == level


def test_the_default_layout_goes_to_standard_output(capsys):
    setup(log_date_format="%Y")
    logging.getLogger("glance.x").warning("hello")
    line = capsys.readouterr().out
    assert line[4:] == "  WARNING [glance.x] hello\n"


def test_a_file_relative_to_the_log_directory(tmp_path):
    setup(log_dir=str(tmp_path), log_file="api.log")
    logging.getLogger("x").error("kept")
    assert "kept" in (tmp_path / "api.log").read_text()


def test_an_absolute_file_wins_over_the_directory(tmp_path):
    setup(log_dir="/nowhere", log_file=str(tmp_path / "api.log"), log_format="%(message)s")
    logging.getLogger("x").error("kept")
    assert (tmp_path / "api.log").read_text() == "kept\n"


def test_a_file_that_was_moved_away_is_opened_anew(tmp_path):
    setup(log_file=str(tmp_path / "api.log"))
    (tmp_path / "api.log").rename(tmp_path / "old.log")
    log.reopen()
    assert (tmp_path / "api.log").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"log_file": "/nowhere/at/all/api.log"},
        {"use_syslog": "True", "syslog_log_facility": "LOG_NONSENSE"},
        {"log_config": "/nowhere/logging.conf"},
        {"log_format": "nothing to fill in"},
    ],
)
def test_what_cannot_be_set_up_is_a_configuration_error(options):
    with pytest.raises(exception.ConfigError):
        setup(**options)


def test_a_logging_configuration_overrides_the_rest(tmp_path):
    path = tmp_path / "logging.conf"
    path.write_text(
        "[loggers]\nkeys=root\n[handlers]\nkeys=file\n[formatters]\nkeys=\n"
        "[logger_root]\nlevel=ERROR\nhandlers=file\n"
        f"[handler_file]\nclass=FileHandler\nargs=('{tmp_path}/other.log',)\n"
    )
    root = setup(log_config=str(path), debug="True", log_file=str(tmp_path / "api.log"))
    assert root.level == logging.ERROR
    assert not (tmp_path / "api.log").exists()


def test_a_logging_configuration_has_the_syntax_of_the_other_files(tmp_path):
    path = tmp_path / "logging.conf"
    path.write_text(
        "\ufeff[loggers]\nkeys=root ; one\nrem keys=none\n[handlers]\nkeys=file\n"
        "[formatters]\nkeys=plain\n[formatter_plain]\nformat=%(levelname)s %(message)s ; short\n"
        "[logger_root]\nlevel=ERROR ; few\nhandlers=file\n[handler_file]\nclass=FileHandler\n"
        f"formatter=plain\nargs=('{tmp_path}/other.log',) ; here\n",
        encoding="utf-8",
    )
    root = setup(log_config=str(path))
    assert root.level == logging.ERROR
    root.error("hello")
    assert (tmp_path / "other.log").read_text() == "ERROR hello\n"


def test_the_dump_masks_secrets(caplog):
    caplog.set_level(logging.DEBUG)
    conf = config.Conf({"swift_store_key": "canary", "sql_connection": "mysql://u:canary@h/d"})
    log.dump(conf, "glance-test", "/etc/x.conf")
    assert "canary" not in caplog.text
    assert "swift_store_key                ***" in caplog.text


def test_the_dump_has_the_manuals_layout(caplog):
    caplog.set_level(logging.DEBUG)
    conf = config.Conf({"b": "2", "a_name": "1", "here": "/etc", "__file__": "/etc/x.conf"})
    log.dump(conf, "glance-test", "/etc/x.conf")
    assert {record.name for record in caplog.records} == {"glance-test"}
    assert caplog.messages == [
        "*" * 80,
        "Configuration options gathered from config file:",
        "/etc/x.conf",
        "=" * 48,
        "a_name                         1",
        "b                              2",
        "*" * 80,
    ]


def test_a_line_can_show_the_request_that_it_is_about(tmp_path):
    setup(log_file=str(tmp_path / "log"), log_format="%(request_id)s %(message)s")

    def work():
        log.REQUEST_ID.set("req-1")
        logging.getLogger("x").error("inside")

    contextvars.Context().run(work)
    contextvars.Context().run(logging.getLogger("x").error, "outside")
    assert (tmp_path / "log").read_text() == "req-1 inside\n- outside\n"


def test_json_lines(tmp_path):
    setup(log_file=str(tmp_path / "log"), log_json="True")

    def work():
        log.REQUEST_ID.set("req-1")
        try:
            raise ValueError("bad")
        except ValueError:
            fields = {"fields": {"bytes": 3}}
            logging.getLogger("x").exception("two\nlines %s \udcff", "é", extra=fields)

    contextvars.Context().run(work)
    contextvars.Context().run(logging.getLogger("y").error, "plain")
    first, second = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert datetime.datetime.fromisoformat(first.pop("time")).tzinfo is datetime.UTC
    assert first.pop("exception").endswith("ValueError: bad")
    assert first.pop("process") > 0
    assert first == {
        "level": "ERROR",
        "logger": "x",
        "message": "two\nlines é \udcff",
        "request_id": "req-1",
        "bytes": 3,
    }
    assert sorted(second) == ["level", "logger", "message", "process", "time"]


def test_half_surrogates_do_not_lose_a_line(tmp_path):
    setup(log_file=str(tmp_path / "log"))
    logging.getLogger("x").error("name %s", "\udcff")
    assert "name \\udcff" in (tmp_path / "log").read_text()


def test_a_log_directory_that_went_away_harms_nobody(tmp_path, capsys):
    directory = tmp_path / "logs"
    directory.mkdir()
    setup(log_dir=str(directory), log_file="x.log")
    (directory / "x.log").unlink()
    directory.rmdir()
    logging.getLogger("x").error("lost")
    log.reopen()
    directory.mkdir()
    logging.getLogger("x").error("kept")
    assert "kept" in (directory / "x.log").read_text()


def test_files_of_a_logging_configuration_are_opened_anew_too(tmp_path):
    handler = logging.FileHandler(tmp_path / "x.log")
    logger = logging.getLogger("glance.test_reopen")
    logger.addHandler(handler)
    try:
        (tmp_path / "x.log").rename(tmp_path / "old.log")
        log.reopen()
        logger.error("new")
        assert (tmp_path / "x.log").read_text() == "new\n"
        stream = handler.stream
        log.reopen()
        assert handler.stream is stream
    finally:
        logger.removeHandler(handler)
        handler.close()


def test_lines_go_to_the_systems_logger_with_facility_and_program(tmp_path, monkeypatch):
    monkeypatch.setattr(log, "SYSLOG", str(tmp_path / "log"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(log.SYSLOG)
        daemon.settimeout(10)
        options = {"use_syslog": "yes", "syslog_log_facility": "LOG_LOCAL0"}
        setup(**options, log_format="%(message)s", log_file="/nowhere/at/all")
        logging.getLogger("x").warning("hello")
        # Facility 16, severity 4: 16 * 8 + 4.
        assert daemon.recv(1000) == b"<132>glance-test: hello\0"


def test_handlers_of_a_logging_configuration_have_locks_of_native_threads(tmp_path, monkeypatch):
    """In a patched process that of the standard library belongs to greenthreads."""
    path = tmp_path / "logging.conf"
    path.write_text(
        "[loggers]\nkeys = root\n[handlers]\nkeys = own\n[formatters]\nkeys =\n"
        "[logger_root]\nhandlers = own\n[handler_own]\nclass = StreamHandler\nargs = ()\n"
    )
    monkeypatch.setattr(logging.threading, "RLock", lambda: "green")
    (handler,) = setup(log_config=str(path)).handlers
    assert isinstance(handler.lock, type(_thread.RLock()))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
@pytest.mark.parametrize("by_file", [False, True])
def test_a_log_is_not_opened_through_a_link_of_another_user(tmp_path, by_file):
    theirs, precious = tmp_path / "theirs", tmp_path / "precious"
    theirs.mkdir()
    os.symlink(precious, theirs / "log")
    os.chown(theirs, 65534, 65534)
    options = {"log_file": str(theirs / "log")}
    if by_file:
        path = tmp_path / "logging.conf"
        path.write_text(
            "[loggers]\nkeys=root\n[handlers]\nkeys=file\n[formatters]\nkeys=\n"
            "[logger_root]\nlevel=ERROR\nhandlers=file\n"
            f"[handler_file]\nclass=handlers.RotatingFileHandler\nargs=('{theirs}/log',)\n"
        )
        options = {"log_config": str(path)}
    with pytest.raises(exception.ConfigError, match="directory of another user"):
        setup(**options)
    assert not precious.exists()
