"""What the Swift store makes of failures between it and a real Swift, one by one.

An upload ends whole or leaves nothing; a download never gives out wrong bytes for right ones.
"""

import contextlib
import hashlib
import logging
import re

import pytest

from glance.common import exception
from glance.common.config import Conf
from glance.store import swift
from glance.store.location import get_location_from_uri
from glance.store.swift import client, upload
from glance.streaming.retry import Backoff
from glance.testing.faults import Fault, FaultProxy
from glance.testing.store_suite import Boom, ScriptedSource, failing_after, make_data

from support.swift_node import KEY

pytestmark = pytest.mark.full

MIB = 1024 * 1024
DATA = make_data(2 * MIB + MIB // 2)
#: How an image can be stored: options and the names that DATA has in Swift then.
SEGMENTED = ["1", "1-00001", "1-00002", "1-00003"]
WAYS = {
    "one object": ({"swift_store_large_object_chunk_size": "3"}, ["1"]),
    "stream": ({"swift_store_large_object_chunk_size": "1"}, ["1"]),
    "static": (
        {
            "swift_store_large_object_size": "2",
            "swift_store_large_object_chunk_size": "1",
            "swift_store_large_object_mode": "slo",
        },
        SEGMENTED,
    ),
    "dynamic": (
        {
            "swift_store_large_object_size": "2",
            "swift_store_large_object_chunk_size": "1",
            "swift_store_large_object_mode": "dlo",
        },
        SEGMENTED,
    ),
}
#: The object whose writing is struck: the only one, or the second segment.
OBJECT = {"one object": "/1$", "stream": "/1$", "static": "/1-00002", "dynamic": "/1-00002"}
SPOOLED = ["one object", "static", "dynamic"]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(client, "BACKOFF", Backoff(0.01, 1))
    monkeypatch.setattr(upload, "LISTING_BACKOFF", Backoff.steady(0.01, retries=2))


@pytest.fixture
def proxy(swift_node):
    with FaultProxy(swift_node.port) as running:
        yield running


@pytest.fixture
def make_store(swift_node, proxy, tmp_path):
    def make(way="one object", **options):
        options = {
            "swift_store_retries": "2",
            "swift_store_timeout": "1",
            **WAYS[way][0],
            **options,
        }
        store = swift.SwiftStore(
            Conf(swift_node.store_options(tmp_path, port=proxy.port, **options))
        )
        # So that faults strike what is under test: log in, find the container, ask for the limits.
        store.add("first", ScriptedSource(b""), None)
        proxy.clear()
        return store

    return make


def add(store, data=DATA):
    return store.add("1", ScriptedSource(data), len(data))


def read(store, result):
    with store.get(get_location_from_uri(result.location)) as body:
        return b"".join(body)


def names(node):
    found = [name.partition("/")[2] for name in node.names("glance")]
    return [name for name in found if name != "first"]


def assert_whole(node, store, result, way):
    assert (result.size, result.checksum) == (len(DATA), hashlib.md5(DATA).hexdigest())
    assert read(store, result) == DATA
    assert names(node) == WAYS[way][1]


# -- uploads that get over it --------------------------------------------------------------------

PASSING = {
    "a 503": {"status": 503},
    "a time-out of Swift's": {"status": 408},
    "too many requests": {"status": 429},
    "a reset in the middle": {"cut_request": 100_000},
    "silence": {"stall_request": 0},
    "an answer that is lost": {"cut_response": -1},
    "a token that has expired": {"status": 401},
    "a wrong digest": {"change": {"etag": "0" * 32}},
    "a digest that Swift refuses": {"status": 422},
}


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("way", SPOOLED)
def test_a_passing_failure_costs_one_object_sent_again(swift_node, make_store, proxy, way, fault):
    store = make_store(way)
    proxy.order(Fault("PUT", OBJECT[way], **PASSING[fault]))
    result = add(store)
    assert_whole(swift_node, store, result, way)
    assert proxy.count("PUT", OBJECT[way]) == 2
    if way != "one object":
        # The segments before and behind it were sent once.
        assert proxy.count("PUT", "/1-00001") == proxy.count("PUT", "/1-00003") == 1


@pytest.mark.parametrize("fault", ["a 503", "an answer that is lost", "a token that has expired"])
@pytest.mark.parametrize("way", ["static", "dynamic"])
def test_a_passing_failure_of_the_manifest_is_got_over(swift_node, make_store, proxy, way, fault):
    store = make_store(way)
    proxy.order(Fault("PUT", r"/1($|\?)", **PASSING[fault]))
    assert_whole(swift_node, store, add(store), way)


def test_a_token_that_expires_between_two_uploads_is_replaced(swift_node, make_store, proxy):
    store = make_store()
    proxy.order(Fault(status=401))
    assert read(store, add(store)) == DATA
    assert proxy.count("GET", "/auth/") == 1


# -- uploads that fail leave nothing -------------------------------------------------------------

LASTING = {
    "a 503": ({"status": 503}, exception.BackendUnavailable),
    "a full cluster": ({"status": 507}, exception.StorageFull),
    "a quota": ({"status": 413}, exception.StorageFull),
    "no permission": ({"status": 403}, exception.StorageWriteDenied),
    "refused credentials": ({"status": 401}, exception.BackendUnavailable),
    "a container that is gone": ({"status": 404}, exception.StorageWriteDenied),
    "an answer that nobody expects": ({"status": 418}, exception.BackendUnavailable),
    "resets": ({"cut_request": 100_000}, exception.BackendUnavailable),
    "silence": ({"stall_request": 0}, exception.BackendUnavailable),
    "wrong digests": ({"change": {"etag": "0" * 32}}, exception.BackendCorrupt),
}


@pytest.mark.parametrize("fault", LASTING)
@pytest.mark.parametrize("way", WAYS)
def test_a_lasting_failure_leaves_nothing(swift_node, make_store, proxy, tmp_path, way, fault):
    store = make_store(way)
    what, error = LASTING[fault]
    proxy.order(Fault("PUT", OBJECT[way], times=None, **what))
    with pytest.raises(error) as caught:
        add(store)
    assert KEY not in str(caught.value)
    assert names(swift_node) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", ["static", "dynamic"])
def test_a_manifest_that_cannot_be_written_takes_the_segments_along(
    swift_node, make_store, proxy, way
):
    store = make_store(way)
    proxy.order(Fault("PUT", r"/1($|\?)", times=None, status=503))
    with pytest.raises(exception.BackendUnavailable):
        add(store)
    assert names(swift_node) == []


@pytest.mark.parametrize("way", ["static", "dynamic"])
def test_a_manifest_with_another_length_is_not_believed(swift_node, make_store, proxy, way):
    store = make_store(way)
    wrong = {"content-length": "17"}
    proxy.order(Fault("HEAD", "/1$", skip=1, times=3, change=wrong))
    with pytest.raises(exception.BackendCorrupt):
        add(store)
    assert names(swift_node) == []


def test_a_listing_that_lags_behind_is_waited_for(swift_node, make_store, proxy):
    store = make_store("dynamic")
    proxy.order(Fault("HEAD", "/1$", skip=1, change={"content-length": "17"}))
    assert read(store, add(store)) == DATA


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_breaks_off_leaves_nothing(swift_node, make_store, way):
    store = make_store(way)
    with pytest.raises(Boom):
        store.add("1", ScriptedSource(DATA, failing_after(MIB + 1, Boom())), len(DATA))
    assert names(swift_node) == []


def test_a_stream_that_swift_ends_early_tells_why(swift_node, make_store, proxy):
    store = make_store("stream")
    proxy.order(Fault("PUT", "/1$", cut_request=10, times=None))
    with pytest.raises(exception.BackendUnavailable):
        add(store)
    assert names(swift_node) == []


def test_another_upload_of_the_image_is_not_touched(swift_node, make_store):
    store = make_store("static")
    swift_node.request("PUT", "/glance/1-00002", body=b"of somebody else")
    with pytest.raises(exception.StoreObjectExists):
        add(store)
    assert names(swift_node) == ["1-00002"]


# -- when not even cleaning up works -------------------------------------------------------------


def test_what_cannot_be_removed_is_told_and_removed_by_the_next_sweep(
    swift_node, make_store, proxy
):
    store = make_store("static")
    proxy.order(
        Fault("PUT", "/1-00003", times=None, status=503),
        Fault("DELETE", "", times=None, status=503),
    )
    staged = store.stage("1", len(DATA))
    with pytest.raises(exception.BackendUnavailable), staged:
        staged.write(DATA)
        staged.commit()
    assert staged.leftovers() == [store.location_of("1")]
    assert names(swift_node) == ["1-00001", "1-00002"]
    proxy.clear()
    (left,) = store.sweep()
    assert (left.image_id, left.committed) == ("1", False)
    left.discard()
    assert names(swift_node) == []
    assert store.sweep() == []


def test_what_is_left_over_can_be_deleted_by_its_location(swift_node, make_store, proxy):
    store = make_store("dynamic")
    proxy.order(
        Fault("PUT", "/1$", times=None, status=503), Fault("DELETE", times=None, status=503)
    )
    staged = store.stage("1", len(DATA))
    with pytest.raises(exception.BackendUnavailable), staged:
        staged.write(DATA)
        staged.commit()
    proxy.clear()
    (uri,) = staged.leftovers()
    store.delete(get_location_from_uri(uri))
    assert names(swift_node) == []


def test_nothing_is_left_over_where_nothing_was_sent(make_store, proxy):
    store = make_store("static")
    staged = store.stage("1", len(DATA))
    staged.write(b"a few bytes")
    proxy.down()
    staged.abort()
    assert staged.leftovers() == []
    assert store.sweep() == []


# -- before an upload ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"status": 404}, {"cut_response": -1}, {"stall_response": -1}]
)
def test_no_traceback_shows_where_an_image_lies(make_store, proxy, caplog, fault):
    store = make_store()
    location = get_location_from_uri(add(store).location)
    proxy.order(Fault("GET", "/1$", times=None, **fault))
    try:
        store.get(location).close()
    except exception.StoreError:
        logging.getLogger("glance").exception("It failed")
    assert "Traceback" in caplog.text
    assert not re.search("AUTH_test|glance/1$", caplog.text, re.M)


