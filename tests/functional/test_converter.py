"""Whole conversions: a registry, an API and converters as at an operator's, with a real tool."""

import json
import os

import pytest

from support import conversions, converters, daemons, faults, images, places, rawhttp
from support.conversions import MIB
from support.swift_node import SwiftNode

pytestmark = pytest.mark.peers

DISK = conversions.noise(64 * 1024).ljust(MIB, b"\0")


@pytest.fixture(autouse=True, scope="module")
def _programs():
    images.need("qemu-img", "bwrap", "prlimit")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A site with two converters, shared by the tests that leave it as it was."""
    directory = tmp_path_factory.mktemp("converting")
    options = {"conversion_workers": 2}
    with converters.ConvertingSite(directory, converters=2, converter=options) as site:
        yield site


@pytest.fixture
def site(tmp_path):
    """A site of the test's own; converters are started by the test."""
    made = converters.ConvertingSite(tmp_path / "site", converter={"conversion_shutdown_grace": 0})
    made.write()
    daemons_of = super(converters.ConvertingSite, made)
    daemons_of.start()
    yield made
    made.kill()


def info(site, image_id, tmp_path):
    """Return what qemu-img says of the data of an image."""
    path = tmp_path / "seen"
    path.write_bytes(site.data(image_id))
    return json.loads(conversions.run("qemu-img", "info", "--output=json", path))


# -- good ends -----------------------------------------------------------------------------------


def test_an_image_is_converted_and_comes_back(shared, tmp_path):
    before = shared.left()
    source = shared.put(DISK)
    there = shared.final(shared.order(source, "qcow2", name="web"))
    assert (there["status"], there["error"]) == ("succeeded", None)
    assert there["bytes_in"] == there["virtual_size"] == MIB
    image = shared.image(there)
    assert (image["status"], image["name"], image["owner"]) == ("active", "web", converters.OWNER)
    assert image["size"] == there["bytes_out"]
    assert image["properties"]["conversion_virtual_size"] == str(MIB)
    seen = info(shared, there["image_id"], tmp_path)
    assert (seen["format"], seen["virtual-size"]) == ("qcow2", MIB)
    back = shared.final(shared.order(image, "raw"))
    assert shared.data(back["image_id"]) == DISK
    made = (source["id"], there["image_id"], back["image_id"])
    assert set(shared.left(*made)) <= set(before)
    log = "".join(each.log() for each in shared.converters)
    assert "Traceback" not in log


def test_a_converter_shows_its_metrics(tmp_path):
    port = daemons.free_port()
    options = {"metrics_port": port, "metrics_directory": tmp_path}
    with converters.ConvertingSite(tmp_path / "site", converter=options) as site:
        site.final(site.order(site.put(DISK), "qcow2"))
        shown, ended = rawhttp.Http(port), 'glance_conversions_total{outcome="succeeded"} 1'
        faults.until(lambda: ended in shown.get("/metrics").text, "the end of the conversion")
        assert "glance_conversions_running" in shown.get("/metrics").text
        assert site.converters[0].stop() == 0
    assert not list(tmp_path.glob("glance-metrics-*"))


def test_two_converters_share_ten_jobs_and_no_job(shared):
    sources = [shared.put(bytes([number]) * 512 + DISK) for number in range(10)]
    jobs = [shared.order(source, "qcow2") for source in sources]
    done = [shared.final(job) for job in jobs]
    assert {job["status"] for job in done} == {"succeeded"}
    assert {job["attempts"] for job in done} == {1}
    logs = [each.log() for each in shared.converters]
    for job in jobs:
        assert sum(log.count(f"Job {job['id']} begins") for log in logs) == 1
    assert shared.tools() == set()


def test_a_result_that_nobody_wants_any_more_goes_away(shared):
    source = shared.put(b"deleted" + DISK[:-7])
    job = shared.final(shared.order(source, "vdi"))
    shared.http.delete(f"/v1/images/{job['image_id']}", converters.USER)
    assert job["image_id"] not in [path.name for path in shared.data_files()]


# -- hostile images ------------------------------------------------------------------------------


