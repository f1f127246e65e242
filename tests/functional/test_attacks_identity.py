"""Attacks on who is who and on what belongs to others: each ends as if there were nothing there.

By both versions of the API, with a stage that sets headers, and with a real Keystone; the API has
an image cache.
"""

import dataclasses
import itertools
import json
import pathlib
import re

import pytest

from support import identities

DATA = b"secret of victim" * 100

USERS = ("X-User-Id", "X-User")
TENANTS = ("X-Tenant-Id", "X-Project-Id", "X-Tenant")
ROLES = ("X-Roles", "X-Project-Roles", "X-Role")


OCTETS = {"Content-Type": "application/octet-stream"}
PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}


@dataclasses.dataclass(frozen=True)
class Version:
    """How one version of the API names images, and what it says."""

    name: str
    #: Paths of lists, and the query that asks for everything.
    lists: tuple[str, ...]
    everything: str
    #: The id that no image has.
    unknown: str
    deleted: int
    #: What is below the path of an image, for its data.
    file: str

    def id_of(self, image):
        return str(image["id"] if self.name == "v1" else image["uuid"])

    def path(self, image):
        return f"/{self.name}/images/{self.id_of(image)}"

    def data(self, image):
        return self.path(image) + self.file

    def create(self, http, headers):
        """Make an image of no data; return the response."""
        return http.post(f"/{self.name}/images", headers, b"" if self.name == "v1" else b"{}")

    def made(self, reply):
        """Return the image that was made."""
        assert reply.status == 201, reply
        return reply.json()["image"] if self.name == "v1" else reply.json()

    def share(self, http, image, member, headers):
        if self.name == "v1":
            return http.put(f"{self.path(image)}/members/{member}", headers)
        body = json.dumps({"member": member}).encode()
        return http.post(f"{self.path(image)}/members", headers, body)


V1 = Version(
    *("v1", ("/v1/images", "/v1/images/detail", "/images"), "is_public=none", "987654", 200, "")
)
V2 = Version(
    *("v2", ("/v2/images",), "visibility=all&member_status=all"),
    *("5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c11", 204, "/file"),
)


@pytest.fixture(params=[V1, V2], ids=lambda version: version.name)
def version(request):
    return request.param


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
        made = http.add(DATA, victim, **meta)
        uuid = made.header("x-openstack-image-uuid")
        source.image = {**made.json()["image"], "uuid": uuid}
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


def test_nobody_becomes_somebody_by_saying_so(source, http, version, image):
    for claims in forged(source.owner("victim")):
        for url in {version.path(image), version.data(image)}:
            assert http.get(url, claims).status == (401 if source.strict else 404)
        refused = http.delete(version.path(image), claims)
        assert refused.status == (401 if source.strict else 403)


def test_nobody_becomes_somebody_else_by_saying_so(source, http, version, image, attacker):
    for claims in forged(source.owner("victim")):
        sent = {**claims, **attacker}
        for url in {version.path(image), version.data(image)}:
            assert http.get(url, sent).status == 404
        assert http.delete(version.path(image), sent).status == 404
        made = version.made(version.create(http, sent))
        assert made["owner"] == source.owner("attacker")


def test_disguised_headers_are_no_headers(source, http, version, image, attacker):
    url = version.data(image)
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
def test_broken_header_lines_smuggle_nothing(source, http, version, image, attacker, line):
    *_, everything = forged(source.owner("victim"))
    del everything["X-Roles"]
    head = "".join(f"{name}: {value}\r\n" for name, value in {**everything, **attacker}.items())
    text = f"GET {version.data(image)} HTTP/1.1\r\nHost: x\r\n{line}\r\n{head}\r\n"
    assert http.exchange(text.encode()).split(b" ", 2)[1] == b"400"


def test_a_request_in_the_body_of_another_is_data(source, http, version, image, attacker, victim):
    inner = f"DELETE {version.path(image)} HTTP/1.1\r\nHost: x\r\n"
    inner += "".join(f"{name}: {value}\r\n" for name, value in victim.items()) + "\r\n"
    for framing in ("Transfer-Encoding: chunked\r\nContent-Length: 5", "Content-Length: 5"):
        head = f"POST /{version.name}/images HTTP/1.1\r\nHost: x\r\n{framing}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in attacker.items())
        body = "0\r\n\r\n" if "chunked" in framing else "12345"
        # What follows the body goes on the same connection, as if a proxy had let it through.
        http.exchange(f"{head}Connection: close\r\n\r\n{body}{inner}".encode())
    assert http.get(version.path(image), victim).status == 200


