"""Images by version 2: made, shown, changed and deleted."""

import contextlib
import datetime
import re
import sqlite3
import threading
import uuid

import pytest

from glance.api.v2 import patch, schemas
from glance.image import fields
from glance.registry.db import engine
from glance.registry.db.upkeep import maintenance
from tests.unit.api.conftest import CHECKSUM, PAYLOAD
from tests.unit.api.v2.callers import ADMIN, ANONYMOUS, MEMBER, OWNER, STRANGER
from tests.unit.api.v2.validator import problems

UUID = "5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c11"
RAW = {"disk_format": "raw", "container_format": "bare"}


def show(api, image, **caller):
    return api.json("GET", f"/v2/images/{image['id']}", **caller)


def v1_id(api, image):
    """Return the path of an image in version 1."""
    number = show(api, image, **ADMIN).headers["X-Openstack-Image-V1-Id"]
    return f"/v1/images/{number}"


def fill(api, image):
    """Give an image data by version 1."""
    response = api("PUT", v1_id(api, image), None, PAYLOAD, **ADMIN)
    assert response.status_int == 200, response.text


def set_status(registry, image, status):
    """Set the status of an image behind the back of all rules."""
    with contextlib.closing(sqlite3.connect(registry.path)) as database, database:
        database.execute("UPDATE images SET status = ? WHERE uuid = ?", (status, image["id"]))


# -- created -------------------------------------------------------------------------------------


def test_an_image_of_nothing_is_queued_and_shared(api):
    response = api.json("POST", "/v2/images", {}, **OWNER)
    assert response.status_int == 201
    image = response.json
    assert uuid.UUID(image["id"])
    assert response.headers["Location"] == f"http://localhost/v2/images/{image['id']}"
    assert response.headers["Content-Type"] == "application/json"
    assert image.pop("created_at") == image.pop("updated_at")
    path = f"/v2/images/{image['id']}"
    assert image == {
        "id": image["id"],
        **dict.fromkeys(("name", "disk_format", "container_format", "size", "virtual_size")),
        **dict.fromkeys(("checksum", "os_hash_algo", "os_hash_value")),
        "status": "queued",
        "visibility": "shared",
        "protected": False,
        "os_hidden": False,
        "owner": "mine",
        "min_disk": 0,
        "min_ram": 0,
        "tags": [],
        "self": path,
        "file": f"{path}/file",
        "schema": "/v2/schemas/image",
    }
    assert show(api, image, **OWNER).json == response.json


def test_an_image_keeps_all_that_it_is_given(api):
    given = {
        "id": UUID,
        "name": "wéb",
        "visibility": "private",
        "protected": True,
        "os_hidden": True,
        "owner": "mine",
        "min_disk": 3,
        "min_ram": 2**31 - 1,
        "tags": ["b", "a", "Ü"],
        **RAW,
        "Trait:X.y/z ü": "",
        "hw-disk-bus": "scsi",
        "UPPER": "x",
        "upper": "y",
        "owner_specified.openstack.md5": "",
    }
    image = api.create(OWNER, **given)
    assert {name: image[name] for name in given} == {**given, "tags": ["a", "b", "Ü"]}
    assert show(api, image, **OWNER).json == image


@pytest.mark.parametrize("media_type", ["text/plain", "application/octet-stream", "x"])
def test_the_media_type_of_a_new_image_does_not_matter(api, media_type):
    response = api.json("POST", "/v2/images", {"name": "x"}, media_type=media_type, **OWNER)
    assert response.status_int == 201


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[1]", 400),
        (b'"x"', 400),
        (b"null", 400),
        (b"\xff", 400),
        (b'{"min_ram": NaN}', 400),
        (b'{"min_ram": 1e999}', 400),
        (b'{"min_ram": ' + b"9" * 5000 + b"}", 400),
        (b'{"x": ' + b"[" * 100000 + b"]" * 100000 + b"}", 400),
        (b'{"name": "\\ud800"}', 400),
        (b'{"\\ud800": "x"}', 400),
        (b'{"x": "' + b"y" * (1024 * 1024) + b'"}', 413),
    ],
)
def test_a_body_that_is_no_image_is_refused(api, registry, body, status):
    response = api("POST", "/v2/images", None, body, **OWNER)
    assert response.status_int == status
    assert not [call for call in registry.calls if call[0] == "POST"]


