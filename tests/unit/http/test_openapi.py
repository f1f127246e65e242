"""Descriptions of a service: how they are made from handlers, and how they are served."""

from typing import NotRequired, TypedDict

import pytest
import webob

from glance.common import exception
from glance.http import documents, openapi, wsgi


class Entry(TypedDict):
    name: str | None
    sizes: list[int]
    more: NotRequired[dict[str, bool]]


class Things:
    @openapi.operation(
        "list_things",
        parameters=openapi.query({"limit": {"type": "integer", "description": "How many."}}),
        responses={200: openapi.json_of("Thing", "Things.")},
    )
    def index(self, request):
        """GET /things: all of them."""

    @openapi.operation(
        "add_thing",
        body=openapi.json_of("Thing"),
        responses={201: openapi.json_of("Thing", headers={"Location": {"type": "string"}})},
        errors=(exception.Conflict,),
    )
    def add(self, request, id):
        """POST /things/{id} or /stuff/{id}: one more.

        Raises nothing.
        """

    def undescribed(self, request):
        """GET /odd"""


def api(**common):
    values = {
        "title": "Things",
        "version": "1",
        "about": "All of it.",
        "variables": {"id": {"type": "integer", "description": "Its number."}},
        "schemas": {"Thing": openapi.schema_of(Entry)},
        "tags": {"test_openapi": "Things."},
        "error_types": {"text/plain": openapi.TEXT},
        **common,
    }
    return openapi.Api(**values)


def document(server="/v9", **common):
    things = Things()
    routes = (
        ("/things", {"GET": things.index, "HEAD": things.index}),
        ("/things/{id}", {"POST": things.add}),
        ("/stuff/{id}", {"POST": things.add}),
    )
    return openapi.document(api(**common), routes, server)


def test_an_operation_joins_what_the_handler_says_with_the_path():
    found = document()
    assert found["servers"] == [{"url": "/v9"}]
    listing = found["paths"]["/things"]["get"]
    assert (listing["operationId"], listing["summary"]) == ("list_things", "All of them")
    assert listing["parameters"] == [
        {
            "name": "limit",
            "in": "query",
            "description": "How many.",
            "schema": {"type": "integer"},
        }
    ]
    item = found["paths"]["/things/{id}"]
    assert item["parameters"] == [
        {
            "name": "id",
            "in": "path",
            "description": "Its number.",
            "required": True,
            "schema": {"type": "integer"},
        }
    ]
    created = item["post"]["responses"]["201"]
    assert created["content"] == {
        "application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}
    }
    assert created["headers"].keys() == {"Location", "X-Openstack-Request-Id"}


def test_errors_come_from_the_table_of_errors():
    paths = document()["paths"]
    common = {"200", "400", "401", "403", "414", "431", "500", "503"}
    assert paths["/things"]["get"]["responses"].keys() == common
    # A variable may name nothing, a JSON body may be too long or have a coding.
    of_post = (common - {"200"}) | {"201", "404", "409", "413", "415"}
    assert paths["/things/{id}"]["post"]["responses"].keys() == of_post
    busy = document()["components"]["responses"]["ServiceUnavailable"]
    assert {"Retry-After", "Cache-Control"} <= busy["headers"].keys()
    assert busy["content"] == {"text/plain": {"schema": {"type": "string"}}}


def test_each_use_of_a_handler_has_a_name_of_its_own():
    paths = document()["paths"]
    names = [
        operation["operationId"]
        for item in paths.values()
        for method, operation in item.items()
        if method != "parameters"
    ]
    assert names == ["list_things", "head_list_things", "add_thing", "add_thing_stuff"]


def test_a_token_is_described_as_the_api_needs_it():
    assert document()["security"] == [{"token": []}]
    assert document(token=False)["security"] == [{"token": []}, {}]
    scheme = document()["components"]["securitySchemes"]["token"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "X-Auth-Token")


def test_a_handler_without_a_description_is_in_the_document_too():
    made = openapi.document(api(), [("/odd", {"GET": Things().undescribed})], "/")
    assert made["paths"]["/odd"]["get"]["summary"] == "undescribed"
    assert openapi.described(Things().undescribed) is None
    assert openapi.summary(Things().undescribed) == ""


def test_types_of_python_become_schemas():
    assert openapi.schema_of(Entry) == {
        "type": "object",
        "properties": {
            "name": {"type": ["string", "null"]},
            "sizes": {"type": "array", "items": {"type": "integer"}},
            "more": {"type": "object", "additionalProperties": {"type": "boolean"}},
        },
        "required": ["name", "sizes"],
    }


# -- serving -------------------------------------------------------------------------------------


class Counting:
    def __init__(self):
        self.roots = []

    def __call__(self, root):
        self.roots.append(root)
        return {"root": root}


@pytest.fixture
def made():
    return Counting()


def ask(document, **options):
    request = webob.Request.blank("/", **options)
    return request.get_response(document.response(wsgi.Request(request.environ)))


def test_a_document_is_made_when_it_is_first_wanted_and_kept(made):
    document = documents.Document(made)
    assert made.roots == []
    first, second = ask(document), ask(document)
    assert made.roots == [""]
    assert (first.status_int, first.json, first.body) == (200, {"root": ""}, second.body)
    assert first.headers["Cache-Control"] == "max-age=300"
    assert first.headers["Content-Type"] == "application/json"


def test_a_client_that_has_it_gets_304(made):
    document = documents.Document(made)
    tag = ask(document).headers["ETag"]
    again = ask(document, headers={"If-None-Match": tag})
    assert (again.status_int, again.body, again.headers["ETag"]) == (304, b"", tag)


def test_another_root_makes_another_document(made):
    document = documents.Document(made, lambda request: request.script_name)
    tags = [ask(document, environ={"SCRIPT_NAME": name}).headers["ETag"] for name in ("/a", "/b")]
    assert made.roots == ["/a", "/b"]
    assert tags[0] != tags[1]


def test_a_document_takes_no_body(made):
    with pytest.raises(exception.Invalid):
        ask(documents.Document(made), method="GET", body=b"x")
    assert made.roots == []


@pytest.mark.parametrize(
    ("url", "path"),
    [("http://host:1/v1", "/v1"), ("http://host", "/"), ("http://host/a/b/v2", "/a/b/v2")],
)
def test_a_server_is_named_by_its_path(url, path):
    assert openapi.path_of(url) == path
