"""Who sees, changes and shares what by version 2: callers, visibilities, member statuses.

Each cell is asked for over HTTP from real daemons: with a small stage that sets headers, and with
a real Keystone, whose tokens both daemons check, or the API alone. `test_decision_table.py` has
the table of version 1.
"""

import json

import pytest

from support import identities

pytestmark = pytest.mark.full

OCTETS = {"Content-Type": "application/octet-stream"}
PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
DATA = b"data"

#: The members are called by what they have said to the image.
MEMBERS = ("pending", "accepted", "rejected")
CALLERS = ("anon", "other", *MEMBERS, "owner", "admin")
KINDS = ("private", "shared", "community", "public")


@pytest.fixture(scope="module", params=identities.params("stage", "keystone", "keystone-strict"))
def source(request, tmp_path_factory):
    with identities.started(request.param, tmp_path_factory.mktemp("source")) as running:
        yield running


@pytest.fixture
def site(source):
    """The daemons, so that their logs are shown with a failure."""
    return source.site


@pytest.fixture
def ask(source):
    """Return a function that sends a request of a caller."""

    def ask(caller, method, path, document=None, headers=()):
        sent = {} if caller == "anon" else source.caller(caller)
        body = document if isinstance(document, bytes | None) else json.dumps(document).encode()
        return source.site.http.request(method, path, {**sent, **dict(headers)}, body)

    return ask


@pytest.fixture
def make(source, ask):
    """Return a function that makes an image with data and three members: its path."""

    def make(kind):
        owner = source.owner("owner")
        formats = {"disk_format": "raw", "container_format": "bare"}
        values = {"visibility": "shared", "owner": owner, "name": kind, **formats}
        reply = ask("admin", "POST", "/v2/images", values)
        assert reply.status == 201, reply
        path = reply.json()["self"]
        assert ask("admin", "PUT", f"{path}/file", DATA, OCTETS).status == 204
        for status in MEMBERS:
            member = source.owner(status)
            added = ask("owner", "POST", f"{path}/members", {"member": member})
            assert added.status == 200, added
            if status != "pending":
                said = ask(status, "PUT", f"{path}/members/{member}", {"status": status})
                assert said.status == 200, said
        if kind != "shared":
            # The memberships stay, and count no more.
            change = [{"op": "replace", "path": "/visibility", "value": kind}]
            assert ask("owner", "PATCH", path, change, PATCH).status == 200
        return path

    return make


@pytest.fixture
def images(source, make):
    """Kind -> path of an image that tests only look at, or may not change."""
    if not hasattr(source, "images"):
        source.images = {kind: make(kind) for kind in KINDS}
    return source.images


@pytest.fixture
def expect(source):
    """Return the status that a cell stands for; strict sources know no anonymous callers."""
    return lambda caller, value: 401 if source.strict and caller == "anon" else int(value)


def cells(table):
    """Yield (kind, caller, expected) from a table kind -> expected for each of CALLERS."""
    return [
        (kind, caller, value)
        for kind, row in table.items()
        for caller, value in zip(CALLERS, row.split(), strict=True)
    ]


#                 anon other pending accepted rejected owner admin
READ = {
    "private":   "404  404   404     404      404      200   200",
    "shared":    "404  404   200     200      200      200   200",
    "community": "200  200   200     200      200      200   200",
    "public":    "200  200   200     200      200      200   200",
}  # fmt: skip

CHANGED = {
    "private":   "403  404   404     404      404      200   200",
    "shared":    "403  404   403     403      403      200   200",
    "community": "403  403   403     403      403      200   200",
    "public":    "403  403   403     403      403      200   200",
}  # fmt: skip

# Only shared images have members.
MEMBERS_READ = {
    "private":   "404  404   404     404      404      403   403",
    "shared":    "404  404   own     own      own      all   all",
    "community": "403  403   403     403      403      403   403",
    "public":    "403  403   403     403      403      403   403",
}  # fmt: skip

MEMBER_ADDED = {
    "private":   "403  404   404     404      404      403   403",
    "shared":    "403  404   403     403      403      200   200",
    "community": "403  403   403     403      403      403   403",
    "public":    "403  403   403     403      403      403   403",
}  # fmt: skip

# Query -> kinds in the list of each caller, by their first letters; "-": none.
LISTS = {
    "":                                      "p    p     p       sp       p        rscp  rsp",
    "visibility=public":                     "p    p     p       p        p        p     p",
    "visibility=private":                    "-    -     -       -        -        r     r",
    "visibility=shared":                     "-    -     -       s        -        s     s",
    "visibility=community":                  "c    c     c       c        c        c     c",
    "visibility=all":                        "cp   cp    cp      scp      cp       rscp  rscp",
    "visibility=shared&member_status=pending":  "-  -    s       -        -        s     s",
    "visibility=shared&member_status=accepted": "-  -    -       s        -        s     s",
    "visibility=shared&member_status=rejected": "-  -    -       -        s        s     s",
    "visibility=shared&member_status=all":      "-  -    s       s        s        s     s",
    "member_status=pending":                 "p    p     sp      p        p        rscp  rsp",
    "member_status=rejected":                "p    p     p       p        sp       rscp  rsp",
    "os_hidden=true":                        "-    -     -       -        -        -     -",
}  # fmt: skip
LETTERS = {"private": "r", "shared": "s", "community": "c", "public": "p"}


# -- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "caller", "status"), cells(READ))
def test_an_image_and_its_data(ask, images, expect, kind, caller, status):
    path, wanted = images[kind], expect(caller, status)
    assert ask(caller, "GET", path).status == wanted
    assert ask(caller, "HEAD", path).status == wanted
    got = ask(caller, "GET", f"{path}/file")
    assert got.status == wanted
    assert (got.body == DATA) == (wanted == 200)


