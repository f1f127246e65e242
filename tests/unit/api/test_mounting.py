"""The composite of several versions: what it mounts, and that its applications share a service."""

import pytest
import webob

from glance.api import mounting, v1, v2
from glance.api.middleware import cache_manage
from glance.cli.daemon import paste
from glance.common import config, exception

FILE = """
[DEFAULT]
filesystem_store_datadir = %(here)s/images
registry_port = 1
{options}

[pipeline:glance-api]
pipeline = versionnegotiation context {app}

[composite:rootapp]
paste.composite_factory = glance.api:root_app_factory
{mounts}

[app:apiv1app]
paste.app_factory = glance.api.v1:app_factory

[app:apiv2app]
paste.app_factory = glance.api.v2:app_factory
{v2}

[app:versionsapp]
paste.app_factory = glance.api.versions:app_factory

[filter:versionnegotiation]
paste.filter_factory = glance.api.middleware.version_negotiation:filter_factory

[filter:context]
paste.filter_factory = glance.common.context:filter_factory
"""
BOTH = "/v1 = apiv1app\n/v2 = apiv2app"


@pytest.fixture
def load(tmp_path):
    """Load an application from a file; the registry, which is asked for nothing, is not there."""

    def loaded(mounts=BOTH, app="rootapp", options="", v2=""):
        path = tmp_path / "glance-api.conf"
        path.write_text(FILE.format(mounts=mounts, app=app, options=options, v2=v2))
        return paste.load_paste_app("glance-api", str(path))[1]

    return loaded


def ids(app):
    document = webob.Request.blank("/").get_response(app).json
    return [entry["id"] for entry in document["versions"]]


def status(app, path):
    return webob.Request.blank(path).get_response(app).status_int


def test_the_composite_serves_what_it_mounts(load):
    app = load()
    assert {name[:2] for name in ids(app)} == {"v1", "v2"}
    assert status(app, "/v2/schemas/image") == 200
    assert status(app, "/v1/nothing") == 404


@pytest.mark.parametrize(
    ("mounts", "app", "options", "served"),
    [
        (BOTH, "apiv1app", "", {"v1"}),
        (BOTH, "apiv2app", "", {"v2"}),
        ("/v1 = apiv1app", "rootapp", "", {"v1"}),
        (f"/ = versionsapp\n{BOTH}", "rootapp", "", {"v1", "v2"}),
        (BOTH, "rootapp", "enable_v2_api = False", {"v1"}),
        (BOTH, "rootapp", "enable_v1_api = False", {"v2"}),
        (f"{BOTH}\nenable_v1_api = False", "rootapp", "", {"v2"}),
        (BOTH, "apiv1app", "enable_v2_api = False", {"v1"}),
    ],
)
def test_the_document_lists_what_is_mounted_and_switched_on(load, mounts, app, options, served):
    made = load(mounts, app, options)
    assert {name[:2] for name in ids(made)} == served
    assert (status(made, "/v2/schemas/image") == 200) == ("v2" in served)
    assert (status(made, "/v1/nothing") == 404) == ("v1" in served)


@pytest.mark.parametrize(
    ("mounts", "app", "options", "words"),
    [
        (BOTH, "apiv1app", "enable_v1_api = False", "enable_v1_api is False"),
        (BOTH, "apiv2app", "enable_v2_api = False", "enable_v2_api is False"),
        (BOTH, "rootapp", "enable_v1_api = 0\nenable_v2_api = 0", "No version"),
        ("", "rootapp", "", "mounts no version"),
        ("/v3 = apiv1app", "rootapp", "", "mounts /v3"),
        (BOTH, "rootapp", "enable_v2_api = perhaps", "enable_v2_api"),
        ("/v2 = nothing", "rootapp", "", "nothing"),
    ],
)
def test_what_cannot_be_served_is_one_message_with_the_file(load, mounts, app, options, words):
    with pytest.raises(exception.ConfigError) as caught:
        load(mounts, app, options)
    assert words in str(caught.value)
    assert "glance-api.conf" in str(caught.value)


def test_the_applications_of_a_composite_share_one_service(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(v1, "ImagesAPI", made.append)
    monkeypatch.setattr(v2, "ImagesAPIv2", made.append)
    conf = {"filesystem_store_datadir": str(tmp_path / "images"), "registry_port": "1"}
    own = {"apiv1app": {}, "apiv2app": {}}

    class Loader:
        def get_app(self, name, global_conf):
            factory = {"apiv1app": v1, "apiv2app": v2}[name].app_factory
            return factory(global_conf, **own[name])

    mounts = {"/v1": "apiv1app", "/v2": "apiv2app"}
    mounting.root_app_factory(Loader(), conf, **mounts)
    assert made[0] is made[1]
    own["apiv2app"] = {"image_size_cap": "5"}
    mounting.root_app_factory(Loader(), conf, **mounts)
    assert made[3].conf.image_size_cap == 5
    assert made[2].conf.image_size_cap > 5
    assert made[2] is not made[0]


def test_sections_behind_a_composite_are_read_too(load, tmp_path):
    load(v2="image_size_cap = 7")
    sections = paste.load_sections("glance-api", str(tmp_path / "glance-api.conf"))
    assert [section.source.partition("[")[2] for section in sections] == [
        "filter:versionnegotiation]",
        "filter:context]",
        "composite:rootapp]",
        "app:apiv1app]",
        "app:apiv2app]",
    ]
    assert sections[2].own == {}
    assert sections[-1].own == {"image_size_cap": "7"}


@pytest.mark.parametrize(
    ("path", "version", "rest"),
    [
        ("/v1/images", "v1", "/images"),
        ("/v2.3/images", "v2", "/images"),
        ("/v2", "v2", ""),
        ("/images", None, None),
        ("/v3/images", None, None),
        ("/v2x/images", None, None),
    ],
)
def test_without_a_negotiation_in_front_the_path_decides(path, version, rest):
    def app(name):
        def serve(environ, start_response):
            start_response("200 OK", [("X-Found", f"{name} {environ['PATH_INFO']}")])
            return []

        return serve

    root = mounting.Root({"v1": app("v1"), "v2": app("v2")})
    response = webob.Request.blank(path).get_response(root)
    assert response.headers.get("X-Found") == (version and f"{version} {rest}")
    assert response.status_int == (200 if version else 404)


@pytest.mark.parametrize(("version", "own"), [("v1", True), ("v2", False), (None, True)])
def test_management_of_the_cache_is_of_version_1(tmp_path, version, own):
    def app(environ, start_response):
        start_response("204 No Content", [])
        return []

    conf = config.Conf({"image_cache_dir": str(tmp_path)})
    request = webob.Request.blank("/cached_images", method="POST")
    if version:
        request.environ[mounting.VERSION] = version
    response = request.get_response(cache_manage.CacheManage(app, conf))
    assert response.status_int == (405 if own else 204)
