"""The glance command that a signal ends, with real daemons: what remains, and going on."""

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from support import daemons

DATA = hashlib.sha256(b"seed").digest() * 100_000  # 3.2 million bytes
TIMEOUT = 60


def start(port, *args, **options):
    place = ["--host=127.0.0.1", f"--port={port}"]
    command = [sys.executable, str(daemons.BIN / "glance"), *args, *place]
    return subprocess.Popen(command, env=daemons.environment(), text=True, **options)


def until(found):
    deadline = time.monotonic() + TIMEOUT
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_upload(site, number):
    """The line names the record, which the server has finished with by then."""
    name = f"stopped-{int(number)}"

    def record():
        listed = site.http.get(f"/v1/images?is_public=none&name={name}").json()["images"]
        return listed and listed[0]["id"]

    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = start(site.port, "add", f"name={name}", **pipes)
    process.stdin.buffer.write(DATA)
    process.stdin.flush()
    image_id = until(record)
    until(lambda: site.http.head(f"/v1/images/{image_id}").meta()["status"] == "saving")
    process.send_signal(number)
    # The pipe stays open: nothing but the signal ends the upload.
    assert process.wait(TIMEOUT) == 128 + number
    word = "interrupted" if number == signal.SIGINT else "terminated"
    told = f"image {image_id} is killed; delete it with: glance delete {image_id}"
    assert process.stdout.read() == ""
    assert process.stderr.read() == f"glance: {word}; {told}\n"
    for stream in (process.stdin, process.stdout, process.stderr):
        with contextlib.suppress(BrokenPipeError):
            stream.close()
    assert site.http.delete(f"/v1/images/{image_id}").status == 200


@contextlib.contextmanager
def stalling(port, limit):
    """Relay connections to a port; of each response only the first `limit` bytes arrive."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def send(client, server):
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)

    def serve(client):
        left = limit
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            threading.Thread(target=send, args=(client, server), daemon=True).start()
            while left and (data := server.recv(min(65536, left))):
                client.sendall(data)
                left -= len(data)
            ended.wait(TIMEOUT)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                client = listener.accept()[0]
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_download_goes_on_afterwards(site, tmp_path):
    image_id = site.http.add(DATA, name="whole", is_public="True").json()["image"]["id"]
    path, part = tmp_path / "copy", tmp_path / f"copy.{image_id}.part"
    args = ("download", str(image_id), f"--file={path}")
    with stalling(site.port, 1_000_000) as port:
        process = start(port, *args, stderr=subprocess.PIPE)
        until(lambda: part.exists() and part.stat().st_size > 500_000)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=TIMEOUT)[1]
    assert process.returncode == 130
    kept = part.stat().st_size
    how = "run the command again to resume, or remove it"
    assert err == f"glance: interrupted; {part} holds {kept} bytes: {how}\n"
    assert not path.exists()
    process = start(site.port, *args, stdout=subprocess.DEVNULL)
    assert process.wait(TIMEOUT) == 0
    assert path.read_bytes() == DATA
    assert os.listdir(tmp_path) == ["copy"]


def test_upload_of_the_old_program(site, tmp_path):
    name = "stopped-old"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def record():
        listed = site.http.get(f"/v1/images?is_public=none&name={name}").json()["images"]
        return listed and listed[0]["id"]

    place = ["--host=127.0.0.1", f"--port={site.port}"]
    command = [sys.executable, str(daemons.BIN / "glance-upload"), *place, str(fifo), name]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, env=daemons.environment(), text=True, **pipes)
    with fifo.open("wb") as data:
        data.write(DATA)
        data.flush()
        image_id = until(record)
        process.send_signal(signal.SIGINT)
        # The pipe stays open: nothing but the signal ends the upload.
        out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out) == (130, "")
    see = f"; see what remains: glance show {image_id}\n"
    assert err in ("glance-upload: interrupted\n", f"glance-upload: interrupted{see}")
    assert site.http.delete(f"/v1/images/{image_id}").status == 200
