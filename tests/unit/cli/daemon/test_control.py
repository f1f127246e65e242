"""glance-control, with small stand-ins for the daemons in an installation of their own."""

import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest

from glance.cli.daemon import control, launch, pidfile, servers
from glance.common import config

# Does what its configuration says: `mode` is the way it behaves.
STAND_IN = textwrap.dedent(
    """
    import configparser, os, signal, socket, sys, time

    parser = configparser.RawConfigParser()
    parser.read(sys.argv[-1])
    conf = parser.defaults()
    with open(conf["trace"], "a") as trace:
        print(*sys.argv[1:-1], f"{os.umask(0):03o}", file=trace)
    if conf["mode"] == "die":
        print("listening", file=sys.stdout)
        sys.exit("ERROR: the moon is not in the right place")
    listener = socket.create_server((conf["bind_host"], int(conf["bind_port"])), reuse_port=False)
    if conf["mode"] != "deaf":
        signal.signal(signal.SIGHUP, lambda *_: listener.close())
    else:
        for signum in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, lambda *_: None)
    if conf["mode"] == "lingering":
        signal.signal(signal.SIGTERM, lambda *_: listener.close())
    if conf["mode"] != "silent":
        address = os.environ["NOTIFY_SOCKET"].replace("@", chr(0), 1)
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1\\nSTATUS=up", address)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.1)
    """
)


class Installation:
    """Stand-ins below a directory, a configuration for each, and what glance-control printed."""

    def __init__(self, directory, capfd):
        self.directory = directory
        self.capfd = capfd
        self.bin = directory / "bin"
        self.etc = directory / "etc"
        self.run = directory / "run"
        self.trace = directory / "trace"
        self.out = self.err = ""
        self.ports = {}
        for path in (self.bin, self.etc):
            path.mkdir()
        for name in ("api", "registry"):
            (self.bin / f"glance-{name}").write_text(STAND_IN)
            self.configure(name)

    def configure(self, name, mode="good", **values):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = self.ports.setdefault(name, probe.getsockname()[1])
        values = {"mode": mode, "bind_host": "127.0.0.1", "bind_port": port, **values}
        lines = [f"{key} = {value}" for key, value in values.items()]
        lines += [f"trace = {self.trace}", f"[app:glance-{name}]", "paste.app_factory = a:b"]
        self.conf(name).write_text("\n".join(["[DEFAULT]", *lines]))

    def conf(self, name):
        return self.etc / f"glance-{name}.conf"

    def pid_file(self, name="api"):
        return self.run / f"glance-{name}.pid"

    def pid(self, name="api"):
        return int(self.pid_file(name).read_text())

    def __call__(self, *words):
        """Run glance-control; return the exit code and keep what was printed."""
        try:
            code = control.main([str(word) for word in words])
        except SystemExit as leaving:
            code = leaving.code
        self.out, self.err = self.capfd.readouterr()
        return code

    def start(self, name="api", *words):
        assert self(name, "start", self.conf(name), *words) == 0, self.err
        return self.pid(name)

    def alive(self, pid, name="api"):
        return pidfile.is_program(pid, f"glance-{name}")

    def traces(self):
        return self.trace.read_text().splitlines() if self.trace.exists() else []


