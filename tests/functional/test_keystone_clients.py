"""Every client that users have, against a service whose callers are known by a real Keystone."""

import json
import re
import subprocess
import sys

import pytest

import glance.client
from glance.common import exception

from support import clients, daemons, identities, keystone, tools

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    # Keystone is asked each time, so that a revoked token is noticed at once.
    running = identities.Tokens(
        tmp_path_factory.mktemp("source"), strict=True, token_cache_time=-1
    )
    running.keystone.service("image", running.site.url, "glance")
    running.keystone.user("joe", "acme")
    yield running
    running.stop()


@pytest.fixture
def site(source):
    return source.site


@pytest.fixture
def cloud(source):
    """Variables of the third version of the identity API, for joe of acme."""
    return {
        "OS_AUTH_URL": source.keystone.url,
        "OS_USERNAME": "joe",
        "OS_PASSWORD": keystone.PASSWORD,
        "OS_PROJECT_NAME": "acme",
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_NAME": "Default",
    }


def run(command, env, data=None, code=0):
    """Run a program with variables of its own; return its standard output."""
    done = subprocess.run(
        [str(part) for part in command],
        input=data,
        stdin=None if data is not None else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**daemons.environment(), **env},
        timeout=300,
        check=False,
    )
    assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    assert keystone.PASSWORD not in done.stdout + done.stderr
    return done.stdout


def command_line(env, *args, **options):
    return run([sys.executable, daemons.BIN / "glance", *args], env, **options)


# -- glance ---------------------------------------------------------------------------------------


def ways(source):
    """Return variables by the way to sign in that they stand for."""
    identity, project = source.keystone, source.keystone.project("acme")
    joe = {"OS_USERNAME": "joe", "OS_PASSWORD": keystone.PASSWORD}
    diablo = {
        "OS_AUTH_USER": "joe",
        "OS_AUTH_KEY": keystone.PASSWORD,
        "OS_AUTH_TENANT": "acme",
        "OS_AUTH_STRATEGY": "keystone",
    }
    there = {"OS_AUTH_URL": identity.url}
    return {
        "v3": {
            **there,
            **joe,
            "OS_PROJECT_NAME": "acme",
            "OS_USER_DOMAIN_NAME": "Default",
            "OS_PROJECT_DOMAIN_ID": "default",
            "OS_IDENTITY_API_VERSION": "3",
        },
        "v3 by ids": {
            **there,
            "OS_USER_ID": identity.user("joe"),
            "OS_PASSWORD": keystone.PASSWORD,
            "OS_PROJECT_ID": project,
        },
        "a URL without a version": {
            "OS_AUTH_URL": identity.root,
            **joe,
            "OS_PROJECT_NAME": "acme",
        },
        "names of v2.0": {**there, **joe, "OS_TENANT_NAME": "acme"},
        "ids of v2.0": {**there, **joe, "OS_TENANT_ID": project},
        "Diablo": {"OS_AUTH_URL": f"{identity.root}/", **diablo},
        "Diablo with a URL of today": {**there, **diablo},
        "a token to exchange": {
            **there,
            "OS_TOKEN": identity.token("joe"),
            "OS_PROJECT_ID": project,
        },
        "a token to send": {
            "OS_AUTH_TOKEN": identity.token("joe", "acme"),
            "OS_IMAGE_URL": source.site.url,
        },
    }


WAYS = (
    *("v3", "v3 by ids", "a URL without a version", "names of v2.0", "ids of v2.0", "Diablo"),
    *("Diablo with a URL of today", "a token to exchange", "a token to send"),
)


@pytest.mark.parametrize("way", WAYS)
def test_the_glance_command_signs_in(source, way):
    env = ways(source)[way]
    said = command_line(
        env, "add", f"name={way}", "disk_format=raw", "container_format=bare", data="x"
    )
    url = f"/v1/images/{said.split()[-1]}"
    made = source.site.http.head(url, source.caller("admin")).meta()
    assert (made["name"], made["owner"]) == (way, source.keystone.project("acme"))