def test_the_registry_believes_nobody_from_outside(source, image):
    registry = source.site.registry.http
    *_, everything = forged(source.owner("victim"))
    number, uuid = image["id"], image["uuid"]
    paths = ("/images", f"/images/{number}", f"/v1/images/{number}/members", "/v2/images")
    for path in (*paths, f"/v2/images/{uuid}", f"/v2/images/{uuid}/members"):
        for headers in (everything, {**everything, "X-Auth-Token": "made up"}):
            reply = registry.get(path, headers)
            # Anonymous callers, where there are any, see what is public.
            assert reply.status in (400, 401, 404) or reply.json() == {"images": []}
            assert "payroll" not in reply.text
    assert registry.delete(f"/images/{number}", everything).status in (401, 403)
    for method, path, body in (
        ("DELETE", "", None),
        ("PATCH", "", {"set": {"owner": "me"}}),
        ("POST", "/state", {"state": {"from": ["active"], "to": "queued", "values": {}}}),
        ("POST", "/members", {"member": "me"}),
        ("PUT", "/members/me", {"status": "accepted"}),
        ("PUT", "/tags/mine", None),
    ):
        sent = None if body is None else json.dumps(body).encode()
        reply = registry.request(method, f"/v2/images/{uuid}{path}", everything, sent)
        # A registry that is not asked by its API has no such paths.
        assert reply.status in (401, 403, 404), (method, path, reply)


def test_a_token_without_a_project_has_no_roles_and_owns_nothing(source, http, version, image):
    unscoped = source.drifter()
    for claims in ({}, *forged(source.owner("victim"))):
        sent = {**claims, **unscoped}
        assert http.get(version.data(image), sent).status == 404
        assert http.delete(version.path(image), sent).status == 404
        listed = http.get(f"{version.lists[0]}?{version.everything}", sent).json()
        assert listed["images"] == []
        assert version.made(version.create(http, sent))["owner"] is None


def test_a_revoked_or_made_up_token_is_none(source, http, version, image):
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
        sent = {"X-Auth-Token": token}
        assert http.get(version.data(image), sent).status == (401 if source.strict else 404)
        refused = version.create(http, sent)
        assert refused.status == (401 if source.strict else 403)
        if source.strict:
            assert refused.header("WWW-Authenticate") == f'Keystone uri="{source.keystone.url}"'


# -- what belongs to others -----------------------------------------------------------------------


def same(reply, unknown, image_id, unknown_id):
    """Return whether an answer is that about an image which does not exist, to the last byte."""

    def shown(answer, number):
        headers = [
            (name.lower(), value)
            for name, value in answer.headers
            if name.lower() not in ("date", "x-openstack-request-id", "content-length")
        ]
        body = re.sub(rb"req-[0-9a-f-]+", b"", answer.body)
        return answer.status, headers, body.lower().replace(number.lower().encode(), b"ID")

    return shown(reply, image_id) == shown(unknown, unknown_id)


