"""The acceptance list of the REST API: who sees and changes what (line 9), sharing (line 11)."""

import itertools

import pytest

from support import daemons
from support.rawhttp import ADMIN, identity

OCTETS = {"Content-Type": "application/octet-stream"}

CALLERS = {
    "anon": identity(None),
    "other": identity("other"),
    "member": identity("member"),
    "sharer": identity("sharer"),
    "owner": identity("owner"),
    "admin": ADMIN,
}
# Kind of image -> (owner, is_public). For the last two, "owner" stands for a former owner.
KINDS = {
    "public": ("owner", "true"),
    "private": ("owner", "false"),
    "ownerless-public": ("", "true"),
    "ownerless-private": ("", "false"),
}


@pytest.fixture(scope="module")
def http(tmp_path_factory):
    directory = tmp_path_factory.mktemp("sharing")
    anonymous = {"allow_anonymous_access": True}
    options = {"auth_mode": "trusted-headers", "workers": 2, "api": anonymous}
    with daemons.Site(directory, **options, registry=anonymous) as site:
        yield site.http


def make(http, kind, *, data=b"data", shared=True):
    """Make an image of a kind, shared with member and sharer; return its id."""
    owner, public = KINDS[kind]
    headers = {**ADMIN, "x-image-meta-owner": owner, "x-image-meta-is-public": public}
    reply = http.post("/v1/images", {**headers, **(OCTETS if data else {})}, data)
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
def images(http):
    """Kind -> id of an image that tests only look at."""
    return {kind: make(http, kind) for kind in KINDS}


def cells(table):
    """Yield (kind, caller, expected) from a table kind -> expected for each of CALLERS."""
    return [
        (kind, caller, value)
        for kind, row in table.items()
        for caller, value in zip(CALLERS, row.split(), strict=True)
    ]


# -- line 9 --------------------------------------------------------------------------------------

#                         anon other member sharer owner admin
LISTED = {
    "public":            "y    y     y      y      y     y",
    "private":           "n    n     y      y      y     n",
    "ownerless-public":  "y    y     y      y      y     y",
    "ownerless-private": "n    n     y      y      n     n",
}  # fmt: skip

VISIBLE = {
    "public":            "200  200   200    200    200   200",
    "private":           "404  404   200    200    200   200",
    "ownerless-public":  "200  200   200    200    200   200",
    "ownerless-private": "200  200   200    200    200   200",
}  # fmt: skip

CHANGED = {
    "public":            "403  404   404    404    200   200",
    "private":           "403  404   404    404    200   200",
    "ownerless-public":  "403  404   404    404    404   200",
    "ownerless-private": "403  404   404    404    404   200",
}  # fmt: skip

# Who may not change an image is not told that it has data already.
REFILLED = {kind: row.replace("200", "409") for kind, row in CHANGED.items()}

MEMBERS_CHANGED = {
    "public":            "403  404   404    204    204   204",
    "private":           "403  404   404    204    204   204",
    "ownerless-public":  "403  404   404    204    404   204",
    "ownerless-private": "403  404   404    204    404   204",
}  # fmt: skip

# Which entries of the member list are shown: all, one's own, none; or 404.
MEMBERS_SHOWN = {
    "public":            "none none  member sharer all   all",
    "private":           "404  404   member sharer all   all",
    "ownerless-public":  "none none  member sharer none  all",
    "ownerless-private": "none none  member sharer none  all",
}  # fmt: skip


def ids(http, path, caller):
    reply = http.get(path, caller)
    assert reply.status == 200
    return {image["id"] for image in reply.json()["images"]}


@pytest.mark.parametrize(("kind", "caller", "expected"), cells(LISTED))
@pytest.mark.parametrize("path", ["/v1/images", "/v1/images/detail"])
def test_line_9_lists(http, images, path, kind, caller, expected):
    assert (images[kind] in ids(http, f"{path}?limit=1000", CALLERS[caller])) == (expected == "y")


@pytest.mark.parametrize(
    ("value", "kinds"),
    [("none", KINDS), ("false", ["private", "ownerless-private"]), ("true", ["public"])],
)
def test_line_9_an_admin_lists_what_is_public_asks_for(http, images, value, kinds):
    listed = ids(http, f"/v1/images?limit=1000&is_public={value}", ADMIN)
    assert {images[kind] for kind in kinds} <= listed
    if value != "none":
        assert images["private" if value == "true" else "public"] not in listed


