"""Varnish, Squid and nginx with the files of etc/proxies: what they store, and for whom.

Each test runs with each proxy. What reaches the API is counted by a relay in front of it; whoever
asks the API without the proxy goes behind the proxy's back, as with a purge that was lost.
"""

import contextlib
import hashlib
import http.client
import os
import pathlib
import re
import socket
import struct
import subprocess
import sys
import threading

import pytest

from support import daemons, faults, identities, images, proxies, relay
from support.rawhttp import Http, meta_headers, read_reply

pytestmark = pytest.mark.peers

PROOFS = daemons.ROOT / "tests" / "bench" / "proxies.py"

#: More than one of nginx's slices, of which a test has small ones.
SIZE = 350_000
ENDED = (OSError, http.client.HTTPException)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Two sites by whether http_cache_share_private is set; callers are known by their tokens."""
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parents[1]))
        made = {}
        for shared in (True, False):
            options = {
                "allow_anonymous_access": False,
                "http_cache_share_private": shared,
                "http_store_allowed_hosts": "127.0.0.1",
                "default_store": "file",
                "policy_download_image": "member admin",
            }
            made[shared] = identities.Stage(tmp_path_factory.mktemp("site"), api=options)
            stack.callback(made[shared].stop)
        yield made


@pytest.fixture(scope="module", params=proxies.KINDS)
def world(request, sources, tmp_path_factory):
    kind = proxies.KINDS[request.param]
    directory = tmp_path_factory.mktemp(request.param)
    with relay.Relay(sources[True].site.port) as between:
        with kind(directory, between.port) as proxy:
            yield World(sources[True], between, proxy)


@pytest.fixture(autouse=True)
def _as_it_was(request):
    """Let the relay of the test let everything through again."""
    yield
    if "world" in request.fixturenames:
        made = request.getfixturevalue("world")
        made.relay.behave()
        made.relay.target = made.source.site.port


class World:
    """A site, the relay in front of it, and a proxy in front of that."""

    def __init__(self, source, between, proxy):
        self.source, self.relay, self.proxy = source, between, proxy
        self.a, self.b, self.admin = map(source.caller, ("a", "b", "admin"))

    @property
    def api(self):
        """Requests to the API that the proxy does not see."""
        return Http(self.relay.target)

    @property
    def http(self):
        return self.proxy.http

    def image(self, data=None, owner=None, **meta):
        """Upload an image behind the proxy's back; return its path, and its data."""
        data = os.urandom(SIZE) if data is None else data
        given = {"id": faults.new_id(), "is_public": True, **meta}
        made = self.api.add(data, owner or self.a, **given)
        assert made.status == 201, made
        return f"/v1/images/{given['id']}", data

    def stored(self, **meta):
        """Return the path and the data of an image that the proxy has stored."""
        path, data = self.image(**meta)
        assert self.http.get(path, self.a).body == data
        self.relay.settle()
        with self.relay.counting() as seen:
            assert self.http.get(path, self.a).body == data
        assert body_of(seen) == 0, "the image was not stored"
        return path, data


def body_of(seen):
    """Return how many bytes of images the API has sent."""
    return sum(one.sent for one in seen if one.status in (200, 206) and one.method == "GET")


def assert_refused(reply, status):
    assert reply.status == status, reply
    assert len(reply.body) < 500


# -- hits and misses -----------------------------------------------------------------------------


def test_one_body_serves_all_callers_and_each_use_is_asked_for_with_its_own_token(world):
    path, data = world.image()
    with world.relay.counting() as seen:
        assert world.http.get(path, world.a).body == data
    assert body_of(seen) == SIZE
    assert {one.token for one in seen} == {"a"}
    for caller in (world.b, world.admin, world.a):
        with world.relay.counting() as seen:
            reply = world.http.get(path, caller)
        assert (reply.status, reply.body) == (200, data)
        assert reply.header("Content-Length") == str(SIZE)
        assert reply.meta()["id"] == path.rpartition("/")[2]
        assert {one.token for one in seen} == {caller["X-Auth-Token"]}
        assert len(seen) <= 2
        assert body_of(seen) == 0


def test_a_hit_has_the_header_of_the_api(world):
    path, _ = world.stored()
    direct, hit = world.api.get(path, world.b), world.http.get(path, world.b)
    own = {"date", "connection", "x-openstack-request-id", "last-modified"}
    for name, value in direct.headers:
        if name.lower() not in own:
            assert hit.header(name) == value, name
    assert hit.header("X-Openstack-Request-Id") != direct.header("X-Openstack-Request-Id")


