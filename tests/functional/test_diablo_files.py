"""Configuration files of the Diablo release start the daemons as they are.

The files in data/diablo have the sections, keys and values of that release's samples. Only what
would collide with the host is replaced: addresses, ports and paths. The scrubber's is tested in
test_scrubber.
"""

import pathlib
import re

import pytest

from support import daemons, operators
from support import keystone as keystones
from support.rawhttp import identity

pytestmark = pytest.mark.full

DATA = pathlib.Path(__file__).parent / "data" / "diablo"


class Files:
    """Both daemons with Diablo's files; `pipelines` names the commented pipeline to use."""

    def __init__(self, directory):
        self.directory = directory
        api_port, registry_port = daemons.free_port(), daemons.free_port()
        replaced = {
            "log_file": directory / "{program}.log",
            "bind_host": "127.0.0.1",
            "filesystem_store_datadir": directory / "images",
            "image_cache_datadir": directory / "cache",
        }
        self.replaced = replaced
        registry = {**replaced, "bind_port": registry_port}
        api = {**replaced, "bind_port": api_port, "registry_port": registry_port}
        self.registry = self._daemon("glance-registry", registry, registry_port)
        self.api = self._daemon("glance-api", api, api_port)

    def _daemon(self, program, replaced, port):
        conf = self.write(program, replaced)
        return daemons.Daemon(program, conf, self.directory / f"{program}.out", port)

    def write(self, program, replaced):
        """Write the file of a program with some of its values replaced."""
        text = (DATA / f"{program}.conf").read_text()
        for name, value in replaced.items():
            shown = str(value).format(program=program)
            text = re.sub(rf"^{name} = .*$", f"{name} = {shown}", text, flags=re.MULTILINE)
        conf = self.directory / f"{program}.conf"
        conf.write_text(text)
        return conf

    def use_pipeline(self, heading):
        for daemon in (self.registry, self.api):
            text = daemon.conf.read_text()
            wanted = re.search(rf"^# {heading}:\n# (pipeline = .*)$", text, re.MULTILINE)
            if wanted:
                daemon.conf.write_text(
                    re.sub(r"^pipeline = .*context.*$", wanted[1], text, flags=re.MULTILINE)
                )

    def add(self, daemon, line):
        text = daemon.conf.read_text()
        daemon.conf.write_text(text.replace("[DEFAULT]", f"[DEFAULT]\n{line}"))

    def start(self):
        self.registry.start()
        self.api.start()
        return self

    def log(self, program):
        return (self.directory / f"{program}.log").read_text()

    def stop(self):
        for daemon in (self.api, self.registry):
            daemon.kill()


@pytest.fixture
def files(tmp_path):
    made = Files(tmp_path)
    yield made
    made.stop()


def test_the_daemons_work_with_the_files_as_they_are(files):
    files.start()
    image = files.api.http.add(b"data", name="old", is_public=True).json()["image"]
    assert files.api.http.get(f"/v1/images/{image['id']}").body == b"data"
    assert [image["name"] for image in files.api.http.get("/images").json()["images"]] == ["old"]
    assert (files.directory / "glance.sqlite").exists()
    for program in ("glance-api", "glance-registry"):
        lines = files.log(program).splitlines()
        # NOTE: what the files say of S3 and Swift are placeholders; those stores say so.
        wrong = [line for line in lines if re.search(r"ERROR|CRITICAL|Traceback", line)]
        assert not [line for line in wrong if "does not accept images: " not in line]
        # NOTE: options that were known then are no slips of the operator now.
        assert not [line for line in lines if "is unknown; did" in line]


def test_a_name_in_a_file_of_old_makes_no_noise(files):
    files.start()
    for program in ("glance-api", "glance-registry"):
        assert "is not one of glance's" not in files.log(program)


TOKEN_OF_OLD = "999888777666"


