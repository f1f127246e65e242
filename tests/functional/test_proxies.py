"""What reaches the service from behind nginx, as it comes and as the manual sets it up."""

import contextlib
import json
import os
import re
import subprocess

import pytest

import glance.client

from support import checkout, daemons, faults, images, operators, pages
from support.rawhttp import Http

pytestmark = pytest.mark.peers

DATA = os.urandom(3 << 20)
PAGE = pages.path("tls-proxy")
#: What the manual sets besides where to listen and to pass on.
SETTINGS = ("underscores_in_headers on;", "ignore_invalid_headers off;")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with daemons.Site(tmp_path_factory.mktemp("site")) as running:
        yield running


def manual():
    """Return the server block that the manual shows, without TLS."""
    (block,) = (each for each in checkout.blocks(PAGE) if each.startswith("server {"))
    assert all(line in block for line in SETTINGS)
    return re.sub(r"(?m)^ *(ssl_certificate|server_name).*\n", "", block).replace(" ssl;", ";")


class Nginx:
    """nginx with one server block in front of a site; a context manager."""

    def __init__(self, directory, site, server):
        images.need("nginx")
        self.port = daemons.free_port()
        server = server.replace("listen 9292;", f"listen 127.0.0.1:{self.port};")
        server = server.replace("127.0.0.1:9393", f"127.0.0.1:{site.port}")
        temporary = " ".join(
            f"{name}_temp_path {directory / name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if os.geteuid() == 0 else ""
        self._conf, self._directory = directory / "nginx.conf", directory
        self._conf.write_text(
            f"daemon off; master_process off; pid {directory / 'pid'}; {user}\n"
            f"error_log {directory / 'error.log'};\n"
            f"events {{}}\nhttp {{ access_log off; {temporary}\n{server} }}\n"
        )

    def __enter__(self):
        self._process = subprocess.Popen(
            ["nginx", "-p", str(self._directory), "-c", str(self._conf)],
            env=daemons.environment(),
            stderr=subprocess.DEVNULL,
        )
        wait_for(self.port, self._process)
        return self

    def __exit__(self, *exc_info):
        self._process.terminate()
        self._process.wait(20)


def wait_for(port, process):
    def answers():
        assert process.poll() is None, "nginx ended"
        try:
            return Http(port).get("/v1/images").status == 200
        except OSError:
            return False

    faults.until(answers, "nginx passes requests on")


PLAIN = """
server {
    listen 9292;
    client_max_body_size 0;
    location / { proxy_pass http://127.0.0.1:9393; }
}
"""


@pytest.fixture(scope="module")
def plain(site, tmp_path_factory):
    with Nginx(tmp_path_factory.mktemp("plain"), site, PLAIN) as running:
        yield running


@pytest.fixture(scope="module")
def as_in_the_manual(site, tmp_path_factory):
    with Nginx(tmp_path_factory.mktemp("manual"), site, manual()) as running:
        yield running


META = {
    "name": "bücher",
    "disk_format": "qcow2",
    "container_format": "bare",
    "min_disk": 5,
    "min_ram": 256,
    "is_public": True,
    "properties": {"kernel_id": "7", "os-type": "linux", "_x_": "1"},
}
KEPT = {"kernel_id": "7", "os_type": "linux", "_x_": "1"}


@pytest.mark.parametrize("proxy", ["plain", "as_in_the_manual"])
def test_what_our_client_sends_arrives_whole(request, site, proxy):
    port = request.getfixturevalue(proxy).port
    with contextlib.closing(glance.client.Client("127.0.0.1", port)) as client:
        made = client.add_image(META, DATA)
        found, data = client.get_image(made["id"])
        assert b"".join(data) == DATA
    assert found == {**found, **META, "properties": KEPT, "status": "active"}


@pytest.mark.parametrize("proxy", ["plain", "as_in_the_manual"])
def test_what_our_command_sends_arrives_whole(request, site, proxy, tmp_path):
    port = request.getfixturevalue(proxy).port
    done = operators.run(
        *("glance", "--port", port, "add", "name=x", "disk_format=vhd"),
        *("container_format=ovf", "min_disk=3", "kernel_id=7"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    image_id = done.stdout.split()[-1]
    meta = site.http.head(f"/v1/images/{image_id}").meta()
    wanted = {"disk_format": "vhd", "container_format": "ovf", "min_disk": "3"}
    assert meta == {**meta, **wanted, "property_kernel_id": "7"}


OTHERS = {
    "x-image-meta-disk_format": "raw",
    "x-image-meta-container_format": "bare",
    "x-image-meta-min_disk": "5",
    "x-image-meta-property-kernel_id": "7",
    "x-image-meta-property-os.version": "6",
    "x-image-meta-property-größe": "8",
}


def register(port):
    """Send the headers of another client byte for byte; return the image that was made."""
    lines = [f"{name}: {value}" for name, value in OTHERS.items()]
    head = "\r\n".join(
        ["POST /v1/images HTTP/1.1", "Host: x", "Connection: close", "Content-Length: 0", *lines]
    )
    answer = Http(port).exchange(f"{head}\r\n\r\n".encode())
    return json.loads(answer[answer.index(b"{") : answer.rindex(b"}") + 1])["image"]


def test_what_other_clients_send_needs_the_settings_of_the_manual(plain, as_in_the_manual):
    lost, kept = register(plain.port), register(as_in_the_manual.port)
    assert (kept["disk_format"], kept["container_format"], kept["min_disk"]) == ("raw", "bare", 5)
    properties = {"kernel_id": "7", "os.version": "6", "größe": "8"}
    assert kept["properties"] == properties
    # The reason for the settings: should nginx change, the manual can be shorter.
    assert (lost["disk_format"], lost["min_disk"], lost["properties"]) == (None, 0, {})
