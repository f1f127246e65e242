"""Images in a Swift that knows its users from Keystone: version 3, real on both sides."""

import hashlib

import pytest

from support import keystone as keystones
from support.swift_node import SwiftNode

pytestmark = pytest.mark.peers

DATA = bytes(range(256)) * 20_000
SEGMENTED = {"swift_store_large_object_size": "2", "swift_store_large_object_chunk_size": "1"}


@pytest.fixture(scope="module")
def keystone(tmp_path_factory):
    with keystones.Keystone(tmp_path_factory.mktemp("keystone") / "home") as running:
        running.user("imagestore", "warehouse")
        yield running


@pytest.fixture(scope="module")
def node(keystone, tmp_path_factory):
    directory = tmp_path_factory.mktemp("swift")
    with SwiftNode(
        directory, keystone=keystone.url, keystone_password=keystones.PASSWORD
    ) as running:
        url = f"http://{running.address}/v1/AUTH_%(tenant_id)s"
        keystone.service("object-store", url)
        yield running


@pytest.fixture
def site(keystone, node, make_site, tmp_path):
    options = {
        "default_store": "swift",
        "swift_store_auth_address": keystone.url,
        "swift_store_auth_version": "3",
        "swift_store_user": "warehouse:imagestore",
        "swift_store_key": keystones.PASSWORD,
        "swift_store_region": "RegionOne",
        "swift_store_create_container_on_put": "True",
        "swift_store_spool_dir": tmp_path,
        **SEGMENTED,
    }
    return make_site(api=options)


def test_images_go_there_and_come_back_and_no_secret_is_seen(site, keystone):
    reply = site.http.add(DATA, name="x", disk_format="raw", container_format="bare")
    assert reply.status == 201, reply
    image = reply.json()["image"]
    assert image["checksum"] == hashlib.md5(DATA).hexdigest()
    assert keystones.PASSWORD not in reply.text
    fetched = site.http.get(f"/v1/images/{image['id']}")
    assert fetched.body == DATA
    assert keystones.PASSWORD not in str(fetched.headers)
    assert site.http.delete(f"/v1/images/{image['id']}").status == 200
    for _, log in site.logs():
        assert keystones.PASSWORD not in log


def test_a_wrong_key_is_the_services_fault_and_told_in_the_log(site):
    site.api.stop()
    site.api_options["swift_store_key"] = "wrong-k3y"
    site.write()
    site.api.start()
    reply = site.http.add(DATA, name="x", disk_format="raw", container_format="bare")
    assert reply.status == 503
    assert "wrong-k3y" not in reply.text
    assert "The Swift store cannot authenticate" in site.api.log()
    assert "wrong-k3y" not in site.api.log()
