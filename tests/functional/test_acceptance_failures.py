"""The acceptance list of the REST API: uploads that fail (line 13).

The failures are real: connections are cut, processes killed, limits of the kernel reached.
"""

import contextlib
import http.client
import itertools
import resource
import socket
import struct

import pytest

from support import daemons
from support.rawhttp import read_reply
from support.records import eventually, files_of, reserve, row, status_of

OCTETS = {"Content-Type": "application/octet-stream"}
MIB = 1 << 20


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    directory = tmp_path_factory.mktemp("failures")
    with daemons.Site(directory, workers=2, api={"image_size_cap": 64 * MIB}) as running:
        yield running


def head_of(method, image_id, framing, extra=b""):
    """Return a request head; a POST chooses its id, so that its record can be found."""
    path, chosen = f"/v1/images/{image_id}", b""
    if method == "POST":
        path, chosen = "/v1/images", b"x-image-meta-id: %d\r\n" % image_id
    line = f"{method} {path} HTTP/1.1\r\nHost: h\r\n".encode()
    common = b"Content-Type: application/octet-stream\r\nConnection: close\r\n"
    return line + common + chosen + extra + framing + b"\r\n\r\n"


@contextlib.contextmanager
def uploading(site, image_id, size):
    """Begin an upload that stops at half; yield a function that ends it and returns the reply."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    with contextlib.closing(connection):
        connection.putrequest("PUT", f"/v1/images/{image_id}")
        connection.putheader("Content-Type", "application/octet-stream")
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        connection.send(b"h" * (size // 2))
        eventually("saving", status_of, site, image_id)

        def finish():
            connection.send(b"h" * (size - size // 2))
            return read_reply(connection.getresponse())

        yield finish


# Downwards: the ids that the registry hands out go up from the highest.
CHOSEN = itertools.count(1_000_000, -1)


@pytest.fixture(params=["POST", "PUT"])
def target(site, request):
    """A method and the id of the image that it will fill."""
    if request.param == "POST":
        return request.param, next(CHOSEN)
    return request.param, reserve(site)


# -- line 13: the client -------------------------------------------------------------------------

BROKEN = {
    "half of the length": (b"Content-Length: 1000000", b"h" * 500_000),
    "nothing of the length": (b"Content-Length: 1000000", b""),
    "end between chunks": (b"Transfer-Encoding: chunked", b"5\r\nhello\r\n"),
    "end inside a chunk": (b"Transfer-Encoding: chunked", b"ffff\r\nhello"),
    "no proper chunk": (b"Transfer-Encoding: chunked", b"5\r\nhello\r\nxyz\r\n"),
    "chunk too long": (b"Transfer-Encoding: chunked", b"5\r\nhello, world\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_line_13_an_upload_cut_short_is_400_and_leaves_a_killed_image(site, target, case):
    framing, body = BROKEN[case]
    answer = site.http.exchange(head_of(*target, framing) + body, shut=True)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    eventually("killed", status_of, site, target[1])
    assert files_of(site, target[1]) == []


@pytest.mark.parametrize("framing", [b"Content-Length: 1000000", b"Transfer-Encoding: chunked"])
def test_line_13_a_client_that_is_gone_leaves_a_killed_image(site, target, framing):
    with socket.create_connection(("127.0.0.1", site.port)) as connection:
        # No time to linger: closing resets the connection.
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        chunk = b"7a120\r\n" if b"chunked" in framing else b""
        connection.sendall(head_of(*target, framing) + chunk + b"h" * 400_000)
        eventually("saving", status_of, site, target[1])
    eventually("killed", status_of, site, target[1])
    eventually([], files_of, site, target[1])


WRONG = {
    "size too large": b"x-image-meta-size: 10\r\n",
    "size too small": b"x-image-meta-size: 1\r\n",
    "checksum": b"x-image-meta-checksum: 00000000000000000000000000000000\r\n",
}


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("case", WRONG)
def test_line_13_data_other_than_declared_is_400(site, target, case, framing):
    body = b"5\r\nhello\r\n0\r\n\r\n" if b"chunked" in framing else b"hello"
    answer = site.http.exchange(head_of(*target, framing, WRONG[case]) + body)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert status_of(site, target[1]) == "killed"
    assert files_of(site, target[1]) == []


def test_line_13_the_declared_checksum_is_compared_without_case(site):
    checksum = "5D41402ABC4B2A76B9719D911017C592"
    assert site.http.add(b"hello", checksum=checksum, size="5").status == 201


def test_line_13_a_killed_image_can_be_deleted_and_nothing_else(site):
    image_id = next(CHOSEN)
    site.http.add(b"hello", checksum="0" * 32, id=image_id)
    url = f"/v1/images/{image_id}"
    assert site.http.get(url).status == 404
    assert site.http.put(url, OCTETS, b"hello").status == 409
    assert site.http.delete(url).status == 200
    assert row(site, image_id) == ("deleted", 1)


@pytest.mark.parametrize("declared", [{}, {"x-image-meta-size": str(65 * MIB)}])
def test_line_13_an_announced_size_above_the_cap_is_413_before_a_byte_is_read(site, declared):
    headers = {**OCTETS, **declared, "Content-Length": str(65 * MIB if not declared else 5)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    chosen = next(CHOSEN)
    request = f"POST /v1/images HTTP/1.1\r\nHost: h\r\nx-image-meta-id: {chosen}\r\n{lines}\r\n"
    answer = site.http.exchange(request.encode() + b"hello", shut=True)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert status_of(site, chosen) == 404


def test_line_13_data_that_grows_above_the_cap_is_413(site):
    chosen = next(CHOSEN)
    data = (b"x" * MIB for _ in range(65))
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    headers = {**OCTETS, "x-image-meta-id": str(chosen), "Transfer-Encoding": "chunked"}
    with contextlib.closing(connection):
        connection.request("POST", "/v1/images", data, headers, encode_chunked=True)
        assert read_reply(connection.getresponse()).status == 413
    assert (status_of(site, chosen), files_of(site, chosen)) == ("killed", [])


# -- line 13: the store --------------------------------------------------------------------------


@contextlib.contextmanager
def file_limit(daemon, size):
    """Let the processes of a daemon write no file above `size` bytes, as a full disk would."""
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in daemon.pids()}
    for pid, (_, hard) in before.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


@pytest.mark.files
@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_line_13_a_full_disk_is_413_and_leaves_a_killed_image(site, chunked):
    image_id = reserve(site)
    data = b"x" * (4 * MIB)
    with file_limit(site.api, 2 * MIB):
        reply = site.http.put(f"/v1/images/{image_id}", OCTETS, iter([data]) if chunked else data)
    assert reply.status == 413
    assert str(site.data_dir) not in reply.text
    assert (status_of(site, image_id), files_of(site, image_id)) == ("killed", [])
    assert site.http.add(data).status == 201


@pytest.mark.files
def test_line_13_a_disk_without_the_room_that_must_stay_free_is_413(make_site):
    site = make_site(api={"filesystem_store_min_free_bytes": 1 << 60})
    for data in (b"data", iter([b"data"])):
        assert site.http.add(data).status == 413
    assert site.data_files() == []


@contextlib.contextmanager
def replaced(directory, other):
    """Put a symbolic link to `other` in the place of a directory."""
    away = directory.with_name(directory.name + ".away")
    directory.rename(away)
    directory.symlink_to(other)
    try:
        yield
    finally:
        directory.unlink()
        away.rename(directory)


@pytest.mark.files
@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_line_13_a_store_that_cannot_be_written_is_503(make_site, chunked):
    site = make_site()
    image_id = reserve(site)
    data = b"x" * 200_000
    url = f"/v1/images/{image_id}"
    # Not even root makes files in the kernel's own file system.
    with replaced(site.data_dir / ".incoming", "/sys/kernel"):
        reply = site.http.put(url, OCTETS, iter([data]) if chunked else data)
        assert reply.status == 503
        assert reply.header("Retry-After")
        assert "/sys" not in reply.text
        assert str(site.data_dir) not in reply.text
    # Not one byte had been read: the caller may try again.
    assert (status_of(site, image_id), site.data_files()) == ("queued", [])
    assert site.http.put(url, OCTETS, data).status == 200


def test_line_13_data_that_lies_there_already_is_409_and_stays(site):
    image_id = reserve(site)
    site.store.plant(str(image_id), b"of somebody else")
    assert site.http.put(f"/v1/images/{image_id}", OCTETS, b"mine").status == 409
    assert status_of(site, image_id) == "killed"
    assert site.store.read(str(image_id)) == b"of somebody else"


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("store", ["", "unknown", "http", "https", "s3://x", "FILE "])
def test_line_13_a_store_that_takes_no_data_is_400_and_leaves_no_record(site, method, store):
    image_id = next(CHOSEN) if method == "POST" else reserve(site)
    extra = f"x-image-meta-store: {store}\r\n".encode()
    head = head_of(method, image_id, b"Content-Length: 4", extra)
    answer = site.http.exchange(head + b"data")
    if store == "FILE ":
        # Names are compared without case.
        assert answer.startswith((b"HTTP/1.1 201 ", b"HTTP/1.1 200 "))
        return
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert status_of(site, image_id) == (404 if method == "POST" else "queued")


@pytest.mark.parametrize(("store", "status"), [("file", 201), ("unknown", 400), ("", 400)])
def test_line_13_a_store_is_checked_without_data_too(site, store, status):
    assert site.http.post("/v1/images", {"x-image-meta-store": store}).status == status


# -- line 13: the registry, and other people -----------------------------------------------------


def test_line_13_without_the_registry_everything_is_503_and_nothing_is_left(make_site):
    site = make_site()
    image_id = reserve(site)
    site.registry.kill()
    requests = [
        ("GET", "/v1/images"),
        ("GET", "/v1/images/detail"),
        ("HEAD", f"/v1/images/{image_id}"),
        ("GET", f"/v1/images/{image_id}"),
        ("PUT", f"/v1/images/{image_id}"),
        ("DELETE", f"/v1/images/{image_id}"),
        ("GET", f"/v1/images/{image_id}/members"),
        ("PUT", f"/v1/images/{image_id}/members/m"),
        ("GET", "/v1/shared-images/m"),
    ]
    for method, path in requests:
        reply = site.http.request(method, path)
        assert (method, path, reply.status) == (method, path, 503)
        assert reply.header("Retry-After")
    assert site.http.add(b"data").status == 503
    assert site.data_files() == []
    assert site.http.get("/").status == 300
    site.registry.start()
    assert site.http.put(f"/v1/images/{image_id}", OCTETS, b"data").status == 200
    listed = site.http.get("/v1/images/detail?is_public=none").json()["images"]
    assert [image["id"] for image in listed] == [image_id]


def test_line_13_a_registry_lost_during_an_upload_is_503_and_no_data_is_left(make_site):
    site = make_site()
    image_id = reserve(site)
    with uploading(site, image_id, 2 * MIB) as finish:
        site.registry.kill()
        reply = finish()
    assert reply.status == 503
    assert site.data_files() == []
    site.registry.start()
    assert site.http.get(f"/v1/images/{image_id}").status == 404
    eventually("killed", status_of, site, image_id)


def test_line_13_a_registry_that_comes_back_in_time_does_not_hurt_an_upload(make_site):
    site = make_site()
    image_id = reserve(site)
    with uploading(site, image_id, 2 * MIB) as finish:
        site.registry.stop()
        site.registry.start()
        assert finish().status == 200
    assert site.http.get(f"/v1/images/{image_id}").body == b"h" * (2 * MIB)


def test_line_13_an_image_deleted_during_its_upload_is_412(site):
    image_id = reserve(site)
    with uploading(site, image_id, 2 * MIB) as finish:
        assert site.http.delete(f"/v1/images/{image_id}").status == 200
        assert finish().status == 412
    assert files_of(site, image_id) == []
    assert row(site, image_id) == ("deleted", 1)


def test_line_13_an_upload_that_the_server_did_not_survive_is_killed_at_the_next_start(make_site):
    site = make_site(workers=2)
    image_id = reserve(site)
    with uploading(site, image_id, 2 * MIB):
        site.api.kill()
    site.api.start()
    eventually("killed", status_of, site, image_id)
    eventually([], site.data_files)
    assert site.http.delete(f"/v1/images/{image_id}").status == 200
