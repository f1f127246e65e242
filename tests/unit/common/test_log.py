"""Where log lines go and what they look like."""

import logging

import pytest

from glance.common import config, exception, log


@pytest.fixture(autouse=True)
def _restore():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


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


def test_the_dump_masks_secrets(caplog):
    caplog.set_level(logging.DEBUG)
    conf = config.Conf({"swift_store_key": "canary", "sql_connection": "mysql://u:canary@h/d"})
    log.dump(conf, "glance-test", "/etc/x.conf")
    assert "canary" not in caplog.text
    assert "swift_store_key                ***" in caplog.text
