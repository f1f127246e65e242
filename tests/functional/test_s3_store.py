"""The S3 store against Swift's S3 gateway, which verifies signatures, and against moto."""

import os

import pytest

from glance.common import exception
from glance.common.config import Conf
from glance.store import s3
from glance.testing.store_suite import CHUNK, WritableStoreSuite, make_data

from support.s3_servers import Moto
from support.swift_node import KEY, USER, SwiftNode

BUCKET = "glance"


def make_store(address, directory, **options):
    settings = {
        "s3_store_host": address,
        "s3_store_access_key": USER,
        "s3_store_secret_key": KEY,
        "s3_store_bucket": BUCKET,
        "s3_store_create_bucket_on_put": "True",
        "s3_store_object_buffer_dir": str(directory),
        "s3_store_retries": "0",
        "s3_store_timeout": "20",
        **options,
    }
    return s3.Store(Conf(settings))


@pytest.fixture(scope="module")
def swift(tmp_path_factory):
    # NOTE: without the expirer, which is a daemon of its own, it must delete parts at once.
    settings = {"slo.allow_async_delete": "false"}
    with SwiftNode(tmp_path_factory.mktemp("swift"), settings=settings) as node:
        yield node


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    with Moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


class S3Suite(WritableStoreSuite):
    """The conformance suite; what is left is looked for in the backend and beside the spools."""

    canary = KEY
    options: dict[str, str] = {}

    @pytest.fixture
    def server(self, swift):
        return swift

    @pytest.fixture
    def store(self, server, tmp_path):
        self.server, self.directory = server, tmp_path
        store = make_store(server.address, tmp_path, **self.options)
        yield store
        server.clear()

    def contents(self, store):
        return self.server.names() + os.listdir(self.directory)

    def test_a_written_location_holds_no_credentials(self, store):
        location = self.keep(store, "1", b"data")
        assert not location.store_location.has_credentials
        assert location.uri(secret=True) == f"s3+http://{self.server.address}/{BUCKET}/1"


class TestSwiftWithVersion4(S3Suite):
    options = {"s3_store_signature_version": "4"}


class TestSwiftWithVersion2(S3Suite):
    options = {"s3_store_signature_version": "2"}


class TestSwiftInParts(S3Suite):
    """Whatever does not fit into 5 MiB becomes a multipart upload."""

    options = {"s3_store_large_object_size": "5", "s3_store_large_object_chunk_size": "5"}

    def test_reading_goes_on_while_the_data_is_deleted(self, store):
        """Not so here: the gateway opens one part after the other. It must be an error then."""
        data = make_data(3 * CHUNK)
        location = self.keep(store, "1", data)
        with store.get(location) as body:
            chunks = iter(body)
            assert next(chunks) == data[: 64 * 1024]
            store.delete(location)
            with pytest.raises(exception.BackendUnavailable):
                b"".join(chunks)


class TestMotoInParts(S3Suite):
    options = TestSwiftInParts.options

    @pytest.fixture
    def server(self, moto):
        return moto
