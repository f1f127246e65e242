"""What HTTP caches and tools for downloads get from real daemons: RFC 9110 §8.8, §13 and §14."""

import hashlib
import http.server
import os
import subprocess
import threading
import time

import pytest

from glance.http import dates

from support import rawhttp
from support.caching import CachingSite, source

DATA = bytes(range(200)) * 50
SIZE = len(DATA)
MD5 = hashlib.md5(DATA).hexdigest()
TAG = f'"{MD5}"'
TOKENS = "X-Auth-Token, X-Storage-Token, Authorization"
OLD, FUTURE = "Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"
OWNER, OTHER = rawhttp.identity("t1"), rawhttp.identity("t2")
VARYING = {"date", "x-openstack-request-id", "cache-status", "connection"}


class Origin(http.server.BaseHTTPRequestHandler):
    """A web server with DATA at every path, under the tag in the path, if there is one."""

    asked: list[str] = []

    def do_GET(self):
        self.asked.append(f"{self.command} {self.headers.get('Range')}")
        data, wanted = DATA, self.headers.get("Range")
        self.send_response(206 if wanted else 200)
        if wanted:
            first, last = wanted.removeprefix("bytes=").split("-")
            last = int(last or SIZE - 1)
            self.send_header("Content-Range", f"bytes {first}-{last}/{SIZE}")
            data = DATA[int(first) : last + 1]
        if "tag" in self.path:
            self.send_header("ETag", 'W/"v1"' if "weak" in self.path else '"v1"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def origin():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    options = {"http_store_allowed_hosts": "127.0.0.1", "policy_set_location": "anyone"}
    directory = tmp_path_factory.mktemp("http")
    with CachingSite(directory, auth_mode="trusted-headers", api=options) as running:
        yield running


class Image:
    """An image of a site, whose data became complete an hour ago."""

    def __init__(self, site, data=DATA, headers=None, **meta):
        self.site = site
        sent = {"disk_format": "raw", "is_public": "true", **meta}
        if data is None:
            headers = {**rawhttp.meta_headers(**sent), **(headers or {})}
            made = site.http.post("/v1/images", {**OWNER, **headers})
        else:
            # NOTE: only with a chunked body does no data mean an empty image.
            made = site.http.add(data or iter(()), {**OWNER, **(headers or {})}, **sent)
        assert (made.status, made.header("ETag")) == (201, None), made.text
        self.id = made.json()["image"]["id"]
        self.path = f"/v1/images/{self.id}"
        then = time.strftime("%Y-%m-%d %H:%M:%S.500000", time.gmtime(time.time() - 3600))
        site.sql("UPDATE images SET activated_at = :t WHERE id = :id", t=then, id=self.id)

    def ask(self, method="GET", who=None, path="{}", **headers):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        where = path.format(self.path)
        return self.site.http.request(method, where, {**(who or OWNER), **sent})

    def modified(self):
        return self.ask("HEAD").header("Last-Modified")


@pytest.fixture(scope="module", params=["store", "cache"])
def image(request, site):
    """An image that the application serves from the store, or from its own cache."""
    made = Image(site, name="web")
    if request.param == "cache":
        made.ask()
        site.until_cached(made.id)
    return made


def told(reply):
    """Return the headers that do not change from one response to the next."""
    return sorted((k.lower(), v) for k, v in reply.headers if k.lower() not in VARYING)


def times(image):
    """Return dates before, at and after Last-Modified."""
    seconds = dates.parse_date(image.modified())
    return [dates.format_date(seconds + step) for step in (-1, 0, 1)]


# -- validators and HEAD -------------------------------------------------------------------------


def test_head_is_get_without_its_body(image):
    head, get = image.ask("HEAD"), image.ask()
    assert told(head) == told(get)
    assert (head.status, head.body, get.status, get.body) == (200, b"", 200, DATA)
    assert head.header("Content-Length") == str(SIZE)
    assert (head.header("ETag"), head.header("Accept-Ranges")) == (TAG, "bytes")
    assert head.header("Cache-Control") == "public, no-cache, no-transform"
    assert head.header("Vary") is head.header("Expires") is head.header("Set-Cookie") is None
    assert head.header("X-Image-Id") == str(image.id)
    assert head.header("Surrogate-Key") == f"image-{image.id}"
    assert head.header("Content-Disposition") == 'attachment; filename="web.raw"'
    assert dates.parse_date(head.header("Last-Modified")) < dates.parse_date(head.header("Date"))


def test_a_miss_of_the_cache_looks_like_a_hit(site):
    image = Image(site)
    miss = image.ask()
    site.until_cached(image.id)
    hit = image.ask()
    assert (source(miss), source(hit)) == ("stored", "hit")
    assert told(miss) == told(hit)


def test_a_new_name_is_no_new_data(site):
    image = Image(site, name="before")
    before = image.modified()
    assert image.ask("PUT", x_image_meta_name="after").header("ETag") is None
    unchanged = image.ask(If_None_Match=TAG)
    assert unchanged.status == 304
    assert unchanged.meta()["name"] == "after"
    assert unchanged.header("Content-Disposition") == 'attachment; filename="after.raw"'
    assert unchanged.header("Last-Modified") == before
    assert unchanged.header("Content-Length") is unchanged.header("Content-Type") is None
    assert unchanged.header("Accept-Ranges") == "bytes"


def test_what_is_not_active_is_kept_by_nobody(site):
    image = Image(site, None, {"x-image-meta-checksum": MD5}, name="later", size=SIZE)
    head = image.ask("HEAD", If_None_Match="*")
    assert (head.status, head.header("Content-Length"), head.header("ETag")) == (200, "0", None)
    assert head.header("Last-Modified") is None
    assert head.header("Cache-Control") == "no-store"
    assert head.meta()["status"] == "queued"


@pytest.mark.parametrize("age", [0, 10])
def test_an_image_of_this_minute_has_a_date_that_is_no_strong_validator(site, age):
    image = Image(site)
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() - age))
    site.sql("UPDATE images SET activated_at = :t WHERE id = :id", t=when, id=image.id)
    assert image.ask(Range="bytes=0-1", If_Range=image.modified()).status == 200


