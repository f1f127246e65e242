"""The S3 store against a real Swift that fails on demand: each row of the table of failures.

An upload ends in one of two ways: the object is there and whole, or nothing is. A download
delivers the right bytes, or an error.
"""

import hashlib
import os

import pytest
from test_s3_store import make_store

from glance.common import exception
from glance.store.location import get_location_from_uri
from glance.testing.faults import Fault, FaultProxy
from glance.testing.store_suite import Boom, Killed, ScriptedSource, failing_after, make_data

from support.faults import until
from support.swift_node import SwiftNode

pytestmark = pytest.mark.full

MIB = 1024 * 1024
SMALL = make_data(100_000)
LARGE = make_data(12 * MIB)
KEY = "/glance/1"
PART = KEY + r"\?.*partNumber="
COMPLETE = KEY + r"\?uploadId="
BEGIN = KEY + r"\?uploads"

ENCRYPTED_PART = {"x-amz-server-side-encryption": "aws:kms"}
ENCRYPTED = {**ENCRYPTED_PART, "etag": '"0"'}

Unavailable = exception.BackendUnavailable


@pytest.fixture(scope="module")
def swift(tmp_path_factory):
    settings = {"slo.allow_async_delete": "false"}
    with SwiftNode(tmp_path_factory.mktemp("swift"), settings=settings) as node:
        assert node.request("PUT", "/glance")[0] == 201
        yield node


@pytest.fixture(scope="module")
def running_proxy(swift):
    with FaultProxy(swift.port) as proxy:
        yield proxy


@pytest.fixture
def proxy(running_proxy):
    running_proxy.clear()
    yield running_proxy
    running_proxy.clear()


@pytest.fixture
def make(proxy, tmp_path):
    """Return a function that makes a store behind the proxy."""

    def make(retries=0, timeout=20, **options):
        store = make_store(
            f"127.0.0.1:{proxy.port}",
            tmp_path,
            s3_store_retries=str(retries),
            s3_store_timeout=str(timeout),
            s3_store_large_object_chunk_size="5",
            **options,
        )
        store.settle_delay = 0.5
        return store

    return make


@pytest.fixture
def contents(swift, tmp_path):
    """Return a function that lists objects, parts, open uploads and traces."""
    yield lambda: swift.names() + os.listdir(tmp_path)
    for name in swift.names():
        swift.request("DELETE", f"/{name}")


def locate(store, image_id="1"):
    location = f"s3+http://{store.endpoint.address}/glance/{image_id}"
    return get_location_from_uri(location)


def timeout_for(faults):
    """Be patient with a busy machine, but not where a stall is to be noticed."""
    stalls = any((fault.stall_request, fault.stall_response) != (None, None) for fault in faults)
    return 2 if stalls else 20


def settle(store):
    """Do what the next start does when no record is active."""
    for left in store.sweep():
        left.discard()


