"""The glance command and glance-upload with real daemons: pipes, terminals, cuts, TLS."""

import contextlib
import hashlib
import json
import os
import pty
import re
import select
import socket
import subprocess
import sys
import termios
import threading
import time

import pytest

from support import daemons

DATA = hashlib.sha256(b"seed").digest() * 300_000  # 9.6 million bytes
MD5 = hashlib.md5(DATA).hexdigest()
TIMEOUT = 60


@pytest.fixture
def glance(site, tmp_path):
    """Run the program: `glance("show", "1")`."""

    def run(*args, program="glance", port=site.port, **options):
        place = ["--host=127.0.0.1", f"--port={port}"]
        settings = {"stdin": subprocess.DEVNULL} if "input" not in options else {}
        settings |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.run(
            [sys.executable, str(daemons.BIN / program), *place, *args],
            cwd=tmp_path,
            env=daemons.environment(),
            timeout=TIMEOUT,
            **settings,
        )

    return run


@pytest.fixture
def data_file(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(DATA)
    return path


def told(done):
    """Return exit code and lines of standard output."""
    return done.returncode, done.stdout.decode().splitlines()


@pytest.fixture
def image(glance, data_file):
    """The id of an image with the data; deleted afterwards."""
    with data_file.open("rb") as data:
        done = glance("add", "name=web", "is_public=true", "--format=json", stdin=data)
    assert done.returncode == 0, done
    image_id = str(json.loads(done.stdout)["id"])
    yield image_id
    glance("delete", "--force", image_id)


# -- uploads -------------------------------------------------------------------------------------


def shown(glance, image_id):
    return json.loads(glance("show", image_id, "--format=json").stdout)


def test_redirected_file_arrives_whole(glance, image):
    meta = shown(glance, image)
    assert (meta["size"], meta["checksum"], meta["status"]) == (len(DATA), MD5, "active")


def test_pipe_arrives_whole(glance):
    done = glance("add", "name=piped", "--format=json", input=DATA)
    image = json.loads(done.stdout)
    assert (image["size"], image["checksum"]) == (len(DATA), MD5)
    glance("delete", "-f", str(image["id"]))


def test_dev_null_makes_an_empty_active_image(glance):
    image = json.loads(glance("add", "name=empty", "--format=json").stdout)
    assert (image["size"], image["status"]) == (0, "active")
    glance("delete", "-f", str(image["id"]))


def test_glance_upload_stores_a_public_image(glance, data_file):
    options = ["--disk-format=raw", "--container-format=bare", "--type=machine"]
    done = glance(*options, str(data_file), "My upload", program="glance-upload")
    code, lines = told(done)
    assert code == 0
    assert lines[0].startswith("Stored image. Got identifier: {'checksum': ")
    image = eval("".join(lines).partition(": ")[2], {})
    assert (image["size"], image["is_public"], image["properties"]) == (
        len(DATA),
        True,
        {"type": "machine"},
    )
    glance("delete", "-f", str(image["id"]))


def test_names_outside_ascii_survive(glance):
    fields = ["name=Büro ☃", "is_public=true", "site=Köln", "--format=json"]
    image_id = str(json.loads(glance("add", *fields).stdout)["id"])
    assert "Büro ☃" in glance("index", "name=Büro ☃").stdout.decode()
    assert "Property 'site': Köln" in glance("show", image_id).stdout.decode()
    glance("delete", "-f", image_id)


def test_refusal_of_the_server_is_status_and_explanation(glance):
    code, lines = told(glance("add", "name=x", "disk_format=floppy"))
    assert code == 1
    assert lines[:2] == ["Failed to add image. Got error:", "400 Bad Request"]
    assert "floppy" in lines[2]
    assert not [line for line in lines if "<" in line or "Traceback" in line]


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("cache-index", "show cached images"),
        ("cache-invalid", "show invalid cache images"),
        ("cache-incomplete", "show incomplete cache images"),
        ("cache-prefetching", "show prefetching images"),
    ],
)
def test_cache_that_is_not_managed_is_told(glance, name, phrase):
    code, lines = told(glance(name))
    assert (code, lines[:2]) == (1, [f"Failed to {phrase}. Got error:", "404 Not Found"])


# -- downloads -----------------------------------------------------------------------------------


def test_download_gives_the_bytes_back(glance, image, tmp_path):
    done = glance("download", image, "--file=copy")
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "copy").read_bytes() == DATA
    assert glance("download", image).stdout == DATA