# -- conditions ----------------------------------------------------------------------------------

BEFORE, SAME, AFTER = "before", "same", "after"
CONDITIONS = [
    ({}, 200),
    ({"If-Match": TAG}, 200),
    ({"If-Match": MD5}, 200),
    ({"If-Match": "*"}, 200),
    ({"If-Match": f'"x", {TAG}'}, 200),
    ({"If-Match": f"W/{TAG}"}, 412),
    ({"If-Match": '"x"'}, 412),
    ({"If-Match": ""}, 412),
    ({"If-Unmodified-Since": BEFORE}, 412),
    ({"If-Unmodified-Since": SAME}, 200),
    ({"If-Unmodified-Since": AFTER}, 200),
    ({"If-Unmodified-Since": "yesterday"}, 200),
    ({"If-None-Match": TAG}, 304),
    ({"If-None-Match": MD5}, 304),
    ({"If-None-Match": f"W/{TAG}"}, 304),
    ({"If-None-Match": "*"}, 304),
    ({"If-None-Match": f'"x",{TAG}'}, 304),
    ({"If-None-Match": '"x"'}, 200),
    ({"If-None-Match": '"\u00e9"'.encode().decode("latin-1")}, 200),
    ({"If-Modified-Since": BEFORE}, 200),
    ({"If-Modified-Since": SAME}, 304),
    ({"If-Modified-Since": FUTURE}, 304),
    ({"If-Modified-Since": "Friday, 31-Dec-49 23:59:59 GMT"}, 304),
    ({"If-Modified-Since": "Sun Nov  6 08:49:37 1994"}, 200),
    ({"If-Modified-Since": "0"}, 200),
    ({"If-Match": TAG, "If-Unmodified-Since": OLD}, 200),
    ({"If-Match": '"x"', "If-Unmodified-Since": FUTURE}, 412),
    ({"If-Match": '"x"', "If-None-Match": TAG}, 412),
    ({"If-Match": TAG, "If-None-Match": TAG}, 304),
    ({"If-None-Match": '"x"', "If-Modified-Since": FUTURE}, 200),
    ({"If-None-Match": TAG, "If-Modified-Since": OLD}, 304),
    ({"If-Unmodified-Since": FUTURE, "If-Modified-Since": FUTURE}, 304),
]


@pytest.mark.parametrize(("headers", "status"), CONDITIONS)
def test_conditions(image, headers, status):
    days = dict(zip((BEFORE, SAME, AFTER), times(image), strict=True))
    sent = {name: days.get(value, value) for name, value in headers.items()}
    for method in ("GET", "HEAD"):
        reply = image.ask(method, **sent)
        assert reply.status == status
        if status == 412:
            assert reply.header("Cache-Control") == "no-store"
            assert reply.header("ETag") is None
        else:
            assert reply.header("ETag") == TAG
        assert reply.body == (DATA if (method, status) == ("GET", 200) else reply.body)
        assert status != 304 or reply.body == b""


