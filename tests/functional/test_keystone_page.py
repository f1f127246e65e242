"""What the page about Keystone prints works as printed, from the first command to the last."""

import os
import re
import shlex
import signal
import subprocess
import sys

import pytest

from support import checkout, daemons, images, keystone, pages

pytestmark = [pytest.mark.slow, pytest.mark.peers]

RUNS = {
    "keystone": {
        "Install": "test_the_page_installs_what_the_tests_use",
        "Start a Keystone for a trial": "test_the_commands_of_the_page_run",
        "Create users, projects and the catalog entry": "test_the_commands_of_the_page_run",
        "Configure and start the two daemons": "test_the_commands_of_the_page_run",
        "Try it": "test_the_commands_of_the_page_run",
    },
    "from-todays-glance": {
        "Get ready": "test_the_commands_of_the_page_run",
        "Change the catalog": "test_the_commands_of_the_page_run",
    },
    "python-client": {"Signing in": "test_the_commands_of_the_page_run"},
}

PAGE = pages.path("keystone")
PROGRAMS = ("glance", "glance-api", "glance-registry")


def commands():
    """Return the blocks up to the one that ends everything, the first of which installs."""
    found = checkout.blocks(PAGE)
    last = next(index for index, block in enumerate(found) if block.startswith("kill "))
    return found[: last + 1]


def beside():
    """Return what other pages print for a site behind Keystone, to run before the end."""
    move = pages.path("from-todays-glance")
    install, clouds = checkout.blocks(move, "Get ready")
    (requirement,) = re.findall(r"^move/bin/pip install '(\S+)'$", install, re.MULTILINE)
    (endpoint,) = checkout.blocks(move, "Change the catalog")
    (sign_in,) = checkout.blocks(pages.path("python-client"), "Signing in")
    for old, new in (
        ("https://keystone.example.com", "http://127.0.0.1:5000"),
        ("https://new-images.example.com", "http://127.0.0.1:9292"),
        ("password: secret", "password: admins-secret"),
    ):
        clouds, endpoint = clouds.replace(old, new), endpoint.replace(old, new)
    for old, new in (("secret", "joe-secret"), ("acme", "of-joe")):
        sign_in = sign_in.replace(f'"{old}"', f'"{new}"')
    return f"""
cat > clouds.yaml <<'END'
{clouds}
END
unset OS_AUTH_URL OS_USERNAME OS_PASSWORD OS_PROJECT_NAME OS_USER_DOMAIN_NAME
unset OS_PROJECT_DOMAIN_NAME OS_IDENTITY_API_VERSION
ENDPOINT=$($PREFIX/keystone/bin/python -W ignore - <<'END'
from importlib import metadata
import openstack
from packaging.requirements import Requirement
wanted = Requirement({requirement!r})
assert wanted.specifier.contains(metadata.version(wanted.name))
for cloud in ("old", "new"):
    assert [image.name for image in openstack.connect(cloud=cloud).image.images()] == ["private"]
identity = openstack.connect(cloud="old").identity
(service,) = identity.services(name="glance")
print(*(each.id for each in identity.endpoints(service_id=service.id)))
END
)
export OS_CLOUD=new
{endpoint.replace("ENDPOINT", "$ENDPOINT")}
{sys.executable} - <<'END'
from glance.client import Client
{sign_in}
assert [image["name"] for image in client.get_images()] == ["private"]
END
"""


def test_the_page_installs_what_the_tests_use():
    assert f"pip install {shlex.join(keystone.PACKAGES)}" in commands()[0]


@pytest.fixture
def folder(tmp_path):
    """A folder with what the commands need of a checkout, other ports, and programs in opt."""
    ports = {port: str(daemons.free_port()) for port in ("5000", "9191", "9292")}
    replaced = re.compile(r"\b(?:5000|9191|9292)\b")

    def moved(text):
        return replaced.sub(lambda match: ports[match[0]], text)

    (tmp_path / "etc").mkdir()
    (tmp_path / "opt" / "glance" / "bin").mkdir(parents=True)
    (tmp_path / "README.rst").write_text("an image\n")
    for name in PROGRAMS:
        script = tmp_path / "opt" / "glance" / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {daemons.BIN / name} "$@"\n')
        script.chmod(0o755)
        if name != "glance":
            text = (daemons.ROOT / "etc" / f"{name}.conf").read_text()
            (tmp_path / "etc" / f"{name}.conf").write_text(moved(text))
    yield tmp_path, moved
    for path in (tmp_path / "demo").glob("*.pid"):
        try:
            os.kill(int(path.read_text()), signal.SIGKILL)
        except ProcessLookupError:
            pass


def test_the_commands_of_the_page_run(folder):
    images.need("curl", "bash")
    home, moved = folder
    environment = keystone.python().parent.parent
    *first, end = commands()[1:]
    script = moved("\n".join([*first, beside(), end]))
    (home / "opt" / "keystone").symlink_to(environment)
    # Not a pipe, which the daemons would keep open after a failure.
    with (home / "said").open("w") as said:
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", script],
            cwd=home,
            env={**daemons.environment(), "PREFIX": str(home / "opt")},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            timeout=500,
        )
    logs = [path.read_text()[-3000:] for path in (home / "demo").glob("*.log")]
    told = (home / "said").read_text()
    assert done.returncode == 0, "\n".join([told, *logs])
    assert "private" in told
    # Without a place of their own, these keys go to a directory of the system.
    assert (home / "demo" / "receipts" / "0").exists()