def test_the_last_of_equal_keys_counts(api):
    response = api("POST", "/v2/images", None, b'{"name": "a", "name": "b"}', **OWNER)
    assert response.json["name"] == "b"


def test_a_chosen_id_is_stored_in_lower_case_and_used_once(api):
    assert api.create(OWNER, id=UUID.upper())["id"] == UUID
    for again in (UUID, UUID.upper()):
        assert api.json("POST", "/v2/images", {"id": again}, **OWNER).status_int == 409
    assert api.json("DELETE", f"/v2/images/{UUID}", **OWNER).status_int == 204
    assert api.json("POST", "/v2/images", {"id": UUID}, **OWNER).status_int == 409


def test_the_id_of_a_purged_image_is_never_used_again(api, registry):
    api.create(OWNER, id=UUID)
    # The highest number stays when others are purged.
    api.create(OWNER)
    assert api.json("DELETE", f"/v2/images/{UUID}", **OWNER).status_int == 204
    database = engine.Database(f"sqlite:///{registry.path}")
    later = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(1)
    assert maintenance.purge(database, later) == 1
    database.dispose()
    refused = api.json("POST", "/v2/images", {"id": UUID.upper()}, **OWNER)
    assert refused.status_int == 409


def test_anyone_may_choose_an_id(make_api):
    api = make_api(policy_choose_id="")
    assert api.json("POST", "/v2/images", {"id": UUID}, **OWNER).status_int == 201


def test_who_may_choose_an_id_is_a_policy(make_api):
    api = make_api(policy_choose_id="admin")
    refused = api.json("POST", "/v2/images", {"id": UUID}, **OWNER)
    assert refused.status_int == 403
    assert api.json("POST", "/v2/images", {"id": UUID}, **ADMIN).status_int == 201


@pytest.mark.parametrize("name", ["status", "size", "checksum", "os_hash_algo", "stores", "self"])
def test_nothing_is_made_of_what_only_the_service_sets(api, registry, name):
    refused = api.json("POST", "/v2/images", {"name": "x", name: "x"}, **OWNER)
    assert refused.status_int == 403
    assert name in refused.json["error"]["message"]
    assert not [call for call in registry.calls if call[0] == "POST"]


def test_only_an_administrator_chooses_an_owner(api):
    for owner in ("other", None):
        refused = api.json("POST", "/v2/images", {"owner": owner}, **OWNER)
        assert refused.status_int == 403
        assert api.create(ADMIN, owner=owner)["owner"] == owner
    assert api.create(OWNER, owner="mine")["owner"] == "mine"
    assert api.create(ADMIN)["owner"] == "ops"


@pytest.mark.parametrize(
    ("option", "visibility"),
    [("policy_publicize_image", "public"), ("policy_communitize_image", "community")],
)
def test_who_may_open_an_image_to_all_is_a_policy(make_api, option, visibility):
    api = make_api(**{option: "admin"})
    refused = api.json("POST", "/v2/images", {"visibility": visibility}, **OWNER)
    assert refused.status_int == 403
    image = api.create(OWNER)
    assert api.patch(image, ("replace", "/visibility", visibility), **OWNER).status_int == 403
    opened = api.patch(image, ("replace", "/visibility", visibility), **ADMIN)
    assert opened.json["visibility"] == visibility
    # To send what is there changes nothing.
    again = (("replace", "/visibility", visibility), ("add", "/name", "x"))
    assert api.patch(image, *again, **OWNER).json["name"] == "x"
    assert api.create(ADMIN, visibility=visibility)["visibility"] == visibility


def test_version_1_obeys_the_same_policy(make_api):
    api = make_api(policy_publicize_image="admin")
    headers = {"x-image-meta-is_public": "True", "x-image-meta-name": "x"}
    assert api("POST", "/v1/images", headers, **OWNER).status_int == 403


