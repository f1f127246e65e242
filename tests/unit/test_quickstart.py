"""What glance-quickstart does with configuration and ports that it finds; nothing is installed."""

import argparse
import importlib.machinery
import importlib.util
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from support import daemons

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "bin" / "glance-quickstart"


@pytest.fixture(scope="module")
def quickstart():
    loader = importlib.machinery.SourceFileLoader("quickstart", str(PROGRAM))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("quickstart", loader))
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
    return module


@pytest.fixture
def home(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "run").mkdir()
    return tmp_path


@pytest.fixture
def configure(quickstart, home, monkeypatch):
    """Return a function that does what one start does with the configuration."""
    usual = {"registry": daemons.free_port(), "api": daemons.free_port()}
    monkeypatch.setattr(quickstart, "DEFAULT_PORTS", usual)

    def configure(**given):
        args = {"port": usual["api"], "registry_port": usual["registry"], "reset": False, **given}
        ports = quickstart.configure(argparse.Namespace(**args), home)
        (home / "ports.json").write_text(quickstart.json.dumps(ports))
        return ports

    return configure


def edit(home, name, old, new):
    path = home / "etc" / f"glance-{name}.conf"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_edited_configuration_is_kept_and_the_program_says_so(configure, home, capsys):
    ports = configure()
    edited = edit(home, "api", "workers = 2", "workers = 1")
    capsys.readouterr()
    assert configure() == ports
    assert "workers = 1" in edited.read_text()
    told = capsys.readouterr().out
    assert f"keeping {edited}, which was edited (--reset writes it anew)" in told
    assert f"writing {home}/etc/glance-registry.conf" in told


def test_reset_writes_the_configuration_anew(configure, home):
    ports = configure()
    edited = edit(home, "api", "workers = 2", "workers = 1")
    assert configure(reset=True) == ports
    assert "workers = 2" in edited.read_text()


def test_an_edited_port_is_used(configure, home):
    ports = configure()
    free = daemons.free_port()
    edit(home, "registry", f"bind_port = {ports['registry']}", f"bind_port = {free}")
    assert configure() == {**ports, "registry": free}
    assert f"registry_port = {free}\n" in (home / "etc" / "glance-api.conf").read_text()


def test_a_port_beside_an_edited_file_does_not_change(quickstart, configure, home):
    ports = configure()
    edit(home, "api", "workers = 2", "workers = 1")
    with socket.socket() as other:
        other.bind(("127.0.0.1", ports["registry"]))
        other.listen()
        with pytest.raises(quickstart.Failure, match=f"port {ports['registry']} is in use"):
            configure()
    with pytest.raises(quickstart.Failure, match=r"not 1029; change it there, or use --reset"):
        configure(port=1029)


@pytest.mark.parametrize("text", ["bind_port = x", "[DEFAULT\n", "[DEFAULT]\nbind_port = x\n"])
def test_edited_configuration_that_cannot_be_read_is_named(quickstart, configure, home, text):
    configure()
    (home / "etc" / "glance-api.conf").write_text(text)
    with pytest.raises(quickstart.Failure, match=r"glance-api\.conf .*use --reset"):
        configure()


def test_stop_and_status_say_that_nothing_is_running(quickstart, home, capsys):
    assert quickstart.main(["--stop", "--dir", str(home)]) == 0
    assert capsys.readouterr().out == f"* no daemon of {home} is running\n"
    (home / "run" / "glance-api.pid").write_text("no number")
    assert quickstart.main(["--status", "--dir", str(home)]) == 1
    told = "* glance-registry is not running\n* glance-api is not running\n"
    assert capsys.readouterr().out == told


def test_status_names_the_ports_of_running_daemons(quickstart, home, capsys):
    for name in ("api", "registry"):
        (home / "run" / f"glance-{name}.pid").write_text(str(os.getpid()))
    (home / "ports.json").write_text('{"api": 9300, "registry": 9200}')
    assert quickstart.main(["--status", "--dir", str(home)]) == 0
    assert "glance-api is running on port 9300\n" in capsys.readouterr().out


def test_a_failing_pip_ends_with_a_line_that_says_what_to_check(quickstart, tmp_path, monkeypatch):
    monkeypatch.setattr(quickstart, "pip_for", lambda venv: [sys.executable, "-c", "exit(1)"])
    with pytest.raises(quickstart.Failure, match="check the network, the proxy"):
        quickstart.install(tmp_path / "venv")


STUB = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)\n"


def test_the_tests_end_quietly_on_ctrl_c(tmp_path):
    """As at a terminal, which tells every process in the foreground."""
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "run.py").write_text((ROOT / "tests" / "run.py").read_text())
    tool = tmp_path / ".tox" / ".tool"
    (tool / "tox").mkdir(parents=True)
    (tool / "bin").mkdir()
    (tool / "bin" / "tox").touch()
    quiet = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
    (tool / "tox" / "__main__.py").write_text(quiet + STUB)
    started = tmp_path / "started"
    process = subprocess.Popen(
        [sys.executable, str(folder / "run.py"), str(started)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, "")
