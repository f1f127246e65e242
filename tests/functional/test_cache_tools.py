"""What looks after the image cache: the management API, its commands, and the cache programs."""

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

from support import caching, daemons, faults
from support.faults import until
from support.rawhttp import identity, meta_headers

pytestmark = pytest.mark.full

DATA = os.urandom((2 << 20) + 1)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    options = {"http_store_allowed_hosts": "127.0.0.1"}
    with caching.CachingSite(tmp_path_factory.mktemp("tools"), api=options) as running:
        yield running


@pytest.fixture
def site(shared):
    """The shared site with nothing in its cache and its queue."""
    until(lambda: not shared.rows("incomplete"), "nobody writes any more")
    for path in ("cached_images", "cached_images?status=invalid", "queued_images"):
        assert shared.http.delete(f"/v1/{path}").status == 200
    for path in shared.files("entries"):
        # Without a row: its test took the index away.
        path.unlink(missing_ok=True)
    return shared


def cached(site, data=DATA, **meta):
    """Store an image, download it so that it is cached, and return its id."""
    image_id = faults.store(site, data)
    if meta:
        site.http.put(f"/v1/images/{image_id}", {f"x-image-meta-{k}": v for k, v in meta.items()})
    assert site.fetch(image_id).body == data
    site.until_cached(image_id)
    return image_id


def queue(site, *image_ids):
    for image_id in image_ids:
        assert site.http.put(f"/v1/queued_images/{image_id}").status == 200


def listed(site, status=""):
    return site.http.get(f"/v1/cached_images{status}").json()["cached_images"]


def columns(table):
    """Return the rows of a printed table as tuples of words."""
    return [tuple(line.split()) for line in table.splitlines()[3:]]


# -- the API -------------------------------------------------------------------------------------


def test_an_entry_is_listed_with_all_that_may_be_known(site):
    image_id = cached(site)
    assert site.fetch(image_id).body == DATA
    until(lambda: listed(site)[0]["hits"] == 1, "the hit is counted")
    reply = site.http.get("/v1/cached_images")
    assert [value for name, value in reply.headers if name.lower() == "content-type"] == [
        "application/json"
    ]
    (entry,) = reply.json()["cached_images"]
    assert entry.pop("last_accessed").endswith("Z") and entry.pop("last_modified").endswith("Z")
    name, checksum = entry.pop("name"), entry.pop("checksum")
    record = site.http.head(f"/v1/images/{image_id}").meta()
    assert (name or "", checksum) == (record["name"], record["checksum"])
    assert entry == {
        "id": image_id,
        "image_id": image_id,
        "size": len(DATA),
        "expected_size": len(DATA),
        "hits": 1,
        "status": "complete",
        "error": None,
    }
    one = site.http.get(f"/v1/cached_images/{image_id}")
    assert one.json() == reply.json()["cached_images"][0]
    assert str(site.directory) not in reply.body.decode()


def test_a_list_comes_in_pages(site):
    ids = [cached(site, b"%d" % number) for number in range(3)]
    shown = [entry["id"] for entry in listed(site)]
    assert sorted(shown) == ids
    assert [entry["id"] for entry in listed(site, "?limit=2")] == shown[:2]
    assert [entry["id"] for entry in listed(site, f"?marker={shown[1]}")] == shown[2:]
    for wrong in ("?limit=-1", "?limit=x", "?marker=0", "?status=cold"):
        assert site.http.get(f"/v1/cached_images{wrong}").status == 400


def test_an_entry_is_dropped_and_may_be_dropped_again(site):
    image_id = cached(site)
    assert site.http.delete(f"/v1/cached_images/{image_id}").json() == {"num_deleted": 1}
    assert site.http.delete(f"/v1/cached_images/{image_id}").json() == {"num_deleted": 0}
    assert site.http.get(f"/v1/cached_images/{image_id}").status == 404
    assert not site.files("entries")
    assert site.fetch(image_id).body == DATA
    site.until_cached(image_id)


