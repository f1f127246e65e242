"""The metrics of real daemons: what Prometheus gets, and what befalls the processes."""

import http.client
import os
import pathlib
import signal
import subprocess
import sys

import pytest
from prometheus_client import parser

from glance.common import metrics

from support import daemons, faults, operators
from support.rawhttp import Http

pytestmark = pytest.mark.full

#: What is there only with http_cache_purge_urls.
RARE = {"glance_http_cache_purges_waiting"}
PIPELINE = "versionnegotiation context cache rootapp"


class Scraped:
    """What a daemon shows: samples by name, each with its labels."""

    def __init__(self, port):
        reply = Http(port).request("GET", "/metrics")
        assert reply.status == 200, reply.text
        self.reply = reply
        self.families = list(parser.text_string_to_metric_families(reply.text))
        self.samples = [sample for family in self.families for sample in family.samples]

    def total(self, name, **labels):
        """Return the sum of the samples with these labels, whatever their others."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def names(self):
        """Return the names as the table has them."""
        return {
            family.name + "_total" * (family.type == "counter")
            for family in self.families
            if family.samples
        }


def until(port, expected, name, **labels):
    faults.until(lambda: Scraped(port).total(name, **labels) == expected, f"{name} {labels}")


def complete(port, program):
    """Wait until a daemon shows all of its metrics; return what it shows, and nothing else."""
    known = {each.name for each in metrics.TABLE.values() if program in each.programs}
    faults.until(lambda: known - RARE <= Scraped(port).names(), f"all metrics of {program}")
    found = Scraped(port)
    assert found.names() <= known
    return found


def is_open(port):
    try:
        Http(port).request("GET", "/metrics")
    except (OSError, http.client.HTTPException):
        return False
    return True


def measured(make_site, tmp_path, **more):
    """Return a site whose daemons both show metrics, and the two ports."""
    ports = [daemons.free_port(), daemons.free_port()]
    base = tmp_path / "metrics"
    api, registry = (
        {"metrics_port": port, "metrics_directory": base, **more.pop(name, {})}
        for name, port in zip(("api", "registry"), ports, strict=True)
    )
    return make_site(api=api, registry=registry, **more), *ports, base


def test_prometheus_gets_what_the_table_says_and_nothing_about_anybody(make_site, tmp_path):
    site, api, registry, base = measured(
        make_site,
        tmp_path,
        workers=2,
        auth_mode="trusted-headers",
        api_pipeline=PIPELINE,
        api={
            "image_cache_enabled": True,
            "image_cache_dir": tmp_path / "cache",
            "image_cache_min_free_disk": 0,
            "notifier_strategy": "rabbit",
            "rabbit_port": daemons.free_port(),
        },
    )
    canary = {
        "X-Identity-Status": "Confirmed",
        "X-User-Id": "canary-user",
        "X-Tenant-Id": "canary-tenant",
        "X-Roles": "Member",
    }
    data = b"canary-data" * 1000
    fields = {
        "x-image-meta-name": "canary-name",
        "x-image-meta-disk-format": "raw",
        "x-image-meta-container-format": "bare",
        "Content-Type": "application/octet-stream",
    }
    made = site.http.request("POST", "/v1/images", {**canary, **fields}, data)
    assert made.status == 201, made.text
    image = f"/v1/images/{made.json()['image']['id']}"

    def asked(method, path, count=1, headers=()):
        return {
            site.http.request(method, path, {**canary, **dict(headers)}).status
            for _ in range(count)
        }

    assert asked("HEAD", image, 7) == {200}
    assert asked("GET", image) == {200}
    until(api, 1, "glance_cache_fills_total", outcome="complete")
    assert asked("GET", image, 2) == {200}
    assert asked("GET", "/v1.0" + image[3:]) == {200}
    assert asked("GET", "/v2/images") == {200}
    assert asked("GET", "/v1/images/424242", 2) == {404}
    for path in ("/v1/canary-path", "/v1/images/canary%2Fid", "/v1/%F0%9F%90%A4canary"):
        assert asked("GET", path) == {404}
    assert asked("CANARY", "/v1/images") == {501}
    assert site.http.exchange(b"canary nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert asked("DELETE", image) == {200}

    # What is counted is written after two seconds, and what is looked at after five.
    until(api, 4, "glance_downloads_total")
    # One for the upload, four for downloads, one for the deletion; nobody takes them.
    until(api, 6, "glance_notifications_total", event="queued")
    until(api, 4, "glance_cache_requests_total")
    until(registry, 2, "glance_workers_alive")
    found = Scraped(api)
    assert found.reply.header("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    one = {"route": "/v1/images/{id}"}
    requests = "glance_http_requests_total"
    assert found.total(requests, **one, method="HEAD", status="200") == 7
    assert found.total(requests, **one, method="GET", status="200") == 4
    assert found.total(requests, **one, method="GET", status="404") == 3
    assert found.total(requests, route="/v2/images", status="200") == 1
    assert found.total(requests, route="unmatched", status="404") == 2
    assert found.total(requests, method="OTHER", status="501") == 1
    assert found.total(requests, method="OTHER", status="400") == 1
    seconds = "glance_http_request_duration_seconds"
    assert found.total(f"{seconds}_count", **one, method="HEAD") == 7
    assert found.total(f"{seconds}_bucket", **one, method="HEAD", le="+Inf") == 7
    assert found.total("glance_http_received_bytes_total", method="POST") == len(data)
    assert found.total("glance_http_sent_bytes_total", **one, method="GET") >= 4 * len(data)
    assert found.total("glance_download_bytes_total") == 4 * len(data)
    assert found.total("glance_cache_requests_total", result="miss") == 1
    assert found.total("glance_cache_requests_total", result="hit") == 3
    assert found.total("glance_uploads_total", source="client", outcome="stored") == 1
    assert found.total("glance_registry_calls_total", outcome="refused") >= 2
    assert found.total("glance_store_calls_total", store="file", call="commit", outcome="ok") == 1
    for name in ("uploads_in_progress", "downloads_in_progress", "unfinished_uploads"):
        assert found.total(f"glance_{name}") == 0
    assert found.total("glance_workers") == found.total("glance_workers_alive") == 2

    for port, program in ((api, metrics.API), (registry, metrics.REGISTRY)):
        shown = complete(port, program)
        for sample in shown.samples:
            family = sample.name.removesuffix("_count").removesuffix("_sum")
            table = metrics.TABLE[family.removesuffix("_bucket")]
            assert set(sample.labels) - {"le"} == set(table.labels)
        assert "canary" not in shown.reply.text and "127.0.0.1" not in shown.reply.text
        assert str(tmp_path) not in shown.reply.text
    assert "/metrics" not in site.api.log().replace("/metrics\n", "")
    assert Http(site.port).request("GET", "/metrics", canary).status == 300
    assert all(entry.stat().st_mode & 0o777 == 0o700 for entry in base.iterdir())


def test_processes_that_die_and_daemons_that_stop_leave_right_figures(make_site, tmp_path):
    site, api, registry, base = measured(make_site, tmp_path, workers=2)
    for _ in range(9):
        assert site.http.request("GET", "/v1/images").status == 200
    counted = {"route": "/v1/images", "method": "GET"}
    until(api, 9, "glance_http_requests_total", **counted)
    until(api, 2, "glance_workers_alive")
    worker, exporter = parts(site.api, api)
    os.kill(worker, signal.SIGKILL)
    until(api, 1, "glance_worker_restarts_total")
    until(api, 2, "glance_workers_alive")
    assert Scraped(api).total("glance_http_requests_total", **counted) == 9
    os.kill(exporter, signal.SIGKILL)
    faults.until(lambda: "Metrics process" in site.api.log(), "the end is noticed")
    faults.until(lambda: is_open(api), "the metrics are shown again")
    found = Scraped(api)
    assert found.total("glance_http_requests_total", **counted) == 9
    assert found.total("glance_worker_restarts_total") == 1

    left = len(list(base.iterdir()))
    site.api.kill()
    assert len(list(base.iterdir())) == left == 2
    for entry in base.iterdir():
        os.utime(entry, (1, 1))
    site.api.start()
    assert len(list(base.iterdir())) == 2
    assert Scraped(api).total("glance_worker_restarts_total") == 0
    assert site.api.stop() == 0 and site.registry.stop() == 0
    assert not is_open(api) and not is_open(registry)
    assert not list(base.iterdir())


def parts(daemon, port):
    """Return the pid of a worker, and that of the process that shows the metrics."""
    listens = subprocess.run(
        [sys.executable, "-c", LISTENERS, str(port), *map(str, daemons.children(daemon.pid))],
        capture_output=True,
        text=True,
        check=True,
    )
    exporters = {int(pid) for pid in listens.stdout.split()}
    assert len(exporters) == 1, exporters
    return min(set(daemons.children(daemon.pid)) - exporters), exporters.pop()


#: Prints which of some processes have the socket that listens on a port.
LISTENERS = """
import os, sys
port, *pids = sys.argv[1:]
lines = [line.split() for line in open("/proc/net/tcp")][1:]
inodes = {words[9] for words in lines if words[3] == "0A" and int(words[1][-4:], 16) == int(port)}
for pid in pids:
    links = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    if any(f"socket:[{inode}]" in links for inode in inodes):
        print(pid)