#: What is sent, by version: method, what follows the path of the image, headers and body.
OF_DATA = {
    "the data": ("GET", {}),
    "HEAD of the data": ("HEAD", {}),
    "the first bytes": ("GET", {"Range": "bytes=0-9"}),
    "bytes behind the end": ("GET", {"Range": "bytes=99999999-"}),
    "several ranges": ("GET", {"Range": "bytes=0-1,3-4"}),
    "if it has changed": ("GET", {"If-None-Match": "CHECKSUM"}),
    "HEAD if it has changed": ("HEAD", {"If-None-Match": "CHECKSUM"}),
    "if it is there": ("GET", {"If-None-Match": "*"}),
    "a range of it": ("GET", {"If-Range": "CHECKSUM", "Range": "bytes=0-9"}),
}
REQUESTS_1 = {
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


REQUESTS_2 = {
    "HEAD": ("HEAD", "", {}, None),
    "GET": ("GET", "", {}, None),
    "errors as JSON": ("GET", "", {"Accept": "application/json"}, None),
    "in capitals": ("GET", "CAPITALS", {}, None),
    "another name": ("PATCH", "", PATCH, b'[{"op": "add", "path": "/name", "value": "mine"}]'),
    "nothing": ("PATCH", "", PATCH, b"[]"),
    "another status": ("PATCH", "", PATCH, b'[{"op": "add", "path": "/status", "value": "x"}]'),
    "another owner": ("PATCH", "", PATCH, b'[{"op": "add", "path": "/owner", "value": "me"}]'),
    "a location": ("PATCH", "", PATCH, b'[{"op": "add", "path": "/locations/-", "value": {}}]'),
    "what is not there": ("PATCH", "", PATCH, b'[{"op": "remove", "path": "/no"}]'),
    "no patch": ("PATCH", "", PATCH, b"no JSON"),
    "new data": ("PUT", "/file", OCTETS, b"mine"),
    "data of another type": ("PUT", "/file", {"Content-Type": "text/plain"}, b"mine"),
    "data for a store": ("PUT", "/file", {**OCTETS, "x-image-meta-store": "none"}, b"mine"),
    "DELETE": ("DELETE", "", {}, None),
    "members": ("GET", "/members", {}, None),
    "a member": ("GET", "/members/me", {}, None),
    "a new member": ("POST", "/members", {}, b'{"member": "me"}'),
    "accepted": ("PUT", "/members/me", {}, b'{"status": "accepted"}'),
    "no member": ("DELETE", "/members/me", {}, None),
    "a tag": ("PUT", "/tags/mine", {}, None),
    "no tag": ("DELETE", "/tags/mine", {}, None),
    "deactivated": ("POST", "/actions/deactivate", {}, None),
    "reactivated": ("POST", "/actions/reactivate", {}, None),
}


def requests():
    """Yield (version, method, what follows the path, headers, body) for all requests."""
    for version, others in ((V1, REQUESTS_1), (V2, REQUESTS_2)):
        for name, (method, headers) in OF_DATA.items():
            case = (version, method, version.file, headers, None)
            yield pytest.param(*case, id=f"{version.name} {name}")
        for name, case in others.items():
            yield pytest.param(version, *case, id=f"{version.name} {name}")


@pytest.mark.parametrize(("version", "method", "path", "headers", "body"), requests())
def test_anothers_image_is_as_one_that_does_not_exist(
    http, image, attacker, victim, version, method, path, headers, body
):
    sent = {
        **attacker,
        **{k: v.replace("CHECKSUM", image["checksum"]) for k, v in headers.items()},
    }
    ids = [version.id_of(image), version.unknown]
    if path == "CAPITALS":
        path, ids = "", [one.upper() for one in ids]
    replies = [
        http.request(method, f"/{version.name}/images/{one}{path}", sent, body) for one in ids
    ]
    assert replies[0].status == (400 if body == b"no JSON" else 404)
    assert same(*replies, *ids)
    assert http.get(version.data(image), victim).body == DATA


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


FILTERS_2 = (
    *("", V2.everything, "visibility=private", "visibility=shared&member_status=pending"),
    *("visibility=community", "os_hidden=true", "owner=OWNER", "name=payroll", "name=in:payroll"),
    *("project=merger", "status=active", "size_min=1600", "size_max=1600&visibility=all"),
    *("id=UUID", "id=in:UUID,x", "checksum=CHECKSUM", "sort=size:asc,name:desc&limit=1000"),
    *("tag=", "is_public=none", "created_at=gte:2000-01-01&visibility=all", "protected=false"),
)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        *itertools.product(V1.lists, FILTERS),
        *itertools.product(V2.lists, FILTERS_2),
    ],
)
def test_no_filter_finds_anothers_image(source, http, image, attacker, query, path):
    query = query.replace("OWNER", source.owner("victim")).replace("UUID", image["uuid"])
    query = query.replace("CHECKSUM", image["checksum"])
    reply = http.get(f"{path}?{query}", attacker)
    found = reply.json()["images"]
    assert not {image["id"], image["uuid"]} & {listed["id"] for listed in found}
    # The links of a page repeat what was asked for.
    assert "payroll" not in json.dumps(found)