@pytest.fixture
def site(tmp_path, monkeypatch, capfd):
    made = Installation(tmp_path, capfd)
    monkeypatch.setattr(sys, "argv", [str(made.bin / "glance-control")])
    monkeypatch.setattr(pidfile, "DEFAULT_DIRECTORY", str(made.run))
    monkeypatch.setattr(servers, "_STEP", 0.02)
    monkeypatch.setattr(launch, "_STEP", 0.02)
    monkeypatch.setattr(launch, "raise_limits", lambda: True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    started = []
    popen = subprocess.Popen

    def remembered(*args, **kwargs):
        started.append(popen(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(launch.subprocess, "Popen", remembered)
    yield made
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


@pytest.fixture
def impatient(monkeypatch):
    """Let the wait for an end be over soon."""
    monkeypatch.setattr(servers, "STOP_SECONDS", 0.4)


# -- the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("api",), ("--verbose", "api")], ids=" ".join)
def test_too_few_words_print_the_usage(site, words):
    assert site(*words) == 1
    assert site.out.startswith("usage: glance-control [options] <SERVER> <COMMAND> [CONFPATH]\n")
    assert site.err == ""


@pytest.mark.parametrize("word", ["foo", "glance-foo", "FOO"])
def test_an_unknown_server_is_named_with_those_known(site, word):
    assert site(word, "start") == 1
    assert site.err == (
        "Unknown server 'glance-foo' specified. Please specify all, or one of the servers: "
        "api, registry, scrubber, converter\n"
    )


def test_an_unknown_command_is_named_with_those_known(site):
    assert site("api", "foo") == 1
    assert site.err == (
        "Unknown command foo specified. Please specify a command in this list: start, stop, "
        "shutdown, restart, reload, force-reload, status\n"
    )


@pytest.mark.parametrize(
    "words",
    [
        ("all", "start", "--pid-file=x"),
        ("api", "start", "a", "b"),
        ("api", "start", "--bogus"),
        ("--verb", "api", "stop"),
    ],
    ids=" ".join,
)
def test_wrong_options_exit_with_2(site, words):
    assert site(*words) == 2
    assert "glance-control: error: " in site.err


def test_the_version_is_printed(site):
    assert site("--version") == 0
    assert re.fullmatch(r"glance-control \d+\.\d+\.\d+\n", site.out)


@pytest.mark.parametrize(
    "words", [("API", "START"), ("glance-api", "start"), ("Glance-Api", "Start")]
)
def test_the_case_and_the_long_name_of_a_server_do_not_matter(site, words):
    assert site(*words, site.etc) == 0
    assert site.alive(site.pid())


# -- start ---------------------------------------------------------------------------------------


def test_a_started_server_answers_when_the_command_returns(site):
    assert site("api", "start", site.conf("api")) == 0
    assert site.out == f"Starting glance-api with {site.conf('api')}\n"
    socket.create_connection(("127.0.0.1", site.ports["api"])).close()
    assert site.pid_file().read_text() == f"{site.pid()}\n"
    assert site.alive(site.pid())


def test_the_server_leads_a_session_of_its_own_with_nothing_on_its_stdio(site):
    pid = site.start()
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/fd/0") == os.readlink(f"/proc/{pid}/fd/1") == os.devnull


@pytest.mark.parametrize(
    "words",
    [
        ("--verbose", "api", "start", "{conf}", "--debug"),
        ("api", "-d", "start", "-v", "{conf}"),
        ("api", "start", "-vd", "--config-file", "{conf}"),
    ],
    ids=" ".join,
)
def test_options_stand_anywhere_and_reach_the_server(site, words):
    assert site(*(word.format(conf=site.conf("api")) for word in words)) == 0
    assert site.traces() == ["--verbose --debug 027"]


def test_without_switches_the_server_gets_only_its_configuration(site):
    site.start()
    assert site.traces() == ["027"]


def test_the_configuration_is_found_in_the_working_directory(site, monkeypatch):
    monkeypatch.chdir(site.etc)
    assert site("api", "start") == 0
    assert site.out == f"Starting glance-api with {site.conf('api')}\n"


def test_without_any_configuration_nothing_is_started(site):
    assert site("api", "start") == 1
    assert site.err.splitlines()[0] == "Could not find any configuration file to use!"
    assert "glance-api.conf" in site.err.splitlines()[1]
    assert not site.traces()


def test_a_configuration_that_is_named_and_missing_is_never_replaced(site, monkeypatch):
    monkeypatch.chdir(site.etc)
    assert site("api", "start", "typo.conf") == 1
    assert site.err == (
        "Could not find any configuration file to use!\n"
        f"The file {site.etc / 'typo.conf'} does not exist\n"
    )


def test_a_configuration_that_cannot_be_read_is_told_before_anything_starts(site):
    site.conf("api").write_text("[DEFAULT\n")
    assert site("api", "start", site.etc) == 1
    first, second = site.err.splitlines()
    assert first == "ERROR: glance-api failed to start"
    assert second.startswith(f"ERROR: Error trying to load config {site.conf('api')}: ")
    assert not site.traces()


def test_a_server_that_dies_at_its_start_is_reported_with_its_last_words(site):
    site.configure("api", mode="die")
    assert site("api", "start", site.etc) == 1
    assert site.err == (
        "ERROR: glance-api failed to start\nERROR: the moon is not in the right place\n"
    )
    assert not site.pid_file().exists()


def test_an_unusable_port_is_left_to_the_server_to_tell(site):
    site.configure("api", bind_port="many")
    assert site("api", "start", site.etc) == 1
    assert "invalid literal for int() with base 10: 'many'" in site.err
    assert not site.pid_file().exists()


def test_another_server_on_the_port_is_not_taken_for_ours(site):
    with socket.create_server(("127.0.0.1", site.ports["api"])):
        assert site("api", "start", site.etc) == 1
    assert site.err.startswith("ERROR: glance-api failed to start\n")
    assert "Address already in use" in site.err
    assert not site.pid_file().exists()


def test_a_server_that_is_late_goes_on_and_can_be_stopped(site, monkeypatch):
    monkeypatch.setattr(servers, "START_SECONDS", 0.3)
    site.configure("api", mode="silent")
    assert site("api", "start", site.etc) == 1
    pid = site.pid()
    assert site.err == (
        f"ERROR: glance-api is not ready after 0.3 seconds; it keeps running as process {pid}\n"
    )
    assert site("api", "stop") == 0
    assert not site.alive(pid)


def test_a_second_start_is_refused_and_no_error(site):
    pid = site.start()
    assert site("api", "start", site.etc) == 0
    assert site.out == f"glance-api appears to already be running: {site.pid_file()}\n"
    assert site.pid() == pid
    assert len(site.traces()) == 1


def write(file, pid):
    with file.replacing() as (_, put):
        put(pid)


def gone():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lambda: f"{gone()}\n", id="a process that has ended"),
        pytest.param(lambda: f"{os.getpid()}\n", id="a process that is another program"),
        pytest.param(lambda: "many\n", id="no number"),
        pytest.param(lambda: "", id="nothing"),
        pytest.param(lambda: "-1\n", id="every process"),
        pytest.param(lambda: "1\n", id="init"),
        pytest.param(lambda: "9" * 30, id="no process id"),
        pytest.param(lambda: "12 34", id="two numbers"),
    ],
)
def test_a_stale_pid_file_is_removed_at_the_start(site, content):
    site.run.mkdir()
    site.pid_file().write_text(content())
    assert site("api", "start", site.etc) == 0
    assert site.out.splitlines()[0] == f"Removing stale pid file {site.pid_file()}"
    assert site.alive(site.pid())


