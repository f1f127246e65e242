"""The daemons as processes: started, watched, reloaded, hit, and ended as an operator does."""

import contextlib
import hashlib
import http.client
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from support import daemons, images, operators
from support.operators import run

pytestmark = pytest.mark.full

SIZE = 64 << 20
SECONDS = 30


def until(condition):
    """Wait for something that is about to happen."""
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.05)
    return found


def alive(pid):
    """Return whether a process is there and has not ended."""
    try:
        status = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


class Download:
    """A download of an image that was begun and not read to its end."""

    def __init__(self, port, image_id):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        self.connection.request("GET", f"/v1/images/{image_id}")
        self.response = self.connection.getresponse()
        self.md5 = hashlib.md5(self.response.read(100_000))

    def finish(self):
        """Read the rest; return the MD5 of the whole."""
        with contextlib.closing(self.connection):
            while data := self.response.read(1 << 20):
                self.md5.update(data)
        return self.md5.hexdigest()


def upload(site):
    """Put an image in that is larger than what all buffers hold; return its id and MD5."""
    reply = site.http.add(
        images.generated(SIZE), name="big", disk_format="raw", container_format="bare"
    )
    assert reply.status == 201
    return reply.json()["image"]["id"], reply.json()["image"]["checksum"]


# -- glance-control ------------------------------------------------------------------------------


@pytest.fixture
def operator(make_site):
    """An operator of a site whose registry runs."""
    site = make_site(start=False)
    site.registry.start()
    home = site.directory / "home"
    home.mkdir()
    made = operators.Operator(site, home)
    yield made
    made.kill()


@pytest.fixture
def ordinary_operator():
    with operators.ordinary_operator() as made:
        yield made


@pytest.mark.skipif(
    os.geteuid() != 0 and os.access("/var/run", os.W_OK), reason="/var/run belongs to the tester"
)
def test_an_ordinary_user_controls_all_daemons(ordinary_operator):
    control = ordinary_operator
    site = control.site

    started = control("all", "start", control.home)
    assert (started.returncode, started.stderr) == (0, "")
    assert f"Starting glance-api with {site.api.conf}\n" in started.stdout
    # Nothing needs a pause between the two commands.
    assert site.http.get("/v1/images").json() == {"images": []}
    assert {path.name for path in control.pids.iterdir()} == {
        "glance-api.pid",
        "glance-registry.pid",
    }
    assert control("all", "status").returncode == 0

    first = control.pid("api"), control.pid("registry")
    again = control("all", "start", control.home)
    assert again.returncode == 0
    assert again.stdout.count(" appears to already be running: ") == 2

    restarted = control("all", "restart", control.home)
    assert (restarted.returncode, restarted.stderr) == (0, "")
    assert not any(alive(pid) for pid in first)
    assert site.http.get("/v1/images").status == 200

    second = control.pid("api"), control.pid("registry")
    stopped = control("all", "stop")
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert f"Stopping glance-registry  pid: {second[1]}  signal: 15\n" in stopped.stdout
    assert not any(alive(pid) for pid in second)
    assert control("all", "status").returncode == 3
    assert not list(control.pids.iterdir())


def test_files_of_a_daemon_are_not_for_everybody(operator):
    operator.api("start", operator.site.api.conf)
    assert operator.site.data_dir.stat().st_mode & 0o777 == 0o750


def test_a_pid_file_that_a_crash_left_is_replaced(operator):
    operator.api("start", operator.site.api.conf)
    crashed = operator.pid()
    os.killpg(crashed, signal.SIGKILL)
    until(lambda: not alive(crashed))
    assert operator.api("status", code=3).stdout.startswith("glance-api is not running")
    assert "Removing stale pid file " in operator.api("start", operator.site.api.conf).stdout
    assert operator.site.http.get("/v1/images").status == 200


def test_a_daemon_that_cannot_start_tells_why(operator):
    operator.site.api_options["bind_port"] = "many"
    operator.site.api_options["delayed_delete"] = "perhaps"
    operator.site.write()
    done = operator.api("start", operator.site.api.conf, code=1)
    lines = done.stderr.splitlines()
    assert lines[0] == "ERROR: glance-api failed to start"
    assert sorted(re.findall(r"ERROR: /\S+/glance-api.conf: option (\w+) has", done.stderr)) == [
        "bind_port",
        "delayed_delete",
    ]
    assert not list(operator.pids.iterdir())