def test_the_pipeline_for_keystone_asks_who_is_there(files):
    files.use_pipeline("With Keystone")
    files.start()
    refused = files.api.http.get("/v1/images")
    assert refused.status == 401
    assert refused.header("WWW-Authenticate") == 'Keystone uri="http://127.0.0.1:5000/"'
    # What the request says of itself is not believed.
    said = {name: value for name, value in identity("t").items() if name != "X-Auth-Token"}
    for daemon in (files.api, files.registry):
        assert daemon.http.get("/v1/images", {**said, "X-Roles": "Admin"}).status == 401
    assert TOKEN_OF_OLD not in files.log("glance-api") + files.log("glance-registry")


@pytest.fixture(scope="module")
def keystone(tmp_path_factory):
    with keystones.Keystone(tmp_path_factory.mktemp("keystone") / "home") as running:
        yield running


@pytest.mark.peers
@pytest.mark.parametrize("pipeline", ["as it is", "with the stage of Keystone alone"])
def test_the_pipeline_for_keystone_works_with_the_keystone_of_today(files, keystone, pipeline):
    files.use_pipeline("With Keystone")
    token = keystone.token("admin", "admin")
    for daemon in (files.api, files.registry):
        text = daemon.conf.read_text().replace(TOKEN_OF_OLD, token)
        text = re.sub("^auth_port = .*$", f"auth_port = {keystone.port}", text, flags=re.M)
        if pipeline != "as it is":
            text = text.replace("authtoken keystone_shim context", "authtoken context")
            text = text.replace("authtoken context", "authtoken keystone_shim")
            text = text.replace(
                "[filter:authtoken]", "[filter:authtoken]\ndelay_auth_decision = 1"
            )
            if "[filter:keystone_shim]" not in text:
                text += "\n[filter:keystone_shim]\npaste.filter_factory = "
                text += "keystone.middleware.glance_auth_token:filter_factory\n"
        daemon.conf.write_text(text)
    files.start()
    keystone.user("joe", "acme")
    joe = {"X-Auth-Token": keystone.token("joe", "acme")}
    image = files.api.http.add(b"data", joe, name="mine").json()["image"]
    assert image["owner"] == keystone.project("acme")
    assert files.api.http.get(f"/v1/images/{image['id']}", joe).body == b"data"
    anonymous = files.api.http.get("/v1/images")
    assert anonymous.status == (401 if pipeline == "as it is" else 200)
    assert files.api.http.post("/v1/images").status == (401 if pipeline == "as it is" else 403)
    assert token not in files.log("glance-api") + files.log("glance-registry")


def test_a_filter_that_is_not_installed_is_named(files):
    files.use_pipeline("With Keystone")
    text = files.api.conf.read_text()
    files.api.conf.write_text(text.replace("middleware.auth_token", "middleware.other"))
    files.api.start(wait=False)
    assert files.api.process.wait(30) == 1
    assert files.api.log().startswith(
        f"ERROR: Unable to load glance-api from configuration file {files.api.conf}.\nGot: "
    )
    assert "keystone" in files.api.log()


def test_the_programs_of_the_cache_work_with_their_files_as_they_are(files):
    files.use_pipeline("With the image cache")
    api = files.api.conf.read_text()
    files.api.conf.write_text(
        api.replace("image_cache_enabled = False", "image_cache_enabled = True")
    )
    files.start()
    image = files.api.http.add(b"data", name="old", is_public=True).json()["image"]
    assert files.api.http.put(f"/v1/cached_images/{image['id']}").status == 200

    def run(program, name, **replaced):
        conf = files.write(name, {**files.replaced, **replaced})
        done = operators.run(program, conf, cwd=files.directory)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert "is unknown; did" not in files.log(name)
        return files.log(name)

    # The sample does not say where images are, and takes their usual place; here is another one.
    place = f"filesystem_store_datadir = {files.directory / 'images'}"
    registry_port = f"{files.registry.port}\n{place}"
    log = run("glance-cache-prefetcher", "glance-prefetcher", registry_port=registry_port)
    assert "1 fetched" in log
    (entry,) = files.api.http.get("/v1/cached_images").json()["cached_images"]
    assert (entry["id"], entry["size"]) == (image["id"], 4)
    assert "0 files of 0 bytes removed" in run("glance-cache-pruner", "glance-pruner")
    assert "Pass done" in run("glance-cache-reaper", "glance-reaper")
    assert files.api.http.get(f"/v1/images/{image['id']}").body == b"data"
