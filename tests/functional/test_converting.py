"""Conversions as a user sees them: the real command, all daemons, and a real qemu-img."""

import json
import subprocess
import sys
import time

import pytest

from glance import client
from glance.common import exception

from support import daemons, images
from support.conversions import MIB, noise

pytestmark = pytest.mark.peers

BOTH = "versionnegotiation context rootapp"
SECRET = {"registry_shared_secret": "s3cret"}
DISK = noise(300_000).ljust(3 * MIB // 2, b"\0")
SECONDS = 60


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site with a converter, that has begun to look for work."""
    images.need("qemu-img", "bwrap", "prlimit")
    directory = tmp_path_factory.mktemp("converting")
    enabled = {"conversion_enabled": True, **SECRET}
    with daemons.Site(directory, api_pipeline=BOTH, api=enabled, registry=SECRET) as running:
        options = {
            **enabled,
            "conversion_work_dir": directory / "work",
            "conversion_disk_reserve": 0,
            "registry_host": "127.0.0.1",
            "registry_port": running.registry_options["bind_port"],
            "filesystem_store_datadir": running.data_dir,
        }
        conf = directory / "glance-converter.conf"
        conf.write_text("[DEFAULT]\n" + "".join(f"{k} = {v}\n" for k, v in options.items()))
        output = directory / "glance-converter.log"
        converter = daemons.Daemon("glance-converter", conf, output, 0)
        converter.start(wait=False)
        try:
            yield running
            assert converter.stop() == 0, converter.log()
        finally:
            converter.kill()


@pytest.fixture
def api(site):
    with_client = client.Client("127.0.0.1", site.port, timeout=30)
    yield with_client
    with_client.close()


def glance(site, *words):
    command = [sys.executable, str(daemons.BIN / "glance"), words[0], "--host=127.0.0.1"]
    return subprocess.run(
        [*command, f"--port={site.port}", *words[1:]],
        env=daemons.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def started(ask):
    """Return what `ask` returns, once a converter has shown that it is there."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return ask()
        except exception.ServiceUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def ended(api, job):
    deadline = time.monotonic() + SECONDS
    while job["finished_at"] is None:
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
        job = api.get_conversion(job["id"])
    return job


def uploaded(api, data=DISK, disk_format="raw", **meta):
    values = {"disk_format": disk_format, "container_format": "bare", **meta}
    return api.add_image({"name": "dïsk", **values}, data)


def test_a_disk_goes_there_and_back(site, api):
    source = uploaded(api, properties={"distro": "bsd"})
    first = started(lambda: api.convert_image(source["id"], "qcow2", compress=True))
    assert ended(api, first)["status"] == "succeeded"
    back = glance(site, "convert", first["image_id"], "disk_format=raw", "name=back", "--wait")
    job = api.get_conversions(limit=1)[0]
    assert back.stdout.splitlines() == [
        f"Queued conversion with ID: {job['id']}",
        f"New image ID: {job['image_id']}",
    ]
    assert (back.returncode, back.stderr) == (0, "")
    meta, data = api.get_image(job["image_id"], verify=True)
    assert b"".join(data) == DISK
    assert (meta["name"], meta["status"], meta["size"]) == ("back", "active", len(DISK))
    assert meta["properties"] == {
        "distro": "bsd",
        "converted_from": first["image_id"],
        "conversion_job": job["id"],
        "conversion_source_checksum": api.get_image_meta(first["image_id"])["checksum"],
        "conversion_virtual_size": str(len(DISK)),
    }
    shown = api.get_image_v2(job["image_id"])
    assert (shown["status"], shown["disk_format"], shown["distro"]) == ("active", "raw", "bsd")
    assert job["virtual_size"] == job["bytes_out"] == len(DISK)
    printed = json.loads(glance(site, "conversion-show", job["id"], "--format=json").stdout)
    assert printed == job
    listed = glance(site, "conversions", "--status=succeeded").stdout
    assert first["id"] in listed and job["id"] in listed


def test_a_tool_that_knows_only_images_converts(site, api):
    source = uploaded(api)
    started(lambda: api.convert_image(source["id"], "vmdk"))
    headers = {
        "x-glance-api-convert-from": str(source["id"]),
        "x-image-meta-name": "h",
        "x-image-meta-disk-format": "vhd",
    }
    response = site.http.request("POST", "/v1/images", headers)
    image = response.json()["image"]
    assert (response.status, image["status"]) == (201, "queued")
    job = ended(api, api.get_conversion(response.header("x-glance-api-conversion")))
    assert (job["status"], job["image_id"]) == ("succeeded", str(image["id"]))
    assert api.get_image_meta(image["id"])["status"] == "active"


def test_an_image_that_names_another_file_is_refused(site, api, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(noise(MIB))
    evil = tmp_path / "evil.qcow2"
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(secret), str(evil)]
    subprocess.run(create, check=True)
    source = uploaded(api, evil.read_bytes(), "qcow2")
    started(lambda: api.convert_image(uploaded(api)["id"], "vdi"))
    done = glance(site, "convert", str(source["id"]), "disk_format=raw", "--wait")
    job = api.get_conversions(source_image_id=source["id"])[0]
    assert done.returncode == 1 and "(unsafe_image)" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and str(tmp_path) not in done.stdout + done.stderr
    meta = api.get_image_meta(job["image_id"])
    assert (meta["status"], meta["properties"]["conversion_error"]) == ("killed", "unsafe_image")
    assert glance(site, "conversion-cancel", job["id"]).stdout.startswith("Forgot conversion")
    with pytest.raises(exception.NotFound):
        api.get_conversion(job["id"])