@pytest.mark.parametrize(("query", "caller", "letters"), cells(LISTS))
def test_lists(ask, images, expect, query, caller, letters):
    reply = ask(caller, "GET", f"/v2/images?limit=1000&{query}")
    assert reply.status == expect(caller, 200)
    if reply.status == 200:
        listed = {image["self"] for image in reply.json()["images"]}
        found = {LETTERS[kind] for kind, path in images.items() if path in listed}
        assert found == set(letters) - {"-"}


# -- changing ------------------------------------------------------------------------------------


def refused(table):
    return [cell for cell in cells(table) if cell[2] not in ("200", "all", "own")]


def allowed(table):
    return [(kind, caller) for kind, caller, value in cells(table) if value == "200"]


@pytest.mark.parametrize(("kind", "caller", "status"), refused(CHANGED))
def test_who_may_not_change_an_image(ask, images, expect, kind, caller, status):
    path, wanted = images[kind], expect(caller, status)
    before = ask("admin", "GET", path).json()
    change = [{"op": "replace", "path": "/name", "value": "taken"}]
    assert ask(caller, "PATCH", path, change, PATCH).status == wanted
    assert ask(caller, "PUT", f"{path}/file", b"other", OCTETS).status == wanted
    assert ask(caller, "PUT", f"{path}/tags/taken").status == wanted
    assert ask(caller, "DELETE", f"{path}/tags/taken").status == wanted
    assert ask(caller, "POST", f"{path}/actions/deactivate").status == wanted
    assert ask(caller, "POST", f"{path}/actions/reactivate").status == wanted
    assert ask(caller, "DELETE", path).status == wanted
    assert ask("admin", "GET", path).json() == before


@pytest.mark.parametrize(("kind", "caller"), allowed(CHANGED))
def test_who_may_change_an_image(ask, make, kind, caller):
    path = make(kind)
    change = [{"op": "replace", "path": "/name", "value": "new"}]
    assert ask(caller, "PATCH", path, change, PATCH).json()["name"] == "new"
    assert ask(caller, "PUT", f"{path}/file", b"other", OCTETS).status == 409
    assert ask(caller, "PUT", f"{path}/tags/one").status == 204
    assert ask(caller, "DELETE", f"{path}/tags/one").status == 204
    assert ask(caller, "POST", f"{path}/actions/deactivate").status == 204
    assert ask("owner", "GET", f"{path}/file").status == 403
    assert ask("admin", "GET", f"{path}/file").body == DATA
    assert ask(caller, "POST", f"{path}/actions/reactivate").status == 204
    assert ask(caller, "DELETE", path).status == 204
    assert ask("admin", "GET", path).status == 404


# -- sharing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "caller", "shown"), cells(MEMBERS_READ))
def test_the_members_of_an_image(source, ask, images, expect, kind, caller, shown):
    reply = ask(caller, "GET", f"{images[kind]}/members")
    if shown.isdigit():
        assert reply.status == expect(caller, shown)
        return
    names = MEMBERS if shown == "all" else (caller,)
    found = [(one["member_id"], one["status"]) for one in reply.json()["members"]]
    assert found == [(source.owner(name), name) for name in names]


@pytest.mark.parametrize(("kind", "caller", "status"), cells(MEMBER_ADDED))
def test_who_shares_an_image(source, ask, images, make, expect, kind, caller, status):
    path = make(kind) if status == "200" else images[kind]
    reply = ask(caller, "POST", f"{path}/members", {"member": source.owner("other")})
    assert reply.status == expect(caller, status)
    removed = ask(caller, "DELETE", f"{path}/members/{source.owner('pending')}")
    assert removed.status == (204 if status == "200" else expect(caller, status))
    seen = ask("other", "GET", path).status
    assert seen == (200 if status == "200" or kind in ("community", "public") else 404)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("member", MEMBERS)
def test_who_answers_for_a_member(source, ask, images, expect, member, caller):
    """The member itself and an administrator; the owner may not accept in its place."""
    path = f"{images['shared']}/members/{source.owner(member)}"
    statuses = {"owner": 403, "admin": 200, "anon": 403, member: 200}
    # Nothing changes: the status is the one that it has.
    reply = ask(caller, "PUT", path, {"status": member})
    assert reply.status == expect(caller, statuses.get(caller, 404))
    shown = {"owner": 200, "admin": 200, member: 200}
    assert ask(caller, "GET", path).status == expect(caller, shown.get(caller, 404))


def test_a_quarantine_is_ended_by_administrators_alone(ask, make):
    path = make("shared")
    assert ask("admin", "POST", f"{path}/actions/deactivate").status == 204
    assert ask("owner", "POST", f"{path}/actions/reactivate").status == 403
    assert ask("admin", "POST", f"{path}/actions/reactivate").status == 204
    assert ask("owner", "POST", f"{path}/actions/deactivate").status == 204
    assert ask("owner", "POST", f"{path}/actions/reactivate").status == 204


def test_an_image_that_is_shared_again_is_seen_again(ask, make):
    path = make("private")
    assert ask("accepted", "GET", path).status == 404
    change = [{"op": "replace", "path": "/visibility", "value": "shared"}]
    assert ask("owner", "PATCH", path, change, PATCH).status == 200
    assert ask("accepted", "GET", path).status == 200


def test_nobody_gives_an_image_away_but_an_administrator(source, ask, make):
    path, other = make("shared"), source.owner("other")
    change = [{"op": "replace", "path": "/owner", "value": other}]
    assert ask("owner", "PATCH", path, change, PATCH).status == 403
    assert ask("owner", "POST", "/v2/images", {"owner": other}).status == 403
    assert ask("admin", "PATCH", path, change, PATCH).json()["owner"] == other
