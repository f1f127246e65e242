"""The image cache behind real daemons: what hits and misses look like, and who gets them."""

import concurrent.futures
import contextlib
import hashlib
import http.client
import http.server
import os
import pathlib
import shutil
import signal
import sqlite3
import threading
import time

import pytest

from support import daemons, faults
from support.caching import CachingSite, source
from support.faults import Download, until
from support.rawhttp import ADMIN, identity, meta_headers

DATA = os.urandom((3 << 20) + 17)
#: More than the buffers of both sockets take.
LARGE = os.urandom(16 << 20)


def lasting(reply):
    """Return the headers that do not change from one answer to the next."""
    varying = {"date", "cache-status", "x-openstack-request-id"}
    return [(name, value) for name, value in reply.headers if name.lower() not in varying]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with CachingSite(tmp_path_factory.mktemp("cache")) as running:
        yield running


@pytest.fixture
def image_id(site):
    return faults.store(site, DATA)


# -- hits and misses -----------------------------------------------------------------------------


def test_a_hit_looks_like_a_miss(site, image_id):
    miss = site.fetch(image_id)
    assert source(miss) == "stored"
    entry = site.until_cached(image_id)
    assert entry["hits"] == 0
    hit = site.fetch(image_id)
    assert source(hit) == "hit"
    assert miss.body == hit.body == DATA
    assert lasting(hit) == lasting(miss)
    counted = until(lambda: site.rows()[image_id]["hits"] and site.rows()[image_id], "a hit")
    assert counted["hits"] == 1
    assert counted["accessed_at"] > entry["accessed_at"]
    assert counted["checksum"] == hashlib.md5(DATA).hexdigest()


def test_an_answer_by_way_of_the_cache_looks_like_one_without(tmp_path_factory, site, image_id):
    with daemons.Site(tmp_path_factory.mktemp("plain")) as plain:
        reply = plain.http.add(DATA, id=image_id)
        assert reply.status == 201
        bare = plain.http.get(f"/v1/images/{image_id}")
        with_cache = [site.fetch(image_id), site.fetch(image_id)]
    times = {f"x-image-meta-{name}" for name in ("created_at", "updated_at", "location")}
    times |= {"last-modified", "x-openstack-image-uuid"}
    for reply in with_cache:
        names = [
            (name, None if name.lower() in times else value) for name, value in lasting(reply)
        ]
        assert names == [
            (name, None if name.lower() in times else value) for name, value in lasting(bare)
        ]


def test_a_connection_is_kept_over_misses_and_hits(site, image_id):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    with contextlib.closing(connection):
        for _ in range(4):
            connection.request("GET", f"/v1/images/{image_id}")
            assert connection.getresponse().read() == DATA
            sock = connection.sock
        assert connection.sock is sock is not None


def test_many_at_once_read_the_store_once(site, image_id):
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(lambda _: site.fetch(image_id), range(50)))
    assert all(reply.body == DATA for reply in replies)
    sources = [source(reply) for reply in replies]
    assert sources.count("stored") == 1
    assert set(sources) <= {"stored", "collapsed", "hit"}
    site.until_cached(image_id)
    assert not site.rows("incomplete")


def test_a_slow_client_holds_up_nobody_who_follows(site):
    image_id = faults.store(site, LARGE)
    with Download(site, image_id) as slow:
        slow.begin()
        quick = site.fetch(image_id)
        assert (source(quick), quick.body) == ("collapsed", LARGE)
        site.until_cached(image_id)
        assert slow.read() == LARGE


def test_a_request_asks_the_registry_once(site, image_id):
    def calls():
        # The registry writes a line when it has answered, which may be a moment later.
        seen = -1
        while seen != (now := site.registry.log().count(f'"GET /images/{image_id} ')):
            seen = now
            time.sleep(0.2)
        return now

    site.cached(image_id)
    for _ in range(2):
        before = calls()
        assert source(site.fetch(image_id)) == "hit"
        assert calls() == before + 1


