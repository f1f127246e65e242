"""Programs whose standard streams are closed, full or broken: one line at most, the right code."""

import contextlib
import errno
import io
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from glance.cli import streams

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROGRAMS = sorted(path.name for path in (ROOT / "bin").iterdir())
FULL = "output was lost: No space left on device"
CLOSED = "output was lost: standard output is closed"


def run(redirections, *words, env=()):
    """Run a program from bin by a shell; return its exit code and what stderr still got."""
    done = subprocess.run(
        [
            "sh",
            "-c",
            f'exec "$0" "$@" {redirections}',
            sys.executable,
            str(ROOT / "bin" / words[0]),
        ]
        + [str(word) for word in words[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "ignore", **dict(env)},
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_lost_output_is_one_line_and_a_failure(program):
    assert run(">/dev/full", program, "--help") == (1, f"{program}: {FULL}\n")


@pytest.mark.full
@pytest.mark.parametrize("program", PROGRAMS)
def test_with_all_streams_closed_nothing_is_said(program):
    assert run(">&- 2>&- <&-", program, "--help") == (1, "")


@pytest.mark.parametrize("redirections", [">&-", ">&- <&-"])
def test_a_closed_output_is_told(redirections):
    assert run(redirections, "glance", "--version") == (1, f"glance: {CLOSED}\n")


@pytest.mark.parametrize("redirections", ["2>&-", "2>/dev/full", "2>&- <&-", "<&-"])
def test_without_a_place_for_errors_the_code_is_that_of_the_work(redirections):
    assert run(redirections, "glance-manage", "--version") == (0, "")
    assert run(redirections, "glance-manage")[0] == 1
    assert run(redirections, "glance-manage", "--nonsense")[0] == 2


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("redirections", [">&-", ">/dev/full", ">&- 2>&- <&-"])
def test_work_is_done_whatever_the_streams_are(tmp_path, redirections, unbuffered):
    manage = ("glance-manage", f"--sql-connection=sqlite:///{tmp_path}/db")
    env = {"PYTHONUNBUFFERED": unbuffered}
    code, err = run(redirections, *manage, "db_sync", env=env)
    assert (code, err.count("\n")) == (0, 0 if "2>" in redirections else 1)
    code, err = run(redirections, *manage, "db_purge", env=env)
    assert (code, err.count("\n")) == (1, 0 if "2>" in redirections else 1)
    assert run("", *manage, "db_version") == (0, "")


def test_errors_do_not_go_to_the_output(tmp_path):
    """Python prints on standard output if there is no standard error."""
    out = tmp_path / "out"
    code, _ = run(f">{out} 2>&-", "glance-control", "nonsense", "start")
    assert (code, out.read_text()) == (1, "")


def test_a_reader_that_has_gone_is_not_complained_about(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, str(ROOT / "bin" / "glance"), "--help"],
            stdout=writing,
            stderr=subprocess.PIPE,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_children_of_a_program_have_standard_streams():
    code = "import subprocess, sys; sys.exit(subprocess.call(['true']))"
    script = (
        "from glance.cli import streams\n"
        "import subprocess, sys\n"
        f"code = {code!r}\n"
        "run = streams.program('x')(lambda _: subprocess.call([sys.executable, '-c', code]))\n"
        "raise SystemExit(run([]))"
    )
    done = subprocess.run(["sh", "-c", 'exec "$0" -c "$1" >&- 2>&- <&-', sys.executable, script])
    assert done.returncode == 0


def test_a_log_that_nobody_reads_is_not_output(tmp_path):
    conf = tmp_path / "glance-pruner.conf"
    conf.write_text(f"[DEFAULT]\nverbose = True\nimage_cache_dir = {tmp_path}/cache\n")
    for redirections in (">/dev/full", ">&-"):
        code, err = run(redirections, "glance-cache-pruner", f"--config-file={conf}")
        assert (code, err.count("\n")) == (0, 1)
        assert err.startswith("The log cannot be written: ")
    assert run(">/dev/full 2>&1", "glance-cache-pruner", f"--config-file={conf}") == (0, "")


# -- in this process -----------------------------------------------------------------------------


class Raw(io.RawIOBase):
    """A file that fails as long as `error` is set."""

    def __init__(self):
        self.error = None
        self.data = b""

    def writable(self):
        return True

    def fileno(self):
        return self._null.fileno()

    def write(self, data):
        if self.error is not None:
            raise self.error
        self.data += data
        return len(data)


@contextlib.contextmanager
def output(tmp_path):
    """Let the process have a standard output of its own for the block; yield its file."""
    made = Raw()
    old = sys.stdout, sys.__stdout__
    with open(tmp_path / "null", "wb") as made._null:
        sys.stdout = sys.__stdout__ = io.TextIOWrapper(io.BufferedWriter(made), "utf-8")
        try:
            yield made
        finally:
            made.error = None
            sys.stdout, sys.__stdout__ = old


def test_text_after_a_failure_is_written_if_that_is_possible_again(tmp_path):
    with output(tmp_path) as raw:

        def main(argv):
            raw.error = OSError(errno.ENOSPC, "full")
            print("lost", flush=True)
            raw.error = None
            print("kept")
            return 0

        assert streams.program("x")(main)([]) == 1
        assert raw.data.endswith(b"kept\n")


def test_a_program_that_stops_does_so_when_the_reader_has_gone(tmp_path):
    with output(tmp_path) as raw:
        raw.error = BrokenPipeError(errno.EPIPE, "gone")
        steps = []

        def main(argv):
            for number in range(3):
                print(number, flush=True)
                steps.append(number)
            return 0

        assert streams.program("x", stops=True)(main)([]) == 1
        assert steps == []
        assert streams.program("x")(main)([]) == 1
        assert steps == [0, 1, 2]


def test_a_broken_pipe_of_another_kind_is_not_hidden(tmp_path):
    with output(tmp_path):

        def main(argv):
            raise BrokenPipeError(errno.EPIPE, "of a socket")

        with pytest.raises(BrokenPipeError):
            streams.program("x", stops=True)(main)([])


@pytest.mark.parametrize("leaving", [SystemExit(2), SystemExit("text"), KeyboardInterrupt()])
def test_a_failure_stays_the_failure_that_it_is(tmp_path, leaving):
    with output(tmp_path) as raw:
        raw.error = OSError(errno.ENOSPC, "full")

        def main(argv):
            print("text", flush=True)
            raise leaving

        run = streams.program("x")(main)
        if isinstance(leaving, KeyboardInterrupt):
            assert run([]) == 1
        else:
            with pytest.raises(SystemExit) as caught:
                run([])
            assert caught.value.code in (2, 1)
        assert not sys.stdout.closed


def test_the_streams_are_the_old_ones_afterwards(tmp_path):
    with output(tmp_path) as raw:
        plain = sys.stdout
        assert streams.program("x")(lambda argv: 0)([]) == 0
        assert sys.stdout is plain
        print(json.dumps("still"), flush=True)
        assert raw.data == b'"still"\n'
        assert signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN


@pytest.mark.parametrize("words", [["glance-cache-pruner"], ["glance-scrubber", "--list"]])
def test_no_warning_of_a_library_is_printed(tmp_path, words):
    """A name that is not declared has every module imported that could declare it."""
    conf = tmp_path / "shared.conf"
    conf.write_text(
        f"[DEFAULT]\nno_such_option = 1\nimage_cache_dir = {tmp_path}/cache\n"
        f"sql_connection = sqlite:///{tmp_path}/x.sqlite\n"
        f"filesystem_store_datadir = {tmp_path}/images\n"
    )
    _, said = run("", *words, "--config-file", conf, env={"PYTHONWARNINGS": ""})
    assert "Warning" not in said and "ventlet" not in said
