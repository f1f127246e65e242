"""Who sees, changes and shares what: the whole table of callers, kinds of images and operations.

Each cell is asked for over HTTP from real daemons, with each source of identity: a small stage
that sets headers, with images that belong to tenants and to users, and a real Keystone, whose
tokens both daemons check, or the API alone.
"""

import pytest

from support import identities

pytestmark = pytest.mark.full

OCTETS = {"Content-Type": "application/octet-stream"}

CALLERS = ("anon", "other", "member", "sharer", "owner", "admin")
# Kind of image -> (owner, is_public). For the last two, "owner" stands for a former owner.
KINDS = {
    "public": ("owner", "true"),
    "private": ("owner", "false"),
    "ownerless-public": (None, "true"),
    "ownerless-private": (None, "false"),
}


@pytest.fixture(scope="module", params=identities.params())
def source(request, tmp_path_factory):
    with identities.started(request.param, tmp_path_factory.mktemp("source")) as running:
        yield running


@pytest.fixture
def site(source):
    """The daemons, so that their logs are shown with a failure."""
    return source.site


@pytest.fixture
def http(site):
    return site.http


@pytest.fixture
def headers(source):
    """Return what a caller of the table sends."""
    return lambda caller: {} if caller == "anon" else source.caller(caller)


@pytest.fixture
def make(source):
    """Return a function that makes an image of a kind and returns its id."""
    http, admin = source.site.http, source.caller("admin")

    def make(kind, *, data=b"data", shared=True):
        """Make an image, shared with member and sharer."""
        owner, public = KINDS[kind]
        sent = {
            **admin,
            "x-image-meta-owner": source.owner(owner) if owner else "",
            "x-image-meta-is-public": public,
        }
        reply = http.post("/v1/images", {**sent, **(OCTETS if data else {})}, data)
        assert reply.status == 201, reply
        image_id = reply.json()["image"]["id"]
        if shared:
            members = [
                {"member_id": source.owner("member"), "can_share": False},
                {"member_id": source.owner("sharer"), "can_share": True},
            ]
            assert http.put_json(f"/v1/images/{image_id}/members", members, admin).status == 204
        return image_id

    return make


@pytest.fixture
def images(source, make):
    """Kind -> id of an image that tests only look at."""
    if not hasattr(source, "images"):
        source.images = {kind: make(kind) for kind in KINDS}
    return source.images


def cells(table):
    """Yield (kind, caller, expected) from a table kind -> expected for each of CALLERS."""
    return [
        (kind, caller, value)
        for kind, row in table.items()
        for caller, value in zip(CALLERS, row.split(), strict=True)
    ]


@pytest.fixture
def status_of(source):
    """Return the status that a cell stands for; strict sources know no anonymous callers."""
    return lambda caller, value: 401 if source.strict and caller == "anon" else int(value)


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


# -- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "caller", "expected"), cells(LISTED))
@pytest.mark.parametrize("path", ["/v1/images", "/v1/images/detail"])
def test_lists(http, headers, status_of, images, path, kind, caller, expected):
    reply = http.get(f"{path}?limit=1000", headers(caller))
    assert reply.status == status_of(caller, 200)
    if reply.status == 200:
        listed = {image["id"] for image in reply.json()["images"]}
        assert (images[kind] in listed) == (expected == "y")


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(
    ("value", "kinds"),
    [
        ("none", {*KINDS}),
        ("false", {"private", "ownerless-private"}),
        ("true", {"public", "ownerless-public"}),
    ],
)
def test_is_public_chooses_for_administrators_alone(
    http, headers, images, status_of, caller, value, kinds
):
    reply = http.get(f"/v1/images?limit=1000&is_public={value}", headers(caller))
    assert reply.status == status_of(caller, 200)
    if reply.status != 200:
        return
    listed = {image["id"] for image in reply.json()["images"]}
    if caller != "admin":
        kinds = {kind for kind, who, shown in cells(LISTED) if (who, shown) == (caller, "y")}
    assert {kind for kind in KINDS if images[kind] in listed} == kinds


@pytest.mark.parametrize(("kind", "caller", "expected"), cells(VISIBLE))
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_head_and_get(http, headers, status_of, images, method, kind, caller, expected):
    reply = http.request(method, f"/v1/images/{images[kind]}", headers(caller))
    assert reply.status == status_of(caller, expected)
    if reply.status == 200:
        assert reply.body == (b"data" if method == "GET" else b"")
        # Where the data lies is shown to admins only.
        assert ("location" in reply.meta()) == (caller == "admin")