def test_a_condition_tells_nothing_to_those_who_may_not_see_an_image(site):
    image = Image(site, is_public="false")
    for condition in (TAG, "*", '"x"'):
        for method in ("GET", "HEAD", "PUT", "DELETE"):
            for name in ("If_None_Match", "If_Match"):
                reply = image.ask(method, OTHER, **{name: condition})
                assert (reply.status, reply.header("Cache-Control")) == (404, "no-store")
                assert reply.header("ETag") is None


def test_a_change_is_made_only_if_its_condition_holds(site):
    image = Image(site, name="before")
    before, same, _ = times(image)
    for refused in ({"If_Match": '"x"'}, {"If_Unmodified_Since": before}, {"If_None_Match": "*"}):
        for method in ("PUT", "DELETE"):
            assert image.ask(method, x_image_meta_name="after", **refused).status == 412
    assert image.ask("HEAD").meta()["name"] == "before"
    assert image.ask("PUT", x_image_meta_name="after", If_Unmodified_Since=same).status == 200
    assert image.ask("PUT", x_image_meta_name="last", If_Unmodified_Since=same).status == 200
    assert image.ask("HEAD").meta()["name"] == "last"
    assert image.ask("DELETE", If_Match=TAG).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If_None_Match": TAG}, 304),
        ({"If_Modified_Since": FUTURE}, 304),
        ({"If_Match": '"x"'}, 412),
        ({"Range": f"bytes={SIZE}-"}, 416),
        ({"Range": "bytes=0-1", "If_None_Match": TAG}, 304),
    ],
)
def test_no_backend_is_opened_for_304_412_and_416(site, origin, headers, status):
    location = {"x-image-meta-location": f"{origin}/x", "x-image-meta-checksum": MD5}
    image = Image(site, None, location, size=SIZE)
    Origin.asked.clear()
    assert image.ask(**headers).status == status
    assert Origin.asked == []
    # And so the count would have seen it.
    assert image.ask(Range="bytes=0-1").body == DATA[:2]
    assert Origin.asked == ["GET bytes=0-1"]


# -- ranges --------------------------------------------------------------------------------------

MANY = ",".join(f"{first}-{first}" for first in range(16))
RANGES = [
    ("bytes=0-0", (0, 1)),
    ("bytes=5-", (5, SIZE)),
    ("bytes=-7", (SIZE - 7, SIZE)),
    (f"bytes=0-{SIZE}", (0, SIZE)),
    ("bytes=1-99999999999999999999999999", (1, SIZE)),
    (f"bytes=-{SIZE + 1}", (0, SIZE)),
    ("BYTES=0-4", (0, 5)),
    ("bytes=0-4,", (0, 5)),
    ("bytes=0-4,5-9", (0, 10)),
    ("bytes=5-9, 0-6", (0, 10)),
    ("bytes=0-9,90-99", (0, 100)),
    ("bytes=0-9,91-99", None),
    (f"bytes=0-4,{SIZE}-", (0, 5)),
    ("bytes=0-4,-0", (0, 5)),
    (f"bytes={MANY}", (0, 16)),
    (f"bytes={MANY},16-16", None),
    ("bytes=0-4,9-5", None),
    ("bytes=9-5", None),
    ("bytes=", None),
    ("bytes=x", None),
    ("bytes=0-4;", None),
    ("lines=0-4", None),
    (f"bytes={SIZE}-", 416),
    ("bytes=-0", 416),
    (f"bytes={SIZE}-,-0", 416),
]


@pytest.mark.parametrize(("wanted", "part"), RANGES)
def test_ranges(image, wanted, part):
    reply, whole = image.ask(Range=wanted), image.ask("HEAD", Range=wanted)
    assert whole.status == 200 and whole.header("Content-Length") == str(SIZE)
    if part == 416:
        assert (reply.status, reply.header("Content-Range")) == (416, f"bytes */{SIZE}")
        assert (reply.header("Cache-Control"), reply.header("ETag")) == ("no-store", None)
        assert reply.header("Content-Type").startswith("text/plain") and len(reply.body) < 200
        return
    first, end = part or (0, SIZE)
    assert (reply.status, reply.body) == (206 if part else 200, DATA[first:end])
    expected = f"bytes {first}-{end - 1}/{SIZE}" if part else None
    assert reply.header("Content-Range") == expected
    own = {"content-length", "content-range"}
    assert [pair for pair in told(reply) if pair[0] not in own] == [
        pair for pair in told(whole) if pair[0] not in own
    ]


