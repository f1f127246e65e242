"""Downloads that go wrong: data that changes on the way, readers that stall, vanish, are many."""

import concurrent.futures
import contextlib
import http.client
import os

import pytest

from support import daemons, faults
from support.faults import Download

# NOTE: more than the buffers of both sockets take.
DATA = os.urandom(16 << 20)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    options = {"client_socket_timeout": 2}
    with daemons.Site(tmp_path_factory.mktemp("downloads"), workers=2, api=options) as running:
        yield running


@pytest.fixture
def image_id(site):
    return faults.store(site, DATA)


def path_of(site, image_id):
    return site.data_dir / str(image_id)


# -- data that changes ---------------------------------------------------------------------------


@pytest.mark.parametrize("left", [0, 1, len(DATA) // 2, len(DATA) - 1])
def test_data_cut_during_a_download_never_looks_complete(site, image_id, left):
    with Download(site, image_id) as download:
        download.begin()
        assert download.response.getheader("Content-Length") == str(len(DATA))
        os.truncate(path_of(site, image_id), left)
        with pytest.raises(http.client.IncompleteRead):
            download.read()
    # The server goes on.
    assert site.http.get(f"/v1/images/{image_id}").status == 500


def test_data_that_grows_during_a_download_is_sent_as_it_was_promised(site, image_id):
    with Download(site, image_id) as download:
        download.begin()
        with path_of(site, image_id).open("ab") as data:
            data.write(b"more")
        assert download.read() == DATA


def test_data_removed_during_a_download_is_sent_to_its_end(site, image_id):
    with Download(site, image_id) as download:
        download.begin()
        path_of(site, image_id).unlink()
        assert download.read() == DATA
    assert site.http.get(f"/v1/images/{image_id}").status == 404


def test_an_image_deleted_during_a_download_is_sent_to_its_end(site, image_id):
    with Download(site, image_id) as download:
        download.begin()
        assert site.http.delete(f"/v1/images/{image_id}").status == 200
        assert not faults.files_of(site, image_id)
        assert download.read() == DATA
    assert site.http.get(f"/v1/images/{image_id}").status == 404


# -- readers -------------------------------------------------------------------------------------


def test_readers_that_stall_do_not_hold_others_up(site, image_id):
    small = faults.store(site, b"small")
    with contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(Download(site, image_id)) for _ in range(20)]
        for download in stalled:
            download.begin()
        # NOTE: on connections of their own, so that both workers are asked.
        for _ in range(20):
            assert site.http.head(f"/v1/images/{image_id}").status == 200
            assert site.http.get(f"/v1/images/{small}").body == b"small"
        other = faults.store(site, b"another")
        faults.assert_active(site, other, b"another")


def test_a_reader_that_takes_nothing_is_given_up(site, image_id):
    with Download(site, image_id) as download:
        download.begin()
        assert faults.openers(site, image_id)
        faults.until(lambda: not faults.openers(site, image_id), "the download is given up")
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            download.read()


def test_a_reader_that_vanishes_leaves_no_open_file(site, image_id):
    with Download(site, image_id) as download:
        download.begin()
        assert faults.openers(site, image_id)
    faults.until(lambda: not faults.openers(site, image_id), "the data is closed")
    assert site.http.head(f"/v1/images/{image_id}").status == 200


def test_fifty_parallel_downloads_are_all_complete(site):
    size = 1 << 20
    image_ids = [
        faults.store(site, DATA[start : start + size]) for start in range(0, 5 * size, size)
    ]

    def fetch(number):
        start = number % len(image_ids) * size
        reply = site.http.get(f"/v1/images/{image_ids[number % len(image_ids)]}")
        return reply.status, reply.body == DATA[start : start + size]

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        assert set(pool.map(fetch, range(50))) == {(200, True)}
