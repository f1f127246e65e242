"""Programs of users around the client library: with threads, and with eventlet's green ones."""

import hashlib
import subprocess
import sys

import pytest

from support import checkout, daemons, pages

RUNS = {
    "python-client": {
        "First calls": "test_the_first_calls_of_the_page_run",
        "Version 2 of the API": "test_the_first_calls_of_the_page_run",
    }
}

THREADS = """
import concurrent.futures, socket
def run(work, count):
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))
"""
GREEN = """
import warnings; warnings.simplefilter("ignore")
import eventlet; eventlet.monkey_patch()
import socket
def run(work, count):
    return list(eventlet.GreenPool(count).imap(work, range(count)))
"""
PROGRAM = """
import io, sys, time
before = socket.socket
from glance.client import Client
from glance.common import exception
assert socket.socket is before, "the library patches sockets"

client = Client("127.0.0.1", int(sys.argv[1]), timeout=30)
SIZE = 3_000_001

def work(number):
    data = bytes([number]) * SIZE
    seen = []
    meta = {"name": f"image {number}", "is_public": True}
    image = client.add_image(meta, io.BytesIO(data), progress=lambda *at: seen.append(at))
    assert seen[-1] == (SIZE, SIZE), seen[-1]
    meta, chunks = client.get_image(image["id"], verify=True)
    assert b"".join(chunks) == data
    assert client.update_image(image["id"], {"name": "new"})["name"] == "new"
    assert client.delete_image(image["id"]) is True
    try:
        client.get_image_meta(image["id"])
    except exception.NotFound:
        return meta["size"]

print(run(work, 8) == [SIZE] * 8)
"""


def test_the_first_calls_of_the_page_run(make_site, tmp_path):
    site = make_site(api_pipeline="versionnegotiation context rootapp")
    (code,) = checkout.blocks(pages.path("python-client"), "First calls")
    (later,) = checkout.blocks(pages.path("python-client"), "Version 2 of the API")
    code += "\n" + later.replace("(7)", '(image["id"])')
    data = b"\x00data of an image\xff" * 1000
    (tmp_path / "image.qcow2").write_bytes(data)
    code = code.replace("9292", str(site.port)).replace("/path/to/", "")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=daemons.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == hashlib.md5(data).hexdigest()
    assert (tmp_path / "copy.qcow2").read_bytes() == data


@pytest.mark.parametrize("way", [THREADS, GREEN], ids=["threads", "green"])
def test_one_client_serves_a_whole_program(site, way):
    done = subprocess.run(
        [sys.executable, "-c", way + PROGRAM, str(site.port)],
        cwd=daemons.ROOT,
        env=daemons.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


WAITING = """
import threading, time
ticks = []
def tick():
    while True:
        ticks.append(1)
        time.sleep(0.01)
threading.Thread(target=tick, daemon=True).start()
from glance.client import Client
from glance.common import exception
silent = socket.create_server(("127.0.0.1", 0))
try:
    Client("127.0.0.1", silent.getsockname()[1], timeout=1).get_images()
except exception.ClientConnectionError:
    print(len(ticks) > 10)
"""


@pytest.mark.parametrize("way", [THREADS, GREEN], ids=["threads", "green"])
def test_a_silent_server_holds_up_one_call_and_not_the_program(way):
    done = subprocess.run(
        [sys.executable, "-c", way + WAITING],
        cwd=daemons.ROOT,
        env=daemons.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
