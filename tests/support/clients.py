"""Other people's clients of the Images API, in an environment of their own.

python-glanceclient brings a command named `glance` too, so it must never share an environment with
the project. GLANCE_TEST_CLIENTS names a virtual environment that already has both clients.
"""

from __future__ import annotations

import pathlib

from support import environments

PACKAGES = (
    "python-glanceclient==4.13.*",
    "openstacksdk==4.22.*",
    "python-openstackclient==10.*",
)


#: The last release of python-glanceclient that sends headers as they are, and the first one that
#: percent-encodes them.
PLAIN, ENCODING = "2.11.0", "2.11.1"


def glanceclient(release: str) -> pathlib.Path:
    """Return the interpreter of an environment with an old release of python-glanceclient."""
    packages = (f"python-glanceclient=={release}", "setuptools<81")
    name = f"glanceclient_{release.replace('.', '_')}"
    return environments.python(name, packages, ("glanceclient.v1.client",))


def python() -> pathlib.Path:
    """Return the interpreter of the clients' environment, which is made if it is missing."""
    modules = ("glanceclient", "openstack", "openstackclient")
    return environments.python("clients", PACKAGES, modules)
