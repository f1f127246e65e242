"""Attacks on who is who and on what belongs to others: each ends as if there were nothing there.

With a stage that sets headers, and with a real Keystone; the API has an image cache.
"""

import itertools
import pathlib
import re

import pytest

from support import identities

DATA = b"secret of victim" * 100

USERS = ("X-User-Id", "X-User")
TENANTS = ("X-Tenant-Id", "X-Project-Id", "X-Tenant")
ROLES = ("X-Roles", "X-Project-Roles", "X-Role")


@pytest.fixture(
    scope="module",
    params=[
        "stage",
        pytest.param("keystone", marks=pytest.mark.peers),
        pytest.param("keystone-strict", marks=pytest.mark.peers),
    ],
)
def source(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("source")
    with pytest.MonkeyPatch.context() as patch:
        # Where the daemons find the stage.
        patch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parents[1]))
        if request.param == "stage":
            running = identities.Stage(directory, caching=True)
        else:
            strict = request.param == "keystone-strict"
            running = identities.Tokens(directory, strict=strict, caching=True)
    yield running
    running.stop()


@pytest.fixture
def site(source):
    return source.site


@pytest.fixture
def http(site):
    return site.http


@pytest.fixture
def victim(source):
    return source.caller("victim")


@pytest.fixture
def attacker(source):
    return source.caller("attacker")


@pytest.fixture
def image(source, http, victim):
    """A private image of the victim's, with data, which the cache holds, too."""
    if not hasattr(source, "image"):
        meta = {"name": "payroll", "property_project": "merger"}
        source.image = http.add(DATA, victim, **meta).json()["image"]
        url = f"/v1/images/{source.image['id']}"
        while http.get(url, victim).header("Cache-Status") != "glance; hit":
            pass
    return source.image


# -- somebody else --------------------------------------------------------------------------------


def forged(owner):
    """Yield sets of headers by which a request claims to be the victim or an administrator."""
    for user, tenant, role in itertools.product(USERS, TENANTS, ROLES):
        for status in ("Confirmed", None):
            claimed = {user: owner, tenant: owner, role: "admin,Admin"}
            yield {**claimed, **({"X-Identity-Status": status} if status else {})}
    everything = dict.fromkeys((*USERS, *TENANTS), owner) | dict.fromkeys(ROLES, "admin")
    yield {**everything, "X-Identity-Status": "Confirmed", "X-Is-Admin-Project": "True"}


def disguises(headers):
    """Yield the same headers under names that another program might take for them."""
    for change in (str.lower, str.upper):
        yield [(change(name), value) for name, value in headers.items()]
    yield [(name.replace("-", "_"), value) for name, value in headers.items()]
    yield [(name.replace("-", "_", 1), value) for name, value in headers.items()]
    yield [(f"HTTP_{name}", value) for name, value in headers.items()]
    yield [(f"HTTP-{name}", value) for name, value in headers.items()]
    # Twice, in both spellings.
    yield [(n, v) for name, v in headers.items() for n in (name, name.replace("-", "_"))]
    yield [(name, value) for name, value in headers.items() for _ in range(2)]