def test_each_response_has_a_request_id_of_its_own(world):
    path, _ = world.stored()
    ids = [world.http.get(path, world.b).header("X-Openstack-Request-Id") for _ in range(3)]
    assert None not in ids and len(set(ids)) == 3


@pytest.mark.parametrize("public", [True, False])
def test_nobody_gets_what_is_stored_without_a_valid_token(world, public):
    path, _ = world.stored(is_public=public)
    for caller in ({}, {"X-Auth-Token": "nobody"}, {"X-Auth-Token": ""}):
        for headers in ({}, {"Range": "bytes=1-2"}, {"If-None-Match": "*"}):
            reply, direct = (h.get(path, {**caller, **headers}) for h in (world.http, world.api))
            assert_refused(reply, 401)
            assert reply.body == direct.body


def test_another_tenant_gets_nothing_of_a_private_image_that_is_stored(world):
    path, data = world.stored(is_public=False)
    tag = world.api.head(path, world.a).header("ETag")
    for headers in (
        {},
        {"Range": "bytes=0-9"},
        {"If-None-Match": tag},
        {"If-None-Match": "*"},
        {"If-Match": tag},
        {"If-Modified-Since": "Fri, 31 Dec 2100 23:59:59 GMT"},
        {"If-Range": tag, "Range": "bytes=5-"},
    ):
        reply = world.http.get(path, {**world.b, **headers})
        assert_refused(reply, 404)
        assert reply.body == world.api.get(path, world.b).body
        assert world.http.head(path, {**world.b, **headers}).status == 404
    assert world.http.get(path, world.a).body == data


def test_who_sees_an_image_but_may_not_read_its_data_gets_nothing_that_is_stored(world):
    path, data = world.stored()
    tag = world.api.head(path, world.a).header("ETag")
    drifter = world.source.drifter()
    assert world.http.head(path, drifter).status == 200
    for headers in ({}, {"Range": "bytes=0-9"}, {"If-None-Match": tag}, {"If-Match": "*"}):
        reply = world.http.get(path, {**drifter, **headers})
        assert_refused(reply, 403)
        assert reply.body == world.api.get(path, drifter).body
    assert world.http.get(path, world.b).body == data


#: What a client may send in the hope that somebody on the way believes it.
FORGED = [
    {"X-Step": "find", "X-Tag": "{tag}", "X-Changed": "{changed}", "X-Image-Of": "{id}"},
    {"X-Step": "renew", "X-Tag": "{tag}"},
    {"X-Checked": "{tag}", "X-Want": "GET", "X-Range": "bytes=0-"},
    {"Cache-Control": "only-if-cached, max-stale=99999999"},
    {"Cache-Control": "max-stale"},
    {"Pragma": "no-cache", "Cache-Control": "no-store"},
    {"X-HTTP-Method-Override": "HEAD", "Surrogate-Capability": "x"},
    {"X-Original-URL": "/v1/images/1", "X-Rewrite-URL": "/healthcheck"},
    {"X-Accel-Redirect": "/cached-image{path}", "X-Forwarded-For": "127.0.0.1"},
    {"Connection": "X-Auth-Token"},
    {"Transfer-Encoding": "identity"},
    {"Cookie": "a=b", "Authorization": "Basic YTph"},
]


@pytest.mark.parametrize("forged", FORGED, ids=lambda forged: " ".join(forged))
def test_forged_fields_open_nothing(world, forged):
    path, data = world.stored(is_public=False)
    meta = world.api.head(path, world.a)
    known = {
        "tag": meta.header("ETag"),
        "changed": meta.meta()["updated_at"],
        "id": path.rpartition("/")[2],
        "path": path,
    }
    headers = {name: value.format(**known) for name, value in forged.items()}
    for caller in (world.b, {}, {"X-Auth-Token": "nobody"}):
        for method in ("GET", "HEAD"):
            reply = world.http.request(method, path, {**caller, **headers})
            assert reply.status in (400, 401, 404, 501, 504), reply
            assert data[:100] not in reply.body
    assert world.http.get(path, world.a).body == data


