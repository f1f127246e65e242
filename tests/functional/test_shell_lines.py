"""Programs one behind the other in a shell line, and long transfers that nobody may cut."""

import hashlib
import re
import signal
import subprocess

import pytest

from support import images, operators

pytestmark = pytest.mark.full

GIB = 1 << 30


@pytest.fixture
def operator():
    with operators.ordinary_operator() as made:
        yield made


def test_a_command_right_behind_the_start_is_never_too_early(operator):
    glance = f"glance --host 127.0.0.1 --port {operator.site.port}"
    first = operator.shell(
        f"glance-control all start . && {glance} add name=early is_public=true </dev/null"
    )
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.endswith("Added new image with ID: 1\n")
    for _ in range(3):
        line = f"glance-control all stop && glance-control all start . && {glance} index --force"
        done = operator.shell(line)
        assert (done.returncode, done.stderr) == (0, "")
        assert re.search(r"^1 +early ", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_term_lets_a_download_of_a_gibibyte_go_to_its_end(make_site):
    site = make_site()
    reply = site.http.add(images.generated(GIB), name="big")
    assert reply.status == 201
    image = reply.json()["image"]
    command = ["curl", "-sS", f"{site.url}/v1/images/{image['id']}"]
    # Slow enough that the signal comes in the middle.
    images.need("curl")
    with subprocess.Popen([*command, "--limit-rate", "200M"], stdout=subprocess.PIPE) as client:
        digest = hashlib.md5(client.stdout.read(1 << 20))
        site.api.process.send_signal(signal.SIGTERM)
        while data := client.stdout.read(1 << 20):
            digest.update(data)
        assert client.wait() == 0
    assert digest.hexdigest() == image["checksum"]
    assert site.api.process.wait(60) == 0
