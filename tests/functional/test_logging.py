"""What the daemons log, where to, and what is kept out of it."""

import json
import os
import re
import signal
import subprocess
import sys
import uuid

import pytest

from support import daemons, faults

pytestmark = pytest.mark.full


class Site(daemons.Site):
    """A site whose daemons log to files of their own, `logs` in its directory."""

    def __init__(self, directory, *, workers=1, **options):
        (directory / "logs").mkdir(parents=True)
        common = {"log_dir": directory / "logs", **options}
        super().__init__(
            directory,
            workers=workers,
            api={**common, "log_file": "api.log"},
            registry={**common, "log_file": "registry.log"},
        )

    def lines(self, name):
        return (self.directory / "logs" / f"{name}.log").read_text().splitlines()


@pytest.fixture
def start(tmp_path):
    sites = []

    def start(**options):
        sites.append(Site(tmp_path / f"site{len(sites)}", **options))
        return sites[-1].start()

    yield start
    for site in sites:
        site.kill()


def test_one_id_leads_through_the_logs_of_both_daemons(start):
    site = start(log_format="%(asctime)s %(levelname)8s [%(name)s] [%(request_id)s] %(message)s")
    request_id = f"req-{uuid.uuid4()}"
    reply = site.http.add(b"data", {"X-Openstack-Request-Id": request_id}, name="traced")
    assert reply.header("X-Openstack-Request-Id") == request_id
    site.stop()
    found = {
        name: [line for line in site.lines(name) if request_id in line]
        for name in ("api", "registry")
    }
    assert len([line for line in found["api"] if '"POST /v1/images HTTP/1.1" 201' in line]) == 1
    # Reserve, activate: each asked of the registry by the same id.
    access = [line for line in found["registry"] if "eventlet.wsgi.server" in line]
    assert len(access) >= 2
    assert all(f"[{request_id}]" in line for line in access)


def test_json_lines_throughout(start):
    site = start(log_json=True, debug=True)
    site.http.add(b"data", name="traced")
    site.http.get("/v1/images/none")
    site.stop()
    for name in ("api", "registry"):
        lines = [json.loads(line) for line in site.lines(name)]
        assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
        access = [line for line in lines if line["logger"] == "eventlet.wsgi.server"]
        assert {line["status"] for line in access} >= ({201, 404} if name == "api" else {200})
        assert all(line["request_id"].startswith("req-") for line in access)


def open_files(pid):
    found = set()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            found.add(os.readlink(entry.path))
        except FileNotFoundError:
            continue
    return found


def test_a_moved_log_is_opened_anew_by_every_process(start):
    site = start(workers=2)
    for daemon, name in ((site.api, "api"), (site.registry, "registry")):
        path = site.directory / "logs" / f"{name}.log"
        faults.until(lambda daemon=daemon: len(daemon.pids()) == 3, "both workers are there")
        moved = path.rename(path.with_suffix(".old"))
        daemon.process.send_signal(signal.SIGUSR1)
        pids = daemon.pids()
        faults.until(
            lambda pids=pids, path=path: all(str(path) in open_files(pid) for pid in pids),
            "all processes write to the new file",
        )
        assert not any(str(moved) in open_files(pid) for pid in pids)
        before = moved.read_text()
        for _ in range(10):
            daemon.http.get("/v1/images" if name == "api" else "/images")
        faults.until(
            lambda path=path: path.read_text().count('HTTP/1.1" 200') >= 10,
            "ten requests are in the new file",
        )
        assert moved.read_text() == before


def test_no_secret_is_logged_with_everything_logged(tmp_path):
    site = Site(tmp_path / "site", debug=True)
    site.api_options["swift_store_key"] = "canary"
    site.api_options["rabbit_password"] = "canary"
    site.api_options["default_swift_reference"] = "http://u:canary@h/"
    site.registry_options["admin_token"] = "canary"
    try:
        site.start()
        site.http.add(b"data", {"X-Auth-Token": "canary"}, name="x")
        site.http.post(
            "/v1/images",
            {"x-image-meta-location": "http://u:canary@192.0.2.1/x", "x-image-meta-name": "y"},
        )
        site.http.get("/v1/images/detail")
        site.stop()
        for name in ("api", "registry"):
            text = "\n".join(site.lines(name))
            assert "Configuration options gathered from config file:" in text
            assert "canary" not in text
            assert "canary" not in site.api.log() + site.registry.log()
    finally:
        site.kill()


# -- the command line ----------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    """Start a registry with options on the command line, stop it, return what it printed."""

    def run(*arguments, **options):
        site = daemons.Site(tmp_path / "site", registry={"workers": 0, **options})
        site.write()
        registry = site.registry
        with registry.output.open("wb") as output:
            registry.process = subprocess.Popen(
                [sys.executable, daemons.BIN / "glance-registry", *arguments, registry.conf],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=daemons.environment(),
                cwd=tmp_path,
                start_new_session=True,
            )
        try:
            registry.wait_until_ready()
            registry.stop()
        finally:
            registry.kill()
        return registry.log()

    return run


def test_lines_go_to_standard_output_in_the_manuals_layout(run):
    line = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +INFO \[glance-registry\] Using the configuration file"
    assert re.search(rf"^{line}", run("--verbose", verbose=False), re.MULTILINE)


def test_the_command_line_wins_over_the_file(run, tmp_path):
    path = tmp_path / "chosen.log"
    printed = run(
        f"--log-file={path}",
        "--log-format=%(levelname)s!%(message)s",
        "--log-date-format=%Y",
        log_file=tmp_path / "other.log",
        log_format="%(name)s %(message)s",
    )
    assert printed == ""
    assert path.read_text().startswith("INFO!Using the configuration file")
    assert not (tmp_path / "other.log").exists()


def test_a_date_format_of_the_file_counts(run):
    assert re.search(r"^year \d{4} +INFO", run(log_date_format="year %Y"), re.MULTILINE)


def test_a_logging_configuration_overrides_everything(run, tmp_path):
    path = tmp_path / "logging.conf"
    path.write_text(
        "[loggers]\nkeys = root\n[handlers]\nkeys = file\n[formatters]\nkeys = json\n"
        "[logger_root]\nlevel = INFO\nhandlers = file\n"
        "[handler_file]\nclass = FileHandler\nformatter = json\n"
        f"args = ('{tmp_path}/chosen.log',)\n"
        "[formatter_json]\nclass = glance.common.log.JsonFormatter\n"
    )
    assert run(f"--log-config={path}", log_file=tmp_path / "other.log") == ""
    lines = (tmp_path / "chosen.log").read_text().splitlines()
    assert "GET / HTTP/1.1" in str([json.loads(line)["message"] for line in lines])
    assert not (tmp_path / "other.log").exists()