def test_head_is_answered_without_the_cache(site, image_id):
    reply = site.http.head(f"/v1/images/{image_id}")
    assert reply.status == 200
    assert reply.header("Cache-Status") is None
    site.cached(image_id)
    assert lasting(site.http.head(f"/v1/images/{image_id}")) == lasting(reply)
    assert site.rows()[image_id]["hits"] == 0


def test_a_range_of_an_image_that_is_not_cached_makes_no_entry(site, image_id):
    reply = site.fetch(image_id, Range="bytes=10-19")
    assert (reply.status, reply.body, source(reply)) == (206, DATA[10:20], "range")
    assert image_id not in site.rows()
    assert image_id not in site.rows("incomplete")


@pytest.mark.parametrize("wanted", ["bytes=10-19", "bytes=-7", "bytes=3000000-", "bytes=0-"])
def test_a_range_out_of_the_cache_is_the_one_of_the_store(site, image_id, wanted):
    stored = site.fetch(image_id, Range=wanted)
    site.cached(image_id)
    cached = site.fetch(image_id, Range=wanted)
    assert source(cached) == "hit"
    assert cached.status == stored.status == 206
    assert cached.body == stored.body
    assert lasting(cached) == lasting(stored)


def test_conditions_hold_for_cached_images(site, image_id):
    entry = site.cached(image_id)
    etag = entry["checksum"]
    assert site.fetch(image_id, If_None_Match=etag).status == 304
    assert site.fetch(image_id, Range="bytes=9999999-").status == 416
    assert site.fetch(image_id, Range="bytes=0-0", If_Range=etag).status == 206
    assert site.fetch(image_id, Range="bytes=0-0", If_Match="other").status == 412
    assert site.fetch(image_id, Range="bytes=0-0", If_Range=f'W/"{etag}"').status == 200
    whole = site.fetch(image_id, Range="bytes=0-0", If_Range="other")
    assert (whole.status, whole.body, source(whole)) == (200, DATA, "hit")
    file = site.http.get(f"/v1/images/{image_id}/file")
    assert (file.status, file.body, source(file)) == (200, DATA, "hit")


@pytest.mark.parametrize(
    "meta", [{}, {"name": ""}, {"name": "Bücher \N{SNOWMAN}".encode().decode("latin-1")}]
)
def test_images_of_any_name_are_cached(site, meta):
    image_id = faults.new_id()
    assert site.http.add(DATA, id=image_id, **meta).status == 201
    site.cached(image_id)
    assert source(site.fetch(image_id)) == "hit"


def test_an_empty_image_is_left_to_the_store(site):
    image_id = faults.new_id()
    assert site.http.add(iter([]), id=image_id).status == 201
    for _ in range(2):
        reply = site.fetch(image_id)
        assert (reply.status, reply.body, source(reply)) == (200, b"", "size")
    assert image_id not in site.rows()


def test_an_image_elsewhere_is_cached_and_outlives_its_server(tmp_path_factory):
    with faults.Origin() as origin:
        options = {"http_store_allowed_hosts": f"127.0.0.1:{origin.port}"}
        with CachingSite(tmp_path_factory.mktemp("http"), api=options) as site:
            origin.paths["/image"] = faults.answer("200 OK", DATA)
            headers = meta_headers(location=f"{origin.url}/image", size=len(DATA))
            image_id = site.http.post("/v1/images", headers).json()["image"]["id"]
            site.cached(image_id)
            origin.paths["/image"] = faults.answer("500 Oh", b"")
            reply = site.fetch(image_id)
            assert (reply.body, source(reply)) == (DATA, "hit")


# -- clients that go away ------------------------------------------------------------------------


