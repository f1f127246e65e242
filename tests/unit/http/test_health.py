"""Health checks: the two paths, what is asked for them, and how often."""

import threading

import pytest

from glance.common import exception, hooks
from glance.http import health


class Probe:
    """A probe that says what it is told to, and counts how often it is asked."""

    def __init__(self, result=None, error=None):
        self.result, self.error = result, error
        self.count = 0
        self.go = threading.Event()
        self.go.set()

    def __call__(self):
        self.count += 1
        assert self.go.wait(20)
        if self.error is not None:
            raise self.error
        return self.result


class Response:
    """What the middleware responds to one request."""

    def __init__(self, app, path, method="GET", **more):
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "RAW_PATH_INFO": path,
            "wsgi.url_scheme": "http",
            **more,
        }
        self.environ = environ

        def start_response(status, headers):
            self.status = int(status[:3])
            self.headers = dict(headers)

        self.body = b"".join(app(environ, start_response))


def beyond(environ, start_response):
    start_response("418 beyond", [])
    return [environ["PATH_INFO"].encode()]


@pytest.fixture(autouse=True)
def _no_needs(monkeypatch):
    monkeypatch.setattr(health, "_needs", {})


@pytest.fixture
def check():
    app = health.HealthCheck(beyond)
    return lambda path="/healthcheck/ready", *words, **more: Response(app, path, *words, **more)


@pytest.mark.parametrize("path", ["/healthcheck", "/healthcheck/"])
def test_a_process_that_serves_is_alive_whatever_is_missing(check, path):
    health.require(health.Need("store", Probe(error=OSError())))
    found = check(path)
    assert (found.status, found.body) == (200, b"OK\n")
    assert found.headers["Cache-Control"] == "no-store"
    assert found.headers["Content-Type"].startswith("text/plain")
    assert check(path, **{hooks.IS_DRAINING: lambda: True}).status == 200


def test_a_process_is_ready_when_nothing_is_missing(check):
    health.require(health.Need("database", Probe()))
    health.require(health.Need("store", Probe()))
    assert (check().status, check().body) == (200, b"OK\n")


@pytest.mark.parametrize(
    ("probe", "word"),
    [
        (Probe(result="database"), b"database\n"),
        (Probe(error=exception.ServiceUnavailable("secret")), b"registry\n"),
        (Probe(error=RuntimeError("secret")), b"registry\n"),
    ],
)
def test_one_word_says_what_is_missing(check, probe, word):
    health.require(health.Need("registry", probe))
    health.require(health.Need("store", Probe(error=OSError())))
    found = check()
    assert (found.status, found.body) == (503, word)


def test_a_process_that_stops_is_draining_and_asks_nobody(check):
    probe = Probe()
    health.require(health.Need("store", probe))
    found = check(**{hooks.IS_DRAINING: lambda: True})
    assert (found.status, found.body, probe.count) == (503, b"draining\n", 0)


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("application/json", True),
        ("text/plain;q=0.5, application/json", True),
        ("application/json;q=0", False),
        ("*/*", False),
        ("image/png", False),
        ("\xff;;;", False),
    ],
)
def test_json_is_for_those_who_prefer_it(check, accept, is_json):
    health.require(health.Need("store", Probe(error=OSError())))
    found = check(HTTP_ACCEPT=accept)
    assert found.status == 503
    assert found.body == (b'{"status": "store"}' if is_json else b"store\n")


def test_head_has_the_status_and_no_body(check):
    health.require(health.Need("store", Probe(error=OSError())))
    assert (check("/healthcheck", "HEAD").status, check("/healthcheck", "HEAD").body) == (200, b"")
    assert (check("/healthcheck/ready", "HEAD").status, check().status) == (503, 503)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/healthcheck", "/healthcheck/ready"])
def test_other_methods_are_refused(check, method, path):
    found = check(path, method)
    assert (found.status, found.headers["Allow"]) == (405, "GET, HEAD")
    assert hooks.UNLOGGED not in found.environ


@pytest.mark.parametrize(
    "path",
    ["/", "", "/healthchecks", "/healthcheck/other", "/v1/images/healthcheck", "//healthcheck"],
)
def test_other_paths_are_passed_on(check, path):
    assert (check(path).status, check(path).body) == (418, path.encode())


def test_what_was_found_is_kept_for_a_moment(check):
    probe = Probe()
    need = health.Need("store", probe, keep=60)
    health.require(need)
    assert {check().status for _ in range(20)} == {200}
    assert probe.count == 1
    need._until = 0.0
    probe.error = OSError()
    assert check().status == 503
    need._until = 0.0
    probe.error = None
    assert (check().status, probe.count) == (200, 3)


def test_a_probe_that_hangs_is_asked_once_and_checks_do_not_wait_for_it(check):
    probe = Probe()
    health.require(health.Need("store", probe, limit=0.01))
    probe.go.clear()
    assert {check().body for _ in range(5)} == {b"store\n"}
    assert probe.count == 1
    probe.go.set()
    task = health._needs["store"]._task
    assert task.join(20)
    assert (check().status, probe.count) == (200, 1)


def test_the_last_finding_counts_while_a_slow_probe_may_still_succeed(check):
    probe = Probe()
    need = health.Need("store", probe, limit=0.01, patience=60)
    health.require(need)
    need.begin()
    assert need._task.join(20)
    need._until = 0.0
    probe.go.clear()
    assert check().status == 200
    need._begun -= 60
    assert check().status == 503
    probe.go.set()
    assert need._task.join(20)


def test_checks_at_the_same_time_share_one_probe(check):
    probe = Probe()
    health.require(health.Need("store", probe, limit=20))
    probe.go.clear()
    found = []
    threads = [threading.Thread(target=lambda: found.append(check().status)) for _ in range(10)]
    for thread in threads:
        thread.start()
    probe.go.set()
    for thread in threads:
        thread.join()
    assert (found, probe.count) == ([200] * 10, 1)


def test_the_log_tells_of_changes_only(check, caplog):
    caplog.set_level("INFO", "glance.http.health")
    probe = Probe(error=exception.BackendUnavailable())
    need = health.Need("store", probe)
    health.require(need)
    for error in (probe.error, probe.error, None, None):
        probe.error, need._until = error, 0.0
        assert hooks.UNLOGGED in check().environ
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "not ready: store (BackendUnavailable" in caplog.messages[0]
