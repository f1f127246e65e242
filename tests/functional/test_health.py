"""Health checks of real daemons, whose registry, database and store go away and come back."""

import http.client
import signal

import pytest

from support import faults, images
from support.rawhttp import Http

pytestmark = pytest.mark.full

SECONDS = 60


def asked(port, path="/healthcheck/ready", method="GET", headers=None):
    """Return status and body of a check, which is sent without any token."""
    reply = Http(port).request(method, path, headers=headers or {})
    return reply.status, reply.body.decode()


def until(port, expected):
    """Wait until the readiness of a daemon is as expected."""
    faults.until(lambda: asked(port) == expected, f"{expected}")


def until_logged(daemon, text):
    faults.until(lambda: text in daemon.log(), text)


READY = (200, "OK\n")


@pytest.mark.parametrize("auth_mode", ["noauth", "trusted-headers"])
def test_both_daemons_are_alive_and_ready_for_callers_without_a_token(make_site, auth_mode):
    secret = {"registry_shared_secret": "canary"}
    site = make_site(auth_mode=auth_mode, workers=2, api=secret, registry=secret)
    for daemon in (site.api, site.registry):
        assert asked(daemon.port, "/healthcheck") == READY
        assert asked(daemon.port) == READY
        assert asked(daemon.port, method="HEAD") == (200, "")
        assert asked(daemon.port, headers={"Accept": "application/json"})[1] == '{"status": "OK"}'
        # As simple balancers ask.
        raw = daemon.http.exchange(b"GET /healthcheck/ready HTTP/1.0\r\n\r\n")
        assert raw.startswith(b"HTTP/1.1 200 OK\r\n") and raw.endswith(b"\r\n\r\nOK\n")
        assert asked(daemon.port, method="POST")[0] == 405
        until_logged(daemon, '"POST /healthcheck/ready')
        assert daemon.log().count("/healthcheck") == 1


def test_a_registry_that_is_gone_and_comes_back(make_site):
    site = make_site()
    site.registry.stop()
    until(site.api.port, (503, "registry\n"))
    assert asked(site.api.port, "/healthcheck") == READY
    site.registry.start()
    until(site.api.port, READY)
    log = site.api.log()
    assert log.count("The service is not ready: registry") == 1
    assert log.count("The service is ready again") == 1


def test_a_registry_that_does_not_respond(make_site):
    site = make_site(registry={"workers": 0})
    with faults.stopped(site.registry):
        until(site.api.port, (503, "registry\n"))
    until(site.api.port, READY)


def test_a_database_that_is_gone_and_comes_back(make_site):
    site = make_site()
    away = site.database.with_name("away")
    site.database.rename(away)
    until(site.registry.port, (503, "database\n"))
    until(site.api.port, (503, "database\n"))
    away.rename(site.database)
    until(site.registry.port, READY)
    until(site.api.port, READY)


@pytest.mark.files
def test_a_store_without_its_disk(make_site):
    site = make_site()
    assert asked(site.api.port) == READY
    away = site.data_dir.with_name("away")
    site.data_dir.rename(away)
    # What is left of a mount point without its file system.
    site.data_dir.mkdir()
    until(site.api.port, (503, "store\n"))
    assert "away" not in site.api.log() and not list(site.data_dir.iterdir())
    site.data_dir.rmdir()
    away.rename(site.data_dir)
    until(site.api.port, READY)
    assert site.data_files() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_daemon_that_drains_says_so_and_serves_on(make_site, workers):
    site = make_site(workers=workers, api={"drain_delay": 600}, registry={"drain_delay": 600})
    image = site.http.add(images.generated(1 << 20), name="x").json()["image"]
    for daemon in (site.api, site.registry):
        assert daemon.process.poll() is None
        daemon.process.send_signal(signal.SIGHUP)
        until(daemon.port, (503, "draining\n"))
        assert asked(daemon.port, "/healthcheck") == READY
    assert site.http.get(f"/v1/images/{image['id']}").status == 200
    for daemon in (site.api, site.registry):
        daemon.process.send_signal(signal.SIGINT)
        assert daemon.process.wait(SECONDS) == 0


def test_an_open_connection_learns_that_its_daemon_drains(make_site):
    site = make_site(api={"workers": 0, "drain_delay": 600})
    connection = http.client.HTTPConnection("127.0.0.1", site.api.port, timeout=SECONDS)
    connection.request("GET", "/healthcheck/ready")
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"OK\n")
    site.api.process.send_signal(signal.SIGHUP)
    until(site.api.port, (503, "draining\n"))
    connection.request("GET", "/healthcheck/ready")
    response = connection.getresponse()
    assert (response.status, response.read()) == (503, b"draining\n")
    assert response.getheader("Connection") == "close"
    connection.close()
    site.api.process.send_signal(signal.SIGINT)
    assert site.api.process.wait(SECONDS) == 0


def test_checks_work_in_every_pipeline(make_site):
    site = make_site(api_pipeline="apiv1app", registry_pipeline="registryapp")
    for daemon in (site.api, site.registry):
        assert asked(daemon.port, "/healthcheck") == READY
        assert asked(daemon.port) == READY


def test_checks_work_with_the_files_of_diablo(tmp_path):
    from test_diablo_files import Files

    files = Files(tmp_path)
    try:
        files.start()
        for daemon in (files.api, files.registry):
            assert asked(daemon.port, "/healthcheck") == READY
            assert asked(daemon.port) == READY
    finally:
        files.stop()
