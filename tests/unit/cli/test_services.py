"""The daemons' command line, up to the point where they would serve."""

import argparse

import pytest

from glance import version
from glance.cli import services
from glance.common import config


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(services.deploy, "SEARCH_PATH", (".",))
    return tmp_path


@pytest.mark.parametrize("main", [services.api_main, services.registry_main])
def test_version(main, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.split()[1] == version.version_string()


@pytest.mark.parametrize("arguments", [["--nonsense"], ["a", "b"], ["--config"]])
def test_a_wrong_command_line_exits_2(arguments):
    with pytest.raises(SystemExit) as caught:
        services.api_main(arguments)
    assert caught.value.code == 2


def test_no_configuration_file_gives_the_manuals_line(nowhere, capsys):
    assert services.api_main([]) == 1
    assert capsys.readouterr().err == (
        "ERROR: Unable to locate any configuration file. Cannot load application glance-api\n"
    )


def test_a_named_and_missing_file_is_named_on_a_second_line(nowhere, capsys):
    assert services.registry_main(["typo.conf"]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("ERROR: Unable to locate any configuration file.")
    assert "typo.conf" in second


def test_the_command_line_wins_over_the_file():
    conf = config.Conf({"verbose": "False", "debug": "True", "log_file": "a", "log_dir": "/x"})
    args = argparse.Namespace(
        verbose=True, debug=False, use_syslog=False, log_file="b", log_dir=None
    )
    merged = services.override(conf, args)
    assert (merged.verbose, merged.debug, merged.log_file, merged.log_dir) == (
        True, True, "b", "/x",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("x", False)],
)
def test_loopback(host, expected):
    assert services._is_loopback(host) is expected