@pytest.mark.parametrize(("kind", "caller", "expected"), cells(VISIBLE))
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_line_9_head_and_get(http, images, method, kind, caller, expected):
    reply = http.request(method, f"/v1/images/{images[kind]}", CALLERS[caller])
    assert reply.status == int(expected)
    if reply.status == 200:
        assert reply.body == (b"data" if method == "GET" else b"")
        # Where the data lies is shown to admins only.
        assert ("location" in reply.meta()) == (caller == "admin")


@pytest.mark.parametrize(("kind", "caller", "expected"), cells(MEMBERS_SHOWN))
def test_line_9_get_members(http, images, kind, caller, expected):
    reply = http.get(f"/v1/images/{images[kind]}/members", CALLERS[caller])
    if expected == "404":
        assert reply.status == 404
        return
    shown = {entry["member_id"] for entry in reply.json()["members"]}
    everybody = {"all": {"member", "sharer"}, "none": set()}
    assert shown == everybody.get(expected, {expected})


@pytest.mark.parametrize(("kind", "caller", "expected"), cells(CHANGED))
def test_line_9_put_metadata(http, images, kind, caller, expected):
    headers = {**CALLERS[caller], "x-image-meta-property-touched-by": caller}
    assert http.put(f"/v1/images/{images[kind]}", headers).status == int(expected)


@pytest.mark.parametrize(("kind", "caller", "expected"), cells(REFILLED))
def test_line_9_put_data_into_an_active_image(http, images, kind, caller, expected):
    headers = {**CALLERS[caller], **OCTETS}
    assert http.put(f"/v1/images/{images[kind]}", headers, b"new").status == int(expected)
    assert http.get(f"/v1/images/{images[kind]}", ADMIN).body == b"data"


@pytest.mark.parametrize(("kind", "caller", "expected"), cells(CHANGED))
def test_line_9_put_data_into_a_queued_image(http, kind, caller, expected):
    url = f"/v1/images/{make(http, kind, data=b'')}"
    assert http.put(url, {**CALLERS[caller], **OCTETS}, b"new").status == int(expected)
    wanted = "active" if expected == "200" else "queued"
    assert http.head(url, ADMIN).meta()["status"] == wanted


@pytest.mark.parametrize(("kind", "caller", "expected"), cells(CHANGED))
def test_line_9_delete(http, kind, caller, expected):
    url = f"/v1/images/{make(http, kind)}"
    assert http.delete(url, CALLERS[caller]).status == int(expected)
    assert http.get(url, ADMIN).status == (404 if expected == "200" else 200)


@pytest.mark.parametrize(("kind", "caller", "expected"), cells(MEMBERS_CHANGED))
def test_line_9_member_writes(http, kind, caller, expected):
    url = f"/v1/images/{make(http, kind)}/members"
    headers, status = CALLERS[caller], int(expected)
    assert http.put(f"{url}/guest", headers).status == status
    assert http.delete(f"{url}/guest", headers).status == status
    # The last: it removes whoever makes it from the members.
    assert http.put_json(url, {"memberships": []}, headers).status == status


@pytest.mark.parametrize("caller", CALLERS)
def test_line_9_who_can_only_read_is_refused_before_anything_is_looked_up(http, caller):
    headers = CALLERS[caller]
    for method, path in itertools.product(
        ("PUT", "DELETE"), ("/v1/images/987654", "/v1/images/987654/members/m")
    ):
        wanted = 403 if caller == "anon" else 404
        assert http.request(method, path, headers).status == wanted
    created = http.post("/v1/images", headers).status
    assert created == (403 if caller == "anon" else 201)


@pytest.mark.parametrize(
    ("caller", "member", "shown"),
    [
        ("anon", "member", False),
        ("other", "member", False),
        ("member", "member", True),
        ("member", "sharer", False),
        ("sharer", "member", False),
        ("owner", "member", True),
        ("admin", "member", True),
    ],
)
def test_line_9_shared_images_show_what_concerns_the_caller(http, images, caller, member, shown):
    reply = http.get(f"/v1/shared-images/{member}", CALLERS[caller])
    assert reply.status == 200
    listed = [entry["image_id"] for entry in reply.json()["shared_images"]]
    assert (images["private"] in listed) == shown


