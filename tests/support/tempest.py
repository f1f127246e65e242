"""Tempest's own tests of Images API v2, run against a service with a real Keystone."""

from __future__ import annotations

import pathlib
import re
import subprocess
from typing import NamedTuple

from support import daemons, environments, keystone

PACKAGES = ("tempest==47.*", "setuptools<81")
#: What this service has not: metadata definitions, imports, several stores, the cache's API.
IMAGES = r"tempest\.api\.image\.v2\.(test_(?!.*metadefs)|admin\.test_images\.)"

CONF = """
[DEFAULT]
log_dir = {home}
[oslo_concurrency]
lock_path = {home}/locks
[auth]
use_dynamic_credentials = true
admin_username = admin
admin_password = {password}
admin_project_name = admin
admin_domain_name = Default
tempest_roles = member
[identity]
uri_v3 = {identity}
auth_version = v3
v3_endpoint_type = public
region = RegionOne
[identity-feature-enabled]
api_v2 = false
api_v3 = true
[service_available]
glance = true
nova = false
neutron = false
cinder = false
swift = false
horizon = false
[image]
region = RegionOne
catalog_type = image
container_formats = bare,ami,ari,aki,ovf
disk_formats = raw,qcow2,vhd,vmdk,vdi,iso,ami,ari,aki
[image-feature-enabled]
import_image = false
os_glance_reserved = true
image_caching = false
image_format_enforcement = false
[validation]
run_validation = false
"""


#: The longest run.
SECONDS = 1800


class Counts(NamedTuple):
    """How many tests have passed, how many (or classes of them) were skipped, and which failed."""

    passed: int
    skipped: int
    failed: tuple[str, ...]
    output: str


def python() -> pathlib.Path:
    """Return the interpreter of Tempest's environment, which is made if it is missing.

    GLANCE_TEST_TEMPEST_HOME names another one.
    """
    # NOTE: GLANCE_TEST_TEMPEST says that, and which, tests are to run.
    return environments.python("tempest_home", PACKAGES, ("tempest",))


def run(home: pathlib.Path, identity: keystone.Keystone, tests: str = IMAGES) -> Counts:
    """Run the tests whose names match, one after the other, and count."""
    home.mkdir(exist_ok=True)
    text = CONF.format(home=home, identity=identity.url, password=keystone.PASSWORD)
    (home / "tempest.conf").write_text(text)
    interpreter = python()
    names = _names(home, interpreter, tests)
    with (home / "output").open("wb") as told:
        subprocess.run(
            [interpreter, "-u", "-W", "ignore", "-m", "testtools.run", "-v", *names],
            cwd=home,
            env=_environment(home),
            stdout=told,
            stderr=told,
            timeout=SECONDS,
        )
    output = (home / "output").read_text(errors="replace")
    ran = re.search(r"^Ran (\d+) tests?", output, re.MULTILINE)
    assert ran, output[-4000:]
    failed = tuple(re.findall(r"^(?:ERROR|FAIL): (\S+)", output, re.MULTILINE))
    # Those that are skipped before they begin, many of them whole classes, have not run.
    skips = len(re.findall(r"^skipped '|\.\.\. skipped", output, re.MULTILINE))
    succeeded = len(re.findall(r"\.\.\. ok$", output, re.MULTILINE))
    return Counts(succeeded, skips, failed, output)


def _names(home: pathlib.Path, interpreter: pathlib.Path, tests: str) -> list[str]:
    listed = subprocess.run(
        [interpreter, "-W", "ignore", "-m", "testtools.run", "discover", "-l"]
        + ["-s", interpreter.parent.parent / "lib/python3.11/site-packages/tempest/api/image"]
        + ["-t", interpreter.parent.parent / "lib/python3.11/site-packages"],
        cwd=home,
        env=_environment(home),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # A name ends with the attributes of the test, in brackets.
    names = [name.partition("[")[0] for name in listed.split()]
    return [name for name in names if re.search(tests, name)]


def _environment(home: pathlib.Path) -> dict[str, str]:
    return {
        **daemons.environment(),
        "HOME": str(home),
        "TEMPEST_CONFIG_DIR": str(home),
        "TEMPEST_CONFIG": "tempest.conf",
    }