def test_all_entries_are_dropped(site):
    for number in range(2):
        cached(site, b"%d" % number)
    dropped = site.http.delete("/v1/cached_images").json()
    assert dropped == {"num_deleted": 2, "num_purged": 2}
    assert listed(site) == []


def spoil(site, image_id):
    """Make the copy of an image another one, so that its next reader finds it wrong.

    Returns the invalid entries; the image is cached again then.
    """
    path = site.cache_dir / site.rows()[image_id]["file"]
    path.write_bytes(b"x" * len(DATA))
    assert site.fetch(image_id).body == DATA
    invalid = until(lambda: listed(site, "?status=invalid"), "the entry is invalid")
    assert site.fetch(image_id).body == DATA
    site.until_cached(image_id)
    return invalid


def test_invalid_entries_are_listed_and_reaped(site):
    image_id = cached(site)
    (entry,) = spoil(site, image_id)
    assert (entry["id"], entry["status"]) == (image_id, "invalid")
    assert entry["error"]
    kept = site.http.delete("/v1/cached_images?status=invalid&grace=3600")
    assert kept.json()["num_reaped"] == 0
    assert site.http.delete("/v1/cached_images?status=invalid").json()["num_reaped"] == 1
    assert site.http.delete("/v1/cached_images?status=invalid&grace=soon").status == 400
    assert site.http.delete("/v1/cached_images?status=incomplete").json()["num_reaped"] == 0


@pytest.mark.parametrize("where", ["cached_images", "queued_images"])
def test_images_are_queued_once_and_only_if_they_can_be_cached(site, where):
    image_id = faults.store(site, DATA)
    assert site.http.put(f"/v1/{where}/{image_id}").json() == {"queued": True}
    again = site.http.put(f"/v1/{where}/{image_id}")
    assert (again.status, b"is already queued" in again.body) == (400, True)
    assert site.http.put(f"/v1/{where}/{faults.reserve(site)}").status == 404
    assert site.http.put(f"/v1/{where}/999999999").status == 404
    assert site.http.put(f"/v1/{where}/nothing").status == 404
    here = site.http.put(f"/v1/{where}/{cached(site, b'other')}")
    assert (here.status, b"is already cached" in here.body) == (400, True)


def test_the_queue_is_listed_in_order_and_shortened(site):
    ids = [faults.store(site, b"%d" % number) for number in range(3)]
    queue(site, *ids)
    assert site.http.get("/v1/queued_images").json() == {"queued_images": ids}
    detailed = site.http.get("/v1/queued_images?detail=true").json()["queued_images"]
    assert [(item["id"], item["status"]) for item in detailed] == [(i, "queued") for i in ids]
    assert [item["id"] for item in listed(site, "?status=prefetching")] == ids
    assert site.http.get("/v1/queued_images?detail=perhaps").status == 400
    assert site.http.delete(f"/v1/queued_images/{ids[0]}").json() == {"num_deleted": 1}
    assert site.http.delete(f"/v1/queued_images/{ids[0]}").json() == {"num_deleted": 0}
    assert site.http.delete("/v1/queued_images").json() == {"num_deleted": 2}


def test_figures_are_told(site):
    before = site.http.get("/v1/cache_stats").json()
    image_id = cached(site)
    site.fetch(image_id)

    def hit():
        after = site.http.get("/v1/cache_stats").json()
        return after if after["hits"] > before["hits"] else None

    after = until(hit, "the hit is counted")
    assert after["misses"] == before["misses"] + 1
    assert (after["entries"], after["size"], after["queued"]) == (1, len(DATA), 0)
    assert {"max_size", "bypasses", "aborted", "invalid", "total_size"} <= set(after)


@pytest.mark.parametrize("path", ["cached_images", "queued_images", "cache_stats"])
def test_the_interface_is_there_without_a_version(site, path):
    assert site.http.get(f"/{path}").status == 200
    assert site.http.post(f"/v1/{path}").status == 405