def test_of_two_starts_at_once_one_wins(site):
    code = (
        "import sys; from glance.cli.daemon import control, pidfile; "
        f"sys.argv[0] = {sys.argv[0]!r}; pidfile.DEFAULT_DIRECTORY = {str(site.run)!r}; "
        f"sys.exit(control.main(['api', 'start', {str(site.etc)!r}]))"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(control.__file__)))
    both = [
        subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate()[0] for process in both]
    lines = sorted(output.splitlines(keepends=True)[-1] for output in outputs)
    try:
        assert lines[0] == f"Starting glance-api with {site.conf('api')}\n"
        assert lines[1] == f"glance-api appears to already be running: {site.pid_file()}\n"
        assert [process.returncode for process in both] == [0, 0]
        assert len(site.traces()) == 1
    finally:
        os.kill(site.pid(), signal.SIGKILL)


def test_the_server_hears_hangups_although_nohup_started_the_control(site):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        pid = site.start()
    finally:
        signal.signal(signal.SIGHUP, before)
    with open(f"/proc/{pid}/status") as status:
        ignored = int(re.search(r"^SigIgn:\s*(\w+)", status.read(), re.MULTILINE)[1], 16)
    assert not ignored & 1 << signal.SIGHUP - 1


def test_what_is_not_installed_is_an_error_when_asked_for(site):
    assert site("scrubber", "start", site.etc) == 1
    assert site.err == f"ERROR: glance-scrubber is not installed in {site.bin}\n"


def test_a_server_without_a_port_is_up_when_it_has_settled(site, monkeypatch):
    monkeypatch.setattr(launch, "_SETTLED", 0.2)
    (site.bin / "glance-scrubber").write_text(STAND_IN)
    site.configure("scrubber", mode="silent")
    assert site("scrubber", "start", site.etc) == 0
    assert site.traces() == ["--daemon 027"]
    assert site.alive(site.pid("scrubber"), "scrubber")


def test_refused_limits_are_told_and_no_obstacle(site, monkeypatch):
    monkeypatch.setattr(launch, "raise_limits", lambda: False)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1024, 1024))
    assert site("api", "start", site.etc) == 0
    assert site.out.splitlines()[0] == (
        "Unable to increase file descriptor limit.  Running as non-root?"
    )


