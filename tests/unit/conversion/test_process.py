"""One run of the tool, and the program that sets its limits."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from glance.conversion import launcher, process
from glance.conversion.errors import Code

from support import conversions, faults

ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}


def going_on():
    pass


def run(line, **more):
    with process.Run(["/bin/sh", "-c", line], ENVIRONMENT, **more) as started:
        return started.wait(going_on)


def test_a_run_has_a_status_and_two_streams():
    ending = run("echo out; echo err >&2; exit 3")
    assert (ending.status, ending.out, ending.err) == (3, b"out\n", b"err\n")
    assert not ending.is_cut


def test_there_is_nothing_to_read_and_no_environment(monkeypatch):
    monkeypatch.setenv("SECRET", "of the converter")
    assert run('cat; echo "[$SECRET]"').out == b"[]\n"


def test_a_signal_is_a_status_as_in_a_shell():
    assert run("kill -ABRT $$").status == 128 + signal.SIGABRT


def test_output_is_cut_but_read_to_its_end():
    ending = run("head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; exit 7", output=1000)
    assert (ending.status, len(ending.out), ending.is_cut) == (7, 1000, True)
    assert len(ending.err) == process.OUTPUT


def test_output_is_handed_on_as_it_comes():
    pieces = []
    ending = run("printf 1234; sleep 0.05; printf 5678", take=pieces.append)
    assert b"".join(pieces) == ending.out == b"12345678"


def test_what_check_raises_ends_the_whole_group(tmp_path):
    """The grandchild heeds no SIGTERM, and outlives its parent."""
    pidfile = tmp_path / "pid"
    line = f"(trap '' TERM; echo $$ > {pidfile}; while :; do sleep 0.05; done) & wait"

    def check():
        if pidfile.exists() and pidfile.read_text().strip():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "GRACE", 0.2)
        with process.Run(["/bin/sh", "-c", line], ENVIRONMENT) as started:
            started.wait(check)
    assert group_of(started.pid) == []


def group_of(pgid):
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(group) == pgid and state != "Z":
                found.append(entry.name)
    return found


def test_what_takes_the_output_is_not_asked_again_at_the_end(monkeypatch):
    monkeypatch.setattr(process, "GRACE", 0.2)
    calls = []

    def take(piece):
        calls.append(piece)
        raise ValueError

    with pytest.raises(ValueError):
        run("trap 'echo more' TERM; echo one; sleep 60 & wait; echo two", take=take)
    assert calls == [b"one\n"]


def test_what_cannot_be_started_leaves_nothing(tmp_path):
    before = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError):
        process.Run([str(tmp_path / "missing")], ENVIRONMENT).__enter__()
    assert os.listdir("/proc/self/fd") == before


def test_a_run_in_a_process_without_standard_streams(tmp_path):
    code = (
        "import os\n"
        "for fd in (0, 1, 2): os.close(fd)\n"
        "from glance.conversion import process\n"
        "run = process.Run(['/bin/sh', '-c', 'echo out; echo err >&2'], {})\n"
        "with run: ending = run.wait(lambda: None)\n"
        f"open({str(tmp_path / 'said')!r}, 'wb').write(ending.out + ending.err)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    assert (tmp_path / "said").read_bytes() == b"out\nerr\n"


def test_a_run_is_measured():
    ending = run("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")
    assert ending.cpu > 0
    assert ending.memory > 100_000


# -- the program that sets limits ----------------------------------------------------------------


def launch(line, *, parent=None, cpu=7, space=1 << 30, size=1 << 20, directory="/", program=None):
    command = [sys.executable, "-I", "-S", launcher.__file__, str(parent or os.getpid())]
    command += [str(space), str(cpu), str(size), str(directory)]
    command += [program] if program else ["/bin/sh", "-c", line]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)


def test_the_limits_are_those_of_the_program(tmp_path):
    said = launch("cat /proc/self/limits; pwd; umask; cat /proc/self/stat", directory=tmp_path)
    *lines, where, umask, stat = said.stdout.splitlines()
    found = {line[:26].strip(): line[26:].split()[:2] for line in lines[1:]}
    assert found["Max address space"] == [str(1 << 30)] * 2
    assert found["Max cpu time"] == ["7", "12"]
    assert found["Max file size"] == [str(1 << 20)] * 2
    assert found["Max core file size"] == ["0", "0"]
    assert found["Max open files"] == ["64", "64"]
    assert where == str(tmp_path)
    assert umask == "0077"
    assert int(stat.rpartition(")")[2].split()[16]) >= launcher.NICE


def test_no_signal_is_ignored_and_no_privilege_can_be_gained():
    said = launch("cat /proc/self/status").stdout
    status = dict(line.split(":\t", 1) for line in said.splitlines())
    assert int(status["SigIgn"], 16) == int(status["SigBlk"], 16) == 0
    assert status["NoNewPrivs"] == "1"


def test_the_class_of_input_and_output_is_idle():
    said = launch("ionice -p $$")
    assert said.stdout.strip() in ("idle", ""), said


def test_a_file_that_is_too_large_ends_the_program(tmp_path):
    said = launch(f"exec head -c 2000000 /dev/zero > {tmp_path / 'large'}")
    assert said.returncode == 128 + signal.SIGXFSZ
    assert (tmp_path / "large").stat().st_size == 1 << 20


def test_no_file_of_the_converter_stays_open():
    reading, writing = os.pipe()
    # As some library may have opened it.
    os.set_inheritable(writing, True)
    command = [sys.executable, "-I", "-S", launcher.__file__, str(os.getpid())]
    command += [str(1 << 30), "9", "9", "/", "/bin/sh", "-c", "ls /proc/self/fd"]
    said = subprocess.run(command, capture_output=True, text=True, close_fds=False)
    os.close(reading), os.close(writing)
    # The last one is that of ls.
    assert said.stdout.split() == ["0", "1", "2", "3"]


def test_a_program_whose_parent_has_ended_is_not_started():
    said = launch("echo started", parent=os.getppid())
    assert (said.returncode, said.stdout) == (launcher.FAILED, "")
    assert said.stderr == "launcher: its parent has ended\n"


@pytest.mark.parametrize("words", [[], ["x"] * 6, ["1", "1", "1", "1", "/"]])
def test_a_launcher_without_its_words_is_one_line(words):
    command = [sys.executable, "-I", "-S", launcher.__file__, *words]
    said = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert said.returncode == launcher.FAILED
    assert said.stderr.startswith("launcher: ")
    assert said.stderr.count("\n") == 1


def test_a_program_that_is_missing_is_one_line_without_its_path(tmp_path):
    said = launch("", program=str(tmp_path / "missing"))
    assert (said.returncode, said.stdout) == (launcher.FAILED, "")
    assert said.stderr == "launcher: No such file or directory\n"


def test_a_program_does_not_outlive_the_process_that_started_it(tmp_path):
    starter = (
        "import os, sys, time\n"
        "from glance.conversion import launcher, process\n"
        "command = [sys.executable, '-I', '-S', launcher.__file__, str(os.getpid()), '1000000000',"
        " '9', '9', sys.argv[1], '/bin/sleep', '60']\n"
        "run = process.Run(command, {})\n"
        "with run:\n"
        "    run.wait(lambda: None)\n"
    )
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", starter, str(tmp_path)]) as made:
        faults.until(lambda: conversions.working_in(tmp_path), "the program runs")
        made.kill()
    faults.until(lambda: not conversions.working_in(tmp_path), "the program ends")


def test_what_a_program_leaves_ends_with_it(tmp_path):
    """As bwrap does that was killed while it prepares the sandbox."""
    line = "(trap '' TERM HUP; sleep 30; : > lived) & kill -KILL $$"
    said = launch(line, directory=tmp_path)
    assert said.returncode == 128 + signal.SIGKILL
    assert not (tmp_path / "lived").exists()
    assert conversions.working_in(tmp_path) == set()


@pytest.mark.parametrize("heeds", ["", "trap '' TERM HUP INT; "])
def test_nothing_outlives_the_process_that_started_it_even_if_nobody_waits(tmp_path, heeds):
    """What the program has started, and would not end with it, ends."""
    starter = (
        "import os, sys, time\n"
        "from glance.conversion import launcher, process\n"
        "line = sys.argv[2] + '(sleep 60 & sleep 60) & echo begun; wait'\n"
        "command = [sys.executable, '-I', '-S', launcher.__file__, str(os.getpid()), '1000000000',"
        " '9', '9', sys.argv[1], '/bin/sh', '-c', line]\n"
        "def take(piece):\n"
        "    print(flush=True)\n"
        "run = process.Run(command, {'PATH': '/bin:/usr/bin'}, take=take)\n"
        "with run:\n"
        "    run.wait(lambda: None)\n"
    )
    words = [sys.executable, "-W", "ignore", "-c", starter, str(tmp_path), heeds]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as made:
        assert made.stdout.readline()
        made.kill()
    faults.until(lambda: not conversions.working_in(tmp_path), "all of it ends")


# -- what an ending means ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "err", "cpu", "code"),
    [
        (0, b"a warning", 0, None),
        (152, b"", 0, Code.CPU_LIMIT),
        (137, b"", 60, Code.CPU_LIMIT),
        (137, b"", 3, Code.CONVERSION_FAILED),
        (153, b"", 0, Code.TOO_LARGE),
        (1, b"qemu-img: error while writing at byte 0: File too large", 0, Code.TOO_LARGE),
        (134, b"", 0, Code.MEMORY_LIMIT),
        (1, b"qemu-img: Could not allocate buffer", 0, Code.MEMORY_LIMIT),
        (133, b"GLib-ERROR **: failed to allocate 1000 bytes", 0, Code.MEMORY_LIMIT),
        (127, b"libc.so.6: failed to map segment from shared object", 0, Code.MEMORY_LIMIT),
        (1, b"qemu: qemu_thread_create: Resource temporarily unavailable", 0, Code.MEMORY_LIMIT),
        (1, b"qemu-img: error while writing: No space left on device", 0, Code.NO_SPACE),
        (1, b"qemu-img: Disk quota exceeded", 0, Code.NO_SPACE),
        (1, b"qemu-img: Image is corrupt", 0, Code.CONVERSION_FAILED),
        (139, b"", 0, Code.CONVERSION_FAILED),
        (1, b"", 0, Code.CONVERSION_FAILED),
        (255, b"", 0, Code.CONVERSION_FAILED),
        (1, b"bwrap: Creating new namespace failed", 0, Code.HOST_FAILED),
        (125, b"launcher: its parent has ended", 0, Code.HOST_FAILED),
        (1, b"prlimit: failed to set the NPROC resource limit", 0, Code.HOST_FAILED),
        (1, b"qemu-img: Could not open 'bwrap: '", 0, Code.CONVERSION_FAILED),
    ],
)
def test_what_an_ending_means(status, err, cpu, code):
    ending = process.Ending(status, b"", err, False, cpu, 0)
    assert process.code_of(ending, 60) is code