UPLOADS = [
    # what goes wrong, size, retries, how it ends
    ("put-503-once", [Fault("PUT", KEY, status=503)], SMALL, 1, None),
    ("put-500-always", [Fault("PUT", KEY, times=None, status=500)], SMALL, 1, Unavailable),
    ("put-429-once", [Fault("PUT", KEY, status=429)], SMALL, 1, None),
    ("put-cut-once", [Fault("PUT", KEY, cut_request=50_000)], SMALL, 1, None),
    ("put-cut-always", [Fault("PUT", KEY, times=None, cut_request=9)], SMALL, 1, Unavailable),
    ("put-stalls", [Fault("PUT", KEY, stall_request=50_000)], SMALL, 0, Unavailable),
    ("put-stalls-once", [Fault("PUT", KEY, stall_request=50_000)], SMALL, 1, None),
    ("put-answer-lost", [Fault("PUT", KEY, cut_response=-1)], SMALL, 0, None),
    ("put-answer-lost-again", [Fault("PUT", KEY, times=None, cut_response=-1)], SMALL, 1, None),
    ("put-answer-late", [Fault("PUT", KEY, stall_response=-1)], SMALL, 0, None),
    (
        "put-answer-lost-and-no-more-answers",
        [
            Fault("PUT", KEY, times=None, cut_response=-1),
            Fault("HEAD", KEY, skip=2, times=1, status=503),
        ],
        SMALL,
        0,
        Unavailable,
    ),
    (
        "put-wrong-etag",
        [Fault("PUT", KEY, change={"etag": '"' + "0" * 32 + '"'})],
        SMALL,
        0,
        exception.BackendCorrupt,
    ),
    # Where a managed key encrypts the object, its ETag is no MD5; its length is compared then.
    ("put-encrypted", [Fault("PUT", KEY, change=ENCRYPTED)], SMALL, 0, None),
    (
        "put-encrypted-and-cut",
        [
            Fault("PUT", KEY, change=ENCRYPTED),
            Fault("HEAD", KEY, skip=2, change={"content-length": "9"}),
        ],
        SMALL,
        0,
        exception.BackendCorrupt,
    ),
    ("parts-encrypted", [Fault("PUT", PART, times=None, change=ENCRYPTED_PART)], LARGE, 0, None),
    ("put-without-conditions", [Fault("PUT", KEY, status=501)], SMALL, 0, None),
    ("complete-without-conditions", [Fault("POST", COMPLETE, status=501)], LARGE, 0, None),
    (
        "put-403",
        [Fault("PUT", KEY, times=None, status=403)],
        SMALL,
        1,
        exception.StorageWriteDenied,
    ),
    ("put-507", [Fault("PUT", KEY, times=None, status=507)], SMALL, 1, exception.StorageFull),
    ("put-413", [Fault("PUT", KEY, times=None, status=413)], SMALL, 1, exception.StorageFull),
    (
        "bucket-403",
        [Fault("HEAD", "/glance/?$", status=403)],
        SMALL,
        0,
        exception.StorageWriteDenied,
    ),
    ("bucket-301", [Fault("HEAD", "/glance/?$", status=301)], SMALL, 0, Unavailable),
    ("bucket-503-once", [Fault("HEAD", "/glance/?$", status=503)], SMALL, 1, None),
    ("begin-503-once", [Fault("POST", BEGIN, status=503)], LARGE, 1, None),
    ("begin-answer-lost", [Fault("POST", BEGIN, cut_response=-1)], LARGE, 0, None),
    (
        "begin-answer-lost-twice",
        [Fault("POST", BEGIN, times=2, cut_response=-1)],
        LARGE,
        1,
        Unavailable,
    ),
    ("begin-500", [Fault("POST", BEGIN, times=None, status=500)], LARGE, 0, Unavailable),
    ("part-503-once", [Fault("PUT", PART, skip=1, status=503)], LARGE, 1, None),
    (
        "part-500-always",
        [Fault("PUT", PART, skip=1, times=None, status=500)],
        LARGE,
        1,
        Unavailable,
    ),
    ("part-cut-once", [Fault("PUT", PART, skip=1, cut_request=MIB)], LARGE, 1, None),
    (
        "part-cut-always",
        [Fault("PUT", PART, skip=1, times=None, cut_request=MIB)],
        LARGE,
        1,
        Unavailable,
    ),
    ("part-stalls-once", [Fault("PUT", PART, stall_request=MIB)], LARGE, 1, None),
    ("part-answer-lost", [Fault("PUT", PART, skip=1, cut_response=-1)], LARGE, 1, None),
    (
        "part-wrong-etag",
        [Fault("PUT", PART, change={"etag": '"' + "0" * 32 + '"'})],
        LARGE,
        0,
        exception.BackendCorrupt,
    ),
    (
        "part-403",
        [Fault("PUT", PART, skip=1, times=None, status=403)],
        LARGE,
        1,
        exception.StorageWriteDenied,
    ),
    ("complete-503-once", [Fault("POST", COMPLETE, status=503)], LARGE, 1, None),
    (
        "complete-500-always",
        [Fault("POST", COMPLETE, times=None, status=500)],
        LARGE,
        1,
        Unavailable,
    ),
    (
        "complete-403",
        [Fault("POST", COMPLETE, times=None, status=403)],
        LARGE,
        1,
        exception.StorageWriteDenied,
    ),
    ("complete-answer-lost", [Fault("POST", COMPLETE, cut_response=-1)], LARGE, 0, None),
    (
        "complete-answer-lost-again",
        [Fault("POST", COMPLETE, times=None, cut_response=-1)],
        LARGE,
        1,
        None,
    ),
    ("complete-cut-answer", [Fault("POST", COMPLETE, cut_response=20)], LARGE, 0, None),
    ("complete-no-xml", [Fault("POST", COMPLETE, flip=3)], LARGE, 0, None),
    (
        "complete-length-lies",
        [Fault("HEAD", KEY, skip=2, change={"content-length": "9"})],
        LARGE,
        0,
        exception.BackendCorrupt,
    ),
]


@pytest.mark.parametrize(
    ("faults", "data", "retries", "error"),
    [row[1:] for row in UPLOADS],
    ids=[row[0] for row in UPLOADS],
)
def test_an_upload_is_there_and_whole_or_gone(proxy, make, contents, faults, data, retries, error):
    store = make(retries, timeout_for(faults))
    proxy.order(*faults)
    if error is None:
        result = store.add("1", ScriptedSource(data), None)
        assert result.checksum == hashlib.md5(data).hexdigest()
        proxy.clear()
        with store.get(locate(store)) as body:
            assert b"".join(body) == data
        store.delete(locate(store))
    else:
        with pytest.raises(exception.StoreError) as caught:
            store.add("1", ScriptedSource(data), None)
        assert type(caught.value) is error
        proxy.clear()
    # After a doubtful request the store looks again a moment later.
    until(lambda: contents() == [], "nothing is left")