@pytest.mark.parametrize("limit,connections", [(4096, None), (1024, 200), (64, None)])
def test_refused_limits_are_told_only_where_they_matter(site, monkeypatch, limit, connections):
    """Each worker has its own limit; a server without connections needs few descriptors."""
    monkeypatch.setattr(launch, "raise_limits", lambda: False)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limit, limit))
    if connections:
        site.configure("api", max_connections=connections)
    assert site("api", "start", site.etc) == 0
    assert ("Unable to increase" in site.out) == (limit == 64)


def test_the_default_number_of_connections_is_the_daemons():
    from glance.http.server import options  # noqa: F401  declares it

    assert config.TABLE["max_connections"].default == launch.CONNECTIONS


def test_limits_are_raised_as_far_as_they_may_be():
    code = (
        "import resource; from glance.cli.daemon import launch; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128)); "
        "launch.raise_limits(); print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(control.__file__)))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() in (["128", "128"], [str(launch.DESCRIPTORS)] * 2)


def test_limits_that_suffice_are_left_alone(monkeypatch):
    changes = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (launch.DATA, launch.DATA * 2))
    monkeypatch.setattr(resource, "setrlimit", lambda *args: changes.append(args))
    assert launch.raise_limits()
    assert not changes


# -- stop ----------------------------------------------------------------------------------------


def test_a_stopped_server_has_ended_when_the_command_returns(site):
    pid = site.start()
    assert site("api", "stop") == 0
    assert site.out == f"Stopping glance-api  pid: {pid}  signal: 15\n"
    assert not site.alive(pid)
    assert not site.pid_file().exists()


def test_shutdown_lets_the_server_go_on_with_its_work(site):
    pid = site.start()
    assert site("api", "shutdown") == 0
    assert site.out == f"Stopping glance-api  pid: {pid}  signal: 1\n"
    assert site.alive(pid)
    assert not site.pid_file().exists()


@pytest.mark.parametrize("command", ["stop", "shutdown"])
def test_without_a_pid_file_there_is_nothing_to_stop(site, command):
    assert site("api", command) == 0
    assert site.out == "No glance-api running\n"


def test_a_process_that_has_ended_is_told_and_its_pid_file_removed(site):
    site.run.mkdir()
    pid = gone()
    site.pid_file().write_text(f"{pid}\n")
    assert site("api", "stop") == 0
    assert site.out.splitlines()[-1] == f"Process {pid} not running"
    assert not site.pid_file().exists()


def test_another_program_with_the_same_id_is_not_signalled(site):
    other = subprocess.Popen(["sleep", "60"])
    while not pidfile.command_line(other.pid):
        time.sleep(0.001)
    try:
        site.run.mkdir()
        site.pid_file().write_text(f"{other.pid}\n")
        assert site("api", "stop") == 0
        assert site.out.splitlines()[-1] == f"Process {other.pid} not running"
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@contextlib.contextmanager
def second_instance(site):
    """Run another instance of the program, with a pid file of its own; yield its pid and file."""
    first = site.conf("api").read_text()
    site.ports["api"], port = None, site.ports["api"]
    del site.ports["api"]
    site.configure("api")
    other = site.run / "other.pid"
    assert site("api", "start", site.conf("api"), f"--pid-file={other}") == 0, site.err
    pid = int(other.read_text())
    site.ports["api"] = port
    site.conf("api").write_text(first)
    try:
        yield pid, other
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("how", ["written", "copied"])
@pytest.mark.parametrize("command", ["stop", "shutdown", "start", "status", "restart", "reload"])
def test_another_instance_with_the_id_in_a_stale_file_is_left_alone(site, command, how):
    pid = site.start()
    os.kill(pid, signal.SIGKILL)
    with second_instance(site) as (other, path):
        if how == "written":
            site.pid_file().write_text(f"{other}\n")
        else:
            shutil.copy2(path, site.pid_file())
        code = site("api", command, *([site.etc] if command in control.STARTING else []))
        assert code == {"status": 3}.get(command, 0), site.err
        assert site.alive(other)
        assert site("api", "status", f"--pid-file={path}") == 0
        if command in control.STARTING:
            assert site.pid() != other and site.alive(site.pid())
            os.kill(site.pid(), signal.SIGKILL)


