"""Members by version 2: who sees them, who adds them, and what they say to it."""

import re

import pytest

from tests.unit.api.conftest import PAYLOAD
from tests.unit.api.v2.both import ADMIN, CALLERS, MEMBER, OTHER, OWNER, STRANGER, UNKNOWN

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture
def registry_options():
    return {"image_member_quota": "3"}


def members_of(image):
    return f"{image['self']}/members"


def add(api, image, member, caller=OWNER):
    return api.json("POST", members_of(image), {"member": member}, **caller)


def say(api, image, member, status, caller):
    return api.json("PUT", f"{members_of(image)}/{member}", {"status": status}, **caller)


@pytest.fixture
def image(api):
    """An image that is shared with two members."""
    made = api.make(PAYLOAD, OWNER, name="shared one")
    for member in ("member", "other"):
        assert add(api, made, member).status_int == 200
    return made


# -- reading -------------------------------------------------------------------------------------


def test_a_membership_as_it_is_shown(api):
    image = api.make(None, OWNER)
    shown = add(api, image, "member").json
    times = shown.pop("created_at"), shown.pop("updated_at")
    assert all(TIME.fullmatch(time) for time in times)
    assert shown == {
        "image_id": image["id"],
        "member_id": "member",
        "status": "pending",
        "schema": "/v2/schemas/member",
    }
    document = api("GET", members_of(image), **OWNER).json
    assert document["schema"] == "/v2/schemas/members"
    assert [one["member_id"] for one in document["members"]] == ["member"]
    assert document["members"][0] == {**shown, "created_at": times[0], "updated_at": times[1]}


@pytest.mark.parametrize(
    ("caller", "seen"),
    [
        ("owner", ["member", "other"]),
        ("admin", ["member", "other"]),
        ("member", ["member"]),
        ("other", ["other"]),
        ("stranger", None),
        ("anonymous", None),
    ],
)
def test_who_sees_which_members(api, image, caller, seen):
    response = api("GET", members_of(image), **CALLERS[caller])
    if seen is None:
        assert response.status_int == 404
    else:
        assert [one["member_id"] for one in response.json["members"]] == seen
    for member in ("member", "other", "nobody"):
        single = api("GET", f"{members_of(image)}/{member}", **CALLERS[caller])
        assert single.status_int == (200 if member in (seen or ()) else 404)


@pytest.mark.parametrize("visibility", ["private", "public", "community"])
@pytest.mark.parametrize("caller", ["owner", "admin"])
def test_only_shared_images_have_members(api, visibility, caller):
    image = api.make(None, OWNER, visibility=visibility)
    assert api("GET", members_of(image), **CALLERS[caller]).status_int == 403
    assert add(api, image, "member", CALLERS[caller]).status_int == 403


def test_others_who_see_an_image_do_not_see_its_members(api):
    image = api.make(None, OWNER, visibility="public")
    assert api("GET", members_of(image), **STRANGER).status_int == 403


# -- adding --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caller", "status"),
    [
        ("owner", 200),
        ("admin", 200),
        ("member", 403),
        ("stranger", 404),
        ("anonymous", 403),
    ],
)
def test_who_adds_members(api, image, caller, status):
    assert add(api, image, "third", CALLERS[caller]).status_int == status


NO_MEMBER = [
    b"",
    b"{",
    [],
    "member",
    {},
    {"member": None},
    {"member": ""},
    {"member": 5},
    {"member": ["m"]},
    {"member": "m" * 256},
    {"member": "a\nb"},
    {"members": "m"},
]


def test_a_body_that_names_no_member(api, image):
    for body in NO_MEMBER:
        assert api.json("POST", members_of(image), body, **OWNER).status_int == 400, body
    assert len(api("GET", members_of(image), **OWNER).json["members"]) == 2


def test_other_keys_of_the_body_are_ignored(api):
    image = api.make(None, OWNER)
    document = {"member": "é" * 255, "status": "accepted", "can_share": True}
    shown = api.json("POST", members_of(image), document, **OWNER).json
    assert (shown["member_id"], shown["status"]) == ("é" * 255, "pending")


def test_a_member_is_added_once(api, image):
    assert add(api, image, "member").status_int == 409


def test_there_is_a_quota_of_members(api, image):
    assert add(api, image, "third").status_int == 200
    assert add(api, image, "fourth").status_int == 413


# -- accepting -----------------------------------------------------------------------------------


def test_version_1_lists_what_is_pending_and_not_what_is_rejected(api, image):
    def names():
        return [one["name"] for one in api("GET", "/v1/images", **MEMBER).json["images"]]

    assert names() == ["shared one"]
    say(api, image, "member", "rejected", MEMBER)
    assert names() == []


@pytest.mark.parametrize(
    ("caller", "status"),
    [
        ("owner", 403),
        ("admin", 200),
        ("member", 200),
        ("other", 404),
        ("stranger", 404),
        ("anonymous", 403),
    ],
)
def test_who_accepts(api, image, caller, status):
    response = say(api, image, "member", "accepted", CALLERS[caller])
    assert response.status_int == status, response.text


def test_a_status_that_there_is_not(api, image):
    path = f"{members_of(image)}/member"
    for status in ("maybe", "Accepted", None, 1, ["accepted"]):
        assert api.json("PUT", path, {"status": status}, **MEMBER).status_int == 400
    for body in (b"", {}, [], "x"):
        assert api.json("PUT", path, body, **MEMBER).status_int == 400
    assert api("GET", path, **MEMBER).json["status"] == "pending"


def test_the_sdk_names_the_member_in_the_body_too(api, image):
    document = {"status": "accepted", "member": "member"}
    response = api.json("PUT", f"{members_of(image)}/member", document, **MEMBER)
    assert response.json["status"] == "accepted"


# -- removing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caller", "status"),
    [("owner", 204), ("admin", 204), ("member", 403), ("stranger", 404), ("anonymous", 403)],
)
def test_who_removes_members(api, image, caller, status):
    path = f"{members_of(image)}/member"
    assert api("DELETE", path, **CALLERS[caller]).status_int == status
    if status == 204:
        assert api("DELETE", path, **CALLERS[caller]).status_int == 404


def test_a_member_that_comes_back_is_pending(api, image):
    say(api, image, "member", "accepted", MEMBER)
    assert api("DELETE", f"{members_of(image)}/member", **OWNER).status_int == 204
    assert api("GET", image["self"], **MEMBER).status_int == 404
    assert add(api, image, "member").json["status"] == "pending"


# -- paths ---------------------------------------------------------------------------------------


def test_no_other_text_than_a_uuid_names_an_image(api):
    for text in ("7", "name", "0" * 36):
        path = f"/v2/images/{text}/members"
        assert api("GET", path, **ADMIN).status_int == 404
        assert api.json("POST", path, {"member": "m"}, **ADMIN).status_int == 404


def test_a_member_whose_name_is_encoded_in_the_path(api):
    image = api.make(None, OWNER)
    name = "a b ü%"
    assert add(api, image, name).json["member_id"] == name
    path = f"{members_of(image)}/a%20b%20%C3%BC%25"
    assert api("GET", path, **OWNER).json["member_id"] == name
    assert api("GET", path, **OTHER).status_int == 404
    assert api("DELETE", path, **OWNER).status_int == 204


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/members", "GET, OPTIONS, POST"),
        ("POST", "/members/m", "DELETE, GET, OPTIONS, PUT"),
    ],
)
def test_other_methods_are_refused(api, method, path, allowed):
    response = api(method, UNKNOWN + path, **OWNER)
    assert response.status_int == 405
    assert response.headers["Allow"] == allowed