@pytest.mark.parametrize(
    ("condition", "counts"),
    [
        (TAG, True),
        (MD5, True),
        (SAME, True),
        (BEFORE, False),
        (AFTER, False),
        (f"W/{TAG}", False),
        ("*", False),
        (f'"x", {TAG}', False),
        ("", False),
    ],
)
def test_if_range(image, condition, counts):
    days = dict(zip((BEFORE, SAME, AFTER), times(image), strict=True))
    condition = days.get(condition, condition)
    for wanted, status in (("bytes=2-4", 206), (f"bytes={SIZE}-", 416)):
        reply = image.ask(Range=wanted, If_Range=condition)
        assert reply.status == (status if counts else 200)
    assert image.ask(If_Range=condition).body == DATA


@pytest.mark.parametrize("data", [b"", b"x"])
def test_an_image_of_hardly_any_bytes(site, data):
    image, tag = Image(site, data), f'"{hashlib.md5(data).hexdigest()}"'
    head, get = image.ask("HEAD"), image.ask()
    assert told(head) == told(get) and get.body == data
    assert (head.header("Content-Length"), head.header("ETag")) == (str(len(data)), tag)
    for wanted in ("bytes=0-", "bytes=-1", "bytes=0-0"):
        reply = image.ask(Range=wanted)
        assert reply.status == (206 if data else 416)
        expected = "bytes 0-0/1" if data else "bytes */0"
        assert reply.header("Content-Range") == expected
    assert image.ask(Range="bytes=1-").status == 416
    assert image.ask(Range="bytes=x").status == 200


def test_an_image_of_ten_gigabytes(site):
    image, size = Image(site), 10**10
    file = next(path for path in site.data_files() if path.name == str(image.id))
    os.truncate(file, size)
    site.sql("UPDATE images SET size = :s WHERE id = :id", s=size, id=image.id)
    assert image.ask("HEAD").header("Content-Length") == str(size)
    reply = image.ask(Range=f"bytes={size - 3}-{size + 5}")
    assert (reply.status, reply.body) == (206, bytes(3))
    assert reply.header("Content-Range") == f"bytes {size - 3}-{size - 1}/{size}"
    assert image.ask(Range="bytes=-5,-9").header("Content-Length") == "9"
    assert image.ask(Range=f"bytes={size}-").header("Content-Range") == f"bytes */{size}"
    assert image.ask(If_None_Match=TAG).status == 304
    assert image.ask("DELETE").status == 200


# -- data of others ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "tag"), [("/tag", '"v1"'), ("/tag/weak", None), ("/nothing", None)]
)
def test_data_of_others_without_a_checksum(site, origin, path, tag):
    """The service promises nothing about it; what its origin promises is passed on."""
    image = Image(site, None, {"x-image-meta-location": origin + path}, size=SIZE)
    head = image.ask("HEAD")
    for reply in (head, image.ask(If_Modified_Since=FUTURE)):
        assert (reply.status, reply.header("Content-Length")) == (200, str(SIZE))
        assert reply.header("Last-Modified") is None
        assert reply.header("Cache-Control") == "no-store"
    assert head.header("ETag") is head.header("Accept-Ranges") is None
    part = image.ask(Range="bytes=2-4")
    assert (part.header("ETag"), part.status) == (tag, 206 if tag else 200)
    assert part.body == (DATA[2:5] if tag else DATA)
    assert part.header("Accept-Ranges") == ("bytes" if tag else "none")
    assert image.ask(Range="bytes=2-4", If_Range='"v1"').status == part.status
    for condition in ('"v2"', 'W/"v1"', FUTURE):
        other = image.ask(Range="bytes=2-4", If_Range=condition)
        assert (other.status, other.body) == (200, DATA)


# -- who may keep what ---------------------------------------------------------------------------


