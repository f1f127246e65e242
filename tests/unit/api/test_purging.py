"""Purges: which changes make one, what is sent, and what becomes of those that cannot be sent."""

import http.server
import json
import logging
import shutil
import socket
import threading
import time

import pytest

from glance.api import purging
from glance.common import config, exception
from glance.http.client import connection as http_connection
from glance.streaming import retry

URL = "/v1/images"
PATHS = [
    f"{prefix}/images/5{end}" for end in ("", "/file") for prefix in ("/v1", "/v1.0", "/v1.1", "")
]
QUICK = retry.Backoff(0.01, 0.02)


class Proxy:
    """An HTTP cache; `status` may be changed, and None cuts the connection."""

    def __init__(self):
        self.status, self.seen, self.headers = 200, [], []
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_PURGE(self):
                proxy.seen.append((self.command, self.path))
                proxy.headers.append(dict(self.headers))
                if proxy.status is None:
                    self.connection.close()
                    return
                self.send_response(proxy.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_BAN = do_PURGE

            def log_message(self, *args):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def until(what):
    for _ in range(1000):
        if found := what():
            return found
        time.sleep(0.01)
    raise AssertionError("it did not happen")


@pytest.fixture
def proxy():
    made = Proxy()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(purging, "BACKOFF", QUICK)


@pytest.fixture
def start():
    """A function that starts a purger for proxies."""
    started = []

    def begin(*proxies, **options):
        urls = ",".join(getattr(one, "url", one) for one in proxies)
        purger = purging.Purger(config.Conf({"http_cache_purge_urls": urls, **options}))
        started.append(purger)
        purger.start()
        return purger

    yield begin
    for purger in started:
        purger.stop()


def image(**changes):
    return {"id": 5, "status": "active", "is_public": True, **changes}


@pytest.mark.parametrize("method", ["PURGE", "BAN"])
@pytest.mark.parametrize("status", [200, 204, 404])
def test_a_deleted_image_is_purged_under_all_its_paths(proxy, start, method, status):
    proxy.status = status
    purger = start(proxy, http_cache_purge_method=method, http_cache_purge_token="s3cret")
    purger.changed(image(), None)
    until(lambda: len(proxy.seen) == len(PATHS))
    assert proxy.seen == [(method, path) for path in PATHS]
    for headers in proxy.headers:
        assert (headers["X-Image-Id"], headers["X-Purge-Token"]) == ("5", "s3cret")
        assert headers["Host"] == proxy.url.removeprefix("http://")


def test_paths_without_a_version_are_purged_only_if_they_are_served(proxy, start):
    purger = start(proxy, serve_unversioned="false")
    assert list(purger.paths(5)) == [path for path in PATHS if path.startswith("/v1")]


def test_an_image_with_a_uuid_is_purged_under_that_too(proxy):
    conf = {"http_cache_purge_urls": proxy.url}
    purger = purging.Purger(config.Conf(conf))
    purger.changed(image(uuid=UUID), None)
    (one,) = next(iter(purger._caches.values())).all()
    assert one.uuid == UUID
    paths = list(purger.paths(5, one.uuid))
    assert paths[: len(PATHS)] == PATHS
    assert paths[len(PATHS) :] == [
        *(path.replace("/5", f"/{UUID}") for path in PATHS),
        f"/v2/images/{UUID}/file",
    ]
    purger = purging.Purger(config.Conf({**conf, "http_cache_share_private": "true"}))
    purging.unshared({purging.ENVIRON: purger}, 5, UUID)
    (one,) = next(iter(purger._caches.values())).all()
    assert one.uuid == UUID


def test_the_path_of_a_url_is_kept_and_nothing_is_sent_without_a_token(proxy, start):
    start(f"{proxy.url}/images/", serve_unversioned="no").changed(image(), None)
    until(lambda: len(proxy.seen) == 6)
    assert proxy.seen[0] == ("PURGE", "/images/v1/images/5")
    assert "X-Purge-Token" not in proxy.headers[0]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, None, (True, True)),
        ({}, {"status": "pending_delete"}, (True, True)),
        ({}, {"status": "deactivated"}, (True, True)),
        ({}, {"is_public": False}, (True, False)),
        ({}, {}, (False, False)),
        ({"is_public": False}, {"is_public": True}, (False, False)),
        ({"status": "queued"}, None, None),
        ({"status": "queued"}, {}, None),
        ({"status": "saving"}, {"status": "killed"}, None),
    ],
)
def test_which_changes_make_a_purge(proxy, before, after, expected):
    purger = purging.Purger(config.Conf({"http_cache_purge_urls": proxy.url}))
    purger.changed(image(**before), None if after is None else image(**after))
    waiting = [one for cache in purger._caches.values() for one in cache.all()]
    assert [(one.urgent, one.deleted) for one in waiting] == (
        [] if expected is None else [expected]
    )


