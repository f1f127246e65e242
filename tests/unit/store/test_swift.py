"""The Swift store against a real Swift: the suite, and what only Swift can do wrong."""

import dataclasses
import io

import pytest

from glance.common.config import Conf
from glance.store import swift
from glance.store.location import get_location_from_uri
from glance.store.swift import client
from glance.testing.store_suite import WritableStoreSuite

from support.swift_node import KEY, USER

pytestmark = pytest.mark.full

MIB = 1024 * 1024
TINY = {"swift_store_large_object_size": "2", "swift_store_large_object_chunk_size": "1"}


def make_store(node, spool_dir, **options):
    options = {"swift_store_retries": "0", **options}
    return swift.SwiftStore(Conf(node.store_options(spool_dir, **options)))


class SwiftSuite(WritableStoreSuite):
    canary = KEY
    required = ("swift_store_auth_address", "swift_store_user", "swift_store_key")

    # NOTE: two conditional PUTs at the same moment both succeed in Swift; the later one stays.
    exclusive = False
    OPTIONS = {}

    @pytest.fixture
    def store(self, swift_node, tmp_path):
        node = swift_node
        self.node, self.spool_dir = node, tmp_path
        return make_store(node, tmp_path, **self.OPTIONS)

    def contents(self, store):
        return self.node.names()

    def uri_at(self, address):
        values = {"swift_store_auth_address": address, "swift_store_container": "boxes"}
        return swift.SwiftStore(Conf(values)).location_of("17")

    def store_without(self, option):
        return make_store(self.node, self.spool_dir, **{**self.OPTIONS, option: ""})

    def with_credentials(self, uri):
        return uri.replace("://", f"://{USER}:{KEY}@")


class TestSwift(SwiftSuite):
    pass


class TestSwiftWithStaticManifests(SwiftSuite, differs_in="layout"):
    survives_deletion = False
    borders = (MIB, 2 * MIB, 3 * MIB)
    OPTIONS = {**TINY, "swift_store_large_object_mode": "slo"}


class TestSwiftWithDynamicManifests(SwiftSuite, differs_in="layout"):
    survives_deletion = False
    borders = (MIB, 2 * MIB, 3 * MIB)
    OPTIONS = {**TINY, "swift_store_large_object_mode": "dlo"}


@pytest.fixture
def signed_in(loopback):
    """A server that signs everybody in and has the same data for every name."""

    def answer(seen):
        if "x-auth-key" in seen.headers:
            url = f"http://127.0.0.1:{server.port}/v1"
            return 200, b"", {"X-Storage-Url": url, "X-Auth-Token": "token"}
        return 200, b"data"

    server = loopback.answering(answer)
    return server


def read(server, path, trail=()):
    location = get_location_from_uri(f"swift+http://a:b@127.0.0.1:{server.port}/auth{path}")
    with swift.SwiftStore(Conf({})).get(dataclasses.replace(location, trail=trail)) as body:
        assert b"".join(body) == b"data"
    return server.requests[-1]


def test_the_trail_is_sent_on(signed_in):
    marks = ("0" * 16, "1" * 16)
    seen = read(signed_in, "/images/5", marks)
    assert seen.target == "/v1/images/5"
    assert seen.headers["x-glance-trail"] == ", ".join(marks)


@pytest.mark.parametrize("name", ["ü b", "%C3%BC%20b"])
def test_a_name_is_encoded_once(signed_in, name):
    path = f"/{name}/{name}%2525"
    assert read(signed_in, path).target == "/v1/%C3%BC%20b/%C3%BC%20b%2525"


@pytest.mark.parametrize("length", [1_000_000, None])
def test_data_is_read_and_sent_in_large_pieces(signed_in, length):
    sizes = []

    class Source(io.BytesIO):
        def read(self, size=-1):
            sizes.append(size)
            return super().read(size)

    account = client.Account(f"http://127.0.0.1:{signed_in.port}/auth", "a", "b", "1")
    with client.SwiftClient(account, Conf({}), {}, 0) as to:
        to.put("images", "1", Source(b"x" * 1_000_000), length=length, headers={})
    # The library asks for more than is left of a known length.
    assert min(sizes) >= 1_000_000 % client.CHUNK and len(sizes) <= 6
    assert signed_in.requests[-1].target == "/v1/images/1"
