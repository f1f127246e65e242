"""The acceptance list of the REST API: sharing (line 11), and how callers are told apart.

Who sees and changes what (line 9) is in test_decision_table, with the chain of sharing.
"""

import pytest

from support import daemons
from support.rawhttp import ADMIN, identity


@pytest.fixture(scope="module")
def http(tmp_path_factory):
    directory = tmp_path_factory.mktemp("sharing")
    anonymous = {"allow_anonymous_access": True}
    options = {"auth_mode": "trusted-headers", "workers": 2, "api": anonymous}
    with daemons.Site(directory, **options, registry=anonymous) as site:
        yield site.http


def make(http, *, shared=True):
    """Make a private image of owner, shared with member and sharer; return its id."""
    reply = http.add(b"data", ADMIN, owner="owner")
    assert reply.status == 201, reply
    image_id = reply.json()["image"]["id"]
    if shared:
        members = [
            {"member_id": "member", "can_share": False},
            {"member_id": "sharer", "can_share": True},
        ]
        assert http.put_json(f"/v1/images/{image_id}/members", members, ADMIN).status == 204
    return image_id


@pytest.fixture(scope="module")
def image_id(http):
    """An image that tests only look at."""
    return make(http)


# -- callers -------------------------------------------------------------------------------------


def test_without_anonymous_access_a_caller_nobody_confirmed_is_401(trusted_site):
    unconfirmed = [
        {},
        {"X-Auth-Token": "t", "X-Tenant-Id": "t", "X-Roles": "admin"},
        {**ADMIN, "X-Identity-Status": "Invalid"},
        {**ADMIN, "X-Identity-Status": "confirmed"},
        {
            **{k: v for k, v in ADMIN.items() if "Status" not in k},
            "X_Identity_Status": "Confirmed",
        },
    ]
    for headers in unconfirmed:
        for method, path in (
            ("GET", "/v1/images"),
            ("POST", "/v1/images"),
            ("PUT", "/v1/images/1"),
        ):
            reply = trusted_site.http.request(method, path, headers)
            assert (reply.status, reply.text.splitlines()[0]) == (401, "401 Unauthorized")
    # The version document is for everybody.
    assert trusted_site.http.get("/").status == 300


def test_identity_headers_mean_nothing_without_authentication(site):
    image = site.http.post("/v1/images", identity("tenant1")).json()["image"]
    assert image["owner"] is None
    url = f"/v1/images/{image['id']}"
    # Diablo's manual shares without any credentials.
    assert site.http.put(f"{url}/members/tenant2", identity("tenant1")).status == 204
    assert site.http.delete(url, identity("nobody", roles="none")).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Auth-Token": "any"},
        identity("tenant1"),
        {**identity("tenant1"), "X-Identity-Status": "Invalid"},
        {"X-Auth-Token": "any", "X-Roles": "nothing"},
    ],
    ids=["no token", "a token", "an identity", "no identity", "a role"],
)
def test_without_authentication_everybody_may_do_everything(site, headers):
    http = site.http
    kinds = [("", "true"), ("", "false"), ("tenant2", "true"), ("tenant2", "false")]
    for owner, public in kinds:
        named = {**headers, "x-image-meta-owner": owner}
        image = http.add(b"data", named, is_public=public).json()["image"]
        assert image["owner"] == (owner or None)
        url = f"/v1/images/{image['id']}"
        assert http.head(url, headers).status == 200
        assert http.get(url, headers).body == b"data"
        listed = http.get("/v1/images?limit=1000", headers).json()["images"]
        assert (image["id"] in [entry["id"] for entry in listed]) == (public == "true")
        listed = http.get("/v1/images?limit=1000&is_public=none", headers).json()["images"]
        assert image["id"] in [entry["id"] for entry in listed]
        assert http.put(url, {**headers, "x-image-meta-name": "new"}).status == 200
        assert http.put(f"{url}/members/m", headers).status == 204
        assert http.get(f"{url}/members", headers).json()["members"][0]["member_id"] == "m"
        shared = http.get("/v1/shared-images/m", headers).json()["shared_images"]
        assert {"image_id": image["id"], "can_share": False} in shared
        assert http.put_json(f"{url}/members", {"memberships": []}, headers).status == 204
        assert http.delete(f"{url}/members/m", headers).status == 204
        assert http.delete(url, headers).status == 200