@contextlib.contextmanager
def relay(port, *cuts):
    """Hand connections on to a port; the first few are cut after so many bytes of answer.

    Yields the relay's own port and the list of heads that clients sent.
    """
    left, heads = list(cuts), []

    def copy(source, target, limit=None, keep=None):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if keep is not None:
                    keep.append(data)
                if limit is not None:
                    data = data[:limit]
                    limit -= len(data)
                target.sendall(data)
                if limit == 0:
                    break
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve(client):
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            limit = left.pop(0) if left else None
            threading.Thread(target=copy, args=(client, server, None, heads), daemon=True).start()
            copy(server, client, limit)

    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        with contextlib.suppress(OSError):
            while True:
                client = listener.accept()[0]
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1], heads
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_download_goes_on_after_cuts(glance, image, tmp_path):
    with relay(daemons_port(glance), 3_000_000, 4_000_000) as (port, heads):
        done = glance("download", image, "--file=copy", port=port)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "copy").read_bytes() == DATA
    ranges = [int(r) for r in re.findall(rb"(?i)range: bytes=(\d+)-", b"".join(heads))]
    assert len(ranges) == 2
    assert 0 < ranges[0] < 3_000_000 < ranges[1] < 7_000_000


def daemons_port(run):
    """Return the port that a `glance` fixture speaks with."""
    return run.__kwdefaults__["port"]


def test_interrupted_download_is_finished_by_the_next(glance, image, tmp_path):
    place = ["--host=127.0.0.1", f"--port={daemons_port(glance)}"]
    command = [sys.executable, str(daemons.BIN / "glance"), "download", image, "--file=copy"]
    part = tmp_path / f"copy.{image}.part"
    with relay(daemons_port(glance), 5_000_000, *[0] * 20) as (port, _):
        place[1] = f"--port={port}"
        process = subprocess.Popen([*command, *place], cwd=tmp_path, env=daemons.environment())
        deadline = time.monotonic() + TIMEOUT
        while not part.exists() or part.stat().st_size < 4_000_000:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
        process.wait()
    assert not (tmp_path / "copy").exists()
    with relay(daemons_port(glance)) as (port, heads):
        assert glance("download", image, "--file=copy", port=port).returncode == 0
    assert (tmp_path / "copy").read_bytes() == DATA
    assert re.search(rb"(?i)range: bytes=[1-9]", b"".join(heads))
    assert not part.exists()


# -- terminals -----------------------------------------------------------------------------------


class Terminal:
    """What a program shows on a pseudo-terminal, and what is typed there."""

    def __init__(self):
        self.master, self.slave = pty.openpty()
        self.seen = ""

    def until(self, text):
        """Wait until `text` is shown."""
        deadline = time.monotonic() + TIMEOUT
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            self.read(0.1)

    def read(self, seconds):
        while select.select([self.master], [], [], seconds)[0]:
            self.seen += os.read(self.master, 65536).decode()
            seconds = 0

    def type(self, text):
        os.write(self.master, text.encode())

    def close(self):
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal():
    made = Terminal()
    yield made
    made.close()


def start(port, *args, **options):
    place = ["--host=127.0.0.1", f"--port={port}"]
    command = [sys.executable, str(daemons.BIN / "glance"), *args, *place]
    return subprocess.Popen(command, env=daemons.environment(), **options)


def test_pages_are_asked_for_on_a_terminal(site, glance, terminal):
    ids = [
        str(json.loads(glance("add", f"name=page-{n}", "--format=json").stdout)["id"])
        for n in range(3)
    ]
    ends = {"stdin": terminal.slave, "stdout": terminal.slave, "stderr": terminal.slave}
    process = start(site.port, "index", "--limit=1", "is_public=none", **ends)
    terminal.until("Fetch next page? [Y/n] ")
    assert "page-2" in terminal.seen and "page-1" not in terminal.seen
    terminal.type("\n")
    terminal.until("page-1")
    terminal.type("n\n")
    assert process.wait(TIMEOUT) == 0
    assert "page-0" not in terminal.seen
    # Read by a program, the list comes whole.
    out = glance("index", "--limit=1", "is_public=none").stdout.decode()
    assert out.count("page-") == 3
    assert "Fetch" not in out
    for image_id in ids:
        glance("delete", "-f", image_id)


def test_question_before_a_delete(site, glance, image, terminal):
    process = start(site.port, "delete", image, stdin=terminal.slave, stdout=terminal.slave)
    terminal.until(f"Delete image {image}? [y/N] ")
    terminal.type("n\n")
    terminal.until(f"Not deleting image {image}")
    assert process.wait(TIMEOUT) == 1
    assert shown(glance, image)["status"] == "active"


