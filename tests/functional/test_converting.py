"""Conversions as a user sees them: the real command, all daemons, and a real qemu-img."""

import json
import re
import subprocess
import sys
import time

import pytest

from glance import client
from glance.common import exception

from support import checkout, daemons, faults, images, pages
from support.conversions import MIB, noise

pytestmark = pytest.mark.peers

RUNS = {
    "conversion": {"What a conversion leaves in the log": "test_the_line_of_a_job_is_as_printed"},
    "converting": {
        "With the command line": "test_the_commands_of_the_page_convert",
        "With HTTP": "test_the_request_of_the_page_converts",
        "From Python": "test_the_programs_of_the_pages_convert",
    },
    "python-client": {"Conversions": "test_the_programs_of_the_pages_convert"},
}

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
            "verbose": True,
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
            faults.until(lambda: running.sql("SELECT name FROM conversion_workers"), "it is known")
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


def shell(site, script):
    """Run what a page prints, with the programs and the port of the site."""
    program = f"{sys.executable} {daemons.BIN / 'glance'} --host=127.0.0.1 --port={site.port}"
    return run("bash", "-c", f'glance() {{ {program} "$@"; }}; TOKEN=any; {script}')


def python(site, script):
    return run(sys.executable, "-c", script.replace("9292", str(site.port)))


def run(*command):
    """Return what a command that succeeds prints."""
    done = subprocess.run(
        command,
        env=daemons.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_of_the_page_convert(site, api):
    source = uploaded(api)["id"]
    first, after = checkout.blocks(pages.path("converting"), "With the command line")
    command, *printed = first.removeprefix("$ ").splitlines()
    said = shell(site, command.replace(" 12 ", f" {source} ")).splitlines()
    varying = re.compile(r"[0-9a-f-]{36}|\d+$")
    assert [varying.sub("(id)", line) for line in said] == [
        varying.sub("(id)", line) for line in printed
    ]
    job = started(lambda: api.convert_image(source, "qcow2"))["id"]
    listed, show, cancel = (re.sub(r"[0-9a-f-]{36}", job, line) for line in after.splitlines())
    shell(site, listed)
    assert job in shell(site, show)
    # It may have ended by then: a job that has ended is forgotten.
    assert job in shell(site, cancel)


def test_the_request_of_the_page_converts(site, api):
    source = uploaded(api)["id"]
    (request,) = checkout.blocks(pages.path("converting"), "With HTTP")
    said = shell(site, request.replace('"12"', f'"{source}"').replace("9292", str(site.port)))
    assert said.startswith("HTTP/1.1 202 ") and "\nRetry-After: 5\n" in said
    job = json.loads(said.partition("\n\n")[2])["conversion"]
    assert ended(api, job)["status"] == "succeeded"


def test_the_programs_of_the_pages_convert(site, api):
    source, other = uploaded(api)["id"], uploaded(api)["id"]
    (program,) = checkout.blocks(pages.path("converting"), "From Python")
    (waiting,) = checkout.blocks(pages.path("python-client"), "Conversions")
    assert python(site, program.replace("12,", f"{source},")).strip() in ("queued", "running")
    begin = program.partition("job = ")[0]
    waiting = waiting.replace("(7,", f"({other},").replace("sleep(5)", "sleep(0.1)")
    status, image, error = python(site, f"import time\n{begin}{waiting}").split()
    assert (status, error) == ("succeeded", "None")
    assert api.get_image_meta(image)["name"] == "web (small)"


def test_the_line_of_a_job_is_as_printed(site, api):
    source = uploaded(api)
    ended(api, started(lambda: api.convert_image(source["id"], "qcow2", name="told")))
    (printed,) = checkout.blocks(pages.path("conversion"), "What a conversion leaves in the log")
    log = (site.directory / "glance-converter.log").read_text(encoding="utf-8")
    said = re.findall(rf"Job .* \(image {source['id']} to image \d+\): .*", log)[-1]
    number = re.compile(r"^[0-9a-f]{4}\S+|\d+(?:\.\d+)?")
    wanted = " ".join(printed.split()).removesuffix("\u2026").split()
    assert [number.sub("N", word) for word in said.split()][: len(wanted)] == [
        number.sub("N", word) for word in wanted
    ]