def test_a_swift_that_is_away_is_told_before_a_byte_is_read(make_store, proxy):
    store = make_store()
    proxy.down()
    source = ScriptedSource(DATA)
    with pytest.raises(exception.BackendUnavailable):
        store.add("1", source, len(DATA))
    assert source.count == 0


@pytest.fixture
def pauses(monkeypatch):
    """The pauses of the library between two tries of a request, of which none is waited for."""
    made = []
    monkeypatch.setattr(client.swift, "sleep", made.append)
    return made


@pytest.mark.parametrize("signed_in", [True, False])
def test_a_connection_that_is_refused_is_told_without_a_pause(
    make_store, proxy, pauses, signed_in
):
    store = make_store()
    location = get_location_from_uri(add(store).location)
    proxy.down()
    for call in (
        lambda: store.add("2", ScriptedSource(DATA), len(DATA)),
        lambda: store.get(location),
        lambda: store.delete(location),
        lambda: list(store.list_objects()),
    ):
        if not signed_in:
            store._tokens.clear()
        with pytest.raises(exception.BackendUnavailable) as caught:
            call()
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert pauses == []
    proxy.up()
    assert read(store, store.add("2", ScriptedSource(DATA), len(DATA))) == DATA


@pytest.mark.parametrize("way", SPOOLED)
def test_a_swift_that_restarts_during_an_upload_is_waited_for(
    make_store, proxy, monkeypatch, swift_node, way
):
    store = make_store(way)
    staged = store.stage("1", len(DATA))
    proxy.down()
    pauses = []

    def up_again(seconds):
        pauses.append(seconds)
        if len(pauses) == 1:
            proxy.up()

    monkeypatch.setattr(client.swift, "sleep", up_again)
    staged.write(DATA)
    staged.commit()
    assert names(swift_node) == WAYS[way][1]
    assert len(pauses) == 1