@pytest.mark.parametrize(
    ("attributes", "status"),
    [
        ({"disk_format": "ami", "container_format": "bare"}, 400),
        ({"disk_format": "raw"}, 201),
        ({"container_format": "bare"}, 201),
        ({"disk_format": None, "container_format": None}, 201),
    ],
)
def test_formats_go_together(api, attributes, status):
    assert api.json("POST", "/v2/images", attributes, **OWNER).status_int == status


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("disk_format", fields.DISK_FORMATS),
        ("container_format", fields.CONTAINER_FORMATS),
    ],
)
def test_every_format_of_the_schema_is_taken(api, field, values):
    schema = api("GET", "/v2/schemas/image", **OWNER).json
    assert schema["properties"][field]["enum"] == [None, *values]
    for value in values:
        assert api.create(OWNER, **{field: value})[field] == value
    refused = api.json("POST", "/v2/images", {field: "floppy"}, **OWNER)
    assert refused.status_int == 400
    assert field in refused.json["error"]["message"]


# -- quotas --------------------------------------------------------------------------------------


def test_too_many_tags_are_refused_and_nothing_is_made(api):
    tags = [f"t{number:03}" for number in range(129)]
    assert api.json("POST", "/v2/images", {"tags": tags}, **OWNER).status_int == 413
    image = api.create(OWNER, tags=tags[:128])
    assert image["tags"] == tags[:128]
    assert api.patch(image, ("replace", "/tags", tags), **OWNER).status_int == 413
    # The same tag twice counts once.
    assert api.create(OWNER, tags=tags[:128] * 2)["tags"] == tags[:128]


def test_too_many_properties_are_refused(api):
    many = {f"p{number}": "x" for number in range(61)}
    assert api.json("POST", "/v2/images", many, **OWNER).status_int == 413
    del many["p60"]
    image = api.create(OWNER, **many)
    assert api.patch(image, ("add", "/p60", "x"), **OWNER).status_int == 413
    exchanged = api.patch(image, ("add", "/p60", "x"), ("remove", "/p0"), **OWNER)
    assert exchanged.status_int == 200


# -- shown ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "0b5c66f0-3a0e-4d1c-9d0e-52a1f5a4a7a1",
        "7",
        "1",
        "detail",
        "os1",
        "a%2Fb",
        "x" * 300,
        "%00",
        "..%2Fx",
        "%ff",
        "%0a",
        "%C3%BC",
        "1%20",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_any_other_text_than_the_id_of_an_image_is_not_found(api, method, text):
    api.create(ADMIN, name="7")
    assert api(method, f"/v2/images/{text}", **ADMIN).status_int == 404


def test_the_number_of_version_1_is_a_header(api):
    image = api.create(OWNER)
    number = show(api, image, **OWNER).headers["X-Openstack-Image-V1-Id"]
    found = api("HEAD", f"/v1/images/{number}", **OWNER)
    assert found.headers["X-Image-Meta-Status"] == "queued"


def test_an_id_is_found_in_any_case(api):
    image = api.create(OWNER, id=UUID)
    assert api.json("GET", f"/v2/images/{UUID.upper()}", **OWNER).json == image


def test_head_is_get_without_a_body(api):
    image = api.create(OWNER, name="ü")
    got = show(api, image, **OWNER)
    head = api("HEAD", f"/v2/images/{image['id']}", **OWNER)
    assert (head.status_int, head.body) == (200, b"")
    for name in ("Content-Type", "Content-Length", "X-Openstack-Image-V1-Id"):
        assert head.headers[name] == got.headers[name]
    assert int(got.headers["Content-Length"]) == len(got.body)


def test_a_trailing_slash_is_another_path(api):
    for method in ("GET", "DELETE", "POST"):
        assert api(method, "/v2/images/", **OWNER).status_int == 404


