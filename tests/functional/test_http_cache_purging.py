"""Real daemons tell HTTP caches what they must not keep, also those that were down."""

import http.server
import socket
import threading

import pytest

from support import daemons
from support.faults import until

TOKEN = "purge-s3cret"


class Cache(http.server.BaseHTTPRequestHandler):
    def do_PURGE(self):
        self.server.seen.append((self.path, self.headers["X-Purge-Token"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass


def cache(port):
    """Start an HTTP cache at a port; `seen` are its purges. `shutdown` and close it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Cache)
    server.seen = []
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


@pytest.mark.full
def test_a_cache_that_is_down_delays_nobody_and_hears_of_everything_later(tmp_path):
    port = daemons.free_port()
    spool = tmp_path / "purges"
    silent = socket.create_server(("127.0.0.1", 0))
    options = {
        "http_cache_purge_urls": f"http://127.0.0.1:{port}, "
        f"http://127.0.0.1:{silent.getsockname()[1]}",
        "http_cache_purge_token": TOKEN,
        "http_cache_purge_spool_dir": spool,
        "debug": True,
    }
    with silent, daemons.Site(tmp_path, api=options) as site:
        ids = [site.http.add(b"x").json()["image"]["id"] for _ in range(20)]
        for image_id in ids:
            assert site.http.delete(f"/v1/images/{image_id}").status == 200
        until(lambda: "cannot be told to drop image" in site.api.log(), "a line about the outage")
        site.api.stop()
        assert list(spool.iterdir())

        running = cache(port)
        try:
            site.api.start()
            wanted = {(f"/v1/images/{image_id}", TOKEN) for image_id in ids}
            until(lambda: wanted <= set(running.seen), "all purges")
        finally:
            running.shutdown()
            running.server_close()
        site.api.stop()
        assert TOKEN not in site.api.log()
        assert "Traceback" not in site.api.log()
        for file in spool.iterdir():
            assert TOKEN not in file.read_text()


def test_a_wrong_url_is_one_line_at_the_start(tmp_path):
    site = daemons.Site(tmp_path, api={"http_cache_purge_urls": "http://user:pw@cache"})
    site.write()
    site.api.start(wait=False)
    until(lambda: "http_cache_purge_urls" in site.api.log(), "the problem")
    site.kill()
    assert "without credentials" in site.api.log()
    assert "pw@" not in site.api.log() and "Traceback" not in site.api.log()