@pytest.mark.parametrize("status", [500, 403, 404])
def test_a_cluster_that_does_not_tell_its_limits_is_used_as_any(
    swift_node, proxy, tmp_path, status
):
    proxy.order(Fault("GET", "/info", times=None, status=status))
    options = swift_node.store_options(
        tmp_path, port=proxy.port, swift_store_retries="0", **WAYS["static"][0]
    )
    store = swift.SwiftStore(Conf({**options, "swift_store_large_object_mode": "auto"}))
    result = add(store)
    assert read(store, result) == DATA
    _, headers, _ = swift_node.request("HEAD", "/glance/1")
    assert "x-object-manifest" in headers


# -- downloads -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [{"cut_response": 300_000}, {"stall_response": 300_000}])
@pytest.mark.parametrize("part", [(0, None), (1000, None), (1000, 2 * MIB)])
@pytest.mark.parametrize("way", ["one object", "static", "dynamic"])
def test_a_download_that_breaks_goes_on_where_it_was(make_store, proxy, way, part, fault):
    store = make_store(way)
    location = get_location_from_uri(add(store).location)
    proxy.order(Fault("GET", "/1$", times=2, **fault))
    offset, length = part
    with store.get(location, offset, length) as body:
        assert b"".join(body) == DATA[offset:][:length]
    assert proxy.count("GET", "/1$") == 3


