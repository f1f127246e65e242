"""The S3 store against Swift's S3 gateway, which verifies signatures, and against moto."""

import contextlib
import datetime
import os

import pytest

from glance.common.config import Conf
from glance.store import s3
from glance.store.s3 import upload
from glance.testing.store_suite import WritableStoreSuite

from support.s3_servers import Moto
from support.swift_node import KEY, USER, SwiftNode

pytestmark = pytest.mark.full

BUCKET = "glance"
MIB = 1024 * 1024


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
    return s3.S3Store(Conf(settings))


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


@contextlib.contextmanager
def upload_part(directory):
    part = upload._Part(str(directory))
    part.add(memoryview(b"some bytes"))
    yield part
    part.close()


class S3Suite(WritableStoreSuite):
    """The conformance suite; what is left is looked for in the backend and beside the spools."""

    canary = KEY
    required = ("s3_store_access_key", "s3_store_secret_key", "s3_store_bucket")
    options: dict[str, str] = {}

    @pytest.fixture
    def server(self, swift):
        return swift

    @pytest.fixture
    def store(self, server, tmp_path):
        self.server, self.directory = server, tmp_path
        yield make_store(server.address, tmp_path, **self.options)
        server.clear()

    def contents(self, store):
        return self.server.names() + os.listdir(self.directory)

    def uri_at(self, address):
        store = s3.S3Store(Conf({"s3_store_host": address, "s3_store_bucket": "pail"}))
        return store.location_of("17").uri(secret=True)

    def store_without(self, option):
        options = {**self.options, option: ""}
        return make_store(self.server.address, self.directory, **options)

    def with_credentials(self, uri):
        return uri.replace("s3+http://", f"s3://{USER.replace(':', '%3A')}:{KEY}@")

    def test_uploads_of_vanished_hosts_are_aborted(self, store, monkeypatch):
        self.keep(store, "1", b"data")
        client = store.client_for(store.location_of("1"))
        uploads = {key: client.initiate(key, "token") for key in ("2", "no/image")}
        with upload_part(self.directory) as part:
            client.put_part("2", uploads["2"], 1, part)
        assert store.drop_stale_uploads() == 0
        # A day later.
        monkeypatch.setattr(s3, "ABANDONED_AFTER", datetime.timedelta(seconds=-2))
        assert store.drop_stale_uploads() == 1
        assert [found.key for found in client.uploads()] == ["no/image"]
        assert store.drop_stale_uploads() == 0
        client.abort("no/image", uploads["no/image"])

    def test_a_written_location_names_service_and_bucket(self, store):
        location = self.keep(store, "1", b"data")
        assert location.uri(secret=True) == f"s3+http://{self.server.address}/{BUCKET}/1"


class TestSwiftWithVersion4(S3Suite):
    options = {"s3_store_signature_version": "4"}


class TestSwiftWithVersion2(S3Suite, differs_in="access"):
    options = {"s3_store_signature_version": "2"}


class TestSwiftInParts(S3Suite, differs_in="layout"):
    """Whatever does not fit into 5 MiB becomes a multipart upload."""

    borders = (5 * MIB, 10 * MIB)
    # The gateway opens one part after the other.
    survives_deletion = False
    options = {"s3_store_large_object_size": "5", "s3_store_large_object_chunk_size": "5"}


class TestMotoInParts(S3Suite, differs_in="access"):
    borders = (5 * MIB,)
    options = TestSwiftInParts.options

    @pytest.fixture
    def server(self, moto):
        return moto
