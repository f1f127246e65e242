"""glance-converter: its command line, its signals, and what it says when it cannot start."""

import math
import signal

import pytest

from glance.cli.daemon import converter
from glance.common import config

CONF = """\
[DEFAULT]
conversion_work_dir = {directory}/work
filesystem_store_datadir = {directory}/images
{more}
[app:glance-converter]
paste.app_factory = glance.converter:app_factory
"""


@pytest.fixture
def run(tmp_path, capfd):
    """Return a function that runs the program; it returns status, output and errors."""

    def start(*lines):
        path = tmp_path / "glance-converter.conf"
        path.write_text(CONF.format(directory=tmp_path, more="\n".join(lines)))
        status = converter.main([str(path)])
        return status, *capfd.readouterr()

    return start


def test_it_is_switched_off_by_default(run, tmp_path):
    status, _, err = run()
    assert status == 1
    assert err == (
        f"ERROR: {tmp_path}/glance-converter.conf: option conversion_enabled is False, so there "
        "is nothing to do: set it to True here and in glance-api.conf\n"
    )
    assert not (tmp_path / "work").exists()


def test_each_problem_is_one_line(run):
    status, _, err = run(
        "conversion_enabled = yes",
        "conversion_qemu_img = /nowhere/qemu-img",
        "conversion_work_dir = /usr/lib/glance",
        "default_store = swift",
    )
    assert status == 1
    lines = err.splitlines()
    assert len(lines) == 3 and all(line.startswith("ERROR: ") for line in lines)
    for name in ("conversion_qemu_img", "conversion_work_dir", "default_store"):
        assert sum(name in line for line in lines) == 1


@pytest.mark.parametrize("value", ["conversion_workers = 0", "conversion_qemu_img = qemu-img"])
def test_bad_values_are_told_before_anything_is_made(run, tmp_path, value):
    status, _, err = run("conversion_enabled = yes", value)
    assert (status, len(err.splitlines())) == (1, 1)
    assert not (tmp_path / "work").exists()


class Worker:
    """Notes how much time it is given to stop."""

    conf = config.Conf({"conversion_shutdown_grace": "30"})

    def __init__(self):
        self.graces = []

    def stop(self, grace):
        self.graces.append(grace)


@pytest.mark.parametrize(
    ("names", "graces"),
    [
        ("TERM", [30]),
        ("TERM TERM", [30, 0]),
        ("INT", [0]),
        ("HUP", [math.inf]),
        ("HUP HUP TERM", [math.inf, math.inf, 30]),
        ("TERM INT", [30, 0]),
    ],
)
def test_how_long_a_signal_lets_conversions_go_on(names, graces):
    kept = {signum: signal.getsignal(signum) for signum in (*converter.stop_signals.SIGNALS,)}
    kept[signal.SIGUSR1] = signal.getsignal(signal.SIGUSR1)
    try:
        worker = Worker()
        caught = converter._Signals(worker)
        for name in names.split():
            signal.raise_signal(getattr(signal, f"SIG{name}"))
    finally:
        for signum, handler in kept.items():
            signal.signal(signum, handler)
    assert worker.graces == graces
    assert names.split()[0] in caught.text
