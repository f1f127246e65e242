"""The OpenAPI documents of both versions and of the registry: complete, and made of our tables."""

import re

import pytest
import webob

from glance import api, store
from glance.api import mounting, v1, v2
from glance.api.middleware import cache_manage, version_negotiation
from glance.common import config
from glance.http import openapi
from glance.identity import context
from glance.image import fields
from glance.image import headers as image_headers
from glance.registry import server
from glance.registry.db import engine

ADVICE = (
    "{method} {path} is not described: put @openapi.operation(...) on {handler}, and begin its "
    "docstring with '{method} {path}: ' and a sentence; see glance/http/openapi.py"
)
SERVICES = ("v1", "v2", "registry")


class Served:
    """An application with the mappers that lead to it, and the document that it serves."""

    def __init__(self, app, routes, path, mount=""):
        self.app, self.routes = app, routes
        request = webob.Request.blank(path)
        request.environ["glance.context"] = context.RequestContext(is_admin=True)
        request.environ["glance.mount"] = mount
        self.response = request.get_response(app)
        assert self.response.status_int == 200, self.response.text
        self.document = self.response.json

    def operations(self):
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                if method != "parameters":
                    yield method.upper(), path, operation


@pytest.fixture
def make_service(tmp_path):
    def make(**options):
        conf = config.Conf({"filesystem_store_datadir": str(tmp_path / "images"), **options})
        return api.ImageService(conf, store.create_stores(conf))

    return make


@pytest.fixture
def make_registry(tmp_path):
    def make(**options):
        conf = config.Conf({"sql_connection": f"sqlite:///{tmp_path}/glance.sqlite", **options})
        return server.RegistryAPI(conf, engine.from_conf(conf))

    return make


@pytest.fixture(params=SERVICES)
def served(request, make_service, make_registry):
    if request.param == "registry":
        registry = make_registry()
        return Served(registry, registry.router.routes(), openapi.PATH)
    service = make_service()
    if request.param == "v1":
        app = v1.ImagesAPI(service)
        managed = cache_manage.CacheManage(app, service.conf).router
        return Served(app, (*app.routes(), *managed.routes()), openapi.PATH)
    app = v2.ImagesAPIv2(service)
    front = version_negotiation.VersionNegotiation(app, service.conf, [mounting.V2])
    return Served(app, (*app.routes(), *front._v2_root.routes()), openapi.PATH)


def test_every_route_is_described_and_nothing_else(served):
    missing = [
        ADVICE.format(method=method, path=path, handler=f"{h.__module__}.{h.__qualname__}")
        for path, handlers in served.routes
        for method, h in handlers.items()
        if openapi.described(h) is None or not openapi.summary(h)
    ]
    assert not missing, "\n".join(missing)
    routed = {(method, path) for path, handlers in served.routes for method in handlers}
    written = {(method, path) for method, path, _ in served.operations()}
    assert written - routed == set(), "the document has what no mapper leads to"
    assert routed - written == set(), (
        "the document lacks routes of a filter: add them to the routes that the application "
        "gives to glance.api.describing.description"
    )


def test_the_names_of_operations_are_unique_and_fit_a_function(served):
    names = [operation["operationId"] for _, _, operation in served.operations()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z][a-z0-9_]*", name) for name in names)


def test_every_reference_leads_somewhere_and_every_component_is_used(served):
    text = served.response.text
    wanted = set(re.findall(r'"#/components/(\w+)/([^"]+)"', text))
    components = served.document["components"]
    there = {
        (kind, name) for kind in ("schemas", "responses", "headers") for name in components[kind]
    }
    assert wanted == there


def test_every_tag_has_a_sentence(served):
    used = {tag for _, _, operation in served.operations() for tag in operation["tags"]}
    assert used == {tag["name"] for tag in served.document["tags"]}


def test_texts_for_strangers_name_no_part_of_the_code(served):
    texts = re.findall(r'"(?:description|summary)": "((?:[^"\\]|\\.)*)"', served.response.text)
    assert len(texts) > 50
    assert not [text for text in texts if re.search("glance[.][a-z]|NotFound", text)]


def test_headers_are_those_of_the_table(make_service):
    document = Served(v1.ImagesAPI(make_service()), (), openapi.PATH).document
    sent = {p["name"] for p in document["paths"]["/images"]["post"]["parameters"]}
    settable = {
        image_headers.HEADER_PREFIX + field.name for field in fields.FIELDS if field.settable
    }
    assert settable <= sent
    [own] = [
        p for p in document["paths"]["/images"]["post"]["parameters"] if "x-name-pattern" in p
    ]
    pattern = own["x-name-pattern"]
    assert re.search(pattern, "x-image-meta-property-os_type")
    assert not re.search(pattern, "x-image-meta-name")
    shown = document["paths"]["/images/{id}"]["head"]["responses"]["200"]["headers"]
    assert {image_headers.HEADER_PREFIX + key for key in fields.DETAIL_KEYS} - shown.keys() == {
        "x-image-meta-properties"
    }
    data = document["paths"]["/images/{id}"]["get"]["responses"]["200"]["content"]
    assert data == {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


def test_formats_of_the_deployment_are_those_of_the_document(make_service):
    app = v2.ImagesAPIv2(make_service(disk_formats="raw,qcow2"))
    schemas = Served(app, (), openapi.PATH).document["components"]["schemas"]
    wanted = schemas["ImageToCreate"]["properties"]["disk_format"]["enum"]
    assert wanted == [None, "raw", "qcow2"]
    assert "enum" not in schemas["Image"]["properties"]["disk_format"]


@pytest.mark.parametrize(
    ("options", "mount", "server"),
    [
        ({}, "", "/v1"),
        ({}, "/image", "/image/v1"),
        (
            {"public_endpoint": "https://images.example.com/a/"},
            "",
            "https://images.example.com/a/v1",
        ),
    ],
)
def test_the_server_is_where_clients_reach_it(make_service, options, mount, server):
    app = v1.ImagesAPI(make_service(**options))
    assert Served(app, (), openapi.PATH, mount).document["servers"] == [{"url": server}]


def test_security_follows_the_mode(make_service):
    for options, expected in (
        ({}, [{"token": []}, {}]),
        ({"auth_mode": "keystone"}, [{"token": []}]),
        ({"auth_mode": "keystone", "allow_anonymous_access": "True"}, [{"token": []}, {}]),
    ):
        found = Served(v1.ImagesAPI(make_service(**options)), (), openapi.PATH).document
        assert found["security"] == expected


def test_errors_of_version_2_may_be_json(make_service):
    for app, kinds in (
        (v1.ImagesAPI(make_service()), {"text/plain", "text/html"}),
        (v2.ImagesAPIv2(make_service()), {"text/plain", "text/html", "application/json"}),
    ):
        responses = Served(app, (), openapi.PATH).document["components"]["responses"]
        assert {kind for one in responses.values() for kind in one["content"]} == kinds


def test_the_registry_wants_its_secret_for_it(make_registry):
    app = make_registry(registry_shared_secret="known")
    assert webob.Request.blank(openapi.PATH).get_response(app).status_int == 401