def test_who_sees_an_image(api):
    for visibility, seen in (
        ("private", (OWNER, ADMIN)),
        ("shared", (OWNER, ADMIN)),
        ("community", (OWNER, ADMIN, STRANGER, ANONYMOUS)),
        ("public", (OWNER, ADMIN, STRANGER, ANONYMOUS)),
    ):
        image = api.create(OWNER, visibility=visibility)
        for caller in (OWNER, ADMIN, STRANGER, ANONYMOUS):
            found = show(api, image, **caller)
            assert found.status_int == (200 if caller in seen else 404), (visibility, caller)


def test_every_image_is_as_the_schema_says(api, registry):
    """Also those of version 1, with properties that version 2 could not have made."""
    schema = schemas.image_schema(fields.FORMATS)
    headers = {
        "x-image-meta-property-status": "odd",
        "x-image-meta-property-none": "",
        "x-image-meta-property-metadata": "x",
    }
    old = api("POST", "/v1/images", {"x-image-meta-name": "v1", **headers}, PAYLOAD, **OWNER)
    assert old.json["image"]["properties"]["none"] is None
    images = [
        {"id": old.headers["X-Openstack-Image-Uuid"]},
        api.create(OWNER, **RAW, tags=["a"], x=""),
    ]
    statuses = {*fields.STATUSES} - {"deleted", "pending_delete"}
    for image in images:
        for status in sorted(statuses):
            set_status(registry, image, status)
            shown = show(api, image, **OWNER).json
            assert shown["status"] == status
            assert not problems(shown, schema)
            assert "metadata" not in shown
            extra = set(shown) - set(schema["properties"])
            assert extra == ({"none"} if image is images[0] else {"x"})
            for name in ("created_at", "updated_at"):
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", shown[name])


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["*/*", "", None, "text/plain"])
def test_errors_are_text_unless_json_is_named(api, accept):
    headers = {} if accept is None else {"Accept": accept}
    response = api("GET", "/v2/images/nope", headers, **OWNER)
    assert response.headers["Content-Type"] == "text/plain; charset=UTF-8"
    assert response.body.startswith(b"404 Not Found\n\n")


def test_every_response_has_the_id_of_its_request(api):
    image = api.create(OWNER)
    for method, path in (
        ("GET", f"/v2/images/{image['id']}"),
        ("GET", "/v2/images/nope"),
        ("PUT", "/v2/images"),
        ("DELETE", f"/v2/images/{image['id']}"),
    ):
        response = api(method, path, {"X-Openstack-Request-Id": "req-mine"}, **OWNER)
        assert response.headers["X-Openstack-Request-Id"] == "req-mine"
    assert re.match("req-", api("GET", "/v2/nope", **OWNER).headers["X-Openstack-Request-Id"])


ROUTES = {
    "/v2/": "GET, HEAD, OPTIONS",
    "/v2/images": "GET, OPTIONS, POST",
    "/v2/images/ID": "DELETE, GET, HEAD, OPTIONS, PATCH",
    "/v2/images/ID/file": "GET, HEAD, OPTIONS, PUT",
    "/v2/images/ID/members": "GET, OPTIONS, POST",
    "/v2/images/ID/members/m": "DELETE, GET, OPTIONS, PUT",
    "/v2/images/ID/tags/t": "DELETE, OPTIONS, PUT",
    "/v2/images/ID/actions/deactivate": "OPTIONS, POST",
    "/v2/images/ID/actions/reactivate": "OPTIONS, POST",
    "/v2/schemas/image": "GET, OPTIONS",
    "/v2/schemas/members": "GET, OPTIONS",
}


@pytest.mark.parametrize("path", ROUTES)
def test_each_path_says_which_methods_it_has(api, path):
    allowed = ROUTES[path]
    path = path.replace("ID", UUID)
    options = api("OPTIONS", path, **OWNER)
    assert (options.status_int, options.body) == (200, b"")
    assert options.headers["Allow"] == allowed
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} - {*allowed.split(", ")}:
        refused = api(method, path, **OWNER)
        assert refused.status_int == 405, method
        assert refused.headers["Allow"] == allowed
    assert api("BREW", path, **OWNER).status_int == 501