def test_reload_serves_on_while_a_download_goes_to_its_end(operator):
    operator.api("start", operator.site.api.conf)
    image_id, checksum = upload(operator.site)
    old = operator.pid()
    download = Download(operator.site.port, image_id)

    operator.api("reload", operator.site.api.conf)

    assert operator.pid() != old
    assert operator.site.http.get("/v1/images").status == 200
    assert alive(old)
    assert download.finish() == checksum
    until(lambda: not alive(old))


# -- signals and crashes -------------------------------------------------------------------------


def both(daemon):
    """Return the ids of a daemon's two workers when both serve, None before."""
    found = daemons.children(daemon.pid)
    return found if len(found) == 2 and " with 2 process(es)" in daemon.log() else None


@pytest.mark.parametrize("workers", [0, 2])
def test_term_lets_a_download_go_to_its_end(make_site, workers):
    site = make_site(fresh=True, workers=workers)
    image_id, checksum = upload(site)
    download = Download(site.port, image_id)

    site.api.process.send_signal(signal.SIGTERM)
    until(lambda: not site.api.answers())

    assert download.finish() == checksum
    assert site.api.process.wait(SECONDS) == 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_idle_daemon_ends_at_once_and_in_good_order(make_site, signum):
    site = make_site(start=False, fresh=True)
    site.registry.start()
    kept = http.client.HTTPConnection("127.0.0.1", site.registry.port, timeout=SECONDS)
    with contextlib.closing(kept):
        kept.request("GET", "/images")
        kept.getresponse().read()
        site.registry.process.send_signal(signum)
        assert site.registry.process.wait(SECONDS) == 0


def test_a_killed_worker_is_replaced_and_the_service_goes_on(make_site):
    site = make_site(fresh=True, workers=2)
    workers = set(until(lambda: both(site.api)))

    for victim in workers:
        os.kill(victim, signal.SIGKILL)
        until(lambda victim=victim: victim not in daemons.children(site.api.pid))
        assert site.http.get("/v1/images").status == 200

    assert not workers & set(until(lambda: both(site.api)))
    assert site.api.process.poll() is None


def test_workers_do_not_outlive_their_parent(make_site):
    site = make_site(fresh=True, workers=2)
    workers = until(lambda: both(site.api))
    site.api.process.kill()
    site.api.process.wait()
    until(lambda: not any(alive(pid) for pid in workers))


# -- finding and reading the configuration -------------------------------------------------------

PROGRAMS = ("glance-api", "glance-registry")
SECTIONS = {"glance-api": daemons.API_PIPELINE, "glance-registry": daemons.REGISTRY_PIPELINE}
PIPELINES = {
    "glance-api": "versionnegotiation context apiv1app",
    "glance-registry": "context registryapp",
}


def configuration(program, directory, **options):
    """Return the text of a file that is right but for `options`."""
    values = {
        "bind_host": "127.0.0.1",
        "bind_port": daemons.free_port(),
        "workers": 1,
        "filesystem_store_datadir": directory / "images",
        "sql_connection": f"sqlite:///{directory}/x.sqlite",
        **options,
    }
    lines = [f"{name} = {value}" for name, value in values.items() if value is not None]
    sections = SECTIONS[program].format(pipeline=PIPELINES[program])
    return "\n".join(["[DEFAULT]", *lines]) + sections


def refusal(program, directory, *words):
    """Run a daemon that must not start; return what it says about it."""
    done = run(program, *words, cwd=directory)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_configuration_is_found_in_the_working_directory(tmp_path, program):
    port = daemons.free_port()
    conf = tmp_path / f"{program}.conf"
    conf.write_text(configuration(program, tmp_path, bind_port=port, verbose=True))
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(daemons.BIN / program)],
            cwd=tmp_path,
            stdout=output,
            stderr=output,
            env={**daemons.environment(), "HOME": str(tmp_path / "home")},
        )
    daemon = daemons.Daemon(program, conf, log, port)
    daemon.process = process
    try:
        daemon.wait_until_ready()
        assert re.search(rf" INFO \[{program}\] .* {conf}$", daemon.log(), re.MULTILINE)
    finally:
        process.terminate()
        process.wait(SECONDS)


