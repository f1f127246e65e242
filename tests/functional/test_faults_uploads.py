"""Uploads that go wrong by their clients: who breaks off, lies, is silent, or is not alone."""

import concurrent.futures
import hashlib
import os
import threading
import time

import pytest

from support import daemons, faults
from support.faults import Upload, new_id

pytestmark = pytest.mark.full

OCTETS = {"Content-Type": "application/octet-stream"}
CAP = 4 << 20
DATA = os.urandom(1 << 20)
HALF = DATA[: len(DATA) // 2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    options = {"image_size_cap": CAP, "upload_idle_timeout": 2}
    with daemons.Site(tmp_path_factory.mktemp("uploads"), workers=2, api=options) as running:
        yield running


@pytest.fixture(params=["sized", "chunked"])
def length(request):
    """The Content-Length of DATA; None for a chunked body."""
    return len(DATA) if request.param == "sized" else None


def md5(data):
    return hashlib.md5(data).hexdigest()


# -- clients that break off ----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_client_that_vanishes_at_half_leaves_a_killed_image(site, length, method):
    image_id = new_id() if method == "POST" else faults.reserve(site)
    with Upload(site, image_id, method=method, length=length) as upload:
        upload.send(HALF).until_saving().vanish()
    faults.assert_killed(site, image_id)


def test_a_body_that_ends_early_is_answered_400(site, length):
    image_id = new_id()
    with Upload(site, image_id, length=length) as upload:
        reply = upload.send(HALF).until_saving().hang_up().reply()
    assert reply.status == 400
    assert "Traceback" not in reply.text
    faults.assert_killed(site, image_id)


def test_a_chunk_that_ends_early_is_answered_400(site):
    image_id = new_id()
    with Upload(site, image_id) as upload:
        upload.send(HALF).raw(b"%x\r\n" % len(HALF)).raw(HALF[:-1])
        assert upload.hang_up().reply().status == 400
    faults.assert_killed(site, image_id)


@pytest.mark.parametrize(
    "garbage",
    [b"zz\r\n", b"-1\r\n", b"0x10\r\n", b"\r\n", b"ffffffffffffffffff\r\n", b"5\nhello\r\n"],
)
def test_a_chunk_without_a_proper_size_is_answered_400(site, garbage):
    image_id = new_id()
    with Upload(site, image_id) as upload:
        reply = upload.send(HALF).until_saving().raw(garbage).reply()
    assert reply.status == 400
    faults.assert_killed(site, image_id)


def test_a_client_that_falls_silent_is_given_up(site, length):
    image_id = new_id()
    with Upload(site, image_id, length=length) as upload:
        assert upload.send(HALF).until_saving().reply().status == 400
    faults.assert_killed(site, image_id)


def test_a_client_that_becomes_slow_is_not_given_up(site, length):
    image_id = new_id()
    with Upload(site, image_id, length=length) as upload:
        upload.send(HALF).until_saving()
        # NOTE: longer together than upload_idle_timeout, each pause much shorter.
        for start in range(len(HALF), len(HALF) + 60, 10):
            upload.send(DATA[start : start + 10])
            time.sleep(0.5)
        assert upload.send(DATA[len(HALF) + 60 :]).end().reply().status == 201
    faults.assert_active(site, image_id, DATA)


def test_a_client_that_never_begins_its_body_is_given_up(site):
    image_id = new_id()
    with Upload(site, image_id, length=len(DATA)) as upload:
        assert upload.reply().status == 400
    faults.assert_killed(site, image_id)


# -- clients that are wrong about their data -----------------------------------------------------


@pytest.mark.parametrize("declared", [len(DATA) - 1, len(DATA) + 1, 1, 2 * len(DATA)])
def test_data_of_another_size_than_declared_is_answered_400(site, length, declared):
    image_id = new_id()
    with Upload(site, image_id, length=length, size=declared) as upload:
        assert upload.send(DATA).end().reply().status == 400
    faults.assert_killed(site, image_id)


def test_a_body_longer_than_declared_is_refused_before_its_end(site):
    image_id = new_id()
    with Upload(site, image_id, size=len(HALF)) as upload:
        assert upload.send(HALF).send(b"x").reply().status == 400
    faults.assert_killed(site, image_id)


def test_data_of_another_size_than_reserved_is_answered_400(site, length):
    image_id = faults.reserve(site, size=len(DATA) + 1)
    with Upload(site, image_id, method="PUT", length=length) as upload:
        assert upload.send(DATA).end().reply().status == 400
    faults.assert_killed(site, image_id)


def test_data_with_another_checksum_than_declared_is_answered_400(site, length):
    image_id = new_id()
    with Upload(site, image_id, length=length, checksum=md5(HALF)) as upload:
        reply = upload.send(DATA).end().reply()
    assert reply.status == 400
    assert md5(DATA) in reply.text
    faults.assert_killed(site, image_id)


def test_data_with_another_checksum_than_reserved_is_answered_400(site):
    image_id = faults.reserve(site, checksum=md5(HALF))
    assert site.http.put(f"/v1/images/{image_id}", OCTETS, DATA).status == 400
    faults.assert_killed(site, image_id)


# -- images above the cap ------------------------------------------------------------------------


def test_an_announced_size_above_the_cap_is_refused_before_a_byte_is_read(site):
    image_id = new_id()
    with Upload(site, image_id, length=CAP + 1) as upload:
        assert upload.reply().status == 413
    assert faults.status_of(site, image_id) is None
    assert not faults.files_of(site, image_id)


def test_a_declared_size_above_the_cap_is_refused_before_a_byte_is_read(site):
    image_id = new_id()
    with Upload(site, image_id, size=CAP + 1) as upload:
        assert upload.reply().status == 413
    assert faults.status_of(site, image_id) is None


def test_an_announced_size_above_the_cap_leaves_a_reserved_image_as_it_is(site):
    image_id = faults.reserve(site)
    with Upload(site, image_id, method="PUT", length=CAP + 1) as upload:
        assert upload.reply().status == 413
    assert faults.status_of(site, image_id) == "queued"
    assert site.http.put(f"/v1/images/{image_id}", OCTETS, DATA).status == 200


def test_a_chunked_body_is_refused_when_it_passes_the_cap(site):
    image_id = new_id()
    with Upload(site, image_id) as upload:
        for _ in range(CAP // len(DATA)):
            upload.send(DATA)
        # NOTE: the body never ends: the answer comes because of the one byte too many.
        assert upload.send(b"x" * 65536).reply().status == 413
    faults.assert_killed(site, image_id)


def test_an_image_of_just_the_cap_is_taken(site):
    image_id = new_id()
    data = DATA * (CAP // len(DATA))
    assert site.http.add(iter([data]), id=image_id).status == 201
    faults.assert_active(site, image_id, data)


# -- clients that are not alone ------------------------------------------------------------------


def test_an_image_deleted_during_its_upload_is_answered_412(site, length):
    image_id = new_id()
    with Upload(site, image_id, length=length) as upload:
        upload.send(HALF).until_saving()
        assert site.http.delete(f"/v1/images/{image_id}").status == 200
        assert upload.send(DATA[len(HALF) :]).end().reply().status == 412
    assert faults.status_of(site, image_id) is None
    faults.until_no_file(site, image_id)


def test_an_upload_that_breaks_off_after_its_image_was_deleted_leaves_it_deleted(site, length):
    image_id = new_id()
    with Upload(site, image_id, length=length) as upload:
        upload.send(HALF).until_saving()
        assert site.http.delete(f"/v1/images/{image_id}").status == 200
        assert upload.hang_up().reply().status in (400, 412)
    faults.until_no_file(site, image_id)
    assert faults.status_of(site, image_id) is None


def test_a_second_upload_to_an_image_is_answered_409_and_does_no_harm(site, length):
    image_id = faults.reserve(site)
    with Upload(site, image_id, method="PUT", length=length) as upload:
        upload.send(HALF).until_saving()
        assert site.http.put(f"/v1/images/{image_id}", OCTETS, b"another").status == 409
        assert upload.send(DATA[len(HALF) :]).end().reply().status == 200
    faults.assert_active(site, image_id, DATA)


@pytest.mark.parametrize("attempt", range(3))
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_of_two_uploads_to_one_id_at_once_one_wins(site, method, attempt):
    image_id = new_id() if method == "POST" else faults.reserve(site)
    bodies = [os.urandom(300_000), os.urandom(300_000)]
    together = threading.Barrier(2)

    def send(data):
        with Upload(site, image_id, method=method, length=len(data)) as upload:
            upload.send(data[:-1])
            together.wait(faults.PATIENCE)
            return upload.send(data[-1:]).reply().status

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        statuses = list(pool.map(send, bodies))
    won = 201 if method == "POST" else 200
    assert sorted(statuses) == [won, 409]
    faults.assert_active(site, image_id, bodies[statuses.index(won)])


def test_fifty_parallel_uploads_and_downloads_do_not_mix(site):
    bodies = [os.urandom(100_000 + 4096 * number) for number in range(50)]

    def round_trip(data):
        image_id = new_id()
        created = site.http.add(data, id=image_id, checksum=md5(data))
        fetched = site.http.get(f"/v1/images/{image_id}")
        return created.status, created.json()["image"]["checksum"], fetched.status, fetched.body

    with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
        results = list(pool.map(round_trip, bodies))
    assert results == [(201, md5(data), 200, data) for data in bodies]


# -- too many at once ----------------------------------------------------------------------------


@pytest.fixture
def crowded(tmp_path):
    """A site of one process that copies many images at once, with the tenants as owners."""
    options = {"http_store_allowed_hosts": "127.0.0.1", "copies_at_once": 60}
    with daemons.Site(tmp_path, api={**options, "copies_per_owner": 40}) as running:
        yield running


def statuses_of(site):
    path = "/v1/images/detail?is_public=none&limit=1000&sort_key=id&sort_dir=asc"
    return [image["status"] for image in site.http.get(path).json()["images"]]


def until_settled(site, seconds):
    """Wait until no image waits for its data, and the data directory holds the active ones."""
    faults.until(
        lambda: not {"queued", "saving"}.intersection(statuses_of(site)), "all end", seconds
    )
    faults.until(
        lambda: len(site.data_files()) == statuses_of(site).count("active"), "no more is left"
    )


@pytest.mark.files
@pytest.mark.parametrize("daemon", ["api", "registry"])
@pytest.mark.parametrize("more", [3, 8, 20])
def test_uploads_without_descriptors_leave_nothing(crowded, daemon, more):
    assert crowded.http.add(DATA).status == 201
    with faults.descriptor_limit(getattr(crowded, daemon), more):
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            replies = list(pool.map(lambda _: crowded.http.add(DATA).status, range(48)))
    assert set(replies) <= {201, 503}
    until_settled(crowded, 60)
    assert statuses_of(crowded) == ["active"] * (replies.count(201) + 1)
    assert crowded.http.add(DATA).status == 201


@pytest.mark.files
def test_copies_without_descriptors_leave_nothing(crowded):
    with faults.Origin() as origin:
        origin.paths["/image"] = faults.answer("200 OK", DATA)
        headers = {"x-glance-api-copy-from": f"{origin.url}/image"}
        with faults.descriptor_limit(crowded.api, 30):
            for _ in range(150):
                assert crowded.http.post("/v1/images", headers).status in (201, 503)
            until_settled(crowded, 120)
    assert "Traceback" not in crowded.api.log()


@pytest.mark.files
def test_copies_of_a_process_that_is_killed_end_killed(tmp_path):
    options = {"http_store_allowed_hosts": "127.0.0.1", "copies_at_once": 3}
    with daemons.Site(tmp_path, workers=2, api=options) as site, faults.Origin() as origin:
        origin.paths["/image"] = origin.stall(faults.answer("200 OK", HALF, length=len(DATA)))
        headers = {"x-glance-api-copy-from": f"{origin.url}/image"}
        reserved = site.http.post("/v1/images").json()["image"]["id"]
        for _ in range(20):
            assert site.http.post("/v1/images", headers).status == 201
        faults.until(lambda: "saving" in statuses_of(site), "a copy has begun")
        site.api.kill()
        site.api.start()
        faults.until(lambda: statuses_of(site) == ["queued"], "all others are killed")
        assert faults.status_of(site, reserved) == "queued"
        faults.until(lambda: not site.data_files(), "no file is left")


@pytest.mark.files
def test_hundreds_of_copies_at_once_take_turns(tmp_path):
    options = {"http_store_allowed_hosts": "127.0.0.1"}
    with daemons.Site(tmp_path, api=options) as site, faults.Origin() as origin:
        origin.paths["/image"] = faults.answer("200 OK", b"data")
        headers = {"x-glance-api-copy-from": f"{origin.url}/image"}
        with faults.descriptor_limit(site.api, 150):
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                sent = [pool.submit(site.http.post, "/v1/images", headers) for _ in range(600)]
                assert {each.result().status for each in sent} == {201}
            until_settled(site, 120)
        assert set(statuses_of(site)) == {"active"}
