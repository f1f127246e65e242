"""Ways to a bucket: inside TLS, by the host's name, behind a path, in another region."""

import logging
import socket

import pytest
from test_s3_store import make_store

from glance.common import exception
from glance.store.location import get_location_from_uri
from glance.testing.store_suite import ScriptedSource, make_data

from support.certificates import Authority
from support.swift_node import SwiftNode
from support.tls_front import TLSFront

pytestmark = pytest.mark.full

MIB = 1024 * 1024
DATA = make_data(6 * MIB)
PARTS = {"s3_store_large_object_chunk_size": "5"}


@pytest.fixture(scope="module")
def swift(tmp_path_factory):
    settings = {"slo.allow_async_delete": "false", "s3api.storage_domain": "s3.test"}
    with SwiftNode(tmp_path_factory.mktemp("swift"), settings=settings) as node:
        yield node


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def front(swift, authority):
    with TLSFront(swift.port, *authority.issue("server")) as running:
        yield running


@pytest.fixture
def resolver(monkeypatch):
    """Let every name below s3.test be this host; return the names that were looked up."""
    asked = []
    resolve = socket.getaddrinfo

    def getaddrinfo(host, *args, **kwargs):
        asked.append(host)
        local = host.endswith("s3.test")
        return resolve("127.0.0.1" if local else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def check(store, swift):
    """Store, read, list and delete, in one piece and in parts."""
    for size in (len(DATA), None):
        uri = store.add("1", ScriptedSource(DATA), size).location
        located = get_location_from_uri(uri)
        with store.get(located, 1, 2 * MIB) as body:
            assert b"".join(body) == DATA[1 : 2 * MIB + 1]
        assert [entry.size for entry in store.list_objects()] == [len(DATA)]
        store.delete(located)
        assert swift.names() == []
    return uri


@pytest.mark.parametrize("version", ["2", "4"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_service_inside_tls_is_verified_and_used(
    swift, authority, front, tmp_path, version, host
):
    store = make_store(
        f"https://{host}:{front.port}",
        tmp_path,
        s3_store_cacert=str(authority.root),
        s3_store_signature_version=version,
        **PARTS,
    )
    assert check(store, swift) == f"s3+https://{host}:{front.port}/glance/1"
    # An address is no name for the server to choose a certificate by.
    assert set(front.names) == {host if host == "localhost" else None}


def refused(store, caplog):
    with pytest.raises(exception.BackendUnavailable):
        store.add("1", ScriptedSource(b"data"), 4)
    said = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(said) == 1, "trying again cannot help"
    assert "is not trusted" in said[0].getMessage()


def test_a_service_with_a_certificate_of_somebody_else_is_refused(
    swift, authority, tmp_path, caplog
):
    with TLSFront(swift.port, *authority.issue("stranger", "stranger_extensions")) as front:
        address = f"https://127.0.0.1:{front.port}"
        options = {"s3_store_cacert": str(authority.root), "s3_store_retries": "3"}
        refused(make_store(address, tmp_path, **options), caplog)


def test_a_service_whose_authority_is_not_trusted_is_refused(front, tmp_path, caplog):
    refused(make_store(f"https://127.0.0.1:{front.port}", tmp_path), caplog)


def test_another_authority_than_the_configured_one_is_refused(
    front, authority, tmp_path_factory, tmp_path, caplog
):
    other = Authority(tmp_path_factory.mktemp("other"))
    address = f"https://127.0.0.1:{front.port}"
    refused(make_store(address, tmp_path, s3_store_cacert=str(other.root)), caplog)


def test_an_expired_certificate_is_refused(swift, authority, tmp_path, caplog):
    with TLSFront(swift.port, *authority.issue("old", end="20210101000000Z")) as front:
        address = f"https://127.0.0.1:{front.port}"
        refused(make_store(address, tmp_path, s3_store_cacert=str(authority.root)), caplog)


def test_plain_http_to_a_tls_port_is_unavailable(front, tmp_path):
    with pytest.raises(exception.BackendUnavailable):
        make_store(f"http://127.0.0.1:{front.port}", tmp_path).add("1", ScriptedSource(b"data"), 4)


@pytest.mark.parametrize("version", ["2", "4"])
def test_buckets_can_be_named_by_the_host(swift, resolver, tmp_path, version):
    store = make_store(
        f"s3.test:{swift.port}",
        tmp_path,
        s3_store_bucket_url_format="subdomain",
        s3_store_signature_version=version,
        **PARTS,
    )
    assert check(store, swift) == f"s3+http://s3.test:{swift.port}/glance/1"
    assert {name for name in resolver if name.endswith("s3.test")} == {"glance.s3.test"}


def test_a_bucket_named_by_the_host_needs_a_certificate_for_it(
    swift, authority, resolver, tmp_path
):
    with TLSFront(swift.port, *authority.issue("wild", "wildcard_extensions")) as front:
        store = make_store(
            f"https://s3.test:{front.port}",
            tmp_path,
            s3_store_bucket_url_format="subdomain",
            s3_store_cacert=str(authority.root),
            **PARTS,
        )
        check(store, swift)
        assert set(front.names) == {"glance.s3.test"}
        # A bucket with a dot is one label too many for the wildcard; it goes into the path.
        dotted = make_store(
            f"https://s3.test:{front.port}",
            tmp_path,
            s3_store_bucket="gla.nce",
            s3_store_cacert=str(authority.root),
        )
        check(dotted, swift)


# -- buckets and regions --


@pytest.mark.parametrize("version", ["2", "4"])
def test_a_missing_bucket_is_made_only_if_that_is_wanted(swift, tmp_path, caplog, version):
    bucket = f"made-by-{version}"
    options = {"s3_store_bucket": bucket, "s3_store_signature_version": version}
    store = make_store(swift.address, tmp_path, s3_store_create_bucket_on_put="False", **options)
    with pytest.raises(exception.StorageWriteDenied):
        store.add("1", ScriptedSource(b"data"), 4)
    assert "s3_store_create_bucket_on_put" in caplog.text
    location = get_location_from_uri(store.location_of("1").uri())
    for ask in (store.get, store.get_size, store.delete):
        with pytest.raises(exception.StoreObjectNotFound):
            ask(location)
    with pytest.raises(exception.BackendUnavailable):
        list(store.list_objects())
    making = make_store(swift.address, tmp_path, **options)
    assert list(making.list_objects()) == []
    assert making.add("1", ScriptedSource(b"data"), 4).size == 4
    making.delete(location)


@pytest.fixture(scope="module")
def german_swift(tmp_path_factory):
    settings = {"s3api.location": "eu-central-1"}
    with SwiftNode(tmp_path_factory.mktemp("german"), settings=settings) as node:
        yield node


def test_a_bucket_is_made_in_the_configured_region(german_swift, tmp_path):
    store = make_store(german_swift.address, tmp_path, s3_store_region="eu-central-1")
    assert store.add("1", ScriptedSource(b"data"), 4).size == 4


def test_the_wrong_region_is_the_operators_error_and_named(german_swift, tmp_path, caplog):
    store = make_store(german_swift.address, tmp_path)
    with pytest.raises(exception.BackendUnavailable):
        store.add("1", ScriptedSource(b"data"), 4)
    assert "s3_store_region" in caplog.text


def test_wrong_keys_are_the_services_trouble_and_not_the_callers(swift, tmp_path, caplog):
    make_store(swift.address, tmp_path).add("1", ScriptedSource(b"data"), 4)
    store = make_store(swift.address, tmp_path, s3_store_secret_key="stale-canary")
    location = get_location_from_uri(store.location_of("1").uri())
    with pytest.raises(exception.BackendUnavailable):
        store.get(location)
    with pytest.raises(exception.StorageWriteDenied):
        store.add("2", ScriptedSource(b"data"), 4)
    assert "canary" not in caplog.text
    make_store(swift.address, tmp_path).delete(location)