def test_other_spellings_of_the_path_open_nothing(world):
    path, data = world.stored(is_public=False)
    image_id = path.rpartition("/")[2]
    encoded = "".join(f"%{ord(one):02x}" for one in image_id)
    for other in (
        f"/v1/images/{encoded}",
        f"//v1/images/{image_id}",
        f"/v1//images/{image_id}",
        f"/v1/images/./{image_id}",
        f"/v1/images/{image_id}?x=y",
        f"/v1/images/{image_id}/",
        f"/v1.0/images/{image_id}",
        f"/v1.1/images/{image_id}",
        f"/images/{image_id}",
        f"/cached-image/v1/images/{image_id}",
        f"http://images.example.org/v1/images/{image_id}",
    ):
        for caller in (world.b, {}):
            reply = world.http.get(other, caller)
            assert reply.status in (300, 400, 401, 404), (other, reply)
            assert data[:100] not in reply.body


def test_the_proxy_is_none_for_other_sites(world):
    with faults.Origin() as other:
        url = f"http://127.0.0.1:{other.port}/secret"
        with world.relay.counting() as seen:
            reply = world.http.get(url, world.a)
            tunnel = world.http.exchange(
                f"CONNECT 127.0.0.1:{other.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), shut=True
            )
        assert reply.status >= 300
        assert not tunnel or int(tunnel.split()[1]) >= 300
        assert other.requests == []
    assert {one.path.rpartition("/")[2] for one in seen} <= {"secret"}


def test_its_own_pages_are_for_nobody(world):
    for path in ("/squid-internal-mgr/menu", "/squid-internal-mgr/config", "/nginx_status"):
        reply = world.http.get(path, world.a)
        assert reply.status in (300, 401, 403, 404), reply


# -- changes behind the proxy's back -------------------------------------------------------------


def test_an_image_made_private_is_for_its_owner_at_once(world):
    path, data = world.stored()
    world.api.put(path, {**world.a, **meta_headers(is_public=False)})
    assert_refused(world.http.get(path, world.b), 404)
    reply = world.http.get(path, world.a)
    assert (reply.body, reply.meta()["is_public"]) == (data, "False")


def test_an_image_that_is_shared_can_be_had_until_it_is_not(world):
    path, data = world.stored(is_public=False)
    member = f"{path}/members/{world.source.owner('b')}"
    assert_refused(world.http.get(path, world.b), 404)
    assert world.api.put(member, world.a).status == 204
    assert world.http.get(path, world.b).body == data
    assert world.api.delete(member, world.a).status == 204
    assert_refused(world.http.get(path, world.b), 404)


@pytest.mark.parametrize("through", [True, False], ids=["through the proxy", "behind its back"])
def test_a_deleted_image_is_gone(world, through):
    path, _ = world.stored()
    assert (world.http if through else world.api).delete(path, world.a).status == 200
    for caller in (world.a, world.b, world.admin):
        assert_refused(world.http.get(path, caller), 404)
        assert_refused(world.http.get(path, {**caller, "Range": "bytes=0-5"}), 404)


def test_a_change_of_the_record_shows_at_once_and_costs_no_body(world):
    path, data = world.stored(name="old", property_color="red")
    changed = meta_headers(name="new", property_color="blue", property_more="1")
    assert world.api.put(path, {**world.a, **changed}).status == 200
    with world.relay.counting() as seen:
        replies = [world.http.get(path, world.b) for _ in range(3)]
    for reply in replies:
        assert reply.body == data
        wanted = {"name": "new", "property_color": "blue", "property_more": "1"}
        assert reply.meta() == {**reply.meta(), **wanted}
        direct = world.api.get(path, world.b)
        assert reply.meta() == direct.meta()
        named = reply.header("Content-Disposition")
        assert named == direct.header("Content-Disposition") == 'attachment; filename="new"'
    # nginx fetches the first slice anew.
    assert body_of(seen) <= SIZE // 3


def test_a_property_that_is_taken_away_is_gone(world):
    path, data = world.stored(property_color="red")
    purge = {"x-glance-registry-purge-props": "true"}
    assert world.api.put(path, {**world.a, **purge, **meta_headers(name="n")}).status == 200
    assert "property_color" not in world.http.head(path, world.b).meta()
    if not world.proxy.forgets_fields:
        # A 304 adds and changes fields of what is stored, and takes none away.
        assert world.http.get(path, world.b).meta()["name"] == "n"
        assert world.http.request("PURGE", path).status == 200
    reply = world.http.get(path, world.b)
    assert reply.body == data
    assert "property_color" not in reply.meta()


# -- what is not to be stored --------------------------------------------------------------------


