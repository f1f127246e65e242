"""The Swift that the tests run: a real one, with v1 authentication, manifests and S3."""

import hashlib

import pytest
import swiftclient
from boto.s3.connection import OrdinaryCallingFormat, S3Connection

from support import swift_node

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with swift_node.SwiftNode(tmp_path_factory.mktemp("swift"), max_file_size=2000) as running:
        yield running


@pytest.fixture
def client(node):
    connection = swiftclient.Connection(
        node.auth_url, swift_node.USER, swift_node.KEY, retries=0, auth_version="1"
    )
    yield connection
    connection.close()
    node.clear()


def test_it_keeps_objects_and_joins_segments(node, client):
    client.put_container("box")
    assert client.put_object("box", "1", b"data") == hashlib.md5(b"data").hexdigest()
    for number in (1, 2):
        client.put_object("box", f"2-0000{number}", b"x" * number)
    client.put_object("box", "2", b"", headers={"X-Object-Manifest": "box/2-"})
    assert client.get_object("box", "2")[1] == b"xxx"
    assert node.names() == ["box/1", "box/2", "box/2-00001", "box/2-00002"]
    assert node.used("box") == 7


def test_it_refuses_larger_objects_than_it_was_told_to(client):
    client.put_container("box")
    with pytest.raises(swiftclient.ClientException) as caught:
        client.put_object("box", "1", b"x" * 2001)
    assert caught.value.http_status == 413


def test_it_refuses_a_wrong_key(node):
    with pytest.raises(swiftclient.ClientException) as caught:
        swiftclient.Connection(node.auth_url, swift_node.USER, "wrong", retries=0).get_account()
    assert caught.value.http_status == 401


def test_it_speaks_s3_on_the_same_port(node, client):
    connection = S3Connection(
        swift_node.USER,
        swift_node.KEY,
        host="127.0.0.1",
        port=node.port,
        is_secure=False,
        calling_format=OrdinaryCallingFormat(),
    )
    key = connection.create_bucket("pail").new_key("1")
    key.set_contents_from_string("data")
    assert key.get_contents_as_string() == b"data"
    assert node.names() == ["pail/1"]


def test_what_it_keeps_outlives_it(tmp_path):
    with swift_node.SwiftNode(tmp_path / "swift") as node:
        node.request("PUT", "/box")
        node.request("PUT", "/box/1", body=b"data")
        port = node.port
        node.kill()
        node.start()
        assert node.port == port
        assert node.names() == (["box/1"] if node.lasting else [])