@pytest.mark.parametrize(
    "path", ["/v2/nothing", "/v2/images/ID/tags", "/v2/tasks", "/v2/info/import", "/v2/images/I/x"]
)
def test_what_is_not_there(api, path):
    assert api("GET", path.replace("ID", UUID), **OWNER).status_int == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/images"),
        ("PATCH", "/v2/images/ID"),
        ("DELETE", "/v2/images/ID"),
        ("PATCH", "/v2/images/nope"),
    ],
)
def test_an_anonymous_caller_only_reads(api, method, path):
    image = api.create(OWNER, visibility="public")
    refused = api.json(method, path.replace("ID", image["id"]), [])
    assert refused.status_int == 403
    assert "token" in refused.json["error"]["message"]


def test_without_a_token_nobody_gets_in(make_api):
    api = make_api(allow_anonymous_access="False")
    refused = api.json("GET", "/v2/images/nope")
    assert refused.status_int == 401
    assert refused.json["error"]["title"] == "Unauthorized"
    assert api("GET", "/v2/").status_int == 300


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v2/images/ID"), ("DELETE", "/v2/images/ID"), ("GET", "/v2/schemas/image")],
)
def test_a_body_where_none_belongs_is_refused(api, method, path):
    image = api.create(OWNER)
    path = path.replace("ID", image["id"])
    assert api(method, path, None, b"x", **OWNER).status_int == 400
    headers = {"Content-Type": "application/octet-stream", "Content-Length": "0"}
    assert api(method, path, headers, **OWNER).status_int in (200, 204)


def test_a_registry_that_is_away_is_503_and_to_be_tried_again(api, registry):
    registry.stop()
    for method, path, body in (
        ("GET", f"/v2/images/{UUID}", None),
        ("POST", "/v2/images", {}),
        ("DELETE", f"/v2/images/{UUID}", None),
    ):
        response = api.json(method, path, body, **OWNER)
        assert response.status_int == 503
        assert int(response.headers["Retry-After"]) > 0
        assert response.json["error"]["code"] == 503


# -- changed -------------------------------------------------------------------------------------


def test_both_forms_of_a_patch(api):
    image = api.create(OWNER, os="linux", tags=["a"])
    changed = api.patch(
        image,
        ("replace", "/name", "new"),
        ("add", "/a.b~1C", ""),
        ("remove", "/os"),
        ("replace", "/tags", ["b", "c"]),
        **OWNER,
    )
    assert changed.status_int == 200
    wanted = {**image, "name": "new", "a.b/C": "", "tags": ["b", "c"]}
    del wanted["os"]
    wanted["updated_at"] = changed.json["updated_at"]
    assert changed.json == wanted
    assert show(api, image, **OWNER).json == wanted
    old_form = [{"replace": "/name", "value": "x"}, {"remove": "/a.b~1C"}]
    older = api.json("PATCH", f"/v2/images/{image['id']}", old_form, media_type=patch.V20, **OWNER)
    assert older.status_int == 200
    assert older.json["name"] == "x"
    assert "a.b/C" not in older.json


@pytest.mark.parametrize(
    "media_type",
    [
        None,
        "",
        "application/json",
        "application/json-patch+json",
        "application/openstack-images-v2.2-json-patch",
        f"{patch.V21}x",
    ],
)
def test_another_media_type_names_those_that_would_do(api, media_type):
    image = api.create(OWNER)
    headers = {"Content-Type": media_type or "", "Accept": "application/json"}
    refused = api("PATCH", f"/v2/images/{image['id']}", headers, b"[]", **OWNER)
    assert refused.status_int == 415
    assert refused.headers["Accept-Patch"] == ", ".join(patch.MEDIA_TYPES)


def test_the_media_type_may_have_parameters_and_any_case(api):
    image = api.create(OWNER)
    path = f"/v2/images/{image['id']}"
    media_type = f"{patch.V21.upper()}; charset=utf-8"
    assert api.json("PATCH", path, [], media_type=media_type, **OWNER).status_int == 200