@pytest.mark.parametrize("error", [Boom(), Killed()], ids=["error", "kill"])
def test_parts_that_cannot_be_removed_at_once_are_removed_by_the_next_sweep(
    proxy, make, contents, error
):
    store = make()
    proxy.order(Fault("DELETE", times=None, status=403))
    with pytest.raises(type(error)):
        store.add("1", ScriptedSource(LARGE, failing_after(11 * MIB, error)), None)
    # It is tried again once, in vain; then the trace is there for the next start.
    left = until(store.sweep, "the store gives up")
    left[0].discard()
    assert len(contents()) > 1
    proxy.clear()
    settle(store)
    assert contents() == []


def test_parts_that_cannot_be_removed_at_once_are_removed_a_moment_later(proxy, make, contents):
    proxy.order(Fault("DELETE", times=1, status=503))
    with pytest.raises(Boom):
        make().add("1", ScriptedSource(LARGE, failing_after(11 * MIB, Boom())), None)
    until(lambda: contents() == [], "nothing is left")


def test_what_is_not_known_to_be_gone_is_named_for_the_scrubber(proxy, make, contents):
    store = make()
    proxy.order(
        Fault("PUT", KEY, cut_response=-1),
        Fault("HEAD", KEY, skip=2, times=None, status=503),
    )
    with pytest.raises(Unavailable), store.stage("1", 5) as staged:
        staged.write(b"bytes")
        staged.commit()
    assert staged.leftovers() == [locate(store).uri(secret=True)]
    proxy.clear()
    store.delete(locate(store))
    until(lambda: contents() == [], "nothing is left")


def test_an_object_of_somebody_else_survives_a_failed_upload(proxy, make, contents):
    store = make()
    with store.stage("1", 5) as staged:
        staged.write(b"bytes")
        store.add("1", ScriptedSource(b"other"), 5)
        with pytest.raises(exception.StoreObjectExists):
            staged.commit()
    with store.get(locate(store)) as body:
        assert b"".join(body) == b"other"
    store.delete(locate(store))
    assert contents() == []


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["in one piece", "in parts"])
def test_a_service_that_looks_for_the_object_itself_is_believed(proxy, make, contents, data):
    """Another host has stored it between the last look and the request."""
    store = make()
    with store.stage("1") as staged:
        staged.write(data)
        store.add("1", ScriptedSource(b"other"), 5)
        proxy.order(Fault("HEAD", KEY, status=404))
        with pytest.raises(exception.StoreObjectExists):
            staged.commit()
    assert store.get_size(locate(store)) == 5
    store.delete(locate(store))
    assert contents() == []


# -- downloads --


@pytest.fixture
def stored(make):
    store = make()
    store.add("1", ScriptedSource(LARGE), len(LARGE))
    return locate(store)


GOOD_DOWNLOADS = [
    ("503-once", [Fault("GET", KEY, status=503)]),
    ("cut-before-the-answer", [Fault("GET", KEY, cut_response=-1)]),
    ("cut-in-the-body", [Fault("GET", KEY, cut_response=5 * MIB)]),
    ("cut-twice", [Fault("GET", KEY, times=2, cut_response=5 * MIB)]),
    ("stall", [Fault("GET", KEY, stall_response=5 * MIB)]),
    ("cut-then-503", [Fault("GET", KEY, cut_response=99), Fault("GET", KEY, skip=1, status=503)]),
    ("no-etag", [Fault("GET", KEY, change={"etag": ""})]),
]


@pytest.mark.parametrize("part", [(0, None), (3 * MIB, 8 * MIB)], ids=["whole", "part"])
@pytest.mark.parametrize(
    "faults", [row[1] for row in GOOD_DOWNLOADS], ids=[row[0] for row in GOOD_DOWNLOADS]
)
def test_a_download_survives_what_passes(proxy, make, stored, contents, faults, part):
    offset, length = part
    proxy.order(*faults)
    with make(2, timeout_for(faults)).get(stored, offset, length) as body:
        stop = len(LARGE) if length is None else offset + length
        assert b"".join(body) == LARGE[offset:stop]