@pytest.fixture
def hostile(tmp_path):
    """A QCOW2 of whose backing file the canary is the contents."""
    canary = tmp_path / "canary"
    canary.write_bytes(b"the canary sings".ljust(4096, b"!"))
    path = tmp_path / "hostile"
    conversions.qcow2_with_backing(path, str(canary))
    return path.read_bytes()


def test_a_hostile_image_is_refused(shared, hostile):
    source = shared.put(hostile, "qcow2")
    job = shared.final(shared.order(source, "raw"))
    assert (job["status"], job["error"]["code"]) == ("failed", "unsafe_image")
    image = shared.image(job)
    assert (image["status"], image["properties"]["conversion_error"]) == ("killed", "unsafe_image")
    assert not [path for path in shared.data_files() if path.name == job["image_id"]]
    assert "canary" not in json.dumps(job)


def test_a_hostile_image_gets_nothing_from_a_converter_that_is_blind(site, hostile):
    site.converter.write(blind=1)
    site.converter.start()
    source = site.put(hostile, "qcow2")
    job = site.final(site.order(source, "raw"))
    assert job["status"] == "failed"
    assert site.left(source["id"]) == []
    for path in site.data_files():
        assert b"the canary sings" not in path.read_bytes()


# -- converters that end -------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["converting", "uploading"])
def test_who_is_told_to_end_leaves_nothing_and_gives_the_job_back(site, phase):
    site.converter.write(hold=phase)
    site.converter.holding.touch()
    site.converter.start()
    source = site.put(DISK)
    job = site.order(source, "qcow2")
    site.converter.wait_for(phase)
    assert site.converter.stop() == 0
    assert site.job(job)["status"] == "queued"
    assert site.image(job)["status"] == "queued"
    assert site.left(source["id"]) == []
    assert site.tools() == set()


@pytest.mark.parametrize("phase", ["converting", "uploading"])
def test_who_is_killed_leaves_nothing_that_the_next_one_does_not_settle(site, phase):
    site.converter.write(hold=phase)
    site.converter.holding.touch()
    site.converter.start()
    source = site.put(DISK)
    job = site.order(source, "qcow2")
    site.converter.wait_for(phase)
    site.converter.kill()
    site.converter.holding.unlink()
    site.converter.start()
    site.lapse()
    done = site.final(job)
    assert (done["status"], done["attempts"]) == ("succeeded", 2)
    assert site.left(source["id"], job["image_id"]) == []
    assert site.image(job)["status"] == "active"


def test_a_job_is_cancelled_while_the_tool_runs(site):
    site.converter.write(look=0)
    site.converter.start()
    source = site.put(conversions.noise(MIB) * 48)
    job = site.order(source, "qcow2", compress=True)
    site.converter.wait_for("converting")
    faults.until(site.tools, "the tool runs")
    site.link.cancel_conversion(site.owner, job["id"])
    assert site.final(job)["status"] == "cancelled"
    assert site.image(job)["status"] == "killed"
    assert site.left(source["id"]) == []
    assert site.tools() == set()


# -- other stores --------------------------------------------------------------------------------


def test_each_store_as_source_and_as_target(tmp_path):
    with SwiftNode(tmp_path / "node") as node:
        store = places.Container(node, tmp_path / "spool")
        bucket = places.Bucket(node, tmp_path / "buffer")
        more = {**bucket.options(), **store.options()}
        with converters.ConvertingSite(
            tmp_path / "site", store=store, api=more, converter=more
        ) as site:
            # More than one segment, or part.
            data = conversions.noise(6 * MIB)
            image = source = site.put(data, store="file")
            kept = []
            for name, disk_format in (("swift", "qcow2"), ("s3", "vdi"), ("file", "raw")):
                job = site.final(site.order(image, disk_format, store=name))
                assert (job["status"], job["error"]) == ("succeeded", None)
                image = site.image(job)
                kept.append(image["id"])
                assert image["location"].startswith(f"{name}")
            assert site.data(image["id"]) == data
            assert site.image({"image_id": source["id"]})["location"].startswith("file://")
            assert os.listdir(store.spool_dir) == os.listdir(bucket.spool_dir) == []
            # Into the default store, where nothing is said of it.
            job = site.final(site.order(image, "qcow2"))
            assert site.image(job)["location"].startswith("swift")
            assert site.left(*kept, source["id"], job["image_id"]) == []