ROUTES = [
    ("GET", "cached_images"),
    ("GET", "cached_images?status=invalid"),
    ("GET", "cached_images/1"),
    ("PUT", "cached_images/1"),
    ("DELETE", "cached_images/1"),
    ("DELETE", "cached_images"),
    ("DELETE", "cached_images?status=invalid"),
    ("GET", "queued_images"),
    ("PUT", "queued_images/1"),
    ("DELETE", "queued_images/1"),
    ("DELETE", "queued_images"),
    ("GET", "cache_stats"),
]


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A site that asks who callers are."""
    directory = tmp_path_factory.mktemp("strict")
    options = {"allow_anonymous_access": True}
    with caching.CachingSite(directory, auth_mode="trusted-headers", api=options) as running:
        yield running


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=lambda part: part)
def test_only_administrators_manage_the_cache(strict, method, path):
    def ask(headers):
        return strict.http.request(method, f"/v1/{path}", headers)

    assert ask(identity("tenant")).status == 403
    assert ask({}).status == 403
    assert ask(identity("tenant", roles="admin")).status in (200, 400, 404)


def test_an_operator_may_name_another_role_for_it(tmp_path):
    options = {"policy_manage_image_cache": "cache-keeper"}
    with caching.CachingSite(
        tmp_path / "keepers", auth_mode="trusted-headers", api=options
    ) as site:
        keeper = identity("tenant", roles="member,Cache-Keeper")
        assert site.http.get("/v1/cached_images", keeper).status == 200
        assert site.http.get("/v1/cached_images", identity("t", roles="admin")).status == 403


def test_a_cache_that_is_off_can_be_managed_all_the_same(make_site, tmp_path):
    cache = {"image_cache_dir": tmp_path / "cache", "image_cache_min_free_disk": 0}
    site = make_site(api=cache, api_pipeline="versionnegotiation context imagecache apiv1app")
    assert site.http.get("/v1/cached_images").json() == {"cached_images": []}
    image_id = faults.store(site, b"data")
    assert site.http.put(f"/v1/cached_images/{image_id}").json() == {"queued": True}


def test_a_cache_that_cannot_be_used_is_told_and_images_are_served(make_site, tmp_path):
    (tmp_path / "cache").write_text("no directory")
    site = make_site(
        api={"image_cache_dir": tmp_path / "cache", "image_cache_enabled": True},
        api_pipeline=caching.PIPELINE,
    )
    reply = site.http.get("/v1/cached_images")
    assert (reply.status, str(tmp_path) in reply.body.decode()) == (503, False)
    image_id = faults.store(site, b"data")
    assert site.http.get(f"/v1/images/{image_id}").body == b"data"


# -- glance cache-* and glance-cache-manage ------------------------------------------------------


def test_the_commands_of_glance_show_and_change_the_cache(site):
    kept, other, waiting = cached(site), cached(site, b"other"), faults.store(site, b"third")
    table = site.glance("cache-index").stdout
    assert table.startswith("Found 2 cached images...\nID ")
    assert {row[0] for row in columns(table)} == {str(kept), str(other)}

    assert site.glance("cache-prefetch", waiting, 999999999, "-v").stdout.startswith(
        f"Prefetching image '{waiting}'\nPrefetching image '999999999'\n"
        "No image with ID 999999999 was found\ndone\n"
    )
    table = site.glance("cache-prefetching").stdout
    assert table.startswith("Found 1 images being prefetched...\n")
    assert (columns(table)[0][0], columns(table)[0][-1]) == (str(waiting), "queued")
    refused = site.glance("cache-prefetch", kept)
    assert refused.returncode == 1
    assert refused.stdout.startswith(
        "Failed to prefetch the specified cached image. Got error:\n400 Bad Request\n"
    )

    assert site.glance("cache-purge", other, "-f", "-v").stdout.startswith("done\n")
    assert [entry["id"] for entry in listed(site)] == [kept]
    spoil(site, kept)
    table = site.glance("cache-invalid").stdout
    assert table.startswith("Found 1 invalid cached images...\n")
    assert columns(table)[0][-3:] == (str(len(DATA)), str(len(DATA)), "100")
    assert "Reaped 1 invalid cached images\n" in site.glance("cache-reap-invalid", "-fv").stdout
    assert "Reaped 0 stalled cached images\n" in site.glance("cache-reap-stalled", "-fv").stdout
    assert site.glance("cache-incomplete").stdout == "No incomplete cached images.\n"
    assert "Purged 1 cached images\n" in site.glance("cache-clear", "-fv").stdout
    assert site.glance("cache-index").stdout == "No cached images.\n"


def test_an_image_that_is_being_written_is_shown(site):
    image_id = faults.store(site, os.urandom(32 << 20))
    with contextlib.closing(daemons.http.client.HTTPConnection("127.0.0.1", site.port)) as slow:
        slow.request("GET", f"/v1/images/{image_id}")
        slow.getresponse().read(1000)
        table = until(
            lambda: columns(site.glance("cache-incomplete").stdout), "the entry is shown"
        )
        assert table[0][0] == str(image_id)
        assert table[0][-2] == str(32 << 20)
    until(lambda: not listed(site, "?status=incomplete"), "the entry is settled")


def test_the_command_of_the_cache_shows_and_changes_it(site):
    kept, other, waiting = cached(site), cached(site, b"other"), faults.store(site, b"third")
    table = site.manage("list-cached").stdout
    assert table.startswith("Found 2 cached images...\n" + f"{'ID':<36} Name")
    assert {row[0] for row in columns(table)} == {str(kept), str(other)}
    assert json.loads(site.manage("list-cached", "--json").stdout) == listed(site)

    done = site.manage("queue-image", waiting, 999999999, kept)
    assert done.returncode == 1
    assert "Image 999999999: " in done.stderr and f"Image {kept}: " in done.stderr
    assert columns(site.manage("list-queued").stdout)[0][0] == str(waiting)
    done = site.manage("delete-queued-image", waiting, "--force", "--json")
    assert json.loads(done.stdout) == {"num_deleted": 1}
    assert site.manage("list-queued").stdout == "No queued images.\n"

    declined = site.manage("delete-cached-image", other)
    assert (declined.returncode, len(listed(site))) == (1, 2)
    assert declined.stdout.startswith(f"Delete cached image {other}? [y/N] ")
    assert site.manage("delete-cached-image", other, "-f").returncode == 0
    spoil(site, kept)
    assert columns(site.manage("list-invalid").stdout)[0][0] == str(kept)
    assert site.manage("reap-invalid", "-fv").stdout == "Reaped 1 invalid cached images\n"
    assert site.manage("reap-stalled", "-fv").stdout == "Reaped 0 stalled cached images\n"
    assert site.manage("list-incomplete").stdout == "No incomplete cached images.\n"
    done = site.manage("delete-all-cached-images", "-f", "-v")
    assert done.stdout == "Deleted 1 cached images\n"
    queue(site, waiting)
    assert site.manage("delete-all-queued-images", "-fv").stdout == "Deleted 1 queued images\n"
    figures = dict(line.split() for line in site.manage("stats").stdout.splitlines())
    assert (figures["entries"], figures["queued"]) == ("0", "0")


@pytest.mark.parametrize(
    "words",
    [(), ("list",), ("list-cached", "5"), ("queue-image",), ("delete-cached-image", "1", "2")],
    ids=" ".join,
)
def test_a_wrong_command_line_exits_2(site, words):
    done = site.manage(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "glance-cache-manage: error: " in done.stderr


def test_a_server_that_is_not_there_is_told_in_one_line(site):
    done = site.run("glance-cache-manage", "--port", daemons.free_port(), "stats")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("glance-cache-manage: Unable to connect to server.")
    assert done.stderr.count("\n") == 1


def test_somebody_else_is_not_allowed(strict):
    strict.http.request("GET", "/v1/images", identity("tenant"))
    done = strict.manage("list-cached")
    assert done.returncode == 1
    assert done.stderr.startswith("glance-cache-manage: You are not allowed to do that")


def test_entries_are_verified_here(site):
    good, bad = cached(site), cached(site, b"x" * 1000)
    conf = site.write_conf("glance-cache")
    done = site.manage("verify", "--config-file", conf)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Read 2 entries of {len(DATA) + 1000} bytes\n"
    (site.cache_dir / site.rows()[bad]["file"]).write_bytes(b"y" * 1000)
    done = site.manage("verify", "--config-file", conf, "--json")
    assert done.returncode == 1
    assert [row["id"] for row in json.loads(done.stdout)["invalid"]] == [str(bad)]
    assert [entry["id"] for entry in listed(site)] == [good]


def test_a_lost_index_is_made_anew_from_the_files(site):
    first, second, deleted = cached(site), cached(site, b"second"), cached(site, b"third")
    files = {image_id: site.cache_dir / site.rows()[image_id]["file"] for image_id in site.rows()}
    with sqlite3.connect(site.cache_dir / "cache.db") as index:
        index.execute("DELETE FROM entries")
    files[second].write_bytes(b"secund")
    with sqlite3.connect(site.database) as records:
        records.execute("UPDATE images SET status = 'killed' WHERE id = ?", (deleted,))
    conf = site.write_conf("glance-cache")
    done = site.manage("rebuild-index", "--config-file", conf, "-f")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1 entries: 1 files adopted, 2 removed\n"
    assert [entry["id"] for entry in listed(site)] == [first]
    assert not files[second].exists() and not files[deleted].exists()
    assert site.fetch(first).header("Cache-Status") == "glance; hit"
    # A second time there is nothing to do.
    assert (
        "0 files adopted, 0 removed"
        in site.manage("rebuild-index", "--config-file", conf, "-f").stdout
    )


def test_a_registry_that_is_away_costs_no_file(site):
    cached(site)
    (path,) = site.files("entries")
    with sqlite3.connect(site.cache_dir / "cache.db") as index:
        index.execute("DELETE FROM entries")
    conf = site.write_conf("glance-cache", registry_port=daemons.free_port())
    done = site.manage("rebuild-index", "--config-file", conf, "-f")
    assert done.returncode == 1
    assert done.stderr.startswith("glance-cache-manage: The image registry is unavailable")
    assert path.exists()


# -- glance-cache-prefetcher ---------------------------------------------------------------------


def prefetch(site, *words, **options):
    return site.run(
        "glance-cache-prefetcher", site.write_conf("glance-prefetcher", **options), *words
    )


def test_queued_images_are_fetched_and_one_that_is_gone_is_dropped(site):
    first, gone, second = (faults.store(site, data) for data in (DATA, b"gone", b"second"))
    queue(site, first, gone, second)
    assert site.http.delete(f"/v1/images/{gone}").status == 200
    queued = site.http.get("/v1/queued_images").json()["queued_images"]
    done = prefetch(site)
    assert (done.returncode, done.stderr) == (0, "")
    dropped = len(queued) - 2
    assert f"Pass done: 2 fetched, {dropped} dropped" in done.stdout
    assert {entry["id"] for entry in listed(site)} == {first, second}
    assert site.http.get("/v1/queued_images").json() == {"queued_images": []}
    hit = site.fetch(first)
    assert (hit.header("Cache-Status"), hit.body) == ("glance; hit", DATA)


def test_an_image_that_is_not_active_any_more_is_dropped(site):
    image_id = faults.store(site, b"data")
    queue(site, image_id)
    with sqlite3.connect(site.database) as records:
        records.execute("UPDATE images SET status = 'killed' WHERE id = ?", (image_id,))
    done = prefetch(site)
    assert done.returncode == 0
    assert f"Image {image_id} is not active; it is removed from the queue" in done.stdout
    assert "0 fetched, 1 dropped" in done.stdout


def test_the_pace_of_diablo_is_one_image(site):
    ids = [faults.store(site, b"%d" % number) for number in range(3)]
    queue(site, *ids)
    assert "1 fetched" in prefetch(site, "--once").stdout
    assert site.http.get("/v1/queued_images").json() == {"queued_images": ids[1:]}


def test_data_that_is_not_what_the_record_says_is_tried_again_later(site):
    good, bad = faults.store(site, DATA), faults.store(site, b"right")
    queue(site, bad, good)
    (site.data_dir / str(bad)).write_bytes(b"wrong")
    done = prefetch(site)
    assert done.returncode == 1
    assert f"Image {bad} was not fetched: ChecksumMismatch" in done.stdout
    assert [entry["id"] for entry in listed(site)] == [good]
    (item,) = site.http.get("/v1/queued_images?detail=1").json()["queued_images"]
    assert (item["id"], item["status"], item["attempts"]) == (bad, "queued", 1)
    assert "ChecksumMismatch" in item["error"]
    # Its time has not come yet.
    assert prefetch(site).returncode == 0
    assert str(site.directory) not in done.stdout.replace(str(site.directory / "glance-"), "")


@pytest.mark.parametrize("status", [401, 403, 404, 410, 416, 429, 500, 508])
def test_an_image_whose_server_refuses_delays_only_itself(site, status):
    with faults.Origin() as origin:
        origin.default = faults.answer("200 OK", b"*" * 9)
        bad = faults.new_id()
        headers = meta_headers(id=bad, location=f"{origin.url}/canary?canary=1", size=9)
        assert site.http.post("/v1/images", headers).status == 201
        good = [faults.store(site, b"good"), faults.store(site, b"too")]
        queue(site, bad, *good)
        origin.default = faults.answer(f"{status} No")
        origin.requests.clear()
        done = prefetch(site, http_store_allowed_hosts="127.0.0.1", image_cache_prefetch_workers=1)
        assert done.returncode == 1
        assert "2 fetched, 0 dropped from the queue, 0 left in it, 1 failed" in done.stdout
        assert {entry["id"] for entry in listed(site)} == set(good)
        (line,) = [line for line in done.stdout.splitlines() if f"Image {bad} " in line]
        assert f"was not fetched: {'LocationLoop' if status == 508 else ''}" in line
        assert "canary" not in done.stdout and "Traceback" not in done.stdout + done.stderr
        (item,) = site.http.get("/v1/queued_images?detail=1").json()["queued_images"]
        assert (item["id"], item["status"], item["attempts"]) == (bad, "queued", 1)
        # It waits for its time; others that are queued meanwhile do not.
        later = faults.store(site, b"later")
        queue(site, later)
        assert "1 fetched" in prefetch(site, http_store_allowed_hosts="127.0.0.1").stdout
        assert len(origin.requests) == 1


def test_a_registry_that_is_away_leaves_the_queue_as_it_is(site):
    image_id = faults.store(site, b"data")
    queue(site, image_id)
    done = prefetch(site, registry_port=daemons.free_port())
    assert done.returncode == 1
    assert done.stderr == (
        "ERROR: The image registry is unavailable at the moment; try again later\n"
    )
    (item,) = site.http.get("/v1/queued_images?detail=1").json()["queued_images"]
    assert (item["id"], item["status"], item["attempts"]) == (image_id, "queued", 0)


@pytest.fixture
def slow_source(tmp_path):
    """A web server whose one file comes slowly: its URL, and what lets it go on."""
    code = (
        "import http.server, sys, time\n"
        "class Handler(http.server.BaseHTTPRequestHandler):\n"
        "    def do_HEAD(self, body=False):\n"
        "        self.send_response(200)\n"
        "        self.send_header('Content-Length', str(1 << 22))\n"
        "        self.end_headers()\n"
        "    def do_GET(self):\n"
        "        self.do_HEAD()\n"
        "        for _ in range(1 << 12):\n"
        "            self.wfile.write(bytes(1 << 10))\n"
        "            time.sleep(0 if open(sys.argv[1]).read() else 0.05)\n"
        "    def log_message(self, *args): pass\n"
        "server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)\n"
        "print(server.server_port, flush=True)\n"
        "server.serve_forever()\n"
    )
    fast = tmp_path / "fast"
    fast.write_text("")
    command = [sys.executable, "-c", code, str(fast)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        port = server.stdout.readline().strip()
        yield f"http://127.0.0.1:{port}/image", fast
        server.kill()


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_prefetch_that_was_cut_is_taken_up_by_the_next(make_site, tmp_path, slow_source, signum):
    url, fast = slow_source
    allowed = {"http_store_allowed_hosts": "127.0.0.1"}
    with caching.CachingSite(tmp_path / "cut", api=allowed) as site:
        image_id = faults.reserve(site, location=url, size=1 << 22)
        queue(site, image_id)
        conf = site.write_conf("glance-prefetcher", **allowed)
        command = [sys.executable, str(daemons.BIN / "glance-cache-prefetcher"), str(conf)]
        with subprocess.Popen(
            command, env=daemons.environment(), stdout=subprocess.PIPE, text=True
        ) as program:
            until(lambda: site.rows("incomplete"), "the image is on its way")
            program.send_signal(signum)
            assert program.wait(30) == (-signum if signum == signal.SIGKILL else 0)
        if signum == signal.SIGTERM:
            assert not site.rows("incomplete")
            assert not site.files("incomplete")
        fast.write_text("yes")
        done = prefetch(site, **allowed)
        assert (done.returncode, done.stderr) == (0, "")
        assert "1 fetched" in done.stdout
        assert not site.files("incomplete")
        assert site.fetch(image_id).header("Cache-Status") == "glance; hit"


def test_one_that_goes_on_fetches_what_is_queued_later(site):
    conf = site.write_conf("glance-prefetcher", image_cache_wakeup_time=1)
    command = [sys.executable, str(daemons.BIN / "glance-cache-prefetcher"), "--daemon", str(conf)]
    program = subprocess.Popen(
        command, env=daemons.environment(), stdout=subprocess.PIPE, text=True
    )
    reader = threading.Thread(target=program.stdout.read)
    reader.start()
    try:
        for data in (b"first", b"second"):
            image_id = faults.store(site, data)
            queue(site, image_id)
            site.until_cached(image_id)
        program.terminate()
        assert program.wait(30) == 0
    finally:
        program.kill()
        reader.join()
        program.wait()


def test_the_prefetcher_signs_in_as_the_registry_wants(strict):
    owner = identity("tenant", roles="admin")
    reply = strict.http.add(b"private", owner, name="private")
    image_id = reply.json()["image"]["id"]
    assert strict.http.request("PUT", f"/v1/queued_images/{image_id}", owner).status == 200
    refused = prefetch(strict)
    assert refused.returncode == 1
    assert refused.stderr.startswith("ERROR: ")
    done = prefetch(strict, send_identity_headers=True)
    assert (done.returncode, "1 fetched" in done.stdout) == (0, True)


# -- glance-cache-pruner and glance-cache-cleaner ------------------------------------------------


def test_the_pruner_makes_room_for_the_least_recently_used(site):
    ids = [cached(site, os.urandom(1000)) for _ in range(4)]
    site.fetch(ids[0])
    until(lambda: site.rows()[ids[0]]["hits"], "the hit is counted")
    conf = site.write_conf(
        "glance-pruner", image_cache_max_size_bytes=2500, image_cache_percent_extra_to_free=0
    )
    done = site.run("glance-cache-pruner", conf)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Pass done: 2 files of 2000 bytes removed" in done.stdout
    assert {entry["id"] for entry in listed(site)} == {ids[0], ids[3]}
    assert "Pass done: 0 files" in site.run("glance-cache-pruner", conf).stdout


def test_the_pruner_of_an_empty_cache_has_nothing_to_do(site):
    assert site.run("glance-cache-pruner", site.write_conf("glance-pruner")).returncode == 0


def test_a_pruner_that_cannot_free_enough_says_so(site):
    cached(site, b"data")
    conf = site.write_conf("glance-pruner", image_cache_min_free_disk=1 << 60)
    done = site.run("glance-cache-pruner", conf)
    assert done.returncode == 1
    assert "which is not enough" in done.stdout


@pytest.mark.parametrize("program", ["glance-cache-cleaner", "glance-cache-reaper"])
def test_the_cleaner_removes_what_nobody_needs(site, program):
    kept, inactive, invalid = cached(site), cached(site, b"inactive"), cached(site, DATA[::-1])
    path = site.cache_dir / site.rows()[invalid]["file"]
    path.write_bytes(b"x" * len(DATA))
    site.fetch(invalid)
    until(lambda: listed(site, "?status=invalid"), "the entry is invalid")
    (site.cache_dir / "incomplete" / "stray").write_bytes(b"x")
    with sqlite3.connect(site.database) as records:
        records.execute("UPDATE images SET status = 'killed' WHERE id = ?", (inactive,))
    conf = site.write_conf("glance-reaper", image_cache_invalid_entry_grace_period=0)
    done = site.run(program, conf)
    assert (done.returncode, done.stderr) == (0, "")
    # What the API is just writing anew may count as a stray, too.
    assert re.search("1 invalid, 0 incomplete, [12] strays, 0 vanished, 1 inactive", done.stdout)
    assert kept in {entry["id"] for entry in listed(site)}
    assert inactive not in {entry["id"] for entry in listed(site)}
    assert not site.files("invalid") and not site.files("incomplete")


def test_a_cleaner_that_cannot_ask_cleans_and_says_so(site):
    image_id = cached(site)
    (site.cache_dir / "incomplete" / "stray").write_bytes(b"x")
    conf = site.write_conf("glance-reaper", registry_port=daemons.free_port())
    done = site.run("glance-cache-cleaner", conf)
    assert done.returncode == 1
    assert not site.files("incomplete")
    assert [entry["id"] for entry in listed(site)] == [image_id]


# -- what holds for all programs -----------------------------------------------------------------

PROGRAMS = {
    "glance-cache-prefetcher": "glance-prefetcher",
    "glance-cache-pruner": "glance-pruner",
    "glance-cache-cleaner": "glance-reaper",
    "glance-cache-reaper": "glance-reaper",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_without_a_file_of_its_own_takes_that_of_the_api(site, program):
    for path in site.directory.glob("glance-*.conf"):
        if path != site.api.conf and path != site.registry.conf:
            path.unlink()
    done = site.run(program)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Using the configuration file {site.api.conf}" in done.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_all_that_is_wrong_with_a_configuration_is_told_at_once(site, program):
    conf = site.write_conf(
        PROGRAMS[program],
        image_cache_percent_extra_to_free=1,
        image_cache_max_size=-1,
        image_cache_wakeup_time="soon",
    )
    done = site.run(program, conf)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 3 and all(line.startswith("ERROR: ") for line in lines)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_missing_file_and_a_wrong_option_exit_2(tmp_path, site, program):
    assert site.run(program, tmp_path / "none.conf").returncode == 2
    assert site.run(program, "--nonsense").returncode == 2


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_directory_that_cannot_be_used_fails_the_pass(site, tmp_path, program):
    (tmp_path / "file").write_text("")
    conf = site.write_conf(PROGRAMS[program], image_cache_dir=tmp_path / "file")
    done = site.run(program, conf)
    assert done.returncode == 1
    assert done.stderr.startswith("ERROR: The directory of the image cache cannot be used")