"""


def test_one_process_shows_its_metrics_itself_and_a_failing_disk_fails_no_request(
    make_site, tmp_path
):
    site, api, registry, base = measured(
        make_site,
        tmp_path,
        workers=0,
        registry={"metrics_directory": "/proc/none"},
    )
    assert site.http.request("GET", "/v1/images").status == 200
    until(api, 1, "glance_http_requests_total", route="/v1/images")
    assert Scraped(api).total("glance_workers_alive") == 1
    refused = Http(registry).request("GET", "/metrics")
    assert refused.status == 503 and "There are no metrics" in refused.text
    assert "/proc" not in refused.text
    assert "There are no metrics" in site.registry.log()
    # The directory vanishes under the daemon.
    for entry in base.rglob("*"):
        if entry.is_file():
            entry.unlink()
    for entry in base.iterdir():
        entry.rmdir()
    for number in range(3):
        assert site.http.request("GET", f"/v1/images?limit={number}").status == 200
    faults.until(lambda: Http(api).request("GET", "/metrics").status == 503, "nothing to read")
    assert site.api.stop() == 0


def test_a_port_that_is_taken_ends_the_start_with_one_line(make_site, tmp_path):
    site = make_site()
    conf = pathlib.Path(tmp_path / "second.conf")
    text = site.registry.conf.read_text()
    port = daemons.free_port()
    conf.write_text(
        text.replace(f"bind_port = {site.registry.port}", f"bind_port = {port}").replace(
            "[DEFAULT]\n", f"[DEFAULT]\nmetrics_port = {site.registry.port}\n", 1
        )
    )
    done = subprocess.run(
        [sys.executable, str(daemons.BIN / "glance-registry"), f"--config-file={conf}"],
        capture_output=True,
        text=True,
        env=daemons.environment(),
        timeout=60,
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    assert line.endswith(
        f"Cannot listen on 127.0.0.1 port {site.registry.port}: Address already in use"
    )


def test_a_scrubber_tells_what_its_passes_did(make_site, tmp_path):
    deleted = {"delayed_delete": True, "scrub_time": 0}
    site = make_site(api=deleted)
    image = site.http.add(b"data", name="gone").json()["image"]["id"]
    assert site.http.delete(f"/v1/images/{image}").status == 200
    port = daemons.free_port()
    options = {
        "metrics_port": port,
        "metrics_directory": tmp_path,
        "sql_connection": site.registry_options["sql_connection"],
        "filesystem_store_datadir": site.data_dir,
        "scrub_time": 0,
        "daemon": True,
    }
    conf = tmp_path / "glance-scrubber.conf"
    lines = "".join(f"{name} = {value}\n" for name, value in options.items())
    application = "paste.app_factory = glance.scrubber:app_factory\n"
    conf.write_text(f"[DEFAULT]\n{lines}[app:glance-scrubber]\n{application}")
    scrubber = daemons.Daemon("glance-scrubber", conf, tmp_path / "scrubber.log", port)

    def shown():
        return Http(port).request("GET", "/metrics").text

    scrubber.start()
    try:
        faults.until(lambda: 'glance_scrubbed_images_total{outcome="deleted"} 1.0' in shown(), "1")
        faults.until(lambda: 'glance_scrub_passes_total{outcome="complete"} 1.0' in shown(), "2")
        faults.until(lambda: 'glance_database_connections{state="idle"}' in shown(), "3")
        assert "glance_scrub_pass_end_timestamp_seconds 1." in shown()
        assert "glance_build_info" in shown()
        second = tmp_path / "second.conf"
        second.write_text(conf.read_text())
        done = operators.run("glance-scrubber", str(second), cwd=tmp_path)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
        assert "Address already in use" in done.stderr
        once = conf.read_text().replace("daemon = True", "daemon = False")
        second.write_text(once)
        assert operators.run("glance-scrubber", str(second), cwd=tmp_path).returncode == 0
        assert scrubber.stop() == 0
        # Nothing of it is left.
        assert not list(tmp_path.glob("glance-metrics-*"))
    finally:
        scrubber.kill()
