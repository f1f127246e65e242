"""Images on web servers that fail, lie, or lie where nobody may read: registered and copied."""

import contextlib
import hashlib
import http.client
import os
import re
import socket

import pytest

from support import caching, daemons, faults
from support.faults import answer, chunked, new_id, redirect, resetting
from support.rawhttp import meta_headers

DATA = os.urandom(300_000)
HALF = DATA[: len(DATA) // 2]
GOOD = answer("200 OK", DATA)
READ_TIMEOUT = 1


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site that may read from loopback."""
    options = {
        "http_store_allowed_hosts": "127.0.0.1",
        "http_store_connect_timeout": 1,
        "http_store_read_timeout": READ_TIMEOUT,
    }
    with daemons.Site(tmp_path_factory.mktemp("http"), workers=2, api=options) as running:
        yield running


@pytest.fixture(scope="module")
def caching_site(tmp_path_factory):
    options = {"http_store_allowed_hosts": "127.0.0.1", "http_store_read_timeout": READ_TIMEOUT}
    with caching.CachingSite(tmp_path_factory.mktemp("caching"), api=options) as running:
        yield running


@pytest.fixture(scope="module")
def strict_site(tmp_path_factory):
    """A site with the rules for addresses as they are by default."""
    with daemons.Site(tmp_path_factory.mktemp("strict")) as running:
        yield running


@pytest.fixture
def origin():
    with faults.Origin() as running:
        yield running


def register(site, location, **meta):
    image_id = new_id()
    headers = meta_headers(id=image_id, location=location, **meta)
    reply = site.http.post("/v1/images", headers)
    assert reply.status == 201, reply
    return image_id


def registered(site, origin, behaviour):
    """Register an image that is good; only then its server begins to fail."""
    origin.paths["/image"] = GOOD
    image_id = register(site, f"{origin.url}/image")
    assert site.http.get(f"/v1/images/{image_id}").body == DATA
    origin.paths["/image"] = behaviour
    return image_id


def copy(site, source, **meta):
    image_id = new_id()
    headers = {**meta_headers(id=image_id, **meta), "x-glance-api-copy-from": source}
    reply = site.http.post("/v1/images", headers)
    assert reply.status == 201, reply
    return image_id


def loop(origin):
    origin.paths["/there"] = redirect("/back")
    origin.paths["/back"] = redirect("/there")
    return redirect("/there")


# -- servers that fail before their data comes ---------------------------------------------------

REFUSALS = {
    "400": (answer("400 Bad Request"), 503),
    "401": (answer("401 Unauthorized"), 503),
    "403": (answer("403 Forbidden"), 503),
    "404": (answer("404 Not Found", b"<html>not found</html>"), 404),
    "410": (answer("410 Gone"), 404),
    "407": (answer("407 Proxy Authentication Required"), 503),
    "416": (answer("416 Range Not Satisfiable"), 503),
    "429": (answer("429 Too Many Requests"), 503),
    "500": (answer("500 Internal Server Error", DATA), 503),
    "503": (answer("503 Service Unavailable", headers="Retry-After: 9\r\n"), 503),
    "204": (answer("204 No Content", length=None), 503),
    "206-unasked": (
        answer("206 Partial Content", HALF, headers="Content-Range: bytes 0-149999/300000\r\n"),
        503,
    ),
    "304": (answer("304 Not Modified", length=None), 503),
    "redirect-to-metadata-service": (redirect("http://169.254.169.254/latest/meta-data/"), 503),
    "redirect-to-another-host": (redirect("http://localhost/"), 503),
    "redirect-to-file": (redirect("file:///etc/passwd"), 503),
    "redirect-to-nowhere": (redirect(""), 503),
    "redirect-without-location": (answer("302 Found"), 503),
    "redirect-loop": (loop, 503),
    "stall": (lambda origin: origin.stall(), 503),
    "reset": (resetting(), 503),
    "nothing": (lambda connection, method: None, 503),
    "no-http": (lambda connection, method: connection.sendall(b"220 mail ready\r\n"), 503),
    "garbage-at-once": (
        answer("200 OK", b"zz\r\n", length=None, headers="Transfer-Encoding: chunked\r\n"),
        503,
    ),
    "away": (lambda origin: origin.__exit__() or GOOD, 503),
}


def made(behaviour, origin):
    """Some behaviours need the origin; they are functions of one argument."""
    return behaviour(origin) if behaviour.__code__.co_argcount == 1 else behaviour


@pytest.mark.parametrize("behaviour, status", REFUSALS.values(), ids=REFUSALS)
def test_a_download_from_a_server_that_refuses_tells_so(site, origin, behaviour, status):
    image_id = registered(site, origin, GOOD)
    origin.paths["/image"] = made(behaviour, origin)
    reply = site.http.get(f"/v1/images/{image_id}")
    assert reply.status == status
    assert reply.header("x-image-meta-checksum") is None
    assert "Traceback" not in reply.text
    assert HALF[:1000] not in reply.body
    if status == 503:
        assert int(reply.header("Retry-After")) > 0
    assert faults.status_of(site, image_id) == "active"


@pytest.mark.parametrize("behaviour, status", REFUSALS.values(), ids=REFUSALS)
def test_a_copy_from_a_server_that_refuses_ends_killed(site, origin, behaviour, status):
    origin.paths["/image"] = made(behaviour, origin)
    faults.assert_killed(site, copy(site, f"{origin.url}/image"))


# -- servers that fail while their data comes ----------------------------------------------------

CUTS = {
    "short": answer("200 OK", HALF, length=len(DATA)),
    "short-without-length": answer("200 OK", HALF, length=None),
    "short-chunked": chunked(HALF, complete=False),
    "short-chunked-in-good-order": chunked(HALF),
    "reset": resetting(answer("200 OK", HALF, length=len(DATA))),
    "stall": lambda origin: origin.stall(answer("200 OK", HALF, length=len(DATA))),
    "stall-chunked": lambda origin: origin.stall(chunked(HALF, complete=False)),
    "garbage-chunk": answer(
        "200 OK",
        b"%x\r\n%b\r\nzz\r\n" % (len(HALF), HALF),
        length=None,
        headers="Transfer-Encoding: chunked\r\n",
    ),
    "long-without-length": answer("200 OK", DATA + b"more", length=None),
    "long-chunked": chunked(DATA, b"more"),
}


@pytest.mark.parametrize("behaviour", CUTS.values(), ids=CUTS)
def test_a_download_from_a_server_that_breaks_off_never_looks_complete(site, origin, behaviour):
    image_id = registered(site, origin, GOOD)
    origin.paths["/image"] = made(behaviour, origin)
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", site.port, timeout=faults.PATIENCE)
    ) as connection:
        connection.request("GET", f"/v1/images/{image_id}")
        response = connection.getresponse()
        assert response.status == 200
        assert response.getheader("Content-Length") == str(len(DATA))
        try:
            got = response.read()
        except (http.client.IncompleteRead, ConnectionResetError) as err:
            got = getattr(err, "partial", b"")
            assert DATA.startswith(got)
        else:
            # Nothing but what the record promises can look complete.
            assert got == DATA


@pytest.mark.parametrize("behaviour", [answer("200 OK", HALF), answer("200 OK", DATA + b"more")])
def test_a_download_of_data_whose_size_has_changed_is_no_success(site, origin, behaviour):
    image_id = registered(site, origin, behaviour)
    reply = site.http.get(f"/v1/images/{image_id}")
    assert reply.status in (500, 503)
    assert HALF[:1000] not in reply.body


@pytest.mark.parametrize(
    "name", sorted({*CUTS} - {"short-without-length", "short-chunked-in-good-order"})
)
def test_a_copy_from_a_server_that_breaks_off_ends_killed(site, origin, name):
    origin.paths["/image"] = made(CUTS[name], origin)
    # NOTE: the size is declared for those that end in good order after too many bytes.
    faults.assert_killed(site, copy(site, f"{origin.url}/image", size=len(DATA)))


@pytest.mark.parametrize("name", ["short-without-length", "short-chunked-in-good-order"])
def test_a_copy_of_fewer_bytes_than_declared_ends_killed(site, origin, name):
    origin.paths["/image"] = CUTS[name]
    faults.assert_killed(site, copy(site, f"{origin.url}/image", size=len(DATA)))


def test_a_copy_with_another_checksum_than_declared_ends_killed(site, origin):
    origin.paths["/image"] = GOOD
    wrong = hashlib.md5(HALF).hexdigest()
    faults.assert_killed(site, copy(site, f"{origin.url}/image", checksum=wrong))


# -- what the log has of them --------------------------------------------------------------------

PATH = "/path-canary"
#: What cannot be seen in a copy whose size is not declared.
UNSEEN = {"short-without-length", "short-chunked-in-good-order", "long-without-length"}
UNSEEN |= {"long-chunked"}


def complaints(site, before, image_id):
    """Return the lines that are no INFO since the log had the text `before`.

    The last line about the image of another test may come after that test has ended.
    """
    lines = site.api.log().removeprefix(before).splitlines()
    other = re.compile(rf"\bImage (?!{image_id}\b)[0-9]+[ :]")
    return [line for line in lines if " INFO " not in line and not other.search(line)]


def one_complaint(site, before, image_id):
    """Wait for the one line about an image that failed; nothing else may have been logged."""
    lines = faults.until(lambda: complaints(site, before, image_id), "the failure is logged")
    assert len(lines) == 1, lines
    assert " WARNING " in lines[0] and str(image_id) in lines[0]
    assert "canary" not in lines[0]
    return lines[0]


@pytest.mark.parametrize("kind", ["site", "caching_site"])
@pytest.mark.parametrize("name", [*REFUSALS, *CUTS])
def test_a_download_that_fails_is_one_line_in_the_log(request, origin, kind, name):
    site = request.getfixturevalue(kind)
    origin.paths[PATH] = GOOD
    location = f"{origin.url}{PATH}?canary=1".replace("//", "//user:canary@")
    image_id = register(site, location, size=len(DATA))
    behaviour = made(CUTS[name] if name in CUTS else REFUSALS[name][0], origin)
    origin.paths.update({PATH: behaviour, f"{PATH}?canary=1": behaviour})
    before = site.api.log()
    with contextlib.suppress(http.client.HTTPException, OSError):
        site.http.get(f"/v1/images/{image_id}")
    line = one_complaint(site, before, image_id)
    if name.isdecimal():
        assert f"status {name}" in line


@pytest.mark.parametrize("name", sorted({*REFUSALS, *CUTS} - UNSEEN))
def test_a_copy_that_fails_is_one_line_in_the_log(site, origin, name):
    before = site.api.log()
    origin.paths[PATH] = made(CUTS[name] if name in CUTS else REFUSALS[name][0], origin)
    image_id = copy(site, f"{origin.url}{PATH}")
    faults.until_status(site, image_id, "killed")
    one_complaint(site, before, image_id)


def test_a_part_that_the_server_has_no_more_is_no_fault_of_the_caller(site, origin):
    small = answer("416 Range Not Satisfiable", headers="Content-Range: bytes */10\r\n")
    image_id = registered(site, origin, small)
    before = site.api.log()
    reply = site.http.get(f"/v1/images/{image_id}", {"Range": "bytes=20-29"})
    assert reply.status == 500
    assert "10 bytes" in one_complaint(site, before, image_id)


# -- servers that are only unusual ---------------------------------------------------------------

UNUSUAL = {
    "no-length": answer("200 OK", DATA, length=None),
    "chunked": chunked(HALF, DATA[len(HALF) :]),
    "redirect": redirect("/elsewhere", "301 Moved Permanently"),
    "redirect-307": redirect("/elsewhere", "307 Temporary Redirect"),
    "http-1.0": lambda connection, method: connection.sendall(
        b"HTTP/1.0 200 OK\r\n\r\n" + (b"" if method == "HEAD" else DATA)
    ),
}


@pytest.mark.parametrize("behaviour", UNUSUAL.values(), ids=UNUSUAL)
def test_data_of_an_unusual_server_is_fetched_and_copied(site, origin, behaviour):
    origin.paths.update({"/image": behaviour, "/elsewhere": GOOD})
    image_id = register(site, f"{origin.url}/image")
    reply = site.http.get(f"/v1/images/{image_id}")
    assert (reply.status, reply.body) == (200, DATA)

    copied = copy(site, f"{origin.url}/image")
    faults.until_status(site, copied, "active")
    faults.assert_active(site, copied, DATA)
    checksum = site.http.head(f"/v1/images/{copied}").meta()["checksum"]
    assert checksum == hashlib.md5(DATA).hexdigest()


def test_an_image_deleted_while_it_is_copied_leaves_nothing(site, origin):
    origin.paths["/image"] = origin.stall(answer("200 OK", HALF, length=len(DATA)))
    image_id = copy(site, f"{origin.url}/image")
    faults.until_status(site, image_id, "saving")
    assert site.http.delete(f"/v1/images/{image_id}").status == 200
    faults.until_no_file(site, image_id)
    assert faults.status_of(site, image_id) is None


@pytest.mark.parametrize("pieces", [[DATA, b"x"], [DATA + b"x"], [HALF, DATA], [DATA, DATA]])
def test_data_that_has_grown_since_it_was_registered_is_no_success(site, origin, pieces):
    image_id = registered(site, origin, chunked(*pieces))
    with pytest.raises(http.client.IncompleteRead):
        site.http.get(f"/v1/images/{image_id}")


@pytest.fixture(scope="module")
def capped_site(tmp_path_factory):
    """A site whose images may have at most the size of DATA."""
    options = {"http_store_allowed_hosts": "127.0.0.1", "image_size_cap": len(DATA)}
    with daemons.Site(tmp_path_factory.mktemp("capped"), api=options) as running:
        yield running


def test_a_location_above_the_cap_is_neither_registered_nor_delivered(capped_site, origin):
    site = capped_site
    origin.paths["/image"] = answer("200 OK", DATA + b"x")
    headers = meta_headers(location=f"{origin.url}/image")
    assert site.http.post("/v1/images", headers).status == 413
    # NOTE: a size that is not known is recorded as 0.
    origin.paths["/image"] = answer("500 Internal Server Error")
    image_id = register(site, f"{origin.url}/image")
    origin.paths["/image"] = chunked(DATA)
    assert site.http.get(f"/v1/images/{image_id}").body == DATA
    origin.paths["/image"] = answer("200 OK", DATA + b"x")
    assert site.http.get(f"/v1/images/{image_id}").status == 500
    origin.paths["/image"] = chunked(DATA, b"x")
    with pytest.raises(http.client.IncompleteRead):
        site.http.get(f"/v1/images/{image_id}")


def test_other_requests_are_served_while_web_servers_stall(site, origin):
    image_id = registered(site, origin, origin.stall(answer("200 OK", HALF, length=len(DATA))))
    small = faults.store(site, b"small")
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            waiting = stack.enter_context(socket.create_connection(("127.0.0.1", site.port)))
            waiting.sendall(f"GET /v1/images/{image_id} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        for _ in range(10):
            assert site.http.get(f"/v1/images/{small}").body == b"small"


# -- registering ---------------------------------------------------------------------------------


def test_a_size_that_the_server_contradicts_is_answered_409(site, origin):
    origin.paths["/image"] = GOOD
    headers = meta_headers(location=f"{origin.url}/image", size=len(DATA) - 1, id=new_id())
    assert site.http.post("/v1/images", headers).status == 409
    assert faults.status_of(site, int(headers["x-image-meta-id"])) is None


def test_a_location_whose_server_is_away_is_registered_with_size_0(site, origin):
    origin.__exit__()
    image_id = register(site, f"{origin.url}/image")
    meta = site.http.head(f"/v1/images/{image_id}").meta()
    assert (meta["status"], meta["size"]) == ("active", "0")
    assert site.http.get(f"/v1/images/{image_id}").status == 503


# -- addresses that must not be read -------------------------------------------------------------

FORBIDDEN = [
    "127.0.0.1",
    "127.1",
    "127.255.255.254",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "localhost",
    "LOCALHOST",
    "0.0.0.0",
    "0",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "169.254.169.254",
    "2852039166",
    "[::ffff:169.254.169.254]",
    "[fe80::1]",
    "224.0.0.1",
    "255.255.255.255",
    "[ff02::1]",
    "user:password@127.0.0.1",
    "example.com:80@127.0.0.1",
]


@pytest.mark.parametrize("header", ["x-image-meta-location", "x-glance-api-copy-from"])
@pytest.mark.parametrize("host", FORBIDDEN)
def test_an_address_of_this_host_or_link_is_refused(strict_site, origin, host, header):
    image_id = new_id()
    location = f"http://{host}:{origin.port}/image"
    headers = {**meta_headers(id=image_id), header: location}
    reply = strict_site.http.post("/v1/images", headers)
    assert reply.status == 400
    assert "password" not in reply.text
    assert faults.status_of(strict_site, image_id) is None
    assert not origin.requests


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "[::ffff:127.0.0.1]"])
def test_an_address_of_this_host_is_refused_for_a_reserved_image_too(strict_site, origin, host):
    image_id = faults.reserve(strict_site)
    headers = {"x-image-meta-location": f"http://{host}:{origin.port}/image"}
    assert strict_site.http.put(f"/v1/images/{image_id}", headers).status == 400
    assert faults.status_of(strict_site, image_id) == "queued"
    assert not origin.requests


@pytest.mark.parametrize("host", ["127.0.0.2", "2130706433", "localhost", "[::ffff:127.0.0.1]"])
def test_a_host_that_is_not_listed_is_refused_where_others_are(site, origin, host):
    headers = meta_headers(id=new_id(), location=f"http://{host}:{origin.port}/image")
    assert site.http.post("/v1/images", headers).status == 400
    assert not origin.requests


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "filesystem:///etc/passwd", "http://"])
@pytest.mark.parametrize("header", ["x-image-meta-location", "x-glance-api-copy-from"])
def test_files_of_the_server_cannot_be_registered_or_copied(site, uri, header):
    image_id = new_id()
    reply = site.http.post("/v1/images", {**meta_headers(id=image_id), header: uri})
    assert reply.status == 400
    assert faults.status_of(site, image_id) is None