@pytest.mark.parametrize("shares", [True, False])
def test_a_membership_matters_only_if_private_images_are_shared(proxy, shares):
    conf = {"http_cache_purge_urls": proxy.url, "http_cache_share_private": str(shares)}
    purger = purging.Purger(config.Conf(conf))
    purger.unshared(5)
    assert [len(cache) for cache in purger._caches.values()] == [int(shares)]


def test_the_api_purges_what_a_request_has_changed(proxy, make_api):
    api = make_api(http_cache_purge_urls=proxy.url, http_cache_share_private="true")
    payload = b"x" * 10
    api.add(payload, id=5)
    api("PUT", f"{URL}/5", {"x-image-meta-name": "after"})
    until(lambda: len(proxy.seen) == 17)
    api("PUT", f"{URL}/5/members/t2")
    api("DELETE", f"{URL}/5/members/t2")
    until(lambda: len(proxy.seen) == 25)
    api("PUT", f"{URL}/5/members", {}, b'{"memberships": []}')
    until(lambda: len(proxy.seen) == 33)
    api("DELETE", f"{URL}/5")
    until(lambda: len(proxy.seen) == 50)
    # Those of version 2 have another id.
    assert {path for _, path in proxy.seen if "-" not in path} == set(PATHS)
    assert proxy.seen[-1][1].startswith("/v2/images/") and proxy.seen[-1][1].endswith("/file")
    api.add(id=6)
    api("DELETE", f"{URL}/6")
    assert len(proxy.seen) == 50
    for purger in list(purging._made.values()):
        purger.stop()


@pytest.mark.parametrize("status", [None, 403, 405, 500, 503, 302])
def test_a_purge_that_fails_is_sent_again_and_delays_no_other_cache(proxy, start, status):
    proxy.status, other = status, Proxy()
    start(proxy, other).changed(image(), None)
    until(lambda: len(other.seen) == len(PATHS))
    until(lambda: len(proxy.seen) > 3)
    assert {path for _, path in proxy.seen} == {PATHS[0]}
    proxy.status = 200
    until(lambda: ("PURGE", PATHS[-1]) in proxy.seen)
    other.close()


def test_one_that_a_cache_refuses_is_in_no_others_way(proxy, start):
    proxy.status = 500
    purger = start(proxy)
    for number in range(1, 6):
        purger.changed(image(id=number), None)
    until(lambda: {path for _, path in proxy.seen} >= {f"/v1/images/{n}" for n in range(1, 6)})


def test_a_change_that_is_made_while_a_purge_is_sent_makes_another(proxy):
    conf = config.Conf({"http_cache_purge_urls": proxy.url})
    purger = purging.Purger(conf)
    (cache,) = purger._caches.values()
    purger.changed(image(), image())
    flying = cache._take()
    purger.changed(image(), image())
    assert len(cache) == 1
    # And if it fails, one of the two is enough.
    cache.put(flying)
    assert len(cache) == 1 and flying.settled


def test_an_image_waits_once_and_what_hides_it_counts(proxy):
    purger = purging.Purger(config.Conf({"http_cache_purge_urls": proxy.url}))
    (cache,) = purger._caches.values()
    purger.changed(image(id=1), image())
    for after in (image(), image(is_public=False), image(), None, image()):
        purger.changed(image(), after)
    assert [(one.image_id, one.deleted) for one in cache.all()] == [(5, True), (1, False)]
    assert cache._take().deleted