def test_the_glance_command_reads_clouds_yaml(source, tmp_path):
    (tmp_path / "openstack").mkdir()
    entry = {
        "auth": {
            "auth_url": source.keystone.url,
            "username": "joe",
            "password": keystone.PASSWORD,
            "project_name": "acme",
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        },
        "region_name": "RegionOne",
    }
    text = json.dumps({"clouds": {"acme": entry}})
    (tmp_path / "openstack" / "clouds.yaml").write_text(text)
    env = {"XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}
    said = command_line(env, "add", "name=of a cloud", "--os-cloud=acme", data="x")
    assert "of a cloud" in command_line({**env, "OS_CLOUD": "acme"}, "show", said.split()[-1])
    said = command_line(env, "index", "--os-cloud=other", code=1)
    assert "other" in said


def test_the_glance_command_signs_in_with_an_application_credential(source):
    identity = source.keystone
    user, token = identity.user("joe"), identity.token("joe", "acme")
    body = {"application_credential": {"name": "of a test"}}
    made, _ = identity._call("POST", f"/users/{user}/application_credentials", body, token)
    made = made["application_credential"]
    env = {
        "OS_AUTH_URL": identity.url,
        "OS_AUTH_TYPE": "v3applicationcredential",
        "OS_APPLICATION_CREDENTIAL_ID": made["id"],
        "OS_APPLICATION_CREDENTIAL_SECRET": made["secret"],
    }
    said = command_line(env, "add", "name=by application credential", data="x")
    assert "by application credential" in command_line(env, "show", said.split()[-1])


def test_a_wrong_password_is_one_line(cloud):
    said = command_line({**cloud, "OS_PASSWORD": "wrong"}, "index", code=1)
    assert said.splitlines() == [
        "Not authorized to make this request. "
        "Check your credentials (OS_AUTH_USER, OS_AUTH_KEY, ...)."
    ]


def test_an_address_that_is_given_wins_over_the_catalogue(source, cloud):
    said = command_line(cloud, "index", "-H", "127.0.0.1", "-p", "1", code=1)
    assert "Unable to connect to server" in said


def test_glance_upload_signs_in(source, cloud, tmp_path):
    (tmp_path / "image").write_bytes(b"data")
    upload = [sys.executable, daemons.BIN / "glance-upload", tmp_path / "image", "uploaded"]
    assert "Stored image. Got identifier" in run(upload, cloud)


# -- glance.client --------------------------------------------------------------------------------


def test_the_client_class_signs_in_and_is_led_by_the_catalogue(source):
    creds = {
        "strategy": "keystone",
        "username": "joe",
        "password": keystone.PASSWORD,
        "tenant": "acme",
        "auth_url": source.keystone.url,
    }
    client = glance.client.Client("nowhere.invalid", creds=creds)
    image = client.add_image({"name": "by the class"}, b"data")
    assert image["owner"] == source.keystone.project("acme")
    assert b"".join(client.get_image(image["id"])[1]) == b"data"
    # The token ends: the client gets another one, and goes back to the first byte of the body.
    source.keystone.revoke(client.auth_tok)
    old = client.auth_tok
    again = client.add_image({"name": "after its token"}, b"data" * 1000)
    assert (again["size"], client.auth_tok != old) == (4000, True)


class Pipe:
    """Data that cannot be sent twice."""

    def __init__(self, data):
        self.left = data

    def read(self, size=-1):
        piece, self.left = self.left[:size], self.left[size:]
        return piece


def test_a_stream_is_not_sent_again_with_another_token(source):
    creds = {
        "strategy": "keystone",
        "username": "joe",
        "password": keystone.PASSWORD,
        "tenant": "acme",
        "auth_url": source.keystone.url,
    }
    client = glance.client.Client("nowhere.invalid", creds=creds)
    before = {image["id"] for image in client.get_images(limit=1000)}
    source.keystone.revoke(client.auth_tok)
    with pytest.raises(exception.NotAuthorized):
        client.add_image({"name": "half"}, Pipe(b"data" * 1000))
    client.set_auth_token(None)
    client.auth_plugin.authenticate()
    assert {image["id"] for image in client.get_images(limit=1000)} == before


# -- python-glanceclient, openstacksdk ------------------------------------------------------------


@pytest.fixture(scope="module")
def python():
    return clients.python()


def shell(python, env, *args, **options):
    return run([python.with_name("glance"), "--os-image-api-version", "1", *args], env, **options)


def test_python_glanceclient_goes_through_keystone(source, python, cloud, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"data" * 1000)
    create = ("image-create", "--name", "theirs", "--file", path, "--disk-format", "raw")
    said = shell(python, cloud, *create, "--container-format", "bare")
    image_id = re.search(r"^\| id +\| (\S+)", said, re.MULTILINE)[1]
    assert "theirs" in shell(python, cloud, "image-list")
    copy = tmp_path / "copy"
    shell(python, cloud, "image-download", image_id, "--file", copy)
    assert copy.read_bytes() == path.read_bytes()
    other = source.owner("other")
    shell(python, cloud, "member-create", image_id, other, "--can-share")
    assert other in shell(python, cloud, "member-list", "--image-id", image_id)
    url = f"/v1/images/{image_id}"
    assert source.site.http.get(url, source.caller("other")).status == 200
    shell(python, cloud, "member-delete", image_id, other)
    assert source.site.http.get(url, source.caller("other")).status == 404
    shell(python, cloud, "image-delete", image_id)
    assert source.site.http.head(url, source.caller("admin")).status == 404


SDK = """
import json, os, sys
import openstack
cloud = openstack.connect(image_api_version='1')
print(json.dumps(sorted(image.name for image in cloud.image.images())))
for image in cloud.image.images():
    if image.name == sys.argv[1]:
        cloud.image.delete_image(image.id)
"""


def test_openstacksdk_discovers_lists_and_deletes(source, python, cloud):
    joe = {"X-Auth-Token": source.keystone.token("joe", "acme")}
    made = source.site.http.add(b"x", joe, name="for the sdk").json()["image"]
    env = {**cloud, "OS_REGION_NAME": "RegionOne"}
    listed = json.loads(run([python, "-c", SDK, "for the sdk"], env))
    assert "for the sdk" in listed
    assert source.site.http.head(f"/v1/images/{made['id']}", joe).status == 404


def test_openstackclient_takes_the_version_that_it_is_told(source, cloud, tmp_path):
    joe = {"X-Auth-Token": source.keystone.token("joe", "acme")}
    made = source.site.http.add(b"x", joe, name="for osc")
    number, uuid = made.json()["image"]["id"], made.header("x-openstack-image-uuid")
    command = tools.Tool("openstack", tmp_path, **cloud, OS_REGION_NAME="RegionOne")
    # In processes of their own, because one remembers what it has found.
    for words, wanted in ((), uuid), (("--os-image-api-version", "1"), number):
        listed = command(*words, "image", "list", "-f", "json").json()
        assert wanted in [one["ID"] for one in listed]