def test_a_patch_of_nothing_changes_nothing(api, registry):
    image = api.create(OWNER)
    registry.calls.clear()
    same = api.patch(image, **OWNER)
    assert (same.status_int, same.json) == (200, image)
    assert {method for method, _ in registry.calls} == {"GET"}
    for body in (b"{}", b"", b"null"):
        headers = {"Content-Type": patch.V21}
        refused = api("PATCH", f"/v2/images/{image['id']}", headers, body, **OWNER)
        assert refused.status_int == 400


def test_a_patch_is_stored_as_a_whole_or_not_at_all(api):
    image = api.create(OWNER, os="linux")
    for bad, status in (
        (("replace", "/nope", "x"), 409),
        (("remove", "/nope"), 409),
        (("add", "/status", "active"), 403),
        (("replace", "/min_ram", "5"), 400),
        (("remove", "/name"), 403),
        (("add", "/os_glance_x", "y"), 403),
        (("test", "/name", "y"), 400),
        (("add", "/tags/-", "y"), 400),
    ):
        refused = api.patch(image, ("replace", "/name", "new"), ("add", "/a", "b"), bad, **OWNER)
        assert refused.status_int == status, bad
        assert show(api, image, **OWNER).json == image


def test_formats_are_fixed_once_there_is_data(api):
    image = api.create(OWNER, **RAW)
    changed = api.patch(image, ("replace", "/disk_format", "qcow2"), **OWNER)
    assert changed.json["disk_format"] == "qcow2"
    fill(api, image)
    assert api.patch(image, ("replace", "/disk_format", "raw"), **OWNER).status_int == 403
    same = api.patch(image, ("replace", "/disk_format", "qcow2"), ("add", "/a", "b"), **OWNER)
    assert (same.status_int, same.json["a"]) == (200, "b")
    assert same.json["checksum"] == CHECKSUM
    assert same.json["size"] == len(PAYLOAD)


def test_a_format_that_changes_while_data_comes_is_refused(api, registry):
    image = api.create(OWNER, **RAW)
    real, changes = registry.app, []

    def begin_first(environ, start_response):
        if environ["REQUEST_METHOD"] == "PATCH":
            changes.append(environ["PATH_INFO"])
            set_status(registry, image, "saving")
        return real(environ, start_response)

    registry.app = begin_first
    refused = api.patch(image, ("replace", "/disk_format", "qcow2"), **OWNER)
    assert (refused.status_int, len(changes)) == (409, 1)
    assert show(api, image, **OWNER).json["disk_format"] == "raw"


def test_who_may_change_an_image(api):
    for visibility, stranger in (("public", 403), ("community", 403), ("private", 404)):
        image = api.create(OWNER, visibility=visibility)
        for method in ("PATCH", "DELETE"):
            body = [] if method == "PATCH" else None
            path = f"/v2/images/{image['id']}"
            refused = api.json(method, path, body, media_type=patch.V21, **STRANGER)
            assert refused.status_int == stranger, (visibility, method)
        assert api.patch(image, ("add", "/a", "b"), **ADMIN).status_int == 200
        assert api.patch(image, ("add", "/a", "c"), **OWNER).status_int == 200


def share(api, image, member):
    response = api.json("POST", f"/v2/images/{image['id']}/members", {"member": member}, **OWNER)
    assert response.status_int == 200, response.text


def test_a_member_reads_and_changes_nothing(api):
    image = api.create(OWNER)
    share(api, image, MEMBER["tenant"])
    assert show(api, image, **MEMBER).status_int == 200
    assert api.patch(image, ("add", "/a", "b"), **MEMBER).status_int == 403
    assert api.json("DELETE", f"/v2/images/{image['id']}", **MEMBER).status_int == 403


def test_members_wait_while_an_image_is_private(api):
    image = api.create(OWNER)
    share(api, image, MEMBER["tenant"])
    for visibility, status in (("private", 404), ("shared", 200)):
        api.patch(image, ("replace", "/visibility", visibility), **OWNER)
        assert show(api, image, **MEMBER).status_int == status