def test_the_queue_has_a_bound_and_deletions_stay_longest(proxy, monkeypatch, caplog):
    monkeypatch.setattr(purging, "QUEUE", 3)
    purger = purging.Purger(config.Conf({"http_cache_purge_urls": proxy.url}))
    (cache,) = purger._caches.values()
    for number in range(1, 5):
        purger.changed(image(id=number), image())
    assert [one.image_id for one in cache.all()] == [2, 3, 4]
    for number in range(11, 15):
        purger.changed(image(id=number), None)
    assert [one.image_id for one in cache.all()] == [12, 13, 14]
    purger.changed(image(id=20), image())
    assert [one.image_id for one in cache.all()] == [12, 13, 14]
    assert len(caplog.records) == 1
    assert "More than 3 purges wait for the HTTP cache" in caplog.text


@pytest.mark.parametrize(
    ("mode", "after", "level"),
    [
        ("ttl", None, logging.ERROR),
        ("ttl", image(is_public=False), logging.WARNING),
        ("validate", None, logging.WARNING),
    ],
)
def test_an_outage_is_logged_once_without_secrets(start, caplog, mode, after, level):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        purger = start(url, http_cache_mode=mode, http_cache_purge_token="s3cret")
        purger.changed(image(), after)
        (cache,) = purger._caches.values()
        until(lambda: cache.failures > 3)
    (record,) = [one for one in caplog.records if "cannot be told" in one.getMessage()]
    assert record.levelno == level
    assert url in record.getMessage() and "image 5" in record.getMessage()
    assert "s3cret" not in caplog.text and "Traceback" not in caplog.text


def test_a_purge_is_given_up_after_a_day(proxy, start, caplog, monkeypatch):
    proxy.status = 500
    monkeypatch.setattr(purging, "LIFE", -1)
    purger = start(proxy)
    purger.changed(image(), None)
    until(lambda: "is given up" in caplog.text)
    (cache,) = purger._caches.values()
    until(lambda: not cache.all())


def test_a_silent_cache_is_given_up(start, monkeypatch):
    monkeypatch.setattr(purging, "TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        purger = start(f"http://127.0.0.1:{silent.getsockname()[1]}")
        purger.changed(image(), None)
        (cache,) = purger._caches.values()
        until(lambda: cache.failures > 1)


def test_the_authorities_of_tls_are_read_once(start, monkeypatch):
    made, whole = [], http_connection.TLS.context
    monkeypatch.setattr(
        http_connection.TLS, "context", lambda self: made.append(self) or whole(self)
    )
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        purger = start(f"https://127.0.0.1:{unused.getsockname()[1]}")
        purger.changed(image(), None)
        (cache,) = purger._caches.values()
        until(lambda: cache.failures > 2)
    assert len(made) == 1


# -- the spool -----------------------------------------------------------------------------------


def test_what_waits_survives_a_restart(proxy, tmp_path):
    settings = {"http_cache_purge_urls": proxy.url, "http_cache_purge_spool_dir": str(tmp_path)}
    purger = purging.Purger(config.Conf(settings))
    purger.changed(image(id=1), image())
    purger.changed(image(id=2), None)
    purger.stop()
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("purges-") and file.stat().st_mode & 0o777 == 0o600

    after = purging.Purger(config.Conf(settings))
    after.start()
    until(lambda: len(proxy.seen) == 16)
    until(lambda: not list(tmp_path.iterdir()))
    after.stop()
    assert {path.split("/")[-1] for _, path in proxy.seen} == {"1", "2", "file"}


def test_what_waits_for_a_cache_that_is_down_survives_the_death_of_the_process(
    proxy, start, tmp_path
):
    proxy.status = 503
    purger = start(proxy, http_cache_purge_spool_dir=str(tmp_path))
    purger.changed(image(id=1), None)
    (cache,) = purger._caches.values()
    until(lambda: cache.failures)
    purger.changed(image(id=2), None)

    def kept():
        return "".join(path.read_text() for path in tmp_path.iterdir())

    until(lambda: '"image_id": 1,' in kept() and '"image_id": 2,' in kept())
    proxy.status = 200
    until(lambda: not cache.all())
    until(lambda: not kept())


def test_a_spool_that_has_gone_stops_no_purges(proxy, start, tmp_path, caplog):
    spool = tmp_path / "spool"
    settings = {"http_cache_purge_urls": proxy.url, "http_cache_purge_spool_dir": str(spool)}
    before = purging.Purger(config.Conf(settings))
    before.changed(image(id=1), None)
    before.stop()
    proxy.status = 503
    purger = start(proxy, http_cache_purge_spool_dir=str(spool))
    until(lambda: proxy.seen)
    shutil.rmtree(spool)
    proxy.status = 200
    (cache,) = purger._caches.values()
    until(lambda: not cache.all())
    purger.changed(image(id=2), None)
    until(lambda: ("PURGE", "/v1/images/2") in proxy.seen)
    assert "cannot be removed" in caplog.text and "Traceback" not in caplog.text


def test_purges_for_a_cache_that_is_no_longer_configured_are_forgotten(proxy, start, tmp_path):
    old = {"http_cache_purge_urls": "http://old:1", "http_cache_purge_spool_dir": str(tmp_path)}
    purger = purging.Purger(config.Conf(old))
    purger.changed(image(), None)
    purger.stop()
    start(proxy, http_cache_purge_spool_dir=str(tmp_path))
    until(lambda: not list(tmp_path.iterdir()))
    assert proxy.seen == []


UUID = "0b2b1ad0-9d36-4b5e-8c3c-0d6a3c1f0e11"
GOOD = {"base": "http://x", "image_id": 5, "urgent": True, "deleted": True, "since": 1.5}
GOOD["uuid"] = UUID


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{}",
        "[]",
        "x",
        *(json.dumps({**GOOD, name: None}) for name in GOOD),
        json.dumps({**GOOD, "image_id": True}),
        json.dumps({**GOOD, "image_id": "../5"}),
        json.dumps({**GOOD, "more": 1}),
        json.dumps({**GOOD, "uuid": "../x"}),
        json.dumps({**GOOD, "since": float("inf")}),
        json.dumps({**GOOD, "since": float("nan")}),
    ],
)
def test_a_line_that_is_no_purge_is_refused(line):
    assert purging.parse(json.dumps(GOOD).encode()).image_id == 5
    with pytest.raises(ValueError):
        purging.parse(line.encode())