def test_a_trickle_is_no_failure_as_long_as_it_goes_on(proxy, make, contents):
    """It takes longer than the service may be silent."""
    make().add("1", ScriptedSource(SMALL), len(SMALL))
    store = make(timeout=1)
    proxy.order(Fault("GET", KEY, trickle=40_000))
    with store.get(locate(store)) as body:
        assert b"".join(body) == SMALL
    assert proxy.count("GET", KEY) == 1


BAD_DOWNLOADS = [
    ("500", [Fault("GET", KEY, times=None, status=500)], Unavailable),
    ("403", [Fault("GET", KEY, times=None, status=403)], exception.StoreForbidden),
    ("404", [Fault("GET", KEY, times=None, status=404)], exception.StoreObjectNotFound),
    ("redirect", [Fault("GET", KEY, status=302, headers={"location": "/x"})], Unavailable),
    ("cut", [Fault("GET", KEY, times=None, cut_response=MIB)], Unavailable),
    (
        "403-after-a-cut",
        [Fault("GET", KEY, cut_response=MIB), Fault("GET", KEY, times=None, status=403)],
        Unavailable,
    ),
    (
        "a-cut-with-a-weak-etag",
        [Fault("GET", KEY, cut_response=MIB, change={"etag": 'W/"x"'})],
        Unavailable,
    ),
    (
        "another-version-after-a-cut",
        [Fault("GET", KEY, cut_response=MIB), Fault("GET", KEY, skip=1, status=412)],
        Unavailable,
    ),
    (
        "another-range-after-a-cut",
        [
            Fault("GET", KEY, cut_response=MIB),
            Fault("GET", KEY, skip=1, change={"content-range": "bytes 0-5/12582912"}),
        ],
        Unavailable,
    ),
    (
        "no-range-after-a-cut",
        [Fault("GET", KEY, cut_response=MIB), Fault("GET", KEY, skip=1, status=200)],
        Unavailable,
    ),
]


@pytest.mark.parametrize(
    ("faults", "error"),
    [row[1:] for row in BAD_DOWNLOADS],
    ids=[row[0] for row in BAD_DOWNLOADS],
)
def test_a_download_that_cannot_be_right_is_an_error(proxy, make, stored, contents, faults, error):
    proxy.order(*faults)
    got = b""
    with pytest.raises(exception.StoreError) as caught, make(1).get(stored) as body:
        for chunk in body:
            got += chunk
    assert type(caught.value) is error
    assert len(got) < len(LARGE)
    assert LARGE.startswith(got)


@pytest.mark.parametrize(
    "change",
    [
        {"content-range": "bytes 6-10/12582912"},
        {"content-range": "bytes 5-9/12582912"},
        {"content-range": "bytes 5-10/*"},
        {"content-range": "nonsense"},
    ],
)
def test_another_part_than_asked_for_is_an_error(proxy, make, stored, contents, change):
    proxy.order(Fault("GET", KEY, change=change))
    with pytest.raises(Unavailable):
        make().get(stored, 5, 6)


def test_without_retries_a_broken_download_ends_where_it_broke(proxy, make, stored, contents):
    proxy.order(Fault("GET", KEY, cut_response=MIB))
    with make().get(stored) as body, pytest.raises(Unavailable):
        b"".join(body)
    assert proxy.count("GET", KEY) == 1


# -- deleting and looking --


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("DELETE", KEY, status=503), None),
        (Fault("DELETE", KEY, cut_response=-1), None),
        (Fault("HEAD", KEY, cut_response=-1), None),
        (Fault("DELETE", KEY, times=None, status=503), Unavailable),
        (Fault("DELETE", KEY, times=None, status=403), exception.StoreForbidden),
        (Fault("HEAD", KEY, times=None, status=503), Unavailable),
    ],
)
def test_a_delete_is_done_or_an_error(proxy, make, stored, contents, fault, error):
    proxy.order(fault)
    store = make(1)
    if error is None:
        store.delete(stored)
        assert contents() == []
    else:
        with pytest.raises(error):
            store.delete(stored)
        proxy.clear()
        assert store.get_size(stored) == len(LARGE)


def test_a_service_that_is_away_is_unavailable_and_comes_back(proxy, make, stored, contents):
    store = make()
    proxy.down()
    try:
        for ask in (store.get, store.get_size, store.delete):
            with pytest.raises(Unavailable):
                ask(stored)
        with pytest.raises(Unavailable):
            store.stage("2", 5)
        with pytest.raises(Unavailable):
            list(store.list_objects())
        assert store.drop_stale_uploads() == 0
    finally:
        proxy.up()
    assert store.get_size(stored) == len(LARGE)


def test_a_kept_connection_that_the_service_has_closed_is_replaced(proxy, make, stored, contents):
    store = make()
    assert store.get_size(stored) == len(LARGE)
    proxy.down()
    proxy.up()
    assert store.get_size(stored) == len(LARGE)
