"""What the log says of a signal that stops a daemon: Ctrl-C is not taken for another one."""

import signal
import subprocess
import sys
import time

import pytest

from support import daemons

SCRUBBER = """
[app:glance-scrubber]
paste.app_factory = glance.store.scrubber:app_factory
"""
#: What a program logs after its first pass.
DONE = {"glance-scrubber": "Pass done", "glance-cache-cleaner": "[glance.image_cache"}
NAMED = {signal.SIGINT: "SIGINT, Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


@pytest.mark.parametrize("signum", NAMED)
@pytest.mark.parametrize("workers", [0, 1])
def test_both_daemons(tmp_path, workers, signum):
    with daemons.Site(tmp_path, workers=workers) as site:
        for daemon in (site.api, site.registry):
            daemon.process.send_signal(signum)
            assert daemon.process.wait(daemons.STOP_SECONDS) == 0
            log = daemon.log()
            assert f"{daemon.program} is stopping ({NAMED[signum]})" in log
            assert f"{daemon.program} has stopped" in log
            assert log.count("is stopping") == 1


@pytest.mark.parametrize("signum", NAMED)
@pytest.mark.parametrize("program", ["glance-scrubber", "glance-cache-cleaner"])
def test_daemons_without_a_server(tmp_path, program, signum):
    with daemons.Site(tmp_path) as site:
        own = {
            "verbose": True,
            "sql_connection": f"sqlite:///{site.database}",
            "filesystem_store_datadir": site.data_dir,
            "registry_port": site.registry.port,
            "image_cache_dir": tmp_path / "cache",
        }
        conf = tmp_path / "own.conf"
        lines = "".join(f"{name} = {value}\n" for name, value in own.items())
        conf.write_text(f"[DEFAULT]\n{lines}{SCRUBBER}")
        output = tmp_path / "output"
        with output.open("wb") as log:
            command = [sys.executable, str(daemons.BIN / program), "--daemon", str(conf)]
            process = subprocess.Popen(
                command, env=daemons.environment(), stdin=subprocess.DEVNULL, stdout=log
            )
        try:
            deadline = time.monotonic() + daemons.READY_SECONDS
            while DONE[program] not in output.read_text():
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.05)
            process.send_signal(signum)
            assert process.wait(daemons.STOP_SECONDS) == 0
        finally:
            process.kill()
            process.wait()
    assert f"{program} has stopped ({NAMED[signum]})" in output.read_text()
