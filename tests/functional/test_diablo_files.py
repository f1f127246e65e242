"""Configuration files of the Diablo release start the daemons as they are.

The files in data/diablo have the sections, keys and values of that release's samples. Only what
would collide with the host is replaced: addresses, ports and paths. The scrubber's is tested in
test_scrubber; those of the cache programs join them together with the programs.
"""

import pathlib
import re

import pytest

from support import daemons
from support.rawhttp import identity

DATA = pathlib.Path(__file__).parent / "data" / "diablo"

#: The Keystone of that time, as far as its filters go: they believe what the request says.
FILTER = """
def filter_factory(global_conf, **local_conf):
    def make(app):
        def stage(environ, start_response):
            environ["HTTP_X_SEEN"] = environ.get("HTTP_X_SEEN", "") + __name__
            return app(environ, start_response)
        return stage
    return make
"""


class Files:
    """Both daemons with Diablo's files; `pipelines` names the commented pipeline to use."""

    def __init__(self, directory):
        self.directory = directory
        api_port, registry_port = daemons.free_port(), daemons.free_port()
        replaced = {
            "log_file": directory / "{program}.log",
            "bind_host": "127.0.0.1",
            "filesystem_store_datadir": directory / "images",
        }
        registry = {**replaced, "bind_port": registry_port}
        api = {**replaced, "bind_port": api_port, "registry_port": registry_port}
        self.registry = self._daemon("glance-registry", registry, registry_port)
        self.api = self._daemon("glance-api", api, api_port)

    def _daemon(self, program, replaced, port):
        text = (DATA / f"{program}.conf").read_text()
        for name, value in replaced.items():
            shown = str(value).format(program=program)
            text = re.sub(rf"^{name} = .*$", f"{name} = {shown}", text, flags=re.MULTILINE)
        conf = self.directory / f"{program}.conf"
        conf.write_text(text)
        return daemons.Daemon(program, conf, self.directory / f"{program}.out", port)

    def use_pipeline(self, heading):
        for daemon in (self.registry, self.api):
            text = daemon.conf.read_text()
            wanted = re.search(rf"^# {heading}:\n# (pipeline = .*)$", text, re.MULTILINE)[1]
            daemon.conf.write_text(
                re.sub(r"^pipeline = .*context.*$", wanted, text, flags=re.MULTILINE)
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
        assert not [line for line in lines if re.search(r"ERROR|CRITICAL|Traceback", line)]
        # NOTE: options that were known then are no slips of the operator now.
        assert not [line for line in lines if "is unknown; is" in line]


def test_a_name_in_a_file_of_old_makes_no_noise(files):
    files.start()
    for program in ("glance-api", "glance-registry"):
        assert "is not one of glance's" not in files.log(program)


@pytest.fixture
def keystone(tmp_path, monkeypatch):
    """An importable package with the filters that the files name."""
    package = tmp_path / "path" / "keystone" / "middleware"
    package.mkdir(parents=True)
    for directory in (package.parent, package):
        (directory / "__init__.py").write_text("")
    for name in ("auth_token", "glance_auth_token"):
        (package / f"{name}.py").write_text(FILTER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))


@pytest.mark.usefixtures("keystone")
def test_the_pipeline_for_keystone_asks_who_is_there(files):
    files.use_pipeline("With Keystone")
    # The filters of Diablo ask Keystone by the token; the stand-in cannot.
    files.add(files.registry, "auth_mode = trusted-headers")
    files.add(files.api, "send_identity_headers = True")
    files.start()
    assert files.api.http.get("/v1/images").status == 401
    owner = identity("tenant")
    image = files.api.http.add(b"data", owner, name="mine").json()["image"]
    assert image["owner"] == "tenant"
    assert files.api.http.get(f"/v1/images/{image['id']}", owner).body == b"data"
    assert "999888777666" not in files.log("glance-api") + files.log("glance-registry")


def test_a_filter_that_is_not_installed_is_named(files):
    files.use_pipeline("With Keystone")
    files.api.start(wait=False)
    assert files.api.process.wait(30) == 1
    assert files.api.log().startswith(
        f"ERROR: Unable to load glance-api from configuration file {files.api.conf}.\nGot: "
    )
    assert "keystone" in files.api.log()
