"""How images lie in Swift, what else may lie there, and what dead processes leave."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from glance.common import exception
from glance.common.config import Conf
from glance.store import base, swift
from glance.store.location import get_location_from_uri
from glance.store.swift import objects, upload
from glance.testing.store_suite import Killed, ScriptedSource, make_data

from support.swift_node import SwiftNode

pytestmark = pytest.mark.full

MIB = 1024 * 1024
DATA = make_data(2 * MIB + MIB // 2)
TINY = {"swift_store_large_object_size": "2", "swift_store_large_object_chunk_size": "1"}
STATIC = {**TINY, "swift_store_large_object_mode": "slo"}
DYNAMIC = {**TINY, "swift_store_large_object_mode": "dlo"}


@pytest.fixture
def make_store(swift_node, tmp_path):
    def make(node=swift_node, **options):
        options = {"swift_store_retries": "0", **options}
        return swift.SwiftStore(Conf(node.store_options(tmp_path, **options)))

    return make


def names(node):
    return [name.removeprefix("glance/") for name in node.names("glance")]


def read(store, uri):
    with store.get(get_location_from_uri(uri)) as body:
        return b"".join(body)


def add(store, data=DATA, size=None, image_id="1"):
    return store.add(image_id, ScriptedSource(data), size).location


def put_all(node, objects_, headers=None):
    node.request("PUT", "/glance")
    for name in objects_:
        assert node.request("PUT", f"/glance/{name}", body=b"x", headers=headers)[0] == 201


# -- layout --------------------------------------------------------------------------------------


def test_a_small_image_is_one_object_with_its_digest(make_store, swift_node):
    add(make_store(), b"data", 4)
    _, headers, body = swift_node.request("GET", "/glance/1")
    assert body == b"data"
    assert headers["etag"] == hashlib.md5(b"data").hexdigest()
    assert headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("size", [len(DATA), None], ids=["known size", "unknown size"])
def test_a_static_manifest_lists_segments_with_their_digests(make_store, swift_node, size):
    store = make_store(**STATIC)
    assert read(store, add(store, size=size)) == DATA
    assert names(swift_node) == ["1", "1-00001", "1-00002", "1-00003"]
    _, headers, _ = swift_node.request("HEAD", "/glance/1")
    assert headers["x-static-large-object"] == "True"
    _, _, segment = swift_node.request("GET", "/glance/1-00003")
    assert segment == DATA[2 * MIB :]


def test_a_dynamic_manifest_has_a_prefix_that_fits_no_other_image(make_store, swift_node):
    store = make_store(**DYNAMIC)
    uris = {name: add(store, make_data(2 * MIB + 7, int(name)), image_id=name) for name in "12"}
    add(store, b"x", image_id="10")
    _, headers, _ = swift_node.request("HEAD", "/glance/1")
    assert headers["x-object-manifest"] == "glance/1-"
    assert read(store, uris["1"]) == make_data(2 * MIB + 7, 1)


def test_there_is_no_empty_last_segment(make_store, swift_node):
    store = make_store(**STATIC)
    assert read(store, add(store, DATA[: 2 * MIB])) == DATA[: 2 * MIB]
    assert names(swift_node) == ["1", "1-00001", "1-00002"]


def test_an_image_between_segment_and_threshold_streams_into_one_object(make_store, swift_node):
    store = make_store(swift_store_large_object_chunk_size="1")
    staged = store.stage("1", len(DATA))
    with staged:
        staged.write(DATA)
        uri = staged.commit()
    assert staged._spool is None
    assert names(swift_node) == ["1"]
    assert read(store, uri) == DATA


@pytest.mark.parametrize("known", ["nothing", "right", "wrong"])
def test_the_digest_of_what_swift_received_is_compared_with_what_was_sent(
    make_store, swift_node, known
):
    """Whoever computes the MD5 anyway says it; otherwise the staged write computes it."""
    right, wrong = hashlib.md5(DATA).hexdigest(), hashlib.md5(b"other").hexdigest()
    store = make_store(swift_store_large_object_chunk_size="1")
    with store.stage("1", len(DATA)) as staged:
        if known != "nothing":
            staged.whole_md5 = lambda: right if known == "right" else wrong
        staged.write(DATA[:MIB])
        staged.write(DATA[MIB:])
        if known == "wrong":
            with pytest.raises(exception.BackendCorrupt):
                staged.commit()
        else:
            assert read(store, staged.commit()) == DATA
    assert names(swift_node) == ([] if known == "wrong" else ["1"])


def test_a_streamed_image_is_hashed_once(make_store, swift_node):
    store = make_store(swift_store_large_object_chunk_size="1")
    with store.stage("1", len(DATA)) as staged:
        received = base.transfer(ScriptedSource(DATA), staged)
        assert staged.whole_md5() == received.checksum == hashlib.md5(DATA).hexdigest()
        assert staged._md5.hexdigest() == hashlib.md5(b"").hexdigest()
        staged.commit()
    assert names(swift_node) == ["1"]


def test_a_container_with_a_strange_name_works(make_store, swift_node):
    store = make_store(swift_store_container="my box é%2f", **DYNAMIC)
    uri = add(store)
    assert read(store, uri) == DATA
    assert read(store, uri) == DATA
    store.delete(get_location_from_uri(uri))
    assert swift_node.names() == []


# -- limits of the cluster -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_swift(tmp_path_factory):
    """A Swift whose objects have at most 1.5 MiB, and whose manifests at most 2 segments."""
    with SwiftNode(
        tmp_path_factory.mktemp("small"),
        max_file_size=MIB * 3 // 2,
        settings={"slo.max_manifest_segments": "2"},
    ) as node:
        yield node


@pytest.mark.parametrize("size", [len(DATA), None], ids=["known size", "unknown size"])
def test_images_larger_than_the_cluster_takes_are_segmented(make_store, small_swift, size):
    store = make_store(small_swift)
    assert read(store, add(store, size=size)) == DATA
    assert names(small_swift) == ["1", "1-00001", "1-00002"]
    small_swift.clear()


def test_too_many_segments_for_a_static_manifest_get_a_dynamic_one(make_store, small_swift):
    store = make_store(small_swift, **TINY)
    assert read(store, add(store)) == DATA
    assert "x-object-manifest" in small_swift.request("HEAD", "/glance/1")[1]
    small_swift.clear()


def test_with_static_manifests_only_segments_grow_as_long_as_the_size_is_known(
    make_store, small_swift
):
    store = make_store(small_swift, **STATIC)
    assert read(store, add(store, size=len(DATA))) == DATA
    assert names(small_swift) == ["1", "1-00001", "1-00002"]
    with pytest.raises(exception.StorageFull):
        add(store, size=None, image_id="2")
    assert names(small_swift) == ["1", "1-00001", "1-00002"]
    small_swift.clear()


def test_a_container_that_vanishes_is_made_again(make_store, swift_node):
    store = make_store()
    add(store, b"data", 4)
    swift_node.clear()
    with pytest.raises(exception.StorageWriteDenied):
        add(store, b"data", 4)
    add(store, b"data", 4)


def test_a_cluster_without_static_manifests_gets_dynamic_ones(make_store, tmp_path_factory):
    with SwiftNode(tmp_path_factory.mktemp("plain"), without=["slo"]) as node:
        store = make_store(node, **TINY)
        assert read(store, add(store)) == DATA
        assert "x-object-manifest" in node.request("HEAD", "/glance/1")[1]
        with pytest.raises(exception.StorageWriteDenied):
            add(make_store(node, **STATIC), image_id="2")


def test_a_full_container_refuses_before_a_byte_is_read(make_store, swift_node):
    swift_node.request("PUT", "/glance", headers={"X-Container-Meta-Quota-Bytes": "1000"})
    store = make_store()
    add(store, bytes(600), 600)
    source = ScriptedSource(bytes(1001))
    with pytest.raises(exception.StorageFull):
        make_store().add("2", source, 1001)
    assert source.count == 0


def test_a_missing_container_is_not_made_unasked(make_store, swift_node):
    store = make_store(swift_store_create_container_on_put="False")
    source = ScriptedSource(b"data")
    with pytest.raises(exception.StorageWriteDenied) as caught:
        store.add("1", source, 4)
    assert source.count == 0
    # The operator reads this in the log, the caller does not.
    assert "swift_store_create_container_on_put" in exception.described(caught.value)
    assert "swift_store" not in str(caught.value)
    with pytest.raises(exception.BackendUnavailable):
        list(store.list_objects())
    swift_node.request("PUT", "/glance")
    add(store, b"data", 4)


# -- what Diablo, and chance, put there ----------------------------------------------------------


def test_a_manifest_of_diablo_takes_nothing_of_other_images_along(make_store, swift_node):
    # Its prefix is the bare id; so it also reads what belongs to 10 and 100.
    put_all(swift_node, ["1-00001", "1-00002", "10", "100", "1-extra", "11-00001", "1-000001"])
    swift_node.request("PUT", "/glance/1", headers={"X-Object-Manifest": "glance/1"})
    store = make_store()
    location = get_location_from_uri(store.location_of("1"))
    store.delete(location)
    assert names(swift_node) == ["1-000001", "1-extra", "10", "100", "11-00001"]
    with pytest.raises(exception.StoreObjectNotFound):
        store.delete(location)


def test_segments_may_lie_in_another_container(make_store, swift_node):
    swift_node.request("PUT", "/other")
    swift_node.request("PUT", "/other/1-00001", body=b"x")
    swift_node.request("PUT", "/other/1-kept", body=b"x")
    put_all(swift_node, ["1-00001"])
    swift_node.request("PUT", "/glance/1", headers={"X-Object-Manifest": "other/1-"})
    store = make_store()
    store.delete(get_location_from_uri(store.location_of("1")))
    assert swift_node.names() == ["glance/1-00001", "other/1-kept"]


def test_an_image_whose_id_looks_like_a_segment_survives(make_store, swift_node):
    store = make_store(**STATIC)
    add(store, b"an image", image_id="1-00007")
    uri = add(store)
    store.delete(get_location_from_uri(uri))
    assert names(swift_node) == ["1-00007"]
    with pytest.raises(exception.StoreObjectNotFound):
        store.delete(get_location_from_uri(uri))
    assert names(swift_node) == ["1-00007"]


def test_such_an_image_never_gets_into_a_dynamic_manifest(make_store, swift_node):
    store = make_store(**DYNAMIC)
    add(store, b"an image", image_id="1-00007")
    with pytest.raises(exception.BackendCorrupt):
        add(store)
    assert names(swift_node) == ["1-00007"]
    add(store, image_id="2")
    with pytest.raises(exception.StoreObjectExists):
        add(store, b"an image", image_id="2-00007")


def test_segments_without_a_manifest_are_listed_and_deleted(make_store, swift_node):
    store = make_store(**STATIC)
    uri = add(store)
    swift_node.request("DELETE", "/glance/1")
    (found,) = store.list_objects()
    assert (found.image_id, found.size, found.location) == ("1", len(DATA), uri)
    store.delete(get_location_from_uri(uri))
    assert names(swift_node) == []


def test_a_long_listing_is_read_page_by_page(make_store, swift_node, monkeypatch):
    store = make_store(**DYNAMIC)
    put_all(swift_node, [f"1-{number:05}" for number in range(1, 26)])
    swift_node.request("PUT", "/glance/1", headers={"X-Object-Manifest": "glance/1-"})
    get_container = swift._client()._Connection.get_container
    pages = []

    def get_small(self, *args, **kwargs):
        page = get_container(self, *args, limit=10, **kwargs)
        pages.append(len(page[1]))
        return page

    monkeypatch.setattr(swift._client()._Connection, "get_container", get_small)
    store.delete(get_location_from_uri(store.location_of("1")))
    assert pages == [10, 10, 5, 0]
    assert names(swift_node) == []


def test_a_listing_is_told_by_images():
    listing = [
        {"name": "1", "bytes": 0, "last_modified": "2026-01-02T03:04:05.678900"},
        {"name": "1-00001", "bytes": 10, "last_modified": "2026-01-02T03:04:04"},
        {"name": "1-00002", "bytes": 5},
        {"name": "1-extra", "bytes": 3},
        {"name": "10", "bytes": 7, "slo_etag": "x"},
        {"name": "10-00001", "bytes": 7},
        {"name": "2-00009", "bytes": 4},
        {"name": "not/ours", "bytes": 4},
    ]
    found = {group.image_id: (group.size, group.modified) for group in objects.grouped(listing)}
    assert found == {
        "1": (15, 1767323045.6789),
        "1-extra": (3, None),
        "10": (7, None),
        "2": (4, None),
    }


# -- processes that die --------------------------------------------------------------------------


def die(node, spool_dir, options, deed):
    """Let another process upload DATA and kill itself in the middle."""
    code = f"""
        import os, signal, sys
        from glance.common.config import Conf
        from glance.store import base, swift
        from glance.testing.store_suite import make_data
        store = swift.SwiftStore(Conf({node.store_options(spool_dir, **options)!r}))
        staged = store.stage("1", None)
        staged.write(make_data({len(DATA)}))
        {deed}
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("options", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_segments_of_a_dead_process_are_found_and_removed(
    make_store, swift_node, tmp_path, options
):
    die(swift_node, tmp_path, options, "")
    assert names(swift_node) == ["1-00001", "1-00002"]
    (left,) = make_store(**options).sweep()
    assert (left.image_id, left.committed) == ("1", False)
    left.discard()
    assert names(swift_node) == []
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("options", [{}, STATIC], ids=["one object", "static"])
def test_what_died_after_its_commit_can_be_kept_or_discarded(
    make_store, swift_node, tmp_path, options
):
    die(swift_node, tmp_path, options, "staged.commit()")
    store = make_store(**options)
    (left,) = store.sweep()
    assert left.committed
    assert store.sweep() == []
    left.leave()
    (left,) = store.sweep()
    left.keep()
    assert read(store, store.location_of("1")) == DATA
    assert store.sweep() == []
    store.delete(get_location_from_uri(store.location_of("1")))
    die(swift_node, tmp_path, options, "staged.commit()")
    (left,) = store.sweep()
    left.discard()
    assert names(swift_node) == []


def test_what_died_between_the_last_object_and_its_record_is_not_taken_for_committed(
    make_store, swift_node, tmp_path
):
    die(swift_node, tmp_path, STATIC, "staged._finish()")
    (left,) = make_store().sweep()
    assert not left.committed
    left.discard()
    assert names(swift_node) == []


def test_traces_of_another_account_are_left_alone(make_store, swift_node, tmp_path):
    die(swift_node, tmp_path, STATIC, "")
    assert make_store(swift_store_container="other").sweep() == []
    assert make_store(swift_store_user="test:other").sweep() == []
    (left,) = make_store().sweep()
    left.discard()
    assert names(swift_node) == []


def test_an_abandoned_upload_is_found_as_one_of_the_dead(make_store, swift_node):
    store = make_store(**STATIC)
    staged = store.stage("1", None)
    staged.write(DATA)
    uri = staged.commit()
    left = staged.abandon()
    assert store.sweep() == []
    assert left.committed
    left.keep()
    assert read(store, uri) == DATA
    with pytest.raises(ValueError):
        staged.write(b"more")


@pytest.mark.parametrize("options", [{}, STATIC, DYNAMIC], ids=["one object", "slo", "dlo"])
@pytest.mark.parametrize("moment", ["_send_spooled", "_put", "_check_whole"])
def test_a_kill_at_the_end_leaves_nothing(
    make_store, swift_node, monkeypatch, tmp_path, options, moment
):
    store = make_store(**options)
    staged = store.stage("1", None)
    staged.write(DATA)
    done = getattr(upload.SwiftUpload, moment)

    def act_and_die(self, *args, **kwargs):
        done(self, *args, **kwargs)
        raise Killed()

    monkeypatch.setattr(upload.SwiftUpload, moment, act_and_die)
    if moment == "_check_whole" and not options:
        pytest.skip("one object has no manifest to check")
    with pytest.raises(Killed), staged:
        staged.commit()
    assert names(swift_node) == []
    assert os.listdir(tmp_path) == []