def test_a_client_that_leaves_early_leaves_nothing(site):
    image_id = faults.store(site, LARGE)
    with Download(site, image_id) as download:
        download.begin()
    until(lambda: image_id not in site.rows("incomplete"), "the row is gone")
    until(lambda: not site.files("incomplete"), "the file is gone")
    if image_id not in site.rows():
        assert source(site.fetch(image_id)) == "stored"
    site.until_cached(image_id)


def test_an_image_of_which_most_came_is_fetched_to_the_end(site):
    image_id = faults.store(site, LARGE)
    download = Download(site, image_id)
    with download:
        download.begin()
        got = 0
        while got < len(LARGE) * 3 // 4:
            got += len(download.response.read(1 << 20))
    assert site.until_cached(image_id)["size"] == len(LARGE)
    assert source(site.fetch(image_id)) == "hit"


# -- several processes ---------------------------------------------------------------------------


def test_processes_share_the_cache_and_of_two_one_writes(tmp_path_factory):
    with CachingSite(tmp_path_factory.mktemp("workers"), workers=3) as site:
        image_id = faults.store(site, DATA)
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            replies = list(pool.map(lambda _: site.fetch(image_id), range(24)))
        assert all(reply.body == DATA for reply in replies)
        assert [source(reply) for reply in replies].count("stored") == 1
        assert len(site.files("entries")) == 1
        assert not site.files("incomplete")
        assert {source(site.fetch(image_id)) for _ in range(12)} == {"hit"}


class SlowOrigin(http.server.ThreadingHTTPServer):
    """Serves LARGE; a whole one waits in the middle until `go_on`. `asked` are the ranges."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), SlowOriginRequest)
        self.go_on, self.asked = threading.Event(), []

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc_info):
        self.go_on.set()
        self.shutdown()
        self.server_close()


class SlowOriginRequest(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(LARGE) - 1}/{len(LARGE)}")
        self.send_header("Content-Length", str(len(LARGE) - start))
        self.end_headers()
        middle = max(start, len(LARGE) // 2)
        with contextlib.suppress(OSError):
            self.wfile.write(LARGE[start:middle])
            self.wfile.flush()
            if not wanted:
                self.server.go_on.wait(faults.TIMEOUT)
            self.wfile.write(LARGE[middle:])

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def storm(directory):
    """Have clients of both workers download an image of a slow origin, up to its middle.

    Yields origin, site, the image, futures of what the clients get in the end (None for a body
    that was cut), and the worker that fetches.
    """
    with SlowOrigin() as origin:
        where = f"127.0.0.1:{origin.server_port}"
        options = {"http_store_allowed_hosts": where}
        with CachingSite(directory, workers=2, api=options) as site:
            md5 = hashlib.md5(LARGE).hexdigest()
            headers = meta_headers(location=f"http://{where}/x", size=len(LARGE), checksum=md5)
            image_id = site.http.post("/v1/images", headers).json()["image"]["id"]
            origin.asked.clear()
            with concurrent.futures.ThreadPoolExecutor(100) as pool:
                try:
                    yield origin, site, image_id, *begun(site, image_id, pool)
                finally:
                    origin.go_on.set()


def begun(site, image_id, pool):
    """Have clients download an image until both workers serve some; return downloads and roles."""
    heads, ends = [], []
    for _ in range(20):
        ends.extend(pool.submit(whole, site, image_id, heads) for _ in range(4))
        until(lambda: len(heads) == len(ends), "all clients have the head")
        workers = {pid: modes(pid) for pid in daemons.children(site.api.pid)}
        [fetching] = [pid for pid, how in workers.items() if os.O_RDWR in how]
        # The other one reads the copy, and nothing else.
        if {os.O_RDONLY} in workers.values():
            return ends, fetching
    raise AssertionError(f"one worker serves all: {workers}")


def whole(site, image_id, heads):
    """Return the image; None if it is cut. Note in `heads` that its head has come."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=faults.TIMEOUT)
    with contextlib.closing(connection):
        connection.request("GET", f"/v1/images/{image_id}")
        response = connection.getresponse()
        heads.append(response.status)
        try:
            return response.read()
        except (http.client.IncompleteRead, ConnectionError):
            return None