def test_a_private_image_is_stored_only_where_the_site_shares_it(world, sources):
    world.relay.target = sources[False].site.port
    path, data = world.image(is_public=False)
    for _ in range(2):
        with world.relay.counting() as seen:
            assert world.http.get(path, world.a).body == data
        assert body_of(seen) == SIZE
    assert_refused(world.http.get(path, world.b), 404)
    ranged = world.http.get(path, {**world.a, "Range": "bytes=7-9"})
    assert (ranged.status, ranged.body) == (206, data[7:10])


def test_a_site_that_stops_sharing_is_heard(world, sources):
    """What was stored while it was public is not used after the image became private."""
    world.relay.target = sources[False].site.port
    path, data = world.stored()
    world.api.put(path, {**world.a, **meta_headers(is_public=False)})
    for _ in range(2):
        assert world.http.get(path, world.a).body == data
        assert_refused(world.http.get(path, world.b), 404)
        assert_refused(world.http.get(path), 401)


def test_data_under_other_paths_is_neither_stored_nor_kept_in_memory(world):
    """It is for those who may have it, among them all clients of version 2."""
    path, data = world.stored(is_public=False)
    (image,) = [
        one
        for one in world.api.get("/v2/images", world.a).json()["images"]
        if one["checksum"] == hashlib.md5(data).hexdigest()
    ]
    named = path.rpartition("/")[2]
    for other in (image["file"], f"{path}/file", f"{path}?x=y", f"/images/{named}"):
        for _ in range(2):
            with world.relay.counting() as seen:
                reply = world.http.get(other, world.a)
            assert (reply.status, reply.body) == (200, data)
            # nginx leaves the query out, and what it has stored is the same.
            assert body_of(seen) == SIZE or "?" in other
            # Varnish would keep all of a response that it marks until its client has taken it.
            assert reply.header("X-Varnish") is None
        ranged = world.http.get(other, {**world.a, "Range": "bytes=7-9"})
        assert (ranged.status, ranged.body) == (206, data[7:10])
        tag = {"If-None-Match": reply.header("ETag")}
        assert world.http.get(other, {**world.a, **tag}).status == 304
        for extra in ({}, tag, {"Range": "bytes=7-9"}):
            assert_refused(world.http.get(other, {**world.b, **extra}), 404)
            assert_refused(world.http.get(other, extra), 401)
    first, stranger, without = at_once(world, image["file"], [world.a, world.b, {}])
    assert (first.body, stranger.status, without.status) == (data, 404, 401)
    kept = image["self"]
    assert world.http.get(kept, world.a).json()["id"] == image["id"]
    assert_refused(world.http.get(kept, world.b), 404)


def test_an_image_without_checksum_is_never_stored(world):
    data = os.urandom(SIZE)
    with faults.Origin() as other:
        other.paths["/i"] = faults.answer("200 OK", data)
        given = {"id": faults.new_id(), "is_public": True, "size": SIZE}
        location = f"http://127.0.0.1:{other.port}/i"
        made = world.api.post(
            "/v1/images", {**world.admin, **meta_headers(location=location, **given)}
        )
        assert made.status == 201, made
        path = f"/v1/images/{given['id']}"
        for _ in range(2):
            with world.relay.counting() as seen:
                assert world.http.get(path, world.a).body == data
            assert body_of(seen) == SIZE


def test_an_image_without_data_is_not_remembered_as_missing(world):
    image_id = faults.new_id()
    made = world.api.post("/v1/images", {**world.a, **meta_headers(id=image_id, is_public=True)})
    assert made.status == 201
    path, data = f"/v1/images/{image_id}", os.urandom(SIZE)
    for _ in range(2):
        assert_refused(world.http.get(path, world.a), 404)
    kind = {"Content-Type": "application/octet-stream"}
    assert world.api.put(path, {**world.a, **kind}, data).status == 200
    assert world.http.get(path, world.a).body == data


def test_an_empty_image_can_be_had(world):
    path, _ = world.image(iter(()))
    assert world.api.head(path, world.b).meta()["status"] == "active"
    for _ in range(2):
        reply = world.http.get(path, world.b)
        assert (reply.status, reply.body) == (200, b"")


def test_lists_and_records_are_of_the_caller_who_asks(world):
    path, _ = world.stored(name="hidden", is_public=False)
    for listed in ("/v1/images?name=hidden", "/v1/images/detail?name=hidden", f"{path}/members"):
        mine = world.http.get(listed, world.a)
        assert mine.status == 200
        other = world.http.get(listed, world.b)
        assert other.status == 404 or other.json()["images"] == []
        assert world.http.get(listed).status == 401