def test_a_process_that_glance_control_did_not_start_is_left_alone(site):
    process = subprocess.Popen(
        [sys.executable, str(site.bin / "glance-api"), str(site.conf("api"))],
        env={**os.environ, "NOTIFY_SOCKET": "@nowhere"},
        stderr=subprocess.DEVNULL,
    )
    try:
        site.run.mkdir()
        site.pid_file().write_text(f"{process.pid}\n")
        assert site("api", "stop") == 0
        assert site.out.splitlines()[-1] == f"Process {process.pid} not running"
    finally:
        process.kill()
        process.wait()


def test_the_environment_of_another_users_process_need_not_be_readable(site, monkeypatch):
    """Whoever may not look into it may not signal it either."""
    pid = site.start()
    file = pidfile.PidFile("glance-api", str(site.pid_file()))
    real = open

    def refused(path, *args, **options):
        if str(path).endswith("/environ"):
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **options)

    monkeypatch.setattr("builtins.open", refused)
    assert file.running() == pid


def test_a_pid_file_with_nonsense_is_removed(site):
    site.run.mkdir()
    site.pid_file().write_text("nonsense")
    assert site("api", "stop") == 0
    assert site.out == f"Removing stale pid file {site.pid_file()}\nNo glance-api running\n"
    assert not site.pid_file().exists()


def test_a_server_that_does_not_end_is_given_up_and_can_still_be_found(site, impatient):
    site.configure("api", mode="deaf")
    pid = site.start()
    assert site("api", "stop") == 1
    assert site.err == (
        f"Waited 0.4 seconds for pid {pid} ({site.pid_file()}) to die; giving up\n"
    )
    assert site.pid() == pid


def test_the_wait_for_the_end_is_15_seconds():
    assert servers.STOP_SECONDS == 15


def test_a_process_of_another_user_is_told(site, monkeypatch):
    pid = site.start()

    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(servers.os, "kill", refused)
        assert site("api", "stop") == 1
    assert site.err == f"ERROR: Process {pid} ({site.pid_file()}) belongs to another user\n"


# -- restart and reload --------------------------------------------------------------------------


def test_restart_stops_and_starts(site):
    old = site.start()
    assert site("api", "restart", site.etc) == 0
    assert site.out == (
        f"Stopping glance-api  pid: {old}  signal: 15\n"
        f"Starting glance-api with {site.conf('api')}\n"
    )
    assert not site.alive(old)
    assert site.alive(site.pid())


def test_restart_starts_what_did_not_run(site):
    assert site("api", "restart", site.etc) == 0
    assert site.out.startswith("No glance-api running\nStarting glance-api with ")


@pytest.mark.parametrize("command", ["restart", "reload"])
def test_a_running_server_goes_on_when_there_is_nothing_to_start_anew(site, command):
    pid = site.start()
    assert site("api", command, site.etc / "typo.conf") == 1
    assert site.err.startswith("Could not find any configuration file to use!\n")
    assert site.alive(pid)
    assert site.pid() == pid


def test_a_server_that_does_not_end_is_not_started_twice(site, impatient):
    site.configure("api", mode="deaf")
    pid = site.start()
    assert site("api", "restart", site.etc) == 1
    assert "giving up" in site.err
    assert site.pid() == pid
    assert len(site.traces()) == 1


def test_a_server_busy_with_its_last_requests_gets_a_successor(site, impatient):
    site.configure("api", mode="lingering")
    old = site.start()
    assert site("api", "restart", site.etc) == 1
    assert "giving up" in site.err
    assert site.alive(old)
    assert site.pid() != old
    assert site.alive(site.pid())


@pytest.mark.parametrize("command", ["reload", "force-reload"])
def test_reload_starts_the_new_process_beside_the_one_that_finishes(site, command):
    old = site.start()
    assert site("api", command, site.etc) == 0
    assert site.out == (
        f"Stopping glance-api  pid: {old}  signal: 1\n"
        f"Starting glance-api with {site.conf('api')}\n"
    )
    assert site.alive(old)
    assert site.pid() != old


def test_reload_gives_up_on_a_server_that_keeps_its_port(site, impatient):
    site.configure("api", mode="deaf")
    pid = site.start()
    assert site("api", "reload", site.etc) == 1
    assert "giving up" in site.err
    assert site.pid() == pid


# -- status --------------------------------------------------------------------------------------


def test_status_of_a_running_server(site):
    pid = site.start()
    assert site("api", "status") == 0
    assert site.out == f"glance-api (pid {pid}) is running\n"