def modes(pid):
    """Return how a process has incomplete copies open."""
    found = set()
    for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if "/cache/incomplete/" in os.readlink(link):
                info = pathlib.Path(f"/proc/{pid}/fdinfo", link.name).read_text()
                flags = int(info.partition("flags:")[2].split()[0], 8)
                found.add(flags & os.O_ACCMODE)
    return found


@pytest.mark.full
def test_all_processes_of_a_host_read_the_store_once(tmp_path):
    with storm(tmp_path) as (origin, site, image_id, ends, _):
        origin.go_on.set()
        assert {end.result() for end in ends} == {LARGE}
        assert origin.asked == [None]
        site.until_cached(image_id)
        assert not site.rows("incomplete")
        assert len(site.files()) == 1


@pytest.mark.full
def test_when_the_process_that_fetches_is_killed_clients_of_others_get_all(tmp_path):
    with storm(tmp_path) as (origin, site, image_id, ends, fetching):
        os.kill(fetching, signal.SIGKILL)
        origin.go_on.set()
        found = [end.result() for end in ends]
        assert set(found) == {None, LARGE}
        # The followers went on where they were; nobody took the copy for a whole one.
        assert all(asked and asked.startswith("bytes=") for asked in origin.asked[1:])
        assert site.fetch(image_id).body == LARGE
        site.until_cached(image_id)


def test_an_image_that_a_killed_process_was_fetching_can_be_cached_at_once(tmp_path_factory):
    with CachingSite(tmp_path_factory.mktemp("killed")) as site:
        image_id = faults.store(site, LARGE)
        with Download(site, image_id) as download:
            download.begin()
            until(lambda: site.files("incomplete"), "the copy has begun")
            site.api.kill()
        assert site.files("incomplete")
        site.api.start()
        assert source(site.fetch(image_id)) == "stored"
        site.until_cached(image_id)
        assert not site.rows("incomplete")
        assert len(site.files()) == 1


def test_what_a_killed_process_left_is_removed_at_the_next_start(tmp_path_factory):
    with CachingSite(tmp_path_factory.mktemp("recovered")) as site:
        image_id = faults.store(site, LARGE)
        with Download(site, image_id) as download:
            download.begin()
            until(lambda: site.files("incomplete"), "the copy has begun")
            site.api.kill()
        site.api.start()
        until(lambda: not site.files() and not site.rows("incomplete"), "recovery")


def test_hits_are_written_down_when_the_process_stops(tmp_path_factory):
    options = {"image_cache_hit_flush_interval": 3600}
    with CachingSite(tmp_path_factory.mktemp("stopped"), api=options) as site:
        image_id = faults.store(site, DATA)
        site.cached(image_id)
        for _ in range(3):
            assert source(site.fetch(image_id)) == "hit"
        assert site.api.stop() == 0
        assert site.rows()[image_id]["hits"] == 3


# -- images that go, change, or belong to somebody ------------------------------------------------


def test_a_deleted_image_leaves_the_cache_at_once(site, image_id):
    site.cached(image_id)
    assert site.http.delete(f"/v1/images/{image_id}").status == 200
    assert image_id not in site.rows()
    assert str(image_id) not in [path.name for path in site.files()]
    assert site.fetch(image_id).status == 404


def test_an_image_deleted_while_it_is_being_copied_is_not_kept(site):
    image_id = faults.store(site, LARGE)
    with Download(site, image_id) as download:
        download.begin()
        assert site.http.delete(f"/v1/images/{image_id}").status == 200
        assert image_id not in site.rows("incomplete")
        # As without a cache, the one who reads it reads on.
        assert download.read() == LARGE
    until(lambda: str(image_id) not in str(site.files()), "the file is gone")
    assert image_id not in site.rows()


