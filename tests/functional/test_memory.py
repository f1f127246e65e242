"""Large images go up and down while the processes stay as small as they were."""

import contextlib
import hashlib
import http.client
import socket
import threading
import time

import pytest

from support import daemons, images
from support.longer import LONG

pytestmark = pytest.mark.slow

SIZE = (1 << 30) if LONG else (320 << 20)
WARM_UP = 64 << 20
GROWTH = 32 << 20


@contextlib.contextmanager
def watched(site):
    """Yield a mapping process -> bytes by which it grew at most, filled while the block runs."""
    pids = [*site.api.pids(), *site.registry.pids()]
    before = {pid: daemons.resident(pid) for pid in pids}
    growth = dict.fromkeys(pids, 0)
    done = threading.Event()

    def watch():
        while not done.wait(0.05):
            for pid in pids:
                growth[pid] = max(growth[pid], daemons.resident(pid) - before[pid])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield growth
    finally:
        done.set()
        watcher.join()


def upload(site, size, *, chunked):
    headers = {"Content-Type": "application/octet-stream", "x-image-meta-disk_format": "raw"}
    headers |= {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(size)}
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=600)
    with contextlib.closing(connection):
        digest = hashlib.md5()

        def pieces():
            for piece in images.generated(size):
                digest.update(piece)
                yield piece

        connection.request(
            "POST", "/v1/images", body=pieces(), headers=headers, encode_chunked=chunked
        )
        response = connection.getresponse()
        assert response.status == 201, response.read()
        image_id = int(response.getheader("Location").rpartition("/")[2])
    return image_id, digest.hexdigest()


def download(site, image_id):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=600)
    with contextlib.closing(connection):
        connection.request("GET", f"/v1/images/{image_id}")
        response = connection.getresponse()
        digest, size = hashlib.md5(), 0
        while piece := response.read(1 << 20):
            digest.update(piece)
            size += len(piece)
    return digest.hexdigest(), size


@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_a_large_image_up_and_down_leaves_memory_flat(make_site, chunked):
    site = make_site()
    image_id, _ = upload(site, WARM_UP, chunked=chunked)
    download(site, image_id)
    with watched(site) as growth:
        image_id, digest = upload(site, SIZE, chunked=chunked)
        assert download(site, image_id) == (digest, SIZE)
    assert max(growth.values()) < GROWTH, growth


@pytest.mark.parametrize("framing", ["Content-Length: 100000000", "Transfer-Encoding: chunked"])
def test_a_stalled_upload_keeps_no_data_in_memory(make_site, framing):
    """Each has sent more than the largest buffer holds, and then nothing more."""
    count, sent = 40, 6_700_000
    site = make_site(api={"upload_idle_timeout": 600})
    upload(site, WARM_UP, chunked=True)
    before = {pid: daemons.resident(pid) for pid in site.api.pids()}
    lines = ("POST /v1/images HTTP/1.1", "Host: h", "Content-Type: application/octet-stream")
    head = "\r\n".join([*lines, framing, "", ""]).encode()
    if "chunked" in framing:
        head += b"%x\r\n" % (sent + 1)
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", site.port)))
            client.sendall(head + b"x" * sent)
        # What is in the staged files has left the memory; it is written as soon as they stall.
        while stored(site) < WARM_UP + count * sent:
            time.sleep(0.05)
        # The memory that the buffers have left is given back every few seconds. What stays for a
        # connection is far less than a buffer, and by chance more or less.
        deadline = time.monotonic() + 60
        while any(daemons.resident(pid) - before[pid] > count * (512 << 10) for pid in before):
            assert time.monotonic() < deadline, "the memory is kept"
            time.sleep(0.5)


def stored(site):
    """Return how many bytes of images there are, staged ones included."""
    return sum(file.stat().st_size for file in site.data_dir.rglob("*") if file.is_file())