# -- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("", ()),
        (" , ", ()),
        ("http://a:6081/, https://b http://a:6081", ("http://a:6081", "https://b")),
        ("http://[::1]:80/x/", ("http://[::1]:80/x",)),
    ],
)
def test_urls(text, urls):
    assert config.Conf({"http_cache_purge_urls": text}).http_cache_purge_urls == urls


@pytest.mark.parametrize(
    "text",
    [
        *("cache:6081", "ftp://a", "http://", "http://a:x", "http://a:99999", "http://a:0"),
        *("http://user:pw@a", "http://a?x=1", "http://a#x", "http://b\u00fccher", "http://a http"),
    ],
)
def test_what_is_no_url_is_one_line_without_a_password(text):
    with pytest.raises(exception.ConfigError) as caught:
        config.Conf({"http_cache_purge_urls": text}).check()
    assert "http_cache_purge_urls" in str(caught.value) and "pw" not in str(caught.value)


def test_the_token_is_a_secret_and_fits_a_header():
    conf = config.Conf({"http_cache_purge_token": "s3cret"})
    assert conf.public()["http_cache_purge_token"] == "***"
    for bad in ("a\u00fc", "a\x07b", "a\nb"):
        with pytest.raises(exception.ConfigError) as caught:
            config.Conf({"http_cache_purge_token": bad}).check()
        assert bad not in str(caught.value)


def test_a_spool_that_cannot_be_used_is_a_configuration_error(tmp_path):
    (tmp_path / "file").write_text("")
    settings = {
        "http_cache_purge_urls": "http://a",
        "http_cache_purge_spool_dir": str(tmp_path / "file"),
    }
    with pytest.raises(exception.ConfigError, match="http_cache_purge_spool_dir"):
        purging.create(config.Conf(settings))


def test_there_is_one_purger_for_the_settings_and_none_without_urls(proxy):
    conf = config.Conf({"http_cache_purge_urls": proxy.url})
    purger = purging.create(conf)
    assert purging.create(config.Conf({"http_cache_purge_urls": proxy.url})) is purger
    assert purging.create(config.Conf()) is None
    purger.stop()
    other = purging.create(conf)
    assert other is not purger
    other.stop()