def test_an_image_deleted_by_another_host_is_never_served_and_is_cleaned(tmp_path_factory):
    options = {"image_cache_maintenance_interval": 1}
    with CachingSite(tmp_path_factory.mktemp("hosts"), api=options) as site:
        image_id = faults.store(site, DATA)
        site.cached(image_id)
        assert site.registry.http.delete(f"/images/{image_id}").status == 200
        assert site.fetch(image_id).status == 404
        until(lambda: image_id not in site.rows() and not site.files(), "it is cleaned")


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        ({"is_public": True}, False),
        ({"is_public": False}, True),
        ({"name": "another"}, True),
        ({"property_distro": "Debian"}, True),
    ],
)
def test_a_change_of_visibility_drops_the_copy_and_others_do_not(site, image_id, change, stays):
    site.cached(image_id)
    reply = site.http.put(f"/v1/images/{image_id}", meta_headers(**change))
    assert reply.status == 200
    assert (image_id in site.rows()) is stays
    assert site.fetch(image_id).body == DATA


def test_a_cached_image_is_shown_to_those_whom_the_registry_shows_it(tmp_path_factory):
    owner, stranger, member = (identity(who) for who in ("owner", "stranger", "member"))
    with CachingSite(tmp_path_factory.mktemp("private"), auth_mode="trusted-headers") as site:
        image_id = faults.new_id()
        reply = site.http.add(DATA, owner, id=image_id)
        assert reply.status == 201, reply
        path = f"/v1/images/{image_id}"
        assert site.http.get(path, owner).body == DATA
        site.until_cached(image_id)
        assert source(site.http.get(path, owner)) == "hit"
        unknown = site.http.get("/v1/images/987654", stranger)
        refused = site.http.get(path, stranger)
        assert refused.status == unknown.status == 404
        assert refused.text.replace(str(image_id), "987654") == unknown.text
        for headers in ({"Range": "bytes=0-9"}, {"If-None-Match": hashlib.md5(DATA).hexdigest()}):
            assert site.http.get(path, {**stranger, **headers}).status == 404
        assert site.http.get(path).status == 401
        assert source(site.http.get(path, ADMIN)) == "hit"
        # A share opens it, the end of the share closes it.
        assert site.http.put(f"{path}/members/member", ADMIN).status in (200, 204)
        assert source(site.http.get(path, member)) == "hit"
        assert site.http.delete(f"{path}/members/member", ADMIN).status in (200, 204)
        assert site.http.get(path, member).status == 404


# -- switched off, or unusable -------------------------------------------------------------------


def plain(site, image_id):
    reply = site.http.get(f"/v1/images/{image_id}")
    assert (reply.status, reply.body) == (200, DATA)
    assert reply.header("Cache-Status") is None


def test_without_the_option_the_filter_does_nothing(tmp_path_factory):
    options = {"image_cache_enabled": False}
    with CachingSite(tmp_path_factory.mktemp("off"), api=options) as site:
        plain(site, faults.store(site, DATA))
        assert not site.cache_dir.exists()


def test_a_cache_that_cannot_start_is_an_error_in_the_log_and_nothing_else(tmp_path_factory):
    directory = tmp_path_factory.mktemp("unusable")
    (directory / "file").touch()
    options = {"image_cache_dir": directory / "file" / "cache"}
    with CachingSite(directory, api=options) as site:
        plain(site, faults.store(site, DATA))
        assert "ERROR [glance.image_cache] The image cache is disabled" in site.api.log()


def test_the_xattr_driver_serves_alike(tmp_path_factory):
    directory = tmp_path_factory.mktemp("xattr")
    probe = directory / "probe"
    probe.touch()
    try:
        os.setxattr(probe, "user.probe", b"1")
    except OSError:
        pytest.skip("the file system of the temporary directory has no extended attributes")
    with CachingSite(directory, api={"image_cache_driver": "xattr"}) as site:
        image_id = faults.store(site, DATA)
        assert source(site.fetch(image_id)) == "stored"
        (path,) = until(lambda: site.files("entries"), "it is cached")
        assert source(site.fetch(image_id)) == "hit"
        until(lambda: os.getxattr(path, "user.hits") == b"1", "a hit")
        assert not (site.cache_dir / "cache.db").exists()


