"""Metrics in files that processes share, and what happens when the files fail."""

import errno
import logging
import os
import pathlib
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from prometheus_client import parser

from glance.common import config, exception, metrics
from glance.http import exposition

from support import daemons


@pytest.fixture
def conf(tmp_path):
    return config.Conf(
        {"metrics_port": str(daemons.free_port()), "metrics_directory": str(tmp_path / "m")}
    )


@pytest.fixture
def shown(conf):
    made = exposition.Exposition(conf)
    yield made
    metrics.switch_off()
    made.close()


def samples(made):
    """Return the samples as they are now: name and labels -> value."""
    made._until = 0.0
    return read(made.page())


def read(page):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parser.text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def test_workers_add_up_and_a_replaced_one_counts_on(shown):
    shown.join("0")
    metrics.CACHE_FILLS.inc("complete", by=2)
    metrics.CONNECTIONS.set(4)
    shown.flush()
    shown.join("1")
    metrics.CACHE_FILLS.inc("complete", by=3)
    metrics.CONNECTIONS.set(5)
    fills = ("glance_cache_fills_total", (("outcome", "complete"),))
    open_ones = ("glance_http_connections", ())
    assert samples(shown)[fills] == 5
    assert samples(shown)[open_ones] == 9
    shown.forget("1")
    assert samples(shown)[open_ones] == 4
    shown.join("1")
    metrics.CACHE_FILLS.inc("complete")
    metrics.CONNECTIONS.set(1)
    assert samples(shown)[fills] == 6
    assert samples(shown)[open_ones] == 5
    assert len(os.listdir(shown.path)) == 4


def test_many_series_find_room(shown):
    shown.join("0")
    for number in range(200):
        metrics.REQUEST_SECONDS.observe(0.5, f"/v1/images/{number}", "GET")
    name = "glance_http_request_duration_seconds_count"
    assert sum(value for (found, _), value in samples(shown).items() if found == name) == 200
    # What is mapped is on the disk, and no hole that a full disk could not fill.
    for entry in os.scandir(shown.path):
        status = entry.stat()
        assert status.st_blocks * 512 >= status.st_size > 0


def test_only_the_user_of_the_daemon_reads_the_files(shown):
    shown.join("0", at_once=True)
    metrics.WORKERS.set(1)
    assert stat.S_IMODE(os.stat(shown.path).st_mode) == 0o700
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in os.scandir(shown.path)} == {0o600}


def test_a_full_disk_loses_metrics_and_nothing_else(shown, monkeypatch, caplog):
    shown.join("0")
    metrics.WORKERS.set(2)
    shown.flush()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    for number in range(100):
        metrics.WORKERS.set(3)
        metrics.REQUESTS.inc("/v1/images", "GET", str(number))
        metrics.REQUEST_SECONDS.observe(0.1, "/v1/images", str(number))
        shown.flush()
    assert samples(shown)["glance_workers", ()] == 3
    logged = [record for record in caplog.records if "cannot be written" in record.message]
    assert len(logged) == 1 and "No space left" in logged[0].message
    assert sorted(os.listdir(shown.path)) == ["gauge_livesum_0.db"]
    monkeypatch.undo()
    shown._writer._next_try = 0.0
    found = samples(shown)
    assert sum(found[key] for key in found if key[0] == "glance_http_requests_total") == 100


def test_a_disk_that_fills_later_keeps_what_is_there(shown, monkeypatch):
    shown.join("0")
    metrics.REQUESTS.inc("/v1/images", "GET", "200")
    shown.flush()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    for number in range(2000):
        metrics.REQUESTS.inc("/v1/images", "GET", f"x{number}")
    metrics.REQUESTS.inc("/v1/images", "GET", "200")
    found = samples(shown)
    key = (("method", "GET"), ("route", "/v1/images"), ("status", "200"))
    assert found["glance_http_requests_total", key] == 2
    assert len(found) < 2000
    (file,) = pathlib.Path(shown.path).glob("counter_*")
    assert file.stat().st_blocks * 512 >= file.stat().st_size


@pytest.mark.parametrize("content", [b"\xff\xff\xff\x7f" * 4, b"x" * 70000, b"\x08"])
def test_a_damaged_file_is_begun_anew(shown, content):
    pathlib.Path(shown.path, "counter_0.db").write_bytes(content)
    shown.join("0")
    metrics.CACHE_FILLS.inc("complete")
    assert samples(shown)["glance_cache_fills_total", (("outcome", "complete"),)] == 1