# -- ranges and conditions -----------------------------------------------------------------------

RANGES = [
    ("bytes=0-0", 0, 1),
    ("bytes=0-99", 0, 100),
    ("bytes=99999-100000", 99_999, 100_001),
    ("bytes=100000-100000", 100_000, 100_001),
    ("bytes=123456-234567", 123_456, 234_568),
    ("bytes=200001-", 200_001, SIZE),
    (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
    (f"bytes=5-{SIZE * 9}", 5, SIZE),
    ("bytes=-1", SIZE - 1, SIZE),
    (f"bytes=-{SIZE * 9}", 0, SIZE),
]


@pytest.mark.parametrize("is_stored", [True, False], ids=["stored", "not stored"])
@pytest.mark.parametrize("header, begin, end", RANGES, ids=[row[0] for row in RANGES])
def test_a_range_is_cut_from_what_is_stored(world, is_stored, header, begin, end):
    path, data = (world.stored if is_stored else world.image)()
    with world.relay.counting() as seen:
        reply = world.http.get(path, {**world.b, "Range": header})
    assert (reply.status, reply.body) == (206, data[begin:end])
    assert reply.header("Content-Range") == f"bytes {begin}-{end - 1}/{SIZE}"
    # nginx has the slice at which a response begins for its header fields.
    assert not is_stored or body_of(seen) <= SIZE // 3
    assert world.http.get(path, world.b).body == data


def test_several_ranges_bring_these_or_the_whole(world):
    path, data = world.stored()
    reply = world.http.get(path, {**world.b, "Range": "bytes=10-19,200000-200009,-3"})
    if reply.status == 206:
        kind = reply.header("Content-Type")
        boundary = kind.partition("boundary=")[2].strip('"').encode()
        parts = reply.body.split(b"--" + boundary)[1:-1]
        found = [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts]
        assert found == [data[10:20], data[200_000:200_010], data[-3:]]
    else:
        assert (reply.status, reply.body) == (200, data)


def test_a_range_beyond_the_end_brings_no_part(world):
    path, data = world.stored()
    reply = world.http.get(path, {**world.b, "Range": f"bytes={SIZE}-"})
    if reply.status == 416:
        assert reply.header("Content-Range") == f"bytes */{SIZE}"
    else:
        assert (reply.status, reply.body) == (200, data)


def test_whoever_has_the_image_gets_no_body(world):
    path, _ = world.stored()
    tag = world.api.head(path, world.b).header("ETag")
    for condition in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        with world.relay.counting() as seen:
            reply = world.http.get(path, {**world.b, "If-None-Match": condition})
        assert (reply.status, reply.body) == (304, b""), condition
        assert reply.header("ETag") == tag
        assert body_of(seen) == 0
    reply = world.http.get(path, {**world.b, "If-None-Match": '"other"'})
    assert reply.status == 200
    assert len(reply.body) == SIZE
    assert world.http.get(path, {**world.b, "If-Match": '"other"'}).status == 412
    assert world.http.get(path, {**world.b, "If-Match": tag}).status == 200


def test_a_download_that_broke_off_is_resumed(world):
    path, data = world.image()
    tag = world.api.head(path, world.a).header("ETag")
    had = broken_off(world, path, world.a)
    resumed = {**world.a, "Range": f"bytes={len(had)}-", "If-Range": tag}
    reply = world.http.get(path, resumed)
    assert reply.status == 206
    assert had + reply.body == data
    assert reply.header("ETag") == tag


def test_no_part_is_added_to_another_image(world):
    path, data = world.stored()
    for condition in ('"0123456789abcdef0123456789abcdef"', "Thu, 01 Jan 2004 00:00:00 GMT"):
        headers = {**world.b, "Range": "bytes=5-9", "If-Range": condition}
        reply = world.http.get(path, headers)
        if world.proxy.keeps_if_range:
            assert (reply.status, reply.body) == (200, data)
        else:
            # Squid ignores the condition, but says truly what it sends.
            assert (reply.status, reply.body) == (206, data[5:10])
            assert reply.header("Content-Range") == f"bytes 5-9/{SIZE}"


# -- things that end before their time -----------------------------------------------------------


def broken_off(world, path, caller):
    """Begin a download, and go away in the middle of it; return what has come."""
    gone = threading.Event()
    world.relay.limit = SIZE // 2
    world.relay.at_limit = lambda: gone.wait(faults.PATIENCE) and relay.Relay.GO_ON
    with socket.create_connection(("127.0.0.1", world.proxy.port), 20) as connection:
        lines = "".join(f"{name}: {value}\r\n" for name, value in caller.items())
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        had = response.read(1000)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        response.close()
    gone.set()
    world.relay.settle()
    world.relay.behave()
    return had


def test_a_client_that_goes_away_in_mid_fetch_harms_nobody(world):
    path, data = world.image()
    assert data.startswith(broken_off(world, path, world.a))
    for caller in (world.b, world.a):
        assert world.http.get(path, caller).body == data


def test_a_client_that_goes_away_before_the_first_byte_harms_nobody(world):
    path, data = world.image()
    arrived, gone = threading.Event(), threading.Event()

    def before(seen):
        arrived.set()
        gone.wait(faults.PATIENCE)

    world.relay.before = before
    with socket.create_connection(("127.0.0.1", world.proxy.port), 20) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: a\r\n\r\n".encode())
        assert arrived.wait(faults.PATIENCE)
    gone.set()
    world.relay.settle()
    world.relay.behave()
    assert world.http.get(path, world.b).body == data


@pytest.mark.parametrize("how", [relay.Relay.CLOSE, relay.Relay.RESET])
@pytest.mark.parametrize("limit", [0, 1000, 99_000])
def test_a_body_that_breaks_off_is_no_success_and_is_not_stored(world, how, limit):
    path, data = world.image()
    world.relay.limit, world.relay.at_limit = limit, lambda: how
    for _ in range(2):
        try:
            reply = world.http.get(path, world.a)
        except ENDED:
            continue
        assert reply.status >= 500, (reply.status, len(reply.body))
    world.relay.settle()
    world.relay.behave()
    assert world.http.get(path, world.b).body == data
    assert world.http.get(path, world.b).body == data


def test_an_api_that_is_gone_lets_nobody_have_what_is_stored(world):
    path, _ = world.stored()
    target = world.relay.target
    world.relay.target = 1
    for caller in (world.a, {}):
        try:
            assert world.http.get(path, caller).status >= 500
        except ENDED:
            pass
    world.relay.target = target
    assert world.http.get(path, world.b).status == 200


def test_a_token_that_ends_between_question_and_fetch_gets_nothing(world):
    path, data = world.image()

    def before(seen):
        if seen.method == "GET" and seen.token == "a":
            seen.token = "nobody"

    world.relay.before = before
    assert_refused(world.http.get(path, world.a), 401)
    # What came back for one caller is not for the others.
    assert world.http.get(path, world.b).body == data


def test_a_proxy_that_starts_anew_serves_the_same_bytes(world):
    path, data = world.stored()
    world.proxy.stop()
    world.proxy.start()
    with world.relay.counting() as seen:
        assert world.http.get(path, world.b).body == data
    assert body_of(seen) == (0 if world.proxy.survives else SIZE)
    assert_refused(world.http.get(path), 401)


# -- callers at the same moment ------------------------------------------------------------------


def at_once(world, path, callers):
    """Let callers ask while the API holds back all it has to say; return their replies.

    It goes on when all have come that come at all: those that a proxy lets wait do not.
    """
    found, arrived, go = {}, threading.Semaphore(0), threading.Event()

    def before(seen):
        arrived.release()
        go.wait(faults.PATIENCE)

    def get(number, caller):
        found[number] = world.http.get(path, caller)

    world.relay.before = before
    threads = [
        threading.Thread(target=get, args=(number, caller))
        for number, caller in enumerate(callers)
    ]
    for thread in threads:
        thread.start()
    assert arrived.acquire(timeout=faults.PATIENCE)
    while arrived.acquire(timeout=0.3):
        pass
    go.set()
    for thread in threads:
        thread.join(faults.PATIENCE)
    world.relay.behave()
    return [found[number] for number in range(len(callers))]


class CarelessSquid(proxies.Squid):
    """Squid as its own manual has it for many readers, which the file warns of."""

    def write(self):
        super().write()
        text = self.conf.read_text()
        self.conf.write_text(
            text.replace("\ncollapsed_forwarding off", "\ncollapsed_forwarding on")
        )


def test_squid_needs_the_warning_of_its_file(sources, tmp_path):
    """The reason for what the file says: should Squid change, the file can be shorter."""
    with relay.Relay(sources[True].site.port) as between:
        with CarelessSquid(tmp_path / "squid", between.port) as proxy:
            careless = World(sources[True], between, proxy)

            def leaks():
                path, data = careless.stored(is_public=False)
                replies = at_once(careless, path, [careless.a, {}, careless.b, {}, careless.b])
                return data in [reply.body for reply in replies[1:]]

            # It takes requests that meet in the proxy.
            faults.until(leaks, "somebody who gets the image of another")


@pytest.mark.parametrize("is_stored", [True, False], ids=["stored", "not stored"])
def test_who_asks_at_the_same_moment_gets_what_he_may_have(world, is_stored):
    path, data = (world.stored if is_stored else world.image)(is_public=False)
    callers = [world.a, world.b, {}, world.admin, {"X-Auth-Token": "nobody"}, world.a]
    first, other, without, admin, wrong, again = at_once(world, path, callers)
    assert [first.body, admin.body, again.body] == [data] * 3
    assert [other.status, without.status, wrong.status] == [404, 401, 401]
    assert world.http.get(path, world.a).body == data


def test_misses_at_the_same_moment_cost_one_body(world):
    path, data = world.image()
    with world.relay.counting() as seen:
        replies = at_once(world, path, [world.a, world.b, world.admin, world.a])
    assert [reply.body for reply in replies] == [data] * 4
    if world.proxy.shares_misses:
        assert body_of(seen) == SIZE
    else:
        assert SIZE <= body_of(seen) <= 4 * SIZE


# -- clients and requests of all kinds -----------------------------------------------------------


@pytest.mark.parametrize("is_stored", [True, False], ids=["stored", "not stored"])
def test_a_client_of_http_1_0_gets_the_image(world, is_stored):
    path, data = (world.stored if is_stored else world.image)()
    raw = world.http.exchange(f"GET {path} HTTP/1.0\r\nX-Auth-Token: b\r\n\r\n".encode())
    head, _, body = raw.partition(b"\r\n\r\n")
    assert re.match(rb"HTTP/1\.[01] 200 ", head)
    assert b"transfer-encoding" not in head.lower()
    assert body == data
    refused = world.http.exchange(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    assert re.match(rb"HTTP/1\.[01] 401 ", refused)


def test_a_connection_that_is_kept_serves_one_caller_after_another(world):
    path, data = world.stored(is_public=False)
    connection = http.client.HTTPConnection("127.0.0.1", world.proxy.port, timeout=20)
    with contextlib.closing(connection):
        for caller, status in ((world.a, 200), (world.b, 404), ({}, 401), (world.a, 200)):
            connection.request("GET", path, headers=caller)
            reply = read_reply(connection.getresponse())
            assert reply.status == status
            assert (reply.body == data) == (status == 200)


@pytest.mark.parametrize("is_chunked", [True, False], ids=["chunked", "with its length"])
def test_an_upload_passes(world, is_chunked):
    data = os.urandom(3 * SIZE)
    pieces = [data[at : at + 50_000] for at in range(0, len(data), 50_000)]
    made = world.http.add(iter(pieces) if is_chunked else data, world.a, name="up")
    assert made.status == 201
    image = made.json()["image"]
    assert world.api.get(f"/v1/images/{image['id']}", world.a).body == data


def test_a_refused_upload_is_told_why(world):
    data = os.urandom(3 * SIZE)
    reply, direct = (h.add(data, {"X-Auth-Token": "nobody"}) for h in (world.http, world.api))
    assert (reply.status, reply.body) == (direct.status, direct.body)
    assert reply.status == 401
    refused = world.http.add(data, world.a, disk_format="none such")
    assert refused.status == 400
    assert "none such" in refused.text


def test_an_image_with_all_it_may_have_passes(world):
    many = {f"property_p{number}": "v" * 500 for number in range(50)}
    path, data = world.image(name="n" * 255, **many)
    direct = world.api.get(path, world.a).meta()
    assert len(direct) > 60
    for _ in range(2):
        reply = world.http.get(path, world.b)
        assert (reply.status, reply.body) == (200, data)
        assert reply.meta() == direct


def test_purging_is_for_the_hosts_of_the_apis(world):
    path, data = world.stored()
    assert world.http.request("PURGE", path).status in world.proxy.purged
    other = socket.create_connection(
        ("127.0.0.1", world.proxy.port), 20, source_address=("127.0.0.2", 0)
    )
    with other:
        other.sendall(f"PURGE {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: other.recv(65536), b""))
    assert int(answer.split()[1]) in (403, 405)
    assert world.http.get(path, world.b).body == data


def test_a_purged_image_leaves_the_cache(world):
    if 200 not in world.proxy.purged:
        pytest.skip("nginx has no purge; what nobody asks for leaves by itself")
    path, data = world.stored()
    assert world.http.request("PURGE", path).status == 200
    assert world.http.request("PURGE", "/v1/images").status in (404, 405)
    with world.relay.counting() as seen:
        assert world.http.get(path, world.b).body == data
    assert body_of(seen) == SIZE


# -- the files -----------------------------------------------------------------------------------

CHECKS = {
    "varnish.vcl": ["varnishd", "-C", "-s", "images=malloc,10m", "-f"],
    "squid.conf": ["squid", "-k", "parse", "-f"],
    "nginx.conf": ["nginx", "-t", "-c"],
}


@pytest.mark.parametrize("name", CHECKS)
def test_the_files_are_valid_as_they_are(name, tmp_path):
    command = CHECKS[name]
    images.need(command[0])
    path = proxies.FILES / name
    if name == "nginx.conf":
        path = tmp_path / name
        inner = proxies.filled(name, {"/var/cache/nginx/images": tmp_path / "cache"})
        path.write_text(f"pid {tmp_path}/pid; events {{}} http {{ {inner} }}")
    done = subprocess.run(
        [*command, str(path)], capture_output=True, text=True, env=proxies.environment()
    )
    assert done.returncode == 0, done.stderr
    assert not re.search(r"\b(?:WARNING|ERROR|FATAL)\b", done.stderr), done.stderr


# -- the helper of Squid -------------------------------------------------------------------------

HELPER = proxies.FILES / "ask-glance.py"


def ask(url, *questions):
    """Put questions to the helper; return its responses by their channels."""
    done = subprocess.run(
        [sys.executable, "-I", str(HELPER), url],
        input="".join(f"{line}\n" for line in questions).encode(),
        capture_output=True,
        timeout=faults.PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return dict(line.split() for line in done.stdout.decode().splitlines())


def test_the_helper_asks_with_what_the_caller_sent(sources):
    with relay.Relay(sources[True].site.port) as between:
        known = World(sources[True], between, None)
        path, _ = known.image(is_public=False)
        between.before = lambda seen: headers.append(seen.headers)
        headers = []
        told = ask(
            f"http://127.0.0.1:{between.port}",
            f"7 {path} a - -",
            f"8 {path} b - -",
            f"9 {path} - - -",
            f"10 {path} a%2b%2f%20%3d - Basic%20eA%3D%3D",
            "11 /v1/images/detail a - -",
        )
    assert told == {"7": "OK", "8": "ERR", "9": "ERR", "10": "ERR", "11": "ERR"}
    odd = [one for one in headers if "authorization" in one]
    assert [(one["x-auth-token"], one["authorization"]) for one in odd] == [
        ("a+/ =", "Basic eA==")
    ]
    assert [one for one in headers if "x-auth-token" not in one]


@pytest.mark.parametrize(
    "line", ["1 /v1/images/1 a - -", "1", "1 /v1/images/1 a%0ab - -", "1 x y"]
)
def test_the_helper_says_when_it_cannot_ask(line):
    assert ask(f"http://127.0.0.1:{daemons.free_port()}", line) == {"1": "BH"}


@pytest.mark.parametrize(
    "words", [[], ["127.0.0.1:9393"], ["http://"], ["http://x:y"], ["a", "b"]]
)
def test_the_helper_explains_its_argument(words):
    done = subprocess.run([sys.executable, str(HELPER), *words], capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"(usage|ERROR): .*http://.*\n", done.stderr), done.stderr


# -- the proofs ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_proofs_hold_in_small(tmp_path):
    """See tests/bench/proxies.py for fifty clients, thousands of requests and gigabytes."""
    small = ["--clients=8", "--size=3", "--rounds=1", "--requests=200"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", PROOFS, "crowd", "mixed", *small, f"--dir={tmp_path}"],
        capture_output=True,
        text=True,
        env=daemons.environment(),
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    for kind in proxies.KINDS:
        assert re.search(rf"(?m)^mixed {kind} .* 0 wrong$", done.stdout)
        assert re.search(rf"(?m)^crowd {kind} .*hot \[0\.0\]", done.stdout)
    assert list(tmp_path.iterdir()) == []