@pytest.mark.parametrize("caller", [name for name in CALLERS if name != "anon"])
def test_line_9_a_protected_image_is_kept_from_everybody_who_could_delete_it(http, caller):
    image_id = make(http, "public")
    url = f"/v1/images/{image_id}"
    assert http.put(url, {**ADMIN, "x-image-meta-protected": "true"}).status == 200
    wanted = 403 if caller in ("owner", "admin") else 404
    assert http.delete(url, CALLERS[caller]).status == wanted
    assert http.put(url, {**ADMIN, "x-image-meta-protected": "false"}).status == 200
    assert http.delete(url, ADMIN).status == 200


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


def test_line_11_the_chain_of_sharing(http):
    owner, friend, third, fourth = (identity(f"chain{number}") for number in range(1, 5))
    url = f"/v1/images/{http.add(b'data', owner).json()['image']['id']}"
    members = f"{url}/members"
    seen = lambda *callers: [http.get(url, caller).status for caller in callers]  # noqa: E731

    assert seen(owner, friend, third, fourth) == [200, 404, 404, 404]
    may_share = {"member": {"can_share": True}}
    assert http.put_json(f"{members}/chain2", may_share, owner).status == 204
    assert seen(owner, friend, third, fourth) == [200, 200, 404, 404]
    assert http.put(f"{members}/chain3", friend).status == 204
    assert seen(owner, friend, third, fourth) == [200, 200, 200, 404]
    # A member who may not share is refused as if there were no image, and told why.
    refused = http.put(f"{members}/chain4", third)
    assert (refused.status, seen(fourth)) == (404, [404])
    assert "share" in refused.text
    # Nor does a membership, whatever it allows, make one an owner.
    assert http.put(url, friend).status == http.delete(url, friend).status == 404

    # Replace: only those named stay. The one who may share replaces, too.
    assert http.put_json(members, {"memberships": [{"member_id": "chain4"}]}, friend).status == 204
    assert seen(owner, friend, third, fourth) == [200, 404, 404, 200]
    listed = http.get(members, owner).json()["members"]
    assert listed == [{"member_id": "chain4", "can_share": False}]

    # Revoke, twice: the second time there is nothing to do.
    for _ in range(2):
        assert http.delete(f"{members}/chain4", owner).status == 204
    assert seen(owner, friend, third, fourth) == [200, 404, 404, 404]
    assert http.get(members, owner).json() == {"members": []}
    shared = http.get("/v1/shared-images/chain4", fourth)
    assert shared.json() == {"shared_images": []}

    # Revive: without a word on sharing the right to share does not come back.
    assert http.put(f"{members}/chain2", owner).status == 204
    assert seen(friend) == [200]
    assert http.get(members, friend).json()["members"] == [
        {"member_id": "chain2", "can_share": False}
    ]
    assert http.put(f"{members}/chain3", friend).status == 404
    image_id = int(url.rpartition("/")[2])
    assert http.get("/v1/shared-images/chain2", friend).json() == {
        "shared_images": [{"image_id": image_id, "can_share": False}]
    }


def test_line_11_a_removed_member_cannot_share_a_public_image(http):
    owner, friend = identity("owner"), identity("friend")
    url = f"/v1/images/{http.add(b'x', owner, is_public='true').json()['image']['id']}/members"
    assert http.put_json(f"{url}/friend", {"member": {"can_share": True}}, owner).status == 204
    assert http.put(f"{url}/guest", friend).status == 204
    assert http.delete(f"{url}/friend", owner).status == 204
    assert http.put(f"{url}/guest2", friend).status == 404


def test_line_11_adding_without_a_word_on_sharing_leaves_a_member_as_it_is(http):
    url = f"/v1/images/{make(http, 'private', shared=False)}/members"
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
    url = f"/v1/images/{make(http, 'private')}/members"
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
def test_line_11_a_bad_replacement_is_400_and_changes_nothing(http, images, body):
    url = f"/v1/images/{images['private']}/members"
    before = http.get(url, ADMIN).json()
    assert http.put(url, identity("owner"), body).status == 400
    assert http.get(url, ADMIN).json() == before


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"7", b"null", b'{"member": 5}', b'{"member": {"can_share": "perhaps"}}'],
)
def test_line_11_a_bad_body_for_one_member_is_400(http, images, body):
    url = f"/v1/images/{images['private']}/members"
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