def raw(http, method, path, headers):
    """Send a request with exactly these header lines; return its status."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n"
    answer = http.exchange(head.encode())
    return int(answer.split(b" ", 2)[1])


def test_nobody_becomes_somebody_by_saying_so(source, http, image):
    url = f"/v1/images/{image['id']}"
    for claims in forged(source.owner("victim")):
        assert http.get(url, claims).status == (401 if source.strict else 404)
        assert http.delete(url, claims).status == (401 if source.strict else 403)


def test_nobody_becomes_somebody_else_by_saying_so(source, http, image, attacker):
    url = f"/v1/images/{image['id']}"
    for claims in forged(source.owner("victim")):
        assert http.get(url, {**claims, **attacker}).status == 404
        assert http.delete(url, {**claims, **attacker}).status == 404
        made = http.post("/v1/images", {**claims, **attacker}).json()["image"]
        assert made["owner"] == source.owner("attacker")


def test_disguised_headers_are_no_headers(source, http, image, attacker):
    url = f"/v1/images/{image['id']}"
    *_, everything = forged(source.owner("victim"))
    for disguise in disguises(everything):
        assert raw(http, "GET", url, [*disguise, *attacker.items()]) == 404
        assert raw(http, "GET", url, disguise) == (401 if source.strict else 404)


@pytest.mark.parametrize(
    "line",
    [
        "X-Roles : admin",
        "X-Pad: a\r\n X-Roles: admin",
        "X-Pad: a\nX-Roles: admin",
        "X-Pad: a\rX-Roles: admin",
        "X-Roles\x00: admin",
    ],
    ids=repr,
)
def test_broken_header_lines_smuggle_nothing(source, http, image, attacker, line):
    *_, everything = forged(source.owner("victim"))
    del everything["X-Roles"]
    head = "".join(f"{name}: {value}\r\n" for name, value in {**everything, **attacker}.items())
    text = f"GET /v1/images/{image['id']} HTTP/1.1\r\nHost: x\r\n{line}\r\n{head}\r\n"
    assert http.exchange(text.encode()).split(b" ", 2)[1] == b"400"


def test_a_request_in_the_body_of_another_is_data(source, http, image, attacker, victim):
    inner = f"DELETE /v1/images/{image['id']} HTTP/1.1\r\nHost: x\r\n"
    inner += "".join(f"{name}: {value}\r\n" for name, value in victim.items()) + "\r\n"
    for framing in ("Transfer-Encoding: chunked\r\nContent-Length: 5", "Content-Length: 5"):
        head = f"POST /v1/images HTTP/1.1\r\nHost: x\r\n{framing}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in attacker.items())
        body = "0\r\n\r\n" if "chunked" in framing else "12345"
        # What follows the body goes on the same connection, as if a proxy had let it through.
        http.exchange(f"{head}Connection: close\r\n\r\n{body}{inner}".encode())
    assert http.get(f"/v1/images/{image['id']}", victim).status == 200


def test_the_registry_believes_nobody_from_outside(source, image):
    registry = source.site.registry.http
    *_, everything = forged(source.owner("victim"))
    for path in ("/images", f"/images/{image['id']}", f"/v1/images/{image['id']}/members"):
        for headers in (everything, {**everything, "X-Auth-Token": "made up"}):
            reply = registry.get(path, headers)
            # Anonymous callers, where there are any, see what is public.
            assert reply.status in (401, 404) or reply.json() == {"images": []}
    assert registry.delete(f"/images/{image['id']}", everything).status in (401, 403)


def test_a_token_without_a_project_has_no_roles_and_owns_nothing(source, http, image):
    unscoped = source.drifter()
    url = f"/v1/images/{image['id']}"
    for claims in ({}, *forged(source.owner("victim"))):
        sent = {**claims, **unscoped}
        assert http.get(url, sent).status == 404
        assert http.delete(url, sent).status == 404
        assert http.get("/v1/images?is_public=none", sent).json() == {"images": []}
        made = http.post("/v1/images", sent)
        assert made.status == 201 and made.json()["image"]["owner"] is None


def test_a_revoked_or_made_up_token_is_none(source, http, image):
    url = f"/v1/images/{image['id']}"
    tokens = ["nobody"]
    if isinstance(source, identities.Tokens):
        source.keystone.user("leaver", "leaving")
        tokens = [
            "made-up",
            "gAAAAABmade-up",
            "a" * 5000,
            source.keystone.token("leaver", "leaving"),
        ]
        source.keystone.revoke(tokens[-1])
    for token in tokens:
        assert http.get(url, {"X-Auth-Token": token}).status == (401 if source.strict else 404)
        refused = http.post("/v1/images", {"X-Auth-Token": token})
        assert refused.status == (401 if source.strict else 403)
        if source.strict:
            assert refused.header("WWW-Authenticate") == f'Keystone uri="{source.keystone.url}"'


# -- what belongs to others -----------------------------------------------------------------------


def same(reply, unknown, image_id):
    """Return whether an answer is that about an image which does not exist, to the last byte."""

    def shown(answer, number):
        headers = [
            (name.lower(), value)
            for name, value in answer.headers
            if name.lower() not in ("date", "x-openstack-request-id", "content-length")
        ]
        body = re.sub(rb"req-[0-9a-f-]+", b"", answer.body)
        return answer.status, headers, body.replace(str(number).encode(), b"ID")

    return shown(reply, image_id) == shown(unknown, UNKNOWN)


UNKNOWN = 987654

REQUESTS = {
    "HEAD": ("HEAD", "", {}, None),
    "GET": ("GET", "", {}, None),
    "the first bytes": ("GET", "", {"Range": "bytes=0-9"}, None),
    "bytes behind the end": ("GET", "", {"Range": "bytes=99999999-"}, None),
    "several ranges": ("GET", "", {"Range": "bytes=0-1,3-4"}, None),
    "if it has changed": ("GET", "", {"If-None-Match": "CHECKSUM"}, None),
    "HEAD if it has changed": ("HEAD", "", {"If-None-Match": "CHECKSUM"}, None),
    "if it is there": ("GET", "", {"If-None-Match": "*"}, None),
    "a range of it": ("GET", "", {"If-Range": "CHECKSUM", "Range": "bytes=0-9"}, None),
    "its file": ("GET", "/file", {}, None),
    "HEAD of its file": ("HEAD", "/file", {}, None),
    "another name": ("PUT", "", {"x-image-meta-name": "mine"}, None),
    "another status": ("PUT", "", {"x-image-meta-status": "killed"}, None),
    "another id": ("PUT", "", {"x-image-meta-id": "1"}, None),
    "another owner": ("PUT", "", {"x-image-meta-owner": "me"}, None),
    "another location": ("PUT", "", {"x-image-meta-location": "http://192.0.2.1/x"}, None),
    "new data": ("PUT", "", {"Content-Type": "application/octet-stream"}, b"mine"),
    "DELETE": ("DELETE", "", {}, None),
    "members": ("GET", "/members", {}, None),
    "a member": ("PUT", "/members/me", {}, b'{"member": {"can_share": true}}'),
    "members anew": ("PUT", "/members", {}, b'{"memberships": []}'),
    "no member": ("DELETE", "/members/me", {}, None),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_anothers_image_is_as_one_that_does_not_exist(http, image, attacker, victim, what):
    method, path, headers, body = REQUESTS[what]
    sent = {
        **attacker,
        **{k: v.replace("CHECKSUM", image["checksum"]) for k, v in headers.items()},
    }
    replies = [
        http.request(method, f"/v1/images/{number}{path}", sent, body)
        for number in (image["id"], UNKNOWN)
    ]
    assert replies[0].status == 404
    assert same(*replies, image["id"])
    assert http.get(f"/v1/images/{image['id']}", victim).body == DATA


FILTERS = (
    *(
        "",
        "is_public=none",
        "is_public=false",
        "deleted=true",
        "changes-since=2000-01-01T00:00:00",
    ),
    *("name=payroll", "property-project=merger", "status=active", "size_min=1600"),
    *("size_max=1600", "sort_key=size&sort_dir=asc", "limit=1000", "owner=OWNER"),
    *("is_public=none&is_public=none", "is_public=None&deleted=false&protected=false"),
)


@pytest.mark.parametrize("query", FILTERS)
@pytest.mark.parametrize("path", ["/v1/images", "/v1/images/detail", "/images"])
def test_no_filter_finds_anothers_image(source, http, image, attacker, query, path):
    query = query.replace("OWNER", source.owner("victim"))
    reply = http.get(f"{path}?{query}", attacker)
    assert image["id"] not in [listed["id"] for listed in reply.json()["images"]]
    assert "payroll" not in reply.text


def test_a_marker_tells_nothing_of_anothers_image(http, image, attacker):
    replies = [
        http.get(f"/v1/images?marker={number}", attacker) for number in (image["id"], 987654)
    ]
    assert replies[0].status == 400
    assert same(*replies, image["id"])


def test_the_cache_hands_out_nothing_to_those_who_may_not_see_it(http, image, attacker, victim):
    url = f"/v1/images/{image['id']}"
    for headers in ({}, {"Range": "bytes=0-9"}, {"If-None-Match": image["checksum"]}):
        assert http.get(url, {**victim, **headers}).status in (200, 206, 304)
        reply = http.get(url, {**attacker, **headers})
        assert (reply.status, reply.header("Cache-Status")) == (404, None)
        assert DATA[:16] not in reply.body


def test_the_cache_forgets_with_the_membership(source, http, image, victim):
    url, guest = f"/v1/images/{image['id']}", source.caller("guest")
    member = f"{url}/members/{source.owner('guest')}"
    assert http.put(member, victim).status == 204
    assert http.get(url, guest).body == DATA
    assert http.delete(member, victim).status == 204
    assert http.get(url, guest).status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/cached_images"),
        ("GET", "/v1/cached_images/{id}"),
        ("PUT", "/v1/cached_images/{id}"),
        ("DELETE", "/v1/cached_images/{id}"),
        ("DELETE", "/v1/cached_images"),
        ("GET", "/v1/queued_images"),
        ("PUT", "/v1/queued_images/{id}"),
        ("DELETE", "/v1/queued_images"),
        ("GET", "/v1/cache_stats"),
    ],
)
def test_the_cache_is_managed_by_administrators(
    source, http, image, attacker, victim, method, path
):
    for caller in ({}, attacker, victim, source.drifter()):
        refused = 401 if source.strict and not caller else 403
        for number in (image["id"], UNKNOWN):
            assert http.request(method, path.format(id=number), caller).status == refused
    if method == "GET":
        admin = source.caller("admin")
        assert http.request(method, path.format(id=image["id"]), admin).status == 200
    assert http.get(f"/v1/images/{image['id']}", victim).header("Cache-Status") == "glance; hit"


def test_what_is_shared_with_others_is_not_told(source, http, image, attacker, victim):
    friend = source.owner("friend")
    assert http.put(f"/v1/images/{image['id']}/members/{friend}", victim).status == 204
    for who in (friend, source.owner("victim"), "nobody"):
        reply = http.get(f"/v1/shared-images/{who}", attacker)
        assert (reply.status, reply.json()) == (200, {"shared_images": []})


@pytest.mark.parametrize(
    "path",
    [
        "/v1/images/{own}/../{id}",
        "/v1/images/{own}%2F..%2F{id}",
        "/v1/images/%2e%2e/images/{id}",
        "/v1//images/{id}",
        "/v1/images//{id}",
        "/v1/images/{id}/",
        "/v1/images/{id}%00",
        "/v1/images/{id}%3Fis_public=none",
        "/v1/images/{id}%20",
        "/v1/images/+{id}",
        "/v1/images/0{id}",
        "/v1/images/{id};{own}",
        "/v1/v1/images/{id}",
        "/v1/images/{own}/members/../../{id}",
    ],
)
def test_no_spelling_of_the_path_leads_to_anothers_image(http, image, attacker, path):
    own = http.add(b"own", attacker).json()["image"]["id"]
    reply = http.get(path.format(id=image["id"], own=own), attacker)
    assert DATA[:16] not in reply.body
    assert "payroll" not in str(reply.headers) + reply.body.decode("latin-1")
