"""Uploads and deletions that go wrong by the data directory: full, forbidden, gone, occupied."""

import os

import pytest

from support import daemons, faults
from support.faults import Upload, new_id

OCTETS = {"Content-Type": "application/octet-stream"}
ROOM = 4 << 20
DATA = os.urandom(1 << 20)


def pieces(count):
    """A chunked body of `count` MiB."""
    return iter([DATA] * count)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site whose API heeds file permissions, whoever runs the tests."""
    new = daemons.Site(tmp_path_factory.mktemp("storage"), workers=2)
    faults.obey_permissions(new)
    with new as running:
        yield running


@pytest.fixture(scope="module")
def small_site(tmp_path_factory):
    """A site whose data directory is a file system of ROOM bytes."""
    new = daemons.Site(tmp_path_factory.mktemp("small"))
    with faults.small_filesystem(new.data_dir, ROOM), new as running:
        yield running


# -- full ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("announced", [True, False], ids=["sized", "chunked"])
def test_a_disk_that_is_full_is_answered_413(small_site, announced, method):
    site = small_site
    image_id = new_id() if method == "POST" else faults.reserve(site)
    size = ROOM + len(DATA)
    with Upload(site, image_id, method=method, length=size if announced else None) as upload:
        for _ in range(size // len(DATA)):
            upload.send(DATA)
        reply = upload.end().reply()
    assert reply.status == 413
    assert str(site.directory) not in reply.text
    faults.assert_killed(site, image_id)
    # All room is there again.
    other = new_id()
    assert site.http.add(pieces(3), id=other).status == 201
    assert site.http.delete(f"/v1/images/{other}").status == 200
    faults.until_no_file(site, other)


def test_a_disk_that_others_fill_during_an_upload_is_answered_413(small_site):
    site, image_id = small_site, new_id()
    other = site.data_dir / "other-program"
    try:
        with Upload(site, image_id) as upload:
            upload.send(DATA).send(DATA).until_saving()
            with other.open("wb") as data, pytest.raises(OSError):
                while True:
                    data.write(DATA)
                    data.flush()
            reply = upload.send(DATA).send(DATA).end().reply()
        assert reply.status == 413
    finally:
        other.unlink()
    faults.assert_killed(site, image_id)


@pytest.mark.parametrize("announced", [True, False], ids=["sized", "chunked"])
def test_a_file_that_may_not_grow_is_answered_413(site, announced):
    image_id = new_id()
    body = DATA * 2 if announced else pieces(2)
    with faults.file_size_limit(site.api, len(DATA)):
        assert site.http.add(body, id=image_id).status == 413
    faults.assert_killed(site, image_id)


def test_room_that_must_stay_free_is_answered_413(make_site):
    site = make_site(api={"filesystem_store_min_free_bytes": 1 << 60})
    for body in (DATA, pieces(1)):
        image_id = new_id()
        assert site.http.add(body, id=image_id).status == 413
        faults.assert_killed(site, image_id)


# -- forbidden -----------------------------------------------------------------------------------


def test_a_directory_without_write_permission_is_answered_503_and_can_be_retried(site):
    image_id = faults.reserve(site)
    with faults.mode(site.data_dir / ".incoming", 0o500), faults.mode(site.data_dir, 0o500):
        reply = site.http.put(f"/v1/images/{image_id}", OCTETS, DATA)
    assert reply.status == 503
    assert str(site.directory) not in reply.text
    # Not one byte was read.
    assert faults.status_of(site, image_id) == "queued"
    assert not faults.files_of(site, image_id)
    assert site.http.put(f"/v1/images/{image_id}", OCTETS, DATA).status == 200
    faults.assert_active(site, image_id, DATA)


def test_a_directory_without_write_permission_leaves_a_new_image_queued(site):
    image_id = new_id()
    with faults.mode(site.data_dir / ".incoming", 0o500):
        assert site.http.add(DATA, id=image_id).status == 503
    assert faults.status_of(site, image_id) == "queued"
    assert not faults.files_of(site, image_id)


def test_a_permission_lost_during_the_upload_is_answered_503(site):
    image_id = new_id()
    with Upload(site, image_id, length=len(DATA)) as upload:
        upload.send(DATA[:-1]).until_saving()
        with faults.mode(site.data_dir, 0o500):
            assert upload.send(DATA[-1:]).reply().status == 503
            faults.assert_killed(site, image_id)


def test_a_file_system_that_is_read_only_is_answered_503(small_site):
    site, image_id = small_site, faults.reserve(small_site)
    faults.remount(site.data_dir, "ro")
    try:
        assert site.http.put(f"/v1/images/{image_id}", OCTETS, DATA).status == 503
    finally:
        faults.remount(site.data_dir, "rw")
    assert faults.status_of(site, image_id) == "queued"
    assert not faults.files_of(site, image_id)


def test_data_that_may_not_be_read_is_no_refusal_of_the_caller(site):
    image_id = faults.store(site, DATA)
    path = site.data_dir / str(image_id)
    with faults.mode(path, 0o000):
        reply = site.http.get(f"/v1/images/{image_id}")
    assert reply.status == 503
    assert str(path) not in reply.text


def test_data_that_may_not_be_removed_waits_and_its_image_is_deleted(site):
    image_id = faults.store(site, DATA)
    with faults.mode(site.data_dir, 0o500):
        assert site.http.delete(f"/v1/images/{image_id}").status == 200
        assert site.http.head(f"/v1/images/{image_id}").status == 404
        assert faults.files_of(site, image_id)
    everything = "/v1/images/detail?deleted=true&is_public=None&limit=1000"
    listed = site.http.get(everything).json()["images"]
    assert [image["status"] for image in listed if image["id"] == image_id] == ["pending_delete"]


# -- gone, or occupied ---------------------------------------------------------------------------


def test_a_data_directory_that_is_gone_is_answered_503(site):
    # A worker that starts makes the directory.
    faults.until(lambda: " serves http" in site.api.log(), "all workers have started")
    image_id = new_id()
    with faults.missing(site.data_dir):
        assert site.http.add(DATA, id=image_id).status == 503
    assert faults.status_of(site, image_id) in ("killed", "queued")
    assert not faults.files_of(site, image_id)


def test_a_file_that_is_there_already_is_answered_409_and_stays(site):
    image_id = new_id()
    path = site.data_dir / str(image_id)
    path.write_bytes(b"older")
    assert site.http.add(DATA, id=image_id).status == 409
    assert faults.status_of(site, image_id) == "killed"
    assert path.read_bytes() == b"older"


def test_a_file_that_appears_during_the_upload_is_answered_409_and_stays(site):
    image_id = new_id()
    path = site.data_dir / str(image_id)
    with Upload(site, image_id, length=len(DATA)) as upload:
        upload.send(DATA[:-1]).until_saving()
        path.write_bytes(b"younger")
        assert upload.send(DATA[-1:]).reply().status == 409
    assert faults.status_of(site, image_id) == "killed"
    assert faults.files_of(site, image_id) == [path]
    assert path.read_bytes() == b"younger"


def test_data_removed_behind_the_server_is_answered_404_and_its_image_can_be_deleted(site):
    image_id = faults.store(site, DATA)
    (site.data_dir / str(image_id)).unlink()
    assert site.http.head(f"/v1/images/{image_id}").status == 200
    assert site.http.get(f"/v1/images/{image_id}").status == 404
    assert site.http.delete(f"/v1/images/{image_id}").status == 200
    assert site.http.head(f"/v1/images/{image_id}").status == 404


@pytest.mark.parametrize("size", [0, 1000, len(DATA) + 1])
def test_data_of_another_size_than_recorded_is_answered_500(site, size):
    image_id = faults.store(site, DATA)
    os.truncate(site.data_dir / str(image_id), size)
    reply = site.http.get(f"/v1/images/{image_id}")
    assert reply.status == 500
    assert "Traceback" not in reply.text