def test_status_of_a_server_that_does_not_run(site):
    assert site("api", "status") == 3
    assert site.out == "glance-api is not running\n"


def test_status_tells_of_a_stale_pid_file_and_leaves_it(site):
    pid = site.start()
    os.kill(pid, signal.SIGKILL)
    while site.alive(pid):
        time.sleep(0.01)
    assert site("api", "status") == 3
    assert site.out == (
        f"glance-api is not running; there is a stale pid file {site.pid_file()}\n"
    )
    assert site.pid_file().exists()


# -- all servers ---------------------------------------------------------------------------------


def test_all_starts_what_is_installed(site):
    assert site("all", "start", site.etc) == 0
    assert site.out == (
        f"Starting glance-api with {site.conf('api')}\n"
        f"Starting glance-registry with {site.conf('registry')}\n"
        f"glance-scrubber is not installed in {site.bin}: skipped\n"
        f"glance-converter is not installed in {site.bin}: skipped\n"
    )


def test_all_skips_a_scrubber_that_nobody_configured(site):
    (site.bin / "glance-scrubber").write_text(STAND_IN)
    assert site("all", "start", site.etc) == 0
    assert "glance-scrubber has no configuration file: skipped\n" in site.out
    assert site("scrubber", "start", site.etc) == 1


def test_all_skips_a_converter_that_is_not_configured_or_switched_off(site):
    (site.bin / "glance-converter").write_text(STAND_IN)
    assert site("all", "start", site.etc) == 0
    assert "glance-converter has no configuration file: skipped\n" in site.out
    site.configure("converter")
    assert site("all", "start", site.etc) == 0
    assert (
        f"glance-converter is switched off (conversion_enabled is False in "
        f"{site.conf('converter')}): skipped\n"
    ) in site.out
    site.configure("converter", conversion_enabled="no")
    assert site("all", "restart", site.etc) == 0
    assert "switched off" in site.out and not site.pid_file("converter").exists()
    site.configure("converter", conversion_enabled="yes")
    assert site("all", "start", site.etc) == 0
    assert site.alive(site.pid("converter"), "converter")
    assert site("all", "status", site.etc) == 0
    assert "glance-converter (pid " in site.out
    site.configure("converter")
    assert site("all", "stop", site.etc) == 0
    assert not site.pid_file("converter").exists()


def test_a_converter_is_up_when_it_says_so_and_not_before(site, monkeypatch):
    monkeypatch.setattr(launch, "_SETTLED", 0.1)
    monkeypatch.setattr(servers, "START_SECONDS", 1.5)
    (site.bin / "glance-converter").write_text(STAND_IN)
    site.configure("converter", mode="silent")
    assert site("converter", "start", site.etc) == 1
    assert "glance-converter is not ready after 1.5 seconds" in site.err


def test_a_converter_makes_way_for_a_new_one_before_its_work_is_done(site):
    (site.bin / "glance-converter").write_text(STAND_IN)
    # It ignores the signal, as one does that has conversions to finish.
    site.configure("converter", mode="deaf", bind_port=0)
    first = site.start("converter")
    assert site("converter", "reload", site.etc) == 0
    assert site.alive(first, "converter") and site.pid("converter") != first
    os.kill(first, signal.SIGKILL)


@pytest.mark.parametrize("grace,seconds", [(None, "30.4"), (1, "1.4"), ("?", "30.4")])
def test_a_converter_has_its_grace_before_it_is_given_up(site, monkeypatch, grace, seconds):
    monkeypatch.setattr(servers, "STOP_SECONDS", 0.4)
    waited = []

    def wait_until(condition, backoff, **kwargs):
        waited.append(backoff.seconds)
        return False

    (site.bin / "glance-converter").write_text(STAND_IN)
    values = {} if grace is None else {"conversion_shutdown_grace": grace}
    site.configure("converter", mode="deaf", **values)
    pid = site.start("converter")
    monkeypatch.setattr(servers.retry, "wait_until", wait_until)
    assert site("converter", "stop", "--config-file", site.etc) == 1
    assert waited == [float(seconds)]
    assert f"Waited {seconds} seconds for pid {pid}" in site.err
    os.kill(pid, signal.SIGKILL)