def test_person_sees_the_progress_of_both_ways(site, glance, data_file, terminal, tmp_path):
    with data_file.open("rb") as data:
        process = start(site.port, "add", "name=seen", stdin=data, stderr=terminal.slave,
                        stdout=subprocess.PIPE)  # fmt: skip
        out = process.communicate(timeout=TIMEOUT)[0].decode()
    image_id = out.split()[-1]
    terminal.read(1)
    assert re.search(r"seen  100%  9\.16 MiB of 9\.16 MiB  [\d.]+ \w+/s", terminal.seen)
    terminal.seen = ""
    copy = f"--file={tmp_path}/copy"
    process = start(site.port, "download", image_id, copy, stderr=terminal.slave)
    assert process.wait(TIMEOUT) == 0
    terminal.read(1)
    assert "100%  9.16 MiB of 9.16 MiB" in terminal.seen
    glance("delete", "-f", image_id)


@pytest.mark.parametrize(
    "words", [("download",), ("show", "--format=json"), ("show",)], ids=" ".join
)
def test_reader_that_has_gone_gets_no_complaint(glance, image, words):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = glance(words[0], image, *words[1:], stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_named_pipe_whose_reader_has_gone_is_one_line(site, image, tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        process = start(site.port, "download", image, f"--file={path}",
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        while not reader.read(1):
            assert process.poll() is None
    out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out) == (1, b"")
    assert err == f"glance: Broken pipe: {path}\n".encode()


def test_add_at_a_terminal_reserves_an_image(site, glance, terminal):
    process = start(site.port, "add", "name=later", stdin=terminal.slave,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    out, err = process.communicate(timeout=TIMEOUT)
    image_id = out.decode().split()[-1]
    assert b"queued" in err
    assert shown(glance, image_id)["status"] == "queued"
    glance("delete", "-f", image_id)


# -- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=glance", "-keyout", "key.pem"]
    command += ["-out", "cert.pem", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def test_command_speaks_tls_with_the_daemon(make_site, glance, certificate, tmp_path):
    files = {"cert_file": certificate / "cert.pem", "key_file": certificate / "key.pem"}
    site = make_site(start=False, api=files)
    site.registry.start()
    site.api.start(wait=False)
    trusting = ["--use-ssl", f"--ca-file={certificate}/cert.pem"]
    deadline = time.monotonic() + TIMEOUT
    while glance("index", *trusting, port=site.port).returncode:
        assert time.monotonic() < deadline, site.api.log()
        time.sleep(0.2)
    done = glance("add", "name=secret", *trusting, port=site.port, input=DATA)
    assert told(done) == (0, ["Added new image with ID: 1"])
    done = glance("download", "1", "--use-ssl", "--insecure", "--file=copy", port=site.port)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy").read_bytes() == DATA
    lines = glance("show", "1", *trusting, port=site.port).stdout.decode().splitlines()
    assert lines[0] == f"URI: https://127.0.0.1:{site.port}/v1/images/1"
    uri = lines[0].removeprefix("URI: ")
    assert told(glance("update", uri, "name=kept", *trusting, port=site.port))[0] == 0
    refused = glance("index", "--use-ssl", port=site.port)
    assert refused.returncode == 1
    assert b"CERTIFICATE_VERIFY_FAILED" in refused.stdout


# -- lists and ids -------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 132])
def test_a_row_of_index_is_one_line_of_a_terminal(glance, image, columns):
    main, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, columns))
    done = glance("index", "name=web", "--force", stdout=terminal)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):
        while piece := os.read(main, 65536):
            shown += piece
    os.close(main)
    assert done.returncode == 0
    lines = shown.decode().splitlines()
    (row,) = [line.split() for line in lines[2:] if line.split()[0] == image]
    assert row[1:] == ["web", "raw", "ovf", str(len(DATA))]
    assert {len(line) for line in lines} == ({79} if columns == 80 else {104})


def test_an_image_is_deleted_and_restored_by_its_name(glance, make_site):
    site = make_site(api={"delayed_delete": "True", "scrub_time": "3600"})
    glance("add", "name=web server", "distro=Debian", port=site.port, input=DATA[:1000])
    done = glance("delete", "web server", "--force", port=site.port)
    assert told(done) == (0, ["Deleted image 1"])
    columns = "--columns=id,name,status"
    done = glance("index", "--deleted", columns, "--format=value", port=site.port)
    assert told(done) == (0, ["1\tweb server\tpending_delete"])
    assert told(glance("restore", "1", port=site.port)) == (0, ["Restored image 1"])
    done = glance("download", "web server", port=site.port)
    assert (done.returncode, done.stdout) == (0, DATA[:1000])
    again = glance("restore", "1", port=site.port)
    assert (again.returncode, again.stderr.count(b"\n")) == (1, 1)
    assert b"Image 1 is active" in again.stderr
