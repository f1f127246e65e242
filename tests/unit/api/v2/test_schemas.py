"""The schemas of version 2: what they promise, and how they are served."""

import re

import pytest
import webob

from glance.api.v2 import schemas
from glance.http import wsgi
from glance.identity import context
from glance.image import entity, fields
from tests.unit.api.v2.validator import problems

FORMATS = fields.Formats(("raw", "qcow2"), ("bare",))


@pytest.fixture(scope="module")
def router():
    made = wsgi.Router(context.CallerRequest, strict=True)
    for path, show in schemas.Schemas(FORMATS).handlers().items():
        made.add(path, GET=show)
    return made


def ask(router, path, method="GET", **headers):
    request = webob.Request.blank(path, method=method, headers=headers)
    return request.get_response(router)


@pytest.mark.parametrize("name", ["image", "images", "member", "members"])
def test_each_schema_is_served_with_its_name(router, name):
    response = ask(router, f"/schemas/{name}")
    assert response.status_int == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "max-age=300"
    assert response.json["name"] == name
    assert int(response.headers["Content-Length"]) == len(response.body)


def test_a_client_that_has_a_schema_gets_304(router):
    tag = ask(router, "/schemas/image").headers["ETag"]
    assert re.fullmatch('"[0-9a-f]+"', tag)
    again = ask(router, "/schemas/image", **{"If-None-Match": tag})
    assert (again.status_int, again.body) == (304, b"")
    assert again.headers["ETag"] == tag
    assert ask(router, "/schemas/images", **{"If-None-Match": tag}).status_int == 200


@pytest.mark.parametrize("path", ["/schemas/nope", "/schemas", "/schemas/image/", "/schemas/task"])
def test_there_are_no_others(router, path):
    assert ask(router, path).status_int == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "HEAD"])
def test_schemas_are_only_read(router, method):
    refused = ask(router, "/schemas/image", method)
    assert refused.status_int == 405
    assert refused.headers["Allow"] == "GET, OPTIONS"
    assert ask(router, "/schemas/image", "OPTIONS").status_int == 200


def test_the_image_schema_lists_exactly_the_fields():
    schema = schemas.image_schema(FORMATS)
    assert set(schema["properties"]) == {*entity.BY_NAME, "locations"}
    assert schema["additionalProperties"] == {"type": "string"}
    assert not [name for name, each in schema["properties"].items() if "is_base" in each]
    assert {link["rel"]: link["href"] for link in schema["links"]} == {
        "self": "{self}",
        "enclosure": "{file}",
        "describedby": "{schema}",
    }


def test_only_what_the_service_sets_is_read_only():
    properties = schemas.image_schema(FORMATS)["properties"]
    assert {name for name, each in properties.items() if each.get("readOnly")} == {
        *("status", "checksum", "os_hash_algo", "os_hash_value", "size", "virtual_size"),
        *("created_at", "updated_at", "self", "file", "schema", "direct_url", "stores"),
        "locations",
    }


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("id", "string"),
        *((name, ["null", "string"]) for name in ("name", "owner", "checksum", "disk_format")),
        *((name, ["null", "string"]) for name in ("os_hash_algo", "os_hash_value")),
        *((name, "boolean") for name in ("protected", "os_hidden")),
        *((name, "integer") for name in ("min_ram", "min_disk")),
        *((name, ["null", "integer"]) for name in ("size", "virtual_size")),
        *((name, "string") for name in ("created_at", "self", "visibility", "status")),
        ("tags", "array"),
    ],
)
def test_types(name, kind):
    assert schemas.image_schema(FORMATS)["properties"][name]["type"] == kind


def test_formats_are_those_of_the_deployment_null_first():
    properties = schemas.image_schema(FORMATS)["properties"]
    assert properties["disk_format"]["enum"] == [None, "raw", "qcow2"]
    assert properties["container_format"]["enum"] == [None, "bare"]


def test_the_default_formats():
    properties = schemas.image_schema(fields.FORMATS)["properties"]
    assert properties["disk_format"]["enum"] == [
        None,
        *("ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop"),
    ]
    assert properties["container_format"]["enum"] == [
        None,
        *("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed"),
    ]


def test_lists_are_arrays_of_the_items():
    made = schemas.Schemas(FORMATS)
    image = schemas.image_schema(FORMATS)
    documents = {
        name.rpartition("/")[2]: webob.Request.blank(name).get_response(router_of(made)).json
        for name in made.handlers()
    }
    assert documents["images"]["properties"]["images"]["items"] == image
    assert set(documents["images"]["properties"]) == {"images", "first", "next", "schema"}
    assert documents["members"]["properties"]["members"]["items"] == documents["member"]
    assert documents["member"]["properties"]["status"]["enum"] == [
        *("pending", "accepted", "rejected"),
    ]


def router_of(made):
    router = wsgi.Router(context.CallerRequest, strict=True)
    for path, show in made.handlers().items():
        router.add(path, GET=show)
    return router


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "7"),
        ("name", 5),
        ("size", True),
        ("min_disk", None),
        ("status", "odd"),
        ("tags", ["t" * 256]),
        ("property", None),
        ("property", 5),
    ],
)
def test_what_is_not_as_the_schema_says_is_found(name, value):
    """Or the tests that nothing is would be worth nothing."""
    schema = schemas.image_schema(FORMATS)
    good = {
        "name": None,
        "size": 5,
        "min_disk": 0,
        "tags": ["a"],
        "property": "",
        "status": "active",
    }
    assert not problems(good, schema)
    assert problems({**good, name: value}, schema)