def test_all_restarts_after_everything_was_stopped(site):
    api, registry = site.start("api"), site.start("registry")
    assert site("all", "restart", site.etc) == 0
    assert site.out == (
        f"Stopping glance-api  pid: {api}  signal: 15\n"
        f"Stopping glance-registry  pid: {registry}  signal: 15\n"
        f"glance-scrubber is not installed in {site.bin}: skipped\n"
        f"glance-converter is not installed in {site.bin}: skipped\n"
        f"Starting glance-api with {site.conf('api')}\n"
        f"Starting glance-registry with {site.conf('registry')}\n"
    )


def test_all_stops_and_tells_the_status(site):
    site.start("api")
    assert site("all", "status") == 3
    assert "glance-registry is not running\nglance-scrubber is not installed" in site.out
    site.start("registry")
    assert site("all", "status") == 0
    assert site("all", "stop") == 0
    assert site("all", "status") == 3


def test_a_file_of_one_server_stands_for_its_directory(site):
    assert site("all", "start", site.conf("registry")) == 0
    assert site.alive(site.pid("api"))


def test_a_file_of_no_server_cannot_configure_all(site):
    other = site.etc / "other.conf"
    other.touch()
    assert site("all", "start", other) == 1
    assert site.err.startswith("ERROR: one file cannot configure all servers: ")
    assert not site.traces()


def test_one_failure_of_all_keeps_the_others_running_and_shows(site):
    site.configure("api", mode="die")
    assert site("all", "start", site.etc) == 1
    assert site.alive(site.pid("registry"), "registry")


# -- pid files -----------------------------------------------------------------------------------


def test_a_pid_file_can_be_named(site):
    file = site.directory / "my" / "api.pid"
    assert site("api", "start", site.etc, f"--pid-file={file}") == 0
    pid = int(file.read_text())
    assert site.alive(pid)
    assert not site.run.exists()
    assert site("--pid-file", file, "api", "stop") == 0
    assert not file.exists()


def test_who_cannot_write_the_usual_directory_has_one_at_home(site, monkeypatch):
    (site.directory / "file").touch()
    monkeypatch.setattr(pidfile, "DEFAULT_DIRECTORY", str(site.directory / "file" / "glance"))
    assert site("api", "start", site.etc) == 0
    file = site.directory / "home" / ".glance" / "run" / "glance-api.pid"
    assert site.alive(int(file.read_text()))
    assert site("api", "stop") == 0
    assert not file.exists()


def test_a_server_started_from_home_is_found_when_the_usual_directory_came_later(site):
    home = site.directory / "home" / ".glance" / "run"
    home.mkdir(parents=True)
    (home / "glance-api.pid").write_text("nonsense")
    assert site("api", "status") == 3
    assert str(home) in site.out


def test_a_directory_that_cannot_be_made_is_told_before_anything_starts(site):
    (site.directory / "file").touch()
    directory = site.directory / "file" / "run"
    assert site("api", "start", site.etc, f"--pid-file={directory}/x.pid") == 1
    assert site.err == f"Unable to create {directory}.  Running as non-root?\n"
    assert not site.traces()


def test_a_pid_file_that_cannot_be_written_ends_the_server(site, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pidfile.os, "fchmod", full)
    assert site("api", "start", site.etc) == 1
    assert site.err == f"ERROR: Unable to write {site.pid_file()}: No space left on device\n"
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", site.ports["api"])).close()


def test_a_pid_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    file = pidfile.PidFile("glance-api", str(tmp_path / "api.pid"))
    write(file, 1234)

    def broken(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(pidfile.os, "replace", broken)
    with pytest.raises(OSError):
        write(file, 5678)
    assert file.read() == 1234
    assert os.listdir(tmp_path) == ["api.pid"]


def test_a_link_in_the_place_of_a_pid_file_is_not_followed(tmp_path):
    target = tmp_path / "precious"
    target.write_text("data")
    (tmp_path / "api.pid").symlink_to(target)
    write(pidfile.PidFile("glance-api", str(tmp_path / "api.pid")), 1234)
    assert target.read_text() == "data"


def test_a_pid_file_of_a_later_process_is_not_removed(tmp_path):
    file = pidfile.PidFile("glance-api", str(tmp_path / "api.pid"))
    write(file, 1234)
    file.remove(5678)
    assert file.read() == 1234
    file.remove(1234)
    assert not file.exists()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["{python}", "{directory}/glance-api"], True),
        (["{python}", "-u", "-W", "ignore", "-X", "dev", "{directory}/glance-api"], True),
        (["{python}", "{directory}/glance-registry"], False),
        (["{python}", "{directory}/other", "glance-api"], False),
        (["tail", "-f", "{directory}/glance-api"], False),
    ],
    ids=["script", "options of Python", "another daemon", "an argument", "a file in use"],
)
def test_a_process_is_known_by_its_command_line(tmp_path, command, expected):
    for name in ("glance-api", "glance-registry", "other"):
        (tmp_path / name).write_text("import time; time.sleep(60)")
    words = [word.format(python=sys.executable, directory=tmp_path) for word in command]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while not pidfile.command_line(process.pid):
        time.sleep(0.001)
    try:
        assert pidfile.is_program(process.pid, "glance-api") is expected
    finally:
        process.kill()
        # It is still in the process table, and runs nothing.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not pidfile.is_program(process.pid, "glance-api")
        process.wait()