@pytest.mark.parametrize(
    "names",
    [
        ("X-User-Id", "X-Tenant-Id", "X-Roles"),
        ("X-User", "X-Tenant", "X-Role"),
        ("X-User", "X-Project-Id", "X-Roles"),
    ],
)
@pytest.mark.parametrize("role", ["admin", "Admin", "member, ADMIN"])
def test_both_families_of_identity_headers_are_understood(http, names, role):
    values = dict(zip(names, ("someone", "tenant9", role), strict=True))
    headers = {"X-Identity-Status": "Confirmed", **values}
    image = http.post("/v1/images", headers).json()["image"]
    assert image["owner"] == "tenant9"
    given = http.post("/v1/images", {**headers, "x-image-meta-owner": "tenant8"}).json()["image"]
    assert given["owner"] == "tenant8"


# -- line 11 -------------------------------------------------------------------------------------


def test_line_11_adding_without_a_word_on_sharing_leaves_a_member_as_it_is(http):
    url = f"/v1/images/{make(http, shared=False)}/members"
    assert http.put_json(f"{url}/m", {"member": {"can_share": "true"}}, ADMIN).status == 204
    for body in (None, {}, {"other": 1}, {"member": {}}):
        sent = (
            http.put(f"{url}/m", ADMIN) if body is None else http.put_json(f"{url}/m", body, ADMIN)
        )
        assert sent.status == 204
        assert http.get(url, ADMIN).json()["members"] == [{"member_id": "m", "can_share": True}]
    assert http.put_json(f"{url}/m", {"member": {"can_share": False}}, ADMIN).status == 204
    assert http.get(url, ADMIN).json()["members"] == [{"member_id": "m", "can_share": False}]


@pytest.mark.parametrize(
    "body",
    [
        [{"member_id": "a", "can_share": True}],
        {"memberships": [{"member_id": "a", "can_share": True}]},
        {"member_id": "a", "can_share": True},
    ],
)
def test_line_11_shipped_clients_forms_of_a_replacement_are_taken(http, body):
    url = f"/v1/images/{make(http)}/members"
    assert http.put_json(url, body, identity("owner")).status == 204
    members = http.get(url, identity("owner")).json()["members"]
    assert members == [{"member_id": "a", "can_share": True}]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"\xff", b"null", b"7", b'"a"', b"{}", b'[{"can_share": true}]', b'["a"]'),
        *(b'{"memberships": null}', b'{"memberships": "a"}', b'{"memberships": [7]}'),
        b'[{"member_id": "a"}, {"member_id": "b"}, {"member_id": "a"}]',
        *(b'[{"member_id": ""}]', b'[{"member_id": 5}]', b'[{"member_id": "a\\u0000"}]'),
        *(b'[{"member_id": "a", "can_share": "perhaps"}]', b'[{"member_id": "\\ud800"}]'),
        b'[{"member_id": "%s"}]' % (b"a" * 256),
        b"[" * 100_000,
    ],
    ids=lambda body: body[:30].decode("latin-1"),
)
def test_line_11_a_bad_replacement_is_400_and_changes_nothing(http, image_id, body):
    url = f"/v1/images/{image_id}/members"
    before = http.get(url, ADMIN).json()
    assert http.put(url, identity("owner"), body).status == 400
    assert http.get(url, ADMIN).json() == before


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"7", b"null", b'{"member": 5}', b'{"member": {"can_share": "perhaps"}}'],
)
def test_line_11_a_bad_body_for_one_member_is_400(http, image_id, body):
    url = f"/v1/images/{image_id}/members"
    assert http.put(f"{url}/badly", identity("owner"), body).status == 400
    names = [entry["member_id"] for entry in http.get(url, ADMIN).json()["members"]]
    assert "badly" not in names


def test_line_11_more_members_than_the_quota_are_413(make_site):
    http = make_site(registry={"image_member_quota": 2}).http
    url = f"/v1/images/{http.add(b'x').json()['image']['id']}/members"
    many = [{"member_id": name} for name in "abc"]
    assert http.put_json(url, many).status == 413
    assert http.put_json(url, many[:2]).status == 204
    assert http.put(f"{url}/c").status == 413
    assert http.put(f"{url}/a").status == 204
    assert len(http.get(url).json()["members"]) == 2