def test_what_only_some_may_see_varies_by_their_tokens(site):
    image = Image(site, is_public="false")
    for reply in (image.ask(), image.ask("HEAD"), image.ask(If_None_Match=TAG)):
        assert reply.header("Cache-Control") == "private, no-cache, no-transform"
        assert reply.header("Vary") == TOKENS
    paths = ["/v1/images", "/v1/images/detail", f"{image.path}/members", "/v1/shared-images/t1"]
    for path in (*paths, "/v1/cached_images", "/v1/cache_stats"):
        reply = site.http.get(path, rawhttp.ADMIN)
        assert (reply.status, reply.header("Cache-Control")) == (200, "private, no-cache")
        assert reply.header("Vary") == TOKENS


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v1/images/999999", OWNER, 404),
        ("HEAD", "/v1/images/x", OWNER, 404),
        ("GET", "/v1/nothing", OWNER, 404),
        ("GET", "/v1/images", {}, 401),
        ("GET", "/v1/cache_stats", OWNER, 403),
        ("PATCH", "/v1/images", OWNER, 405),
        ("BREW", "/v1/images", OWNER, 501),
        ("GET", "/v1/images?limit=x", OWNER, 400),
        ("GET", "/v1/images?name=" + "n" * 17_000, OWNER, 414),
        ("GET", "/v1/images", {"x-long": "x" * 17_000}, 431),
        ("GET", "/healthcheck", {}, 200),
    ],
)
def test_nobody_keeps_errors_and_what_says_nothing(site, method, path, headers, status):
    reply = site.http.request(method, path, headers)
    assert reply.status == status
    assert reply.header("Cache-Control") == "no-store"


def test_accept_matters_only_where_no_version_is_in_the_path(site, image):
    for path in (f"/images/{image.id}", "/images", "/", "/versions", "/images/999999"):
        reply = site.http.get(path, OWNER)
        assert reply.header("Vary").split(", ")[-1] == "Accept"
        assert len([name for name, _ in reply.headers if name.lower() == "vary"]) == 1
    for prefix in ("v1", "v1.0", "v1.1"):
        reply = site.http.get(f"/{prefix}/images/{image.id}", OWNER)
        assert reply.header("Vary") is None


# -- tools ---------------------------------------------------------------------------------------


@pytest.fixture
def public(tmp_path_factory, site):
    return Image(site, name="debian-12")


def run(directory, *words):
    sent = [word for each in OWNER.items() for word in ("--header", ": ".join(each))]
    command = [words[0], *sent, *words[1:]]
    env = {**os.environ, "LC_ALL": "C.UTF-8", "no_proxy": "*"}
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done


def test_wget_fetches_an_image_again_only_if_it_is_new(site, tmp_path, public):
    """By Last-Modified and the length in HEAD."""
    url = site.url + public.path
    run(tmp_path, "wget", "-N", url)
    file = tmp_path / str(public.id)
    assert file.read_bytes() == DATA
    assert int(file.stat().st_mtime) == dates.parse_date(public.modified())
    inode = file.stat().st_ino
    run(tmp_path, "wget", "-N", "--no-if-modified-since", url)
    run(tmp_path, "wget", "-N", url)
    assert file.stat().st_ino == inode and file.read_bytes() == DATA
    os.truncate(file, 5)
    run(tmp_path, "wget", "-N", "--no-if-modified-since", url)
    assert file.read_bytes() == DATA


def test_wget_and_curl_resume_and_name_the_file(site, tmp_path, public):
    url = site.url + public.path
    run(tmp_path, "wget", "--content-disposition", url)
    assert (tmp_path / "debian-12.raw").read_bytes() == DATA
    (tmp_path / "debian-12.raw").unlink()
    run(tmp_path, "curl", "-sS", "-f", "-O", "-J", url)
    assert (tmp_path / "debian-12.raw").read_bytes() == DATA
    for words in (("wget", "-q", "-c", "-O", "part", url), ("curl", "-sSf", "-C-", "-opart", url)):
        (tmp_path / "part").write_bytes(DATA[:999])
        run(tmp_path, *words)
        assert (tmp_path / "part").read_bytes() == DATA


def test_curl_asks_by_date_and_by_tag(site, tmp_path, public):
    url = site.url + public.path
    shown = ("-sS", "-o", "out", "-w", "%{http_code} %{size_download}", url)
    assert run(tmp_path, "curl", "-R", "--etag-save", "tag", *shown).stdout == f"200 {SIZE}"
    assert (tmp_path / "tag").read_text().strip() == TAG
    assert run(tmp_path, "curl", "-z", "out", *shown).stdout == "304 0"
    assert run(tmp_path, "curl", "--etag-compare", "tag", *shown).stdout == "304 0"
    assert run(tmp_path, "curl", "-z", OLD, *shown).stdout == f"200 {SIZE}"


@pytest.mark.parametrize("name", ["B\u00fccher", "../../x", "a b"])
def test_wget_saves_odd_names_in_its_own_directory(site, tmp_path, name):
    image = Image(site, name=name.encode().decode("latin-1"))
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    run(inner, "wget", "--content-disposition", site.url + image.path)
    (saved,) = inner.iterdir()
    assert saved.read_bytes() == DATA and saved.suffix == ".raw"
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a", inner, saved]
