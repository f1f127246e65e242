"""Who may see, change and share what, through both services."""

import json

import pytest

from tests.unit.api.conftest import PAYLOAD, Api, Registry

URL = "/v1/images"
OWNER = {"tenant": "owner", "user": "u", "roles": "member"}
OTHER = {"tenant": "other", "user": "u", "roles": "member"}
MEMBER = {"tenant": "member", "user": "u", "roles": "member"}
SHARER = {"tenant": "sharer", "user": "u", "roles": "member"}
ADMIN = {"tenant": "root", "user": "u", "roles": "Admin"}
ANONYMOUS: dict[str, str] = {}
CALLERS = {
    "owner": OWNER,
    "other": OTHER,
    "member": MEMBER,
    "sharer": SHARER,
    "admin": ADMIN,
    "anonymous": ANONYMOUS,
}


@pytest.fixture
def registry(tmp_path, template):
    server = Registry(
        tmp_path, template, auth_mode="trusted-headers", allow_anonymous_access="True"
    )
    yield server
    server.stop()


@pytest.fixture
def api(registry, tmp_path):
    return Api(
        registry,
        tmp_path,
        auth_mode="trusted-headers",
        allow_anonymous_access="True",
        policy_choose_id="anyone",
    )


def create(api, kind, public):
    headers = {"x-image-meta-id": "5", "x-image-meta-is_public": str(public)}
    if kind == "ownerless":
        headers["x-image-meta-owner"] = "null"
    caller = ADMIN if kind == "ownerless" else OWNER
    assert api("POST", URL, headers, PAYLOAD, **caller).status_int == 201
    for member, can_share in (("member", False), ("sharer", True)):
        body = json.dumps({"member": {"can_share": can_share}}).encode()
        path = f"{URL}/5/members/{member}"
        assert api("PUT", path, None, body, **ADMIN).status_int == 204


READERS = {
    ("owned", True): set(CALLERS),
    ("owned", False): {"owner", "member", "sharer", "admin"},
    ("ownerless", True): set(CALLERS),
    ("ownerless", False): set(CALLERS),
}
LISTED = {
    ("owned", True): set(CALLERS),
    ("owned", False): {"owner", "member", "sharer"},
    ("ownerless", True): set(CALLERS),
    ("ownerless", False): {"member", "sharer"},
}


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(("kind", "public"), READERS)
def test_reading(api, kind, public, caller):
    create(api, kind, public)
    who = CALLERS[caller]
    expected = 200 if caller in READERS[kind, public] else 404
    assert api("HEAD", URL + "/5", **who).status_int == expected
    assert api("GET", URL + "/5", **who).status_int == expected
    for method in ("HEAD", "GET"):
        assert api(method, URL + "/5/file", **who).status_int == expected
    assert api("GET", URL + "/5/members", **who).status_int == expected
    listed = [image["id"] for image in api("GET", URL, **who).json["images"]]
    assert listed == ([5] if caller in LISTED[kind, public] else [])


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(("kind", "public"), READERS)
def test_writing(api, kind, public, caller):
    create(api, kind, public)
    who = CALLERS[caller]
    may = caller == "admin" or (caller == "owner" and kind == "owned")
    expected = 403 if caller == "anonymous" else 200 if may else 404
    with_data = 409 if expected == 200 else expected
    assert api("PUT", URL + "/5", None, b"other", **who).status_int == with_data
    name = {"x-image-meta-name": "n"}
    assert api("PUT", URL + "/5", name, **who).status_int == expected
    may_share = may or caller == "sharer"
    share = 403 if caller == "anonymous" else 204 if may_share else 404
    assert api("PUT", URL + "/5/members/x", **who).status_int == share
    assert api("DELETE", URL + "/5/members/x", **who).status_int == share
    assert api("DELETE", URL + "/5", **who).status_int == expected


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("HEAD", "", None),
        ("GET", "", None),
        ("PUT", "", None),
        ("PUT", "", b"data"),
        ("DELETE", "", None),
        ("GET", "/members", None),
        ("PUT", "/members", b"[]"),
        ("PUT", "/members/x", None),
        ("DELETE", "/members/x", None),
    ],
)
def test_anothers_image_costs_what_one_costs_that_does_not_exist(
    api, registry, method, path, body
):
    """Who measures times learns nothing: the registry is asked the same, as often."""
    create(api, "owned", False)
    asked = []
    for number in ("5", "6"):
        registry.calls.clear()
        assert api(method, f"{URL}/{number}{path}", None, body, **OTHER).status_int == 404
        asked.append([(verb, place.replace(number, "ID")) for verb, place in registry.calls])
    assert asked[0] == asked[1]
    assert len(asked[0]) == 1


