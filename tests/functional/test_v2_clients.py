"""Clients of others find version 2, whatever URL the catalog has and whatever they ask for."""

import json
import subprocess

import pytest

from support import clients, daemons, tools

pytestmark = pytest.mark.peers

BOTH = "versionnegotiation context rootapp"

#: A caller with a token and a catalog of its own; prints where requests go, and what is found.
SDK = """
import json, sys
import openstack.connection
from keystoneauth1 import session
from keystoneauth1.access import access
from keystoneauth1.identity import base

url, cases = sys.argv[1], json.loads(sys.argv[2])


class Plugin(base.BaseIdentityPlugin):
    def __init__(self, endpoint):
        super().__init__()
        self.endpoint = endpoint

    def get_auth_ref(self, session):
        entry = {"id": "e", "interface": "public", "region": "r", "region_id": "r",
                 "url": self.endpoint}
        catalog = [{"id": "c", "type": "image", "name": "glance", "endpoints": [entry]}]
        token = {"expires_at": "2099-01-01T00:00:00.000000Z", "methods": ["token"],
                 "issued_at": "2020-01-01T00:00:00.000000Z", "catalog": catalog,
                 "user": {"id": "u", "name": "u", "domain": {"id": "d", "name": "d"}},
                 "roles": [], "project": {"id": "p", "name": "p",
                                          "domain": {"id": "d", "name": "d"}}}
        return access.AccessInfoV3({"token": token}, "secret")

    def get_cache_id_elements(self):
        return {"endpoint": self.endpoint}


found = []
for path, version in cases:
    wanted = {} if version is None else {"image_api_version": version}
    made = openstack.connection.Connection(
        session=session.Session(auth=Plugin(url + path)), region_name="r", **wanted)
    names = [i.name for i in made.image.images()]
    found.append([made.image.get_endpoint(), [name for name in names if name == "one"]])
print(json.dumps(found))
"""
CASES = [[path, version] for path in ("", "/v1", "/v2") for version in (None, "1", "2")]

#: openstacksdk without Keystone.
NONE = """
import json, sys
import openstack.connection
from keystoneauth1 import noauth, session

made = openstack.connection.Connection(
    session=session.Session(auth=noauth.NoAuth(endpoint=sys.argv[1])), region_name="r",
    image_endpoint_override=sys.argv[1])
print(json.dumps([i.name for i in made.image.images() if i.name == "one"]))
"""


@pytest.fixture(scope="module")
def python():
    return clients.python()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Both daemons with both versions of the API and one image."""
    with daemons.Site(tmp_path_factory.mktemp("site"), api_pipeline=BOTH) as running:
        running.http.add(
            b"data", name="one", disk_format="raw", container_format="bare", is_public="true"
        )
        yield running


def run(*command):
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=120,
        env=daemons.environment(),
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done


def test_openstacksdk_goes_to_the_version_that_it_wants(python, site):
    """Without a wish it takes version 2, at whatever URL the catalog has."""
    found = json.loads(run(python, "-c", SDK, site.url, json.dumps(CASES)).stdout)
    for (path, version), (endpoint, names) in zip(CASES, found, strict=True):
        wanted = "/v1" if version == "1" else "/v2"
        assert endpoint.rstrip("/") == site.url + wanted, (path, version)
        assert names == ["one"], (path, version)


@pytest.mark.parametrize("path", ["", "/v2"])
def test_openstacksdk_without_keystone(python, site, path):
    assert json.loads(run(python, "-c", NONE, site.url + path).stdout) == ["one"]


def test_openstackclient_finds_the_endpoint_of_what_is_not_served(site, tmp_path):
    """Its commands for the cache look for the document below `/v2/`, and then for the cache."""
    command = tools.Tool("openstack", tmp_path, *tools.without_keystone(site.url)["openstack"])
    listed, cached = command.run(("image", "list", "-f", "value"), ("cached", "image", "list"))
    assert listed.code == 0 and "one" in listed.out
    assert cached.code == 1
    assert "/v2/cache" in cached.err
    assert "endpoint data" not in cached.err and "Traceback" not in cached.err


#: What openstacksdk says about requests that are refused: (name of the error, its text) of each.
REFUSED = """
import json, sys
import openstack
from openstack import exceptions

url, taken = sys.argv[1:]
cloud = openstack.connect(auth_type="none", endpoint=url, image_endpoint_override=url + "/v2")
formats = {"disk_format": "raw", "container_format": "bare"}
cloud.image.create_image("refused", id=taken, is_protected=True, **formats)
many = {f"p{number}": "x" for number in range(61)}
said = []
for call in (
    lambda: cloud.image.create_image("r1", disk_format="floppy"),
    lambda: cloud.image.delete_image(taken, ignore_missing=False),
    lambda: cloud.image.get_image("5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c19"),
    lambda: cloud.image.create_image("r2", id=taken, allow_duplicates=True, **formats),
    lambda: cloud.image.create_image("r3", **many, **formats),
):
    try:
        said.append(repr(call()))
    except exceptions.HttpException as error:
        said.append([error.status_code, str(error)])
cloud.image.update_image(taken, is_protected=False)
cloud.image.delete_image(taken)
print(json.dumps(said))
"""


def test_openstacksdk_tells_the_reason_of_each_refusal(site, tmp_path):
    taken = "5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c13"
    said = json.loads(tools.script(REFUSED, tmp_path, site.url, taken))
    wanted = [(400, "disk_format"), (403, "protected"), (404, ""), (409, taken), (413, "60")]
    for (status, words), one in zip(wanted, said, strict=True):
        assert one[0] == status, one
        assert words in one[1]


@pytest.mark.parametrize("words", [[], ["--os-image-api-version", "2"]])
def test_glanceclient_takes_version_2_and_does_not_fall_back(python, site, words):
    command = python.parent / "glance"
    where = ["--os-image-url", site.url, "--os-auth-token", "notused"]
    done = run(command, *where, *words, "image-list")
    assert "one" in done.stdout
    assert "falling back" not in (done.stdout + done.stderr).lower()


def test_glanceclient_takes_version_1_if_told_to(python, site):
    command = python.parent / "glance"
    where = ["--os-image-url", site.url, "--os-auth-token", "notused"]
    done = run(command, *where, "--os-image-api-version", "1", "image-list")
    assert "one" in done.stdout
    assert "Disk Format" in done.stdout


def test_glanceclient_prints_the_reason_of_each_refusal(site, tmp_path):
    """Whatever the status is: a flat error document would end it with a traceback."""
    glance = tools.Tool("glance", tmp_path, *tools.without_keystone(site.url)["glance"])
    taken = "5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c11"
    formats = ("--disk-format", "raw", "--container-format", "bare")
    many = [word for number in range(61) for word in ("--property", f"p{number}=x")]
    made, *refused = glance.run(
        ("image-create", "--id", taken, *formats, "--protected", "True"),
        ("image-create", "--id", taken, *formats),
        ("image-show", "5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c12"),
        ("image-create", "--property", "os_glance_x=1", *formats),
        ("image-create", "--property", "metadata=1", *formats),
        ("image-create", *many, *formats),
        ("image-delete", taken),
    )
    assert made.code == 0, made.err
    wanted = ("HTTP 409", "HTTP 404", "HTTP 403", "HTTP 400", "HTTP 413", "not permitted")
    for words, one in zip(wanted, refused, strict=True):
        said = one.out + one.err
        assert one.code != 0
        assert words in said
        assert "Traceback" not in said