# -- the installation ----------------------------------------------------------------------------


def test_programs_are_those_beside_this_one_whatever_the_path_says(site, monkeypatch):
    elsewhere = site.directory / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "glance-api").write_text("raise SystemExit('wrong one')")
    (site.directory / "glance-control").symlink_to(site.bin / "glance-control")
    monkeypatch.setenv("PATH", str(elsewhere), prepend=os.pathsep)
    monkeypatch.setattr(sys, "argv", [str(site.directory / "glance-control")])
    assert launch.find_program("glance-api") == str(site.bin / "glance-api")


def test_a_control_that_is_called_from_python_uses_the_checkout():
    assert os.path.isfile(os.path.join(launch.installation(), "glance-control"))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "", "localhost"])
def test_a_port_is_free_unless_somebody_listens(host):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = (host, listener.getsockname()[1])
        assert not launch.is_free(address)
        assert launch.accepts_connections(address)
    assert launch.is_free(address)
    assert not launch.accepts_connections(address)


def test_what_cannot_be_found_out_about_a_port_counts_as_free():
    assert launch.is_free(("no such host.invalid", 80))


# -- directories of other users ------------------------------------------------------------------


@pytest.fixture
def theirs(tmp_path):
    """Return a pid file in a directory of another user."""
    path = tmp_path / "theirs"
    path.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can act for another user")
    os.chown(path, 65534, 65534)
    return pidfile.PidFile("glance-api", str(path / "api.pid"))


def test_a_pid_file_in_a_directory_of_another_user(theirs):
    theirs.prepare()
    with theirs.lock():
        write(theirs, 1234)
    assert theirs.read() == 1234
    assert os.stat(theirs.path).st_mode & 0o7777 == 0o644
    theirs.remove(1234)
    assert os.listdir(theirs.directory) == []


def test_a_pid_file_is_not_read_through_a_link_of_another_user(theirs, tmp_path):
    (tmp_path / "other.pid").write_text("1234\n")
    os.symlink(tmp_path / "other.pid", theirs.path)
    with pytest.raises(OSError, match="another user"):
        theirs.read()
    write(theirs, 5678)
    assert (tmp_path / "other.pid").read_text() == "1234\n"
    assert theirs.read() == 5678


def test_what_stands_in_for_a_new_pid_file_meanwhile_keeps_its_mode(theirs, tmp_path, monkeypatch):
    """The owner of the directory is faster: it puts a link where the new file was."""
    precious = tmp_path / "precious"
    precious.touch()
    precious.chmod(0o600)
    real = os.fchmod

    def swap(fd, mode):
        (new,) = (name for name in os.listdir(theirs.directory) if name.startswith("."))
        os.unlink(os.path.join(theirs.directory, new))
        os.symlink(precious, os.path.join(theirs.directory, new))
        real(fd, mode)

    monkeypatch.setattr(pidfile.os, "fchmod", swap)
    write(theirs, 1234)
    assert precious.stat().st_mode & 0o7777 == 0o600
    assert precious.read_text() == ""


def test_a_directory_of_pid_files_that_is_a_link_of_another_user_is_told(site, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can act for another user")
    (tmp_path / "etc-of-root").mkdir()
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 65534, 65534)
    os.symlink(tmp_path / "etc-of-root", tmp_path / "theirs" / "run")
    path = tmp_path / "theirs" / "run" / "api.pid"
    assert site("api", "start", site.conf("api"), f"--pid-file={path}") == 1
    assert site("api", "stop", f"--pid-file={path}") == 1
    assert "directory of another user" in site.err
    assert os.listdir(tmp_path / "etc-of-root") == []