def test_without_a_confirmed_identity_there_is_no_access(registry, tmp_path):
    api = Api(registry, tmp_path, auth_mode="keystone")
    assert api("GET", URL).status_int == 401
    assert api("GET", URL, {"X-Auth-Token": "t", "X-Roles": "admin"}).status_int == 401


def test_an_ordinary_caller_cannot_choose_the_owner(api):
    image = api("POST", URL, {"x-image-meta-owner": "victim"}, **OWNER).json["image"]
    assert image["owner"] == "owner"
    path = f"{URL}/{image['id']}"
    changed = api("PUT", path, {"x-image-meta-owner": "victim"}, **OWNER)
    assert (changed.status_int, changed.json["image"]["owner"]) == (200, "owner")


@pytest.mark.parametrize("word", ["", "null", "NULL"])
def test_an_admin_sets_and_clears_the_owner(api, word):
    image = api("POST", URL, {"x-image-meta-owner": "someone"}, **ADMIN).json["image"]
    assert image["owner"] == "someone"
    path = f"{URL}/{image['id']}"
    changed = api("PUT", path, {"x-image-meta-owner": word}, **ADMIN).json["image"]
    assert changed["owner"] is None


def test_the_location_is_hidden_from_the_owner(api):
    image = api("POST", URL, None, PAYLOAD, **OWNER).json["image"]
    assert "location" not in image
    assert "x-image-meta-location" not in api("HEAD", f"{URL}/{image['id']}", **OWNER).headers
    assert "x-image-meta-location" in api("HEAD", f"{URL}/{image['id']}", **ADMIN).headers


def test_an_owner_cannot_change_size_and_checksum_of_an_active_image(api):
    image = api("POST", URL, None, PAYLOAD, **OWNER).json["image"]
    path = f"{URL}/{image['id']}"
    for header in ({"x-image-meta-size": "1"}, {"x-image-meta-checksum": "0" * 32}):
        assert api("PUT", path, header, **OWNER).status_int == 403
    same = {"x-image-meta-size": "5120", "x-image-meta-checksum": image["checksum"]}
    assert api("PUT", path, same, **OWNER).status_int == 200


def test_a_marker_that_the_caller_may_not_see_is_as_unknown(api):
    hidden = api("POST", URL, **OWNER).json["image"]["id"]
    seen = api("GET", f"{URL}?marker={hidden}", **OTHER)
    unknown = api("GET", f"{URL}?marker=999", **OTHER)
    assert seen.status_int == unknown.status_int == 400
    assert seen.text.replace(str(hidden), "") == unknown.text.replace("999", "")


# -- members --------------------------------------------------------------------------------------


def share(api, member, can_share=None, caller=OWNER, image=5):
    body = None if can_share is None else json.dumps({"member": {"can_share": can_share}}).encode()
    return api("PUT", f"{URL}/{image}/members/{member}", None, body, **caller).status_int


def members(api, caller=OWNER):
    found = api("GET", URL + "/5/members", **caller).json["members"]
    return {entry["member_id"]: entry["can_share"] for entry in found}


@pytest.fixture
def private(api):
    assert api("POST", URL, {"x-image-meta-id": "5"}, PAYLOAD, **OWNER).status_int == 201