def test_a_directory_that_cannot_be_made_leaves_the_service_alone(conf, monkeypatch, caplog):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.mkdtemp", read_only)
    made = exposition.Exposition(conf)
    made.join("0")
    assert not metrics.is_on()
    metrics.WORKERS.set(1)
    with pytest.raises(exception.ServiceUnavailable, match="Read-only file system") as raised:
        made.page()
    assert conf.metrics_directory not in str(raised.value)
    assert "There are no metrics" in caplog.text
    made.close()


def test_a_directory_that_has_gone_is_an_error_of_the_scrape(shown, caplog):
    shown.join("0", at_once=True)
    metrics.WORKERS.set(1)
    for entry in os.scandir(shown.path):
        os.remove(entry.path)
    os.rmdir(shown.path)
    for _ in range(3):
        with pytest.raises(exception.ServiceUnavailable) as raised:
            samples(shown)
    assert shown.path not in str(raised.value)
    assert caplog.text.count("The metrics cannot be read") == 1
    metrics.WORKERS.set(2)
    metrics.CACHE_FILLS.inc("complete")
    shown.flush()


def test_what_is_read_is_kept_for_a_moment(shown):
    shown.join("0")
    metrics.WORKERS.set(1)
    first = shown.page()
    metrics.WORKERS.set(2)
    shown._until = time.monotonic() + 60
    assert shown.page() is first
    assert samples(shown)["glance_workers", ()] == 2


def test_the_directory_of_a_killed_daemon_is_removed_by_the_next_one(conf, shown):
    base = pathlib.Path(conf.metrics_directory)
    left, young, other = (base / f"glance-metrics-{name}" for name in ("left", "young", "other"))
    for directory in (left, young):
        directory.mkdir(mode=0o700)
    (left / "counter_0.db").write_bytes(b"x")
    other.mkdir(mode=0o755)
    (base / "glance-metrics-link").symlink_to(other)
    for directory in (left, other, pathlib.Path(shown.path)):
        os.utime(directory, (1, 1))
    again = exposition.Exposition(conf)
    assert not left.exists()
    assert young.exists() and other.exists() and os.path.isdir(shown.path)
    again.close()
    assert not os.path.exists(again.path)
    assert os.path.isdir(shown.path)


def test_a_child_leaves_the_directory_alone(shown):
    pid = os.fork()
    if not pid:
        shown.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.path.isdir(shown.path)


def test_settings_are_checked(tmp_path):
    exposition.check(config.Conf({}))
    file = tmp_path / "file"
    file.write_text("")
    wrong = config.Conf({"metrics_port": "9", "metrics_directory": str(file)})
    with pytest.raises(exception.ConfigError, match="metrics_directory: .* is not a directory"):
        exposition.check(wrong)


def test_without_the_library_the_daemon_says_so(conf, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(exception.ConfigError, match="prometheus_client is not installed"):
        exposition.check(conf)
    exposition.check(config.Conf({}))


def test_the_library_is_not_loaded_while_metrics_are_off():
    code = "import sys, glance.http.server, glance.http.exposition; print(*sys.modules)"
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "prometheus_client" not in done.stdout.split()


def get(port, path="/metrics"):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as response:
        return response.headers, response.read()


def test_a_program_without_a_server_shows_its_metrics(conf, caplog):
    caplog.set_level(logging.INFO)
    with exposition.serve_beside(conf) as shown:
        metrics.STORE_CALLS.inc("file", "delete", "ok")
        headers, page = get(conf.metrics_port)
        assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert headers["Cache-Control"] == "no-store"
        labels = (("call", "delete"), ("outcome", "ok"), ("store", "file"))
        assert read(page)["glance_store_calls_total", labels] == 1
        assert get(conf.metrics_port, "/")[1] == b"The metrics are at /metrics\n"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(conf.metrics_port, "/etc/passwd")
        with (
            pytest.raises(
                exception.ConfigError, match="Cannot listen on .*Address already in use"
            ),
            exposition.serve_beside(conf),
        ):
            pass
        get(conf.metrics_port)
    assert not os.path.exists(shown.path) and not metrics.is_on()
    with pytest.raises(urllib.error.URLError):
        get(conf.metrics_port)


def test_without_a_port_a_program_shows_nothing():
    with exposition.serve_beside(config.Conf({})) as shown:
        assert shown is None and not metrics.is_on()


def test_a_look_that_fails_ends_no_other(shown, caplog):
    seen = []

    def fails():
        raise RuntimeError("broken")

    metrics.sample(fails)
    metrics.sample(lambda: seen.append(1))
    try:
        shown.join("0")
        sampling = exposition._Sampling(shown.flush)
        sampling.turn()
        sampling.turn()
        sampling.finish()
    finally:
        metrics._samplers.clear()
    # On a slow machine the second turn is late enough for a look, too.
    assert len(seen) >= 2
    assert caplog.text.count("is not known") == 1
