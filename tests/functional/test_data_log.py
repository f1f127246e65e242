"""Data that a store refuses or has lost: one ERROR for the operator, no path for the caller."""

import http.client
import os
import re

import pytest

from support import daemons, faults

DATA = os.urandom(1 << 18)
ROOM = 4 << 20


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    new = daemons.Site(tmp_path_factory.mktemp("data-log"))
    faults.obey_permissions(new)
    with new as running:
        yield running


def told(site, image_id, before=""):
    """Return the lines above INFO about an image that came to the API's log after `before`."""
    lines = site.api.log()[len(before) :].splitlines()
    loud = [line for line in lines if re.search(r" (WARNING|ERROR) \[", line)]
    return [line for line in loud if re.search(rf"Image {image_id}\b|/images/{image_id}\b", line)]


def check(site, image_id, reply, status, cause):
    assert reply.status == status
    assert str(site.directory) not in reply.text
    (line,) = told(site, image_id)
    assert " ERROR [glance.api.data_log] " in line
    assert f"Image {image_id}: " in line
    assert "file store" in line
    assert f"file://{site.data_dir}/{image_id}" in line
    assert cause in line
    assert reply.header("x-openstack-request-id") in line


def test_data_that_is_gone(site):
    image_id = faults.store(site, DATA)
    (site.data_dir / str(image_id)).unlink()
    reply = site.http.get(f"/v1/images/{image_id}")
    check(site, image_id, reply, 404, "No such file or directory")
    # The same again is no news.
    for _ in range(20):
        site.http.get(f"/v1/images/{image_id}")
    assert len(told(site, image_id)) == 1


def test_data_that_is_shorter_than_recorded(site):
    image_id = faults.store(site, DATA)
    os.truncate(site.data_dir / str(image_id), 1000)
    reply = site.http.get(f"/v1/images/{image_id}")
    check(site, image_id, reply, 500, f"1000 bytes there, not {len(DATA)}")


def test_data_that_may_not_be_read(site):
    image_id = faults.store(site, DATA)
    with faults.mode(site.data_dir / str(image_id), 0o000):
        reply = site.http.get(f"/v1/images/{image_id}")
    check(site, image_id, reply, 503, "Permission denied")


def test_data_that_is_no_file(site):
    image_id = faults.store(site, DATA)
    path = site.data_dir / str(image_id)
    path.unlink()
    path.symlink_to("/etc/passwd")
    reply = site.http.get(f"/v1/images/{image_id}")
    check(site, image_id, reply, 503, "Too many levels of symbolic links")


def test_a_directory_that_takes_no_file(site):
    image_id = faults.reserve(site)
    with faults.mode(site.data_dir / ".incoming", 0o500):
        octets = {"Content-Type": "application/octet-stream"}
        reply = site.http.put(f"/v1/images/{image_id}", octets, DATA)
    check(site, image_id, reply, 503, "Permission denied")


def test_a_disk_that_is_full(tmp_path):
    small = daemons.Site(tmp_path)
    with faults.small_filesystem(small.data_dir, ROOM), small as site:
        image_id = faults.new_id()
        reply = site.http.add(iter([DATA] * 20), id=image_id)
        check(site, image_id, reply, 413, "No space left on device")


def test_a_file_that_is_cut_while_it_is_sent(tmp_path):
    size = 64 << 20
    with daemons.Site(tmp_path) as site:
        image_id = faults.store(site, os.urandom(size))
        with faults.Download(site, image_id) as download:
            download.begin()
            os.truncate(site.data_dir / str(image_id), 1 << 20)
            with pytest.raises(http.client.IncompleteRead):
                download.read()
        faults.until(lambda: told(site, image_id), "the operator is told")
        (line,) = told(site, image_id)
    assert re.search(r" ERROR .* cannot be read further than \d+ bytes", line)