@pytest.mark.parametrize(("kind", "caller", "expected"), cells(MEMBERS_SHOWN))
def test_get_members(source, http, headers, status_of, images, kind, caller, expected):
    reply = http.get(f"/v1/images/{images[kind]}/members", headers(caller))
    assert reply.status == status_of(caller, 404 if expected == "404" else 200)
    if reply.status != 200:
        return
    shown = {entry["member_id"]: entry["can_share"] for entry in reply.json()["members"]}
    everybody = {"all": ["member", "sharer"], "none": []}
    assert shown == {
        source.owner(name): name == "sharer" for name in everybody.get(expected, [expected])
    }


@pytest.mark.parametrize(
    ("caller", "member", "shown"),
    [
        ("anon", "member", False),
        ("other", "member", False),
        ("member", "member", True),
        ("member", "sharer", False),
        ("sharer", "member", False),
        ("sharer", "sharer", True),
        ("owner", "member", True),
        ("admin", "member", True),
    ],
)
def test_shared_images_show_what_concerns_the_caller(
    source, http, headers, status_of, images, caller, member, shown
):
    reply = http.get(f"/v1/shared-images/{source.owner(member)}", headers(caller))
    assert reply.status == status_of(caller, 200)
    if reply.status == 200:
        listed = [entry["image_id"] for entry in reply.json()["shared_images"]]
        assert (images["private"] in listed) == shown


@pytest.mark.parametrize(("kind", "caller", "expected"), cells(VISIBLE))
def test_a_marker_is_an_image_that_the_caller_sees(
    http, headers, status_of, images, kind, caller, expected
):
    reply = http.get(f"/v1/images?marker={images[kind]}", headers(caller))
    assert reply.status == status_of(caller, expected.replace("404", "400"))
    unknown = http.get("/v1/images?marker=987654", headers(caller))
    assert unknown.status == status_of(caller, 400)
    if reply.status == 400:
        assert reply.text == unknown.text


# -- changing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "caller", "expected"), cells(CHANGED))
def test_put_metadata(http, headers, status_of, images, kind, caller, expected):
    sent = {**headers(caller), "x-image-meta-property-touched-by": caller}
    reply = http.put(f"/v1/images/{images[kind]}", sent)
    assert reply.status == status_of(caller, expected)


@pytest.mark.parametrize(("kind", "caller", "expected"), cells(REFILLED))
def test_put_data_into_an_active_image(http, headers, status_of, images, kind, caller, expected):
    sent = {**headers(caller), **OCTETS}
    reply = http.put(f"/v1/images/{images[kind]}", sent, b"new")
    assert reply.status == status_of(caller, expected)
    assert http.get(f"/v1/images/{images[kind]}", headers("admin")).body == b"data"


@pytest.mark.parametrize(("kind", "caller", "expected"), cells(CHANGED))
def test_put_data_into_a_queued_image(http, headers, status_of, make, kind, caller, expected):
    url = f"/v1/images/{make(kind, data=b'')}"
    reply = http.put(url, {**headers(caller), **OCTETS}, b"new")
    assert reply.status == status_of(caller, expected)
    wanted = "active" if expected == "200" else "queued"
    assert http.head(url, headers("admin")).meta()["status"] == wanted


@pytest.mark.parametrize(("kind", "caller", "expected"), cells(CHANGED))
def test_delete(http, headers, status_of, make, kind, caller, expected):
    url = f"/v1/images/{make(kind)}"
    assert http.delete(url, headers(caller)).status == status_of(caller, expected)
    assert http.get(url, headers("admin")).status == (404 if expected == "200" else 200)


@pytest.mark.parametrize(("kind", "caller", "expected"), cells(MEMBERS_CHANGED))
def test_member_writes(http, headers, status_of, make, kind, caller, expected):
    url = f"/v1/images/{make(kind)}/members"
    sent, status = headers(caller), status_of(caller, expected)
    assert http.put(f"{url}/guest", sent).status == status
    assert http.delete(f"{url}/guest", sent).status == status
    # The last: it removes whoever makes it from the members.
    assert http.put_json(url, {"memberships": []}, sent).status == status


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(
    ("path", "body"),
    [("", b"{"), ("", b'[{"can_share": true}]'), ("/guest", b"{"), ("/guest", b"[]")],
)
def test_a_membership_that_cannot_be_read(http, headers, status_of, images, caller, path, body):
    # The body is looked at before the image: nothing can be learnt from the difference.
    reply = http.put(f"/v1/images/{images['private']}/members{path}", headers(caller), body)
    assert reply.status == status_of(caller, 403 if caller == "anon" else 400)


@pytest.mark.parametrize("caller", CALLERS)
def test_who_can_only_read_is_refused_before_anything_is_looked_up(
    http, headers, status_of, caller
):
    sent = headers(caller)
    for path in ("/v1/images/987654", "/v1/images/987654/members/m"):
        for method in ("PUT", "DELETE"):
            wanted = status_of(caller, 403 if caller == "anon" else 404)
            assert http.request(method, path, sent).status == wanted
    created = http.post("/v1/images", sent).status
    assert created == status_of(caller, 403 if caller == "anon" else 201)