def test_a_property_of_version_1_that_version_2_hides_stays(api):
    headers = {
        "x-image-meta-name": "old",
        "x-image-meta-property-status": "odd",
        "x-image-meta-property-metadata": "m",
        "x-image-meta-property-none": "",
    }
    made = api("POST", "/v1/images", headers, **OWNER)
    image = {"id": made.headers["X-Openstack-Image-Uuid"]}
    assert api.patch(image, ("replace", "/metadata", "x"), **OWNER).status_int == 409
    assert api.patch(image, ("remove", "/metadata"), **OWNER).status_int == 409
    assert api.patch(image, ("add", "/status", "x"), **OWNER).status_int == 403
    changed = api.patch(image, ("add", "/none", "some"), ("replace", "/tags", []), **OWNER)
    assert changed.json["none"] == "some"
    old = api("HEAD", v1_id(api, image), **OWNER)
    assert old.headers["X-Image-Meta-Property-Status"] == "odd"
    assert old.headers["X-Image-Meta-Property-Metadata"] == "m"


def test_changes_of_different_properties_at_once_are_both_there(api):
    image = api.create(OWNER)
    failed = []

    def add(name):
        for number in range(10):
            response = api.patch(image, ("add", f"/{name}{number}", "x"), **OWNER)
            if response.status_int != 200:
                failed.append(response.text)

    threads = [threading.Thread(target=add, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    found = show(api, image, **OWNER).json
    wanted = {f"{name}{number}" for name in "ab" for number in range(10)}
    assert wanted <= set(found)


# -- deleted -------------------------------------------------------------------------------------


def test_a_deleted_image_is_gone_with_its_data(api):
    image = api.create(OWNER, **RAW)
    fill(api, image)
    assert api.files()
    response = api.json("DELETE", f"/v2/images/{image['id']}", **OWNER)
    assert (response.status_int, response.body) == (204, b"")
    assert "Content-Type" not in response.headers
    assert not api.files()
    for method in ("GET", "DELETE"):
        assert api.json(method, f"/v2/images/{image['id']}", **OWNER).status_int == 404


@pytest.mark.parametrize("status", ["queued", "killed", "deactivated", "saving"])
def test_an_image_in_any_status_can_be_deleted(api, registry, status):
    image = api.create(OWNER)
    set_status(registry, image, status)
    assert api.json("DELETE", f"/v2/images/{image['id']}", **OWNER).status_int == 204
    assert show(api, image, **OWNER).status_int == 404


def test_a_protected_image_stays_until_it_is_protected_no_more(api):
    image = api.create(OWNER, protected=True)
    path = f"/v2/images/{image['id']}"
    refused = api.json("DELETE", path, **OWNER)
    assert refused.status_int == 403
    assert "protected" in refused.json["error"]["message"]
    assert api.patch(image, ("replace", "/protected", False), **OWNER).status_int == 200
    assert api.json("DELETE", path, **OWNER).status_int == 204


def test_the_policy_decides_about_the_images_of_others(make_api, make_registry):
    policy = {"policy_delete_any_image": "librarian"}
    api = make_api(make_registry(**policy), **policy)
    librarian = {**STRANGER, "roles": "librarian"}
    image = api.create(OWNER, visibility="public")
    assert api.json("DELETE", f"/v2/images/{image['id']}", **STRANGER).status_int == 403
    assert api.json("DELETE", f"/v2/images/{image['id']}", **librarian).status_int == 204


# -- lost on the way -----------------------------------------------------------------------------


def test_json_for_version_1_is_told_where_version_2_is(api, make_v1):
    headers = {"Content-Type": "application/json"}
    for path in ("/images", "/v1/images"):
        refused = api("POST", path, headers, b'{"name": "x"}', **OWNER)
        assert refused.status_int == 400
        assert "/v2" in refused.text
    alone = make_v1()("POST", "/v1/images", headers, b'{"name": "x"}', **OWNER)
    assert alone.status_int == 400
    assert "/v2" not in alone.text