@pytest.mark.parametrize("way", ["one object", "static"])
def test_a_download_that_breaks_again_and_again_fails(make_store, proxy, way):
    store = make_store(way)
    location = get_location_from_uri(add(store).location)
    proxy.order(Fault("GET", "/1$", cut_response=300_000), Fault("GET", "/1$", 9, cut_response=-1))
    found = b""
    with pytest.raises(exception.BackendUnavailable), store.get(location) as body:
        for chunk in body:
            found += chunk
    assert DATA.startswith(found)
    assert len(found) < len(DATA)


def test_a_download_never_goes_on_with_another_object(swift_node, make_store, proxy):
    store = make_store()
    location = get_location_from_uri(add(store).location)
    # NOTE: silence and no reset, which would take along what had arrived.
    proxy.order(Fault("GET", "/1$", stall_response=300_000))
    found = b""
    with pytest.raises(exception.StoreError), store.get(location) as body:
        for chunk in body:
            found += chunk
            swift_node.request("PUT", "/glance/1", body=bytes(len(DATA)))
    assert found
    assert DATA.startswith(found)


@pytest.mark.parametrize(
    "range_of_answer", ["bytes 0-9/2621440", "bytes 10-29/2621440", "bytes 10-19/*", "nonsense"]
)
def test_another_part_than_was_asked_for_is_refused(make_store, proxy, range_of_answer):
    store = make_store()
    location = get_location_from_uri(add(store).location)
    proxy.order(Fault("GET", "/1$", change={"content-range": range_of_answer}))
    with pytest.raises(exception.BackendCorrupt), store.get(location, 10, 10) as body:
        b"".join(body)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, exception.StoreObjectNotFound),
        (403, exception.StoreForbidden),
        (401, exception.BackendUnavailable),
        (503, exception.BackendUnavailable),
        (500, exception.BackendUnavailable),
    ],
)
@pytest.mark.parametrize("act", ["get", "get_size", "delete"])
def test_answers_of_swift_are_told_as_errors_of_stores(make_store, proxy, act, status, error):
    store = make_store()
    location = get_location_from_uri(add(store).location)
    proxy.order(Fault(None, "/1$", times=None, status=status))
    with pytest.raises(error):
        getattr(store, act)(location)


# -- deleting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["static", "dynamic"])
def test_a_deletion_that_fails_in_the_middle_can_be_repeated(swift_node, make_store, proxy, way):
    store = make_store(way)
    location = get_location_from_uri(add(store).location)
    proxy.order(Fault("DELETE", "", times=None, status=503))
    with pytest.raises(exception.BackendUnavailable):
        store.delete(location)
    assert "1" in names(swift_node)
    proxy.clear()
    store.delete(location)
    assert names(swift_node) == []


def test_a_report_of_segments_that_stay_is_believed(make_store, swift_node, monkeypatch):
    store = make_store("static")
    location = get_location_from_uri(add(store).location)
    report = b'{"Response Status": "400 Bad Request", "Errors": [["/glance/1-00001", "409"]]}'
    monkeypatch.setattr(client._Connection, "delete_manifest", lambda *args: report)
    with pytest.raises(exception.BackendUnavailable):
        store.delete(location)


# -- the check --


def test_the_check_asks_once_and_tells_of_a_swift_that_is_away(make_store, proxy):
    store = make_store()
    store.check()
    assert proxy.seen == [f"HEAD /v1/AUTH_test/{store.container}"]
    proxy.clear()
    proxy.order(Fault("HEAD", "", times=None, status=503))
    with pytest.raises(exception.BackendUnavailable):
        store.check()
    assert len(proxy.seen) == 1
    proxy.down()
    with pytest.raises(exception.BackendUnavailable):
        store.check()


@pytest.mark.parametrize("creates", [True, False])
def test_the_check_misses_a_container_that_uploads_do_not_create(swift_node, tmp_path, creates):
    options = {
        "swift_store_container": "nowhere",
        "swift_store_create_container_on_put": str(creates),
    }
    store = swift.SwiftStore(Conf(swift_node.store_options(tmp_path, **options)))
    with contextlib.nullcontext() if creates else pytest.raises(exception.BackendUnavailable):
        store.check()