def test_times_of_reads_do_not_depend_on_the_file_system(tmp_path_factory):
    directory = tmp_path_factory.mktemp("noatime")
    with faults.small_filesystem(directory / "cache", 64 << 20):
        faults.remount(directory / "cache", "noatime")
        with CachingSite(directory) as site:
            image_id = faults.store(site, DATA)
            entry = site.cached(image_id)
            assert source(site.fetch(image_id)) == "hit"
            until(lambda: site.rows()[image_id]["accessed_at"] > entry["accessed_at"], "a read")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_cache_percent_extra_to_free", "1.0"),
        ("image_cache_percent_extra_to_free", "-0.1"),
        ("image_cache_max_size", "-1"),
        ("image_cache_verify", "size,wish"),
        ("image_cache_driver", "nonsense"),
    ],
)
def test_nonsense_in_the_options_stops_the_start(tmp_path, name, value):
    site = CachingSite(tmp_path, api={name: value})
    site.write()
    site.api.start(wait=False)
    assert site.api.process.wait(30) != 0
    assert name in site.api.log()
    assert "Traceback" not in site.api.log()


def test_old_names_of_options_hold(tmp_path_factory):
    directory = tmp_path_factory.mktemp("old")
    options = {"image_cache_datadir": directory / "old", "image_cache_max_size_bytes": 1 << 20}
    site = CachingSite(directory, api=options)
    del site.api_options["image_cache_dir"]
    with site:
        image_id = faults.store(site, DATA)
        assert source(site.fetch(image_id)) == "too large"
        assert (directory / "old" / "cache.db").exists()


def test_files_of_the_cache_are_for_its_owner_and_group(site, image_id):
    path = site.cached(image_id) and site.entry_file(image_id)
    assert path.stat().st_mode & 0o777 == 0o640
    assert site.cache_dir.stat().st_mode & 0o777 == 0o750


def test_the_index_can_be_read_while_the_daemon_runs(site, image_id):
    site.cached(image_id)
    with contextlib.closing(sqlite3.connect(site.cache_dir / "cache.db")) as index:
        assert index.execute("PRAGMA user_version").fetchone() == (1,)
        assert index.execute("PRAGMA journal_mode").fetchone() == ("wal",)


# -- what older versions left --------------------------------------------------------------------


def test_files_and_directories_of_diablo_go_on_as_they_are(tmp_path_factory):
    """Its filter, its names of options, its directory: images are served from there and kept."""
    directory = tmp_path_factory.mktemp("diablo")
    old = directory / "old"
    (old / "prefetch").mkdir(parents=True)
    site = CachingSite(
        directory,
        api={"image_cache_datadir": old, "image_cache_enabled": "True"},
        api_pipeline="versionnegotiation context imagecache apiv1app",
    )
    del site.api_options["image_cache_dir"]
    site.cache_dir = old
    with site:
        kept, other = faults.store(site, DATA), faults.store(site, DATA)
        assert site.api.stop() == 0
        shutil.rmtree(old)
        (old / "prefetch").mkdir(parents=True)
        (old / str(kept)).write_bytes(DATA)
        (old / str(other)).write_bytes(DATA[:-1])
        (old / "prefetch" / str(other)).touch()
        site.api.start()
        site.until_cached(kept)
        assert source(site.fetch(kept)) == "hit"
        until(lambda: not (old / str(other)).exists(), "the wrong copy is removed")
        listed = site.http.get("/v1/cached_images").json()["cached_images"]
        assert [item["id"] for item in listed] == [kept]
        until(
            lambda: site.http.get("/v1/queued_images").json() == {"queued_images": [other]},
            "it is queued again",
        )
