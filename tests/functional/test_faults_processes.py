"""Processes that end in the middle of an upload or a download: killed, or asked to stop."""

import http.client
import os
import signal
import socket

import pytest

from support import daemons, faults
from support.faults import Download, Upload, new_id

pytestmark = pytest.mark.full

OCTETS = {"Content-Type": "application/octet-stream"}
# NOTE: more than the buffers of both sockets take.
DATA = os.urandom(16 << 20)
HALF = DATA[: len(DATA) // 2]
STOP_TIMEOUT = 1.5


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    options = {"stop_timeout": STOP_TIMEOUT}
    directory = tmp_path_factory.mktemp("processes")
    with daemons.Site(directory, workers=2, api=options) as running:
        yield running


@pytest.fixture
def site(shared):
    """Both daemons; an API that the test has ended runs again afterwards."""
    yield shared
    faults.revive(shared)


def terminate(site):
    """Ask the API to stop, and wait until it takes no more connections."""
    site.api.process.send_signal(signal.SIGTERM)
    faults.until(lambda: refuses(site.port), "the API accepts no more connections")


def refuses(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


# -- killed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method, length", [("POST", len(DATA)), ("PUT", None)])
def test_an_upload_whose_api_is_killed_is_settled_at_the_next_start(site, length, method):
    image_id = new_id() if method == "POST" else faults.reserve(site)
    with Upload(site, image_id, method=method, length=length) as upload:
        upload.send(HALF).until_saving()
        site.api.kill()
        with pytest.raises((OSError, http.client.HTTPException)):
            upload.reply()
    assert faults.files_of(site, image_id)
    site.api.start()
    faults.assert_killed(site, image_id)
    other = faults.store(site, HALF)
    faults.assert_active(site, other, HALF)


def test_an_upload_is_settled_although_the_registry_comes_up_after_the_api(site):
    image_id = new_id()
    with Upload(site, image_id, length=len(DATA)) as upload:
        upload.send(HALF).until_saving()
        site.kill()
    site.api.start()
    site.registry.start()
    faults.assert_killed(site, image_id)


def test_an_upload_whose_worker_is_killed_is_settled_while_others_go_on(site):
    image_id, other_id = new_id(), new_id()
    with Upload(site, image_id, length=len(DATA)) as upload:
        upload.send(HALF).until_saving()
        (worker,) = faults.openers(site, image_id)
        with Upload(site, other_id, length=len(DATA)) as other:
            other.send(HALF).until_saving()
            os.kill(worker, signal.SIGKILL)
            with pytest.raises((OSError, http.client.HTTPException)):
                upload.reply()
            faults.assert_killed(site, image_id)
            survived = faults.openers(site, other_id) != []
            if survived:
                assert other.send(DATA[len(HALF) :]).reply().status == 201
    if survived:
        faults.assert_active(site, other_id, DATA)
    else:
        # The kernel gave both uploads to one worker.
        faults.assert_killed(site, other_id)
    workers = faults.until(lambda: len(site.api.pids()) == 3 and site.api.pids(), "a new worker")
    assert worker not in workers


def test_an_upload_that_a_living_worker_takes_in_survives_the_start_of_another(site):
    image_id = new_id()
    with Upload(site, image_id, length=len(DATA)) as upload:
        upload.send(HALF).until_saving()
        (worker,) = faults.openers(site, image_id)
        before = site.api.pids()
        (other,) = set(before[1:]) - {worker}
        os.kill(other, signal.SIGKILL)
        faults.until(
            lambda: len(site.api.pids()) == 3 and other not in site.api.pids(), "a new worker"
        )
        faults.until(site.api.answers, "the API answers")
        assert upload.send(DATA[len(HALF) :]).reply().status == 201
    faults.assert_active(site, image_id, DATA)


def test_an_image_is_whole_after_the_api_was_killed_right_behind_the_answer(site):
    image_id = faults.store(site, DATA)
    site.api.kill()
    site.api.start()
    faults.assert_active(site, image_id, DATA)


# -- asked to stop -------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [len(DATA), None], ids=["sized", "chunked"])
def test_an_upload_that_ends_in_time_is_finished_when_the_api_stops(site, length):
    image_id = new_id()
    with Upload(site, image_id, length=length) as upload:
        upload.send(HALF).until_saving()
        terminate(site)
        reply = upload.send(DATA[len(HALF) :]).end().reply()
    assert reply.status == 201
    assert site.api.process.wait(faults.PATIENCE) == 0
    site.api.start()
    faults.assert_active(site, image_id, DATA)


@pytest.mark.parametrize("length", [len(DATA), None], ids=["sized", "chunked"])
def test_an_upload_that_does_not_end_in_time_is_cut_and_settled_when_the_api_stops(site, length):
    image_id = new_id()
    with Upload(site, image_id, length=length) as upload:
        upload.send(HALF).until_saving()
        terminate(site)
        assert site.api.process.wait(faults.PATIENCE) == 0
    # Settled before the end: the next start has nothing to do.
    assert not faults.files_of(site, image_id)
    site.api.start()
    assert faults.status_of(site, image_id) == "killed"


def test_a_download_that_ends_in_time_is_finished_when_the_api_stops(site):
    image_id = faults.store(site, DATA)
    with Download(site, image_id) as download:
        download.begin()
        terminate(site)
        assert download.read() == DATA
    assert site.api.process.wait(faults.PATIENCE) == 0


def test_a_download_that_does_not_end_in_time_is_cut_when_the_api_stops(site):
    image_id = faults.store(site, DATA)
    with Download(site, image_id) as download:
        download.begin()
        terminate(site)
        assert site.api.process.wait(faults.PATIENCE) == 0
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            download.read()


def test_a_download_whose_api_is_killed_does_not_look_complete(site):
    image_id = faults.store(site, DATA)
    with Download(site, image_id) as download:
        download.begin()
        site.api.kill()
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            download.read()