@pytest.mark.skipif(
    any(
        pathlib.Path(directory, f"{program}.conf").exists()
        for program in PROGRAMS
        for directory in ("/etc/glance", "/etc")
    ),
    reason="this machine has a configuration of its own",
)
@pytest.mark.parametrize("program", PROGRAMS)
def test_no_configuration_at_all(tmp_path, program):
    assert refusal(program, tmp_path) == (
        f"ERROR: Unable to locate any configuration file. Cannot load application {program}\n"
    )


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("words", [["typo.conf"], ["--config-file=typo.conf"]], ids=str)
def test_a_named_configuration_that_is_missing_is_not_replaced(tmp_path, program, words):
    (tmp_path / f"{program}.conf").write_text(configuration(program, tmp_path))
    assert refusal(program, tmp_path, *words).splitlines() == [
        f"ERROR: Unable to locate any configuration file. Cannot load application {program}",
        f"The file {tmp_path}/typo.conf does not exist",
    ]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    "text", ["[DEFAULT\n", "verbose = True\n", "[DEFAULT]\nverbose = True\n", "[DEFAULT]\n\xff\n"]
)
def test_a_configuration_that_cannot_be_read(tmp_path, program, text):
    conf = tmp_path / "bad.conf"
    conf.write_text(text, encoding="latin-1")
    said = refusal(program, tmp_path, conf)
    assert re.fullmatch(rf"ERROR: Error trying to load config {conf}: .+\n", said)


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_application_that_cannot_be_loaded(tmp_path, program):
    conf = tmp_path / "bad.conf"
    right = configuration(program, tmp_path)
    conf.write_text(right.replace("glance.common.context:", "glance.common.typo:"))
    first, second = refusal(program, tmp_path, conf).splitlines()
    assert first == f"ERROR: Unable to load {program} from configuration file {conf}."
    assert second.startswith("Got: ") and "glance.common.typo" in second


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_logging_configuration_that_is_missing(tmp_path, program):
    conf = tmp_path / "good.conf"
    conf.write_text(configuration(program, tmp_path))
    assert refusal(program, tmp_path, conf, "--log-config=typo.conf") == (
        "ERROR: Unable to locate specified logging config file: typo.conf\n"
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_all_unusable_values_are_told_at_once(tmp_path, program):
    conf = tmp_path / "bad.conf"
    conf.write_text(configuration(program, tmp_path, bind_port="many", debug="perhaps"))
    first, second = sorted(refusal(program, tmp_path, conf).splitlines())
    assert re.match("ERROR: /.*/bad.conf: option bind_port has the invalid value 'many': ", first)
    assert re.match("ERROR: /.*/bad.conf: option debug has the invalid value 'perhaps': ", second)


def test_a_registry_needs_a_database(tmp_path):
    conf = tmp_path / "bad.conf"
    conf.write_text(configuration("glance-registry", tmp_path, sql_connection=None))
    said = refusal("glance-registry", tmp_path, conf)
    assert re.fullmatch(r"ERROR: .*sql_connection.*\n", said)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_port_in_use_is_told_in_one_line(tmp_path, program):
    with socket.create_server(("127.0.0.1", daemons.free_port())) as taken:
        port = taken.getsockname()[1]
        conf = tmp_path / "good.conf"
        conf.write_text(configuration(program, tmp_path, bind_port=port))
        assert refusal(program, tmp_path, conf) == (
            f"ERROR: Cannot listen on 127.0.0.1 port {port}: Address already in use\n"
        )


@pytest.mark.parametrize("workers", [0, 2])
def test_ps_shows_a_daemon_with_its_configuration_as_the_manual_prints_it(operator, workers):
    operator.site.api_options["workers"] = workers
    operator.site.write()
    conf = operator.site.api.conf
    operator.api("start", conf)
    shown = subprocess.run(
        ["ps", "-ww", "-o", "args=", "-p", str(operator.pid()), "--ppid", str(operator.pid())],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert len(shown) == 1 + workers
    for line in shown:
        assert re.fullmatch(rf"\S*python\S* \S*/glance-api {conf}", line.strip()), line