@pytest.mark.usefixtures("private")
class TestMembers:
    def test_a_chain_of_sharing(self, api):
        assert share(api, "sharer", True) == 204
        assert share(api, "member", caller=SHARER) == 204
        assert api("GET", URL + "/5", **MEMBER).status_int == 200
        assert share(api, "other", caller=MEMBER) == 404
        assert api("GET", URL + "/5", **OTHER).status_int == 404

    def test_a_revoked_member_sees_nothing_and_can_be_revived(self, api):
        share(api, "member", True)
        assert api("DELETE", URL + "/5/members/member", **OWNER).status_int == 204
        assert api("HEAD", URL + "/5", **MEMBER).status_int == 404
        assert share(api, "member") == 204
        assert members(api) == {"member": False}

    def test_replace(self, api):
        share(api, "a", True)
        share(api, "b", True)
        body = json.dumps({"memberships": [{"member_id": "a"}, {"member_id": "c"}]}).encode()
        assert api("PUT", URL + "/5/members", None, body, **OWNER).status_int == 204
        assert members(api) == {"a": True, "c": False}

    @pytest.mark.parametrize(
        ("document", "expected"),
        [
            ([{"member_id": "a", "can_share": True}], {"a": True}),
            ({"member_id": "a"}, {"a": False}),
            ({"memberships": []}, {}),
            ({"memberships": [{"member_id": "a", "can_share": "true"}]}, {"a": True}),
        ],
    )
    def test_forms_of_a_replacement(self, api, document, expected):
        body = json.dumps(document).encode()
        assert api("PUT", URL + "/5/members", None, body, **OWNER).status_int == 204
        assert members(api) == expected

    @pytest.mark.parametrize(
        "body",
        [
            None,
            b"{",
            b'"x"',
            b"5",
            b'{"memberships": {}}',
            b'{"memberships": [5]}',
            b'{"memberships": [{"can_share": true}]}',
            b'{"memberships": [{"member_id": 5}]}',
            b'{"memberships": [{"member_id": "a"}, {"member_id": "a"}]}',
            b'{"memberships": [{"member_id": "a", "can_share": "maybe"}]}',
            b'{"memberships": [{"member_id": "a", "can_share": 1}]}',
        ],
    )
    def test_a_bad_replacement_changes_nothing(self, api, body):
        share(api, "keep")
        assert api("PUT", URL + "/5/members", None, body, **OWNER).status_int == 400
        assert members(api) == {"keep": False}

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"{", 400),
            (b"[]", 400),
            (b'{"member": 5}', 400),
            (b'{"member": {"can_share": "x"}}', 400),
            (b'{"member": {}}', 204),
            (b'{"other": {}}', 204),
            (b'{"member": {"can_share": "True"}}', 204),
        ],
    )
    def test_bodies_of_one_membership(self, api, body, status):
        path = URL + "/5/members/a"
        assert api("PUT", path, None, body, **OWNER).status_int == status

    def test_a_member_sees_only_its_own_entry(self, api):
        share(api, "member")
        share(api, "sharer", True)
        assert members(api, MEMBER) == {"member": False}
        assert members(api, SHARER) == {"sharer": True}
        assert members(api, OWNER) == members(api, ADMIN) == {"member": False, "sharer": True}

    def test_shared_images(self, api):
        share(api, "member", True)
        expected = [{"image_id": 5, "can_share": True}]
        for caller, shown in (
            (MEMBER, expected),
            (OWNER, expected),
            (ADMIN, expected),
            (OTHER, []),
        ):
            answer = api("GET", "/v1/shared-images/member", **caller)
            assert answer.json == {"shared_images": shown}

    @pytest.mark.parametrize(
        ("quoted", "name"),
        [
            ("a%20b", "a b"),
            ("a%3Fb", "a?b"),
            ("a%23b", "a#b"),
            ("a%2525", "a%25"),
            ("%C3%A9", "é"),
        ],
    )
    def test_odd_member_names_are_plain_text(self, api, quoted, name):
        assert share(api, quoted) == 204
        assert members(api) == {name: False}
        assert api("DELETE", f"{URL}/5/members/{quoted}", **OWNER).status_int == 204
        assert members(api) == {}

    def test_methods_that_are_not_routed(self, api):
        response = api("GET", URL + "/5/members/a", **OWNER)
        assert (response.status_int, response.headers["Allow"]) == (405, "DELETE, PUT")
        response = api("POST", URL + "/5/members", **OWNER)
        assert (response.status_int, response.headers["Allow"]) == (405, "GET, PUT")

    def test_the_quota_of_members(self, api):
        many = [{"member_id": str(number)} for number in range(129)]
        body = json.dumps(many).encode()
        assert api("PUT", URL + "/5/members", None, body, **OWNER).status_int == 413


def test_an_owner_cannot_store_more_than_the_quota(tmp_path, template):
    options = {"auth_mode": "trusted-headers", "policy_choose_id": "anyone"}
    server = Registry(tmp_path, template, user_storage_quota="10000", **options)
    try:
        api = Api(server, tmp_path, **options)
        assert api("POST", URL, {"x-image-meta-id": "1"}, PAYLOAD, **OWNER).status_int == 201
        for image_id, headers in ((2, {"x-image-meta-size": "5120"}), (3, {})):
            named = {"x-image-meta-id": str(image_id), **headers}
            refused = api("POST", URL, named, PAYLOAD, **OWNER)
            assert refused.status_int == 413
            assert "10000" in refused.text
            head = api("HEAD", f"{URL}/{image_id}", **OWNER)
            assert head.headers["x-image-meta-status"] == "killed"
        assert api.files() == ["1"]
        assert api("POST", URL, {"x-image-meta-id": "4"}, PAYLOAD, **OTHER).status_int == 201
        assert api("DELETE", URL + "/1", **OWNER).status_int == 200
        assert api("POST", URL, {"x-image-meta-id": "5"}, PAYLOAD, **OWNER).status_int == 201
    finally:
        server.stop()


def test_formats_are_the_operators_choice(tmp_path, template):
    server = Registry(tmp_path, template, disk_formats="raw, vhdx", container_formats="bare ova")
    try:
        api = Api(server, tmp_path)
        good = {"x-image-meta-disk_format": "vhdx", "x-image-meta-container_format": "ova"}
        assert api("POST", URL, good).status_int == 201
        refused = api("POST", URL, {"x-image-meta-disk_format": "qcow2"})
        assert refused.status_int == 400
        assert "vhdx" in refused.text
    finally:
        server.stop()