def test_a_marker_tells_nothing_of_anothers_image(http, version, image, attacker):
    ids = [version.id_of(image), version.unknown]
    replies = [http.get(f"{version.lists[0]}?marker={one}", attacker) for one in ids]
    assert replies[0].status == 400
    assert same(*replies, *ids)


def test_an_id_that_is_anothers_says_nothing_of_its_image(http, image, attacker):
    """Who chooses an id that is in use learns that, and no more: not whose, nor what."""
    body = json.dumps({"id": image["uuid"]}).encode()
    reply = http.post("/v2/images", attacker, body)
    assert reply.status in (403, 409)
    assert "payroll" not in reply.text and "merger" not in reply.text


def test_the_cache_hands_out_nothing_to_those_who_may_not_see_it(
    http, version, image, attacker, victim
):
    url = version.data(image)
    for headers in ({}, {"Range": "bytes=0-9"}, {"If-None-Match": image["checksum"]}):
        assert http.get(url, {**victim, **headers}).status in (200, 206, 304)
        reply = http.get(url, {**attacker, **headers})
        assert (reply.status, reply.header("Cache-Status")) == (404, None)
        assert DATA[:16] not in reply.body


def test_the_cache_forgets_with_the_membership(source, http, version, image, victim):
    url, guest = version.data(image), source.caller("guest")
    member = source.owner("guest")
    assert version.share(http, image, member, victim).status in (200, 204)
    assert http.get(url, guest).body == DATA
    assert http.delete(f"{version.path(image)}/members/{member}", victim).status == 204
    assert http.get(url, guest).status == 404


def test_a_member_can_do_nothing_but_read_and_answer(source, http, image, victim):
    """What version 1 calls a right to share is none in version 2, and a status is the member's."""
    guest, member = source.caller("guest"), source.owner("guest")
    path = V2.path(image)
    assert V2.share(http, image, member, victim).status == 200
    others = f"{path}/members/{source.owner('victim')}"
    for method, target, headers, body in (
        ("PATCH", path, PATCH, b"[]"),
        ("PUT", f"{path}/file", OCTETS, b"mine"),
        ("PUT", f"{path}/tags/mine", {}, None),
        ("POST", f"{path}/actions/deactivate", {}, None),
        ("POST", f"{path}/members", {}, b'{"member": "friend"}'),
        ("DELETE", f"{path}/members/{member}", {}, None),
        ("DELETE", path, {}, None),
    ):
        assert http.request(method, target, {**guest, **headers}, body).status == 403, target
    status = b'{"status": "accepted"}'
    assert http.put(others, guest, status).status == 404
    assert http.put(f"{path}/members/{member}", victim, status).status == 403
    assert http.put(f"{path}/members/{member}", guest, status).status == 200
    assert http.delete(f"{path}/members/{member}", victim).status == 204
    assert http.get(path, guest).status == 404


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
        for number in (image["id"], V1.unknown):
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


SPELLINGS = (
    "{own}/../{id}",
    "{own}%2F..%2F{id}",
    "%2e%2e/images/{id}",
    "/{id}",
    "{id}/",
    "{id}%00",
    "{id}%3Fis_public=none",
    "{id}%20",
    "+{id}",
    "0{id}",
    "{id};{own}",
    "{own}/members/../../{id}",
    "{own}/tags/../../{id}",
    "{own}/file/../../{id}/file",
    "%7B{id}%7D",
    "urn:uuid:{id}",
)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("place", ["images/", "/images/", "v1/images/", "v2/images/"])
def test_no_spelling_of_the_path_leads_to_anothers_image(
    http, version, image, attacker, place, spelling
):
    own = version.made(version.create(http, attacker))["id"]
    for below in {"", version.file}:
        path = f"/{version.name}/{place}{spelling}{below}"
        reply = http.get(path.format(id=version.id_of(image), own=own), attacker)
        assert DATA[:16] not in reply.body
        assert "payroll" not in str(reply.headers) + reply.body.decode("latin-1")