@pytest.mark.parametrize("caller", [name for name in CALLERS if name != "anon"])
def test_a_protected_image_is_kept_from_everybody_who_could_delete_it(http, headers, make, caller):
    url, admin = f"/v1/images/{make('public')}", headers("admin")
    assert http.put(url, {**admin, "x-image-meta-protected": "true"}).status == 200
    wanted = 403 if caller in ("owner", "admin") else 404
    assert http.delete(url, headers(caller)).status == wanted
    assert http.put(url, {**admin, "x-image-meta-protected": "false"}).status == 200
    assert http.delete(url, admin).status == 200


@pytest.mark.parametrize("caller", [name for name in CALLERS if name != "anon"])
def test_owner_of_a_new_image_and_of_a_changed_one(source, http, headers, make, caller):
    """Administrators name an owner or none; others own what they make, whatever they say."""
    sent, admin = headers(caller), headers("admin")
    own, foreign = source.owner(caller), source.owner("other")
    named = http.post("/v1/images", {**sent, "x-image-meta-owner": foreign}).json()["image"]
    assert named["owner"] == (foreign if caller == "admin" else own)
    image = http.post("/v1/images", sent).json()["image"]
    assert image["owner"] == own
    url = f"/v1/images/{image['id']}"
    for value, wanted in ((foreign, foreign), ("", None), (own, own), ("null", None)):
        changed = http.put(url, {**sent, "x-image-meta-owner": value}).json()["image"]
        assert changed["owner"] == (wanted if caller == "admin" else own)
    assert http.delete(url, admin).status == 200


# -- sharing -------------------------------------------------------------------------------------


def test_the_chain_of_sharing(source, http):
    names = [f"chain{number}" for number in range(1, 5)]
    owner, friend, third, fourth = (source.caller(name) for name in names)
    _, friend_id, third_id, fourth_id = (source.owner(name) for name in names)
    url = f"/v1/images/{http.add(b'data', owner).json()['image']['id']}"
    members = f"{url}/members"
    seen = lambda *callers: [http.get(url, caller).status for caller in callers]  # noqa: E731

    assert seen(owner, friend, third, fourth) == [200, 404, 404, 404]
    may_share = {"member": {"can_share": True}}
    assert http.put_json(f"{members}/{friend_id}", may_share, owner).status == 204
    assert seen(owner, friend, third, fourth) == [200, 200, 404, 404]
    assert http.put(f"{members}/{third_id}", friend).status == 204
    assert seen(owner, friend, third, fourth) == [200, 200, 200, 404]
    # A member who may not share is refused as if there were no image, and told why.
    refused = http.put(f"{members}/{fourth_id}", third)
    assert (refused.status, seen(fourth)) == (404, [404])
    assert "share" in refused.text
    # Nor does a membership, whatever it allows, make one an owner.
    assert http.put(url, friend).status == http.delete(url, friend).status == 404

    # Replace: only those named stay. The one who may share replaces, too.
    fourth_alone = {"memberships": [{"member_id": fourth_id}]}
    assert http.put_json(members, fourth_alone, friend).status == 204
    assert seen(owner, friend, third, fourth) == [200, 404, 404, 200]
    listed = http.get(members, owner).json()["members"]
    assert listed == [{"member_id": fourth_id, "can_share": False}]

    # Revoke, twice: the second time there is nothing to do.
    for _ in range(2):
        assert http.delete(f"{members}/{fourth_id}", owner).status == 204
    assert seen(owner, friend, third, fourth) == [200, 404, 404, 404]
    assert http.get(members, owner).json() == {"members": []}
    shared = http.get(f"/v1/shared-images/{fourth_id}", fourth)
    assert shared.json() == {"shared_images": []}

    # Revive: without a word on sharing the right to share does not come back.
    assert http.put(f"{members}/{friend_id}", owner).status == 204
    assert seen(friend) == [200]
    assert http.get(members, friend).json()["members"] == [
        {"member_id": friend_id, "can_share": False}
    ]
    assert http.put(f"{members}/{third_id}", friend).status == 404
    image_id = int(url.rpartition("/")[2])
    assert http.get(f"/v1/shared-images/{friend_id}", friend).json() == {
        "shared_images": [{"image_id": image_id, "can_share": False}]
    }


def test_a_removed_member_cannot_share_a_public_image(source, http):
    owner, friend, name = source.caller("owner"), source.caller("friend"), source.owner("friend")
    url = f"/v1/images/{http.add(b'x', owner, is_public='true').json()['image']['id']}/members"
    assert http.put_json(f"{url}/{name}", {"member": {"can_share": True}}, owner).status == 204
    assert http.put(f"{url}/guest", friend).status == 204
    assert http.delete(f"{url}/{name}", owner).status == 204
    assert http.put(f"{url}/guest2", friend).status == 404
