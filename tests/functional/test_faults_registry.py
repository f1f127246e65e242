"""The registry goes away, hangs, comes back, talks nonsense: before, during, after uploads."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import threading
import time

import pytest

from glance.testing.faults import Fault, FaultProxy

from support import daemons, faults
from support.faults import Upload, new_id
from support.rawhttp import identity, meta_headers

pytestmark = pytest.mark.full

OCTETS = {"Content-Type": "application/octet-stream"}
DATA = os.urandom(1 << 20)
HALF = DATA[: len(DATA) // 2]
TIMEOUT = 1


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    options = {"registry_client_timeout": TIMEOUT, "upload_idle_timeout": 0}
    directory = tmp_path_factory.mktemp("registry")
    with daemons.Site(directory, api=options) as running:
        yield running


@pytest.fixture
def site(shared):
    """Both daemons; a registry that the test has ended runs again afterwards."""
    yield shared
    faults.revive(shared)


REQUESTS = {
    "list": ("GET", "/v1/images", b""),
    "detail": ("GET", "/v1/images/detail", b""),
    "head": ("HEAD", "/v1/images/{}", b""),
    "get": ("GET", "/v1/images/{}", b""),
    "reserve": ("POST", "/v1/images", b""),
    "upload": ("POST", "/v1/images", DATA),
    "update": ("PUT", "/v1/images/{}", b""),
    "delete": ("DELETE", "/v1/images/{}", b""),
    "members": ("GET", "/v1/images/{}/members", b""),
    "share": ("PUT", "/v1/images/{}/members/someone", b""),
    "shared": ("GET", "/v1/shared-images/someone", b""),
}


def ask(site, image_id, kind):
    method, path, data = REQUESTS[kind]
    headers = {**OCTETS, **meta_headers(id=new_id())} if method == "POST" else OCTETS
    return site.http.request(method, path.format(image_id), headers, data)


def assert_unavailable(site, image_id, kind):
    began = time.monotonic()
    reply = ask(site, image_id, kind)
    assert reply.status == 503, (kind, reply)
    assert int(reply.header("Retry-After")) > 0
    assert b"Traceback" not in reply.body
    # The default would be 30.
    assert time.monotonic() - began < TIMEOUT * 10


# -- away ----------------------------------------------------------------------------------------


def test_a_registry_that_was_killed_is_answered_503(site):
    image_id = faults.store(site, DATA)
    site.registry.kill()
    for kind in REQUESTS:
        assert_unavailable(site, image_id, kind)
    site.registry.start()
    # None of them had an effect.
    faults.assert_active(site, image_id, DATA)


def test_a_registry_away_before_an_upload_leaves_nothing(site):
    image_id = new_id()
    site.registry.kill()
    assert site.http.add(DATA, id=image_id).status == 503
    assert not faults.files_of(site, image_id)
    site.registry.start()
    assert faults.status_of(site, image_id) is None


def test_a_registry_away_before_data_is_put_leaves_the_image_queued(site):
    image_id = faults.reserve(site)
    site.registry.kill()
    assert site.http.put(f"/v1/images/{image_id}", OCTETS, DATA).status == 503
    assert not faults.files_of(site, image_id)
    site.registry.start()
    assert faults.status_of(site, image_id) == "queued"
    assert site.http.put(f"/v1/images/{image_id}", OCTETS, DATA).status == 200
    faults.assert_active(site, image_id, DATA)


def test_a_registry_lost_during_an_upload_is_answered_503_and_the_image_killed_later(site):
    image_id = new_id()
    with Upload(site, image_id, length=len(DATA)) as upload:
        upload.send(HALF).until_saving()
        site.registry.kill()
        reply = upload.send(DATA[len(HALF) :]).reply()
    assert reply.status == 503
    assert int(reply.header("Retry-After")) > 0
    site.registry.start()
    faults.assert_killed(site, image_id)


def test_a_client_and_the_registry_lost_during_an_upload_leave_a_killed_image(site):
    image_id = new_id()
    with Upload(site, image_id, length=len(DATA)) as upload:
        upload.send(HALF).until_saving()
        site.registry.kill()
        upload.vanish()
    faults.until_no_file(site, image_id)
    site.registry.start()
    faults.assert_killed(site, image_id)


def test_a_registry_that_is_back_before_the_end_of_the_data_does_no_harm(site):
    image_id = new_id()
    with Upload(site, image_id, length=len(DATA)) as upload:
        upload.send(HALF).until_saving()
        site.registry.kill()
        site.registry.start()
        assert upload.send(DATA[len(HALF) :]).reply().status == 201
    faults.assert_active(site, image_id, DATA)


def test_a_registry_that_is_back_soon_after_the_data_does_no_harm(site):
    image_id = new_id()
    with Upload(site, image_id, length=len(DATA)) as upload:
        upload.send(HALF).until_saving()
        site.registry.kill()
        noted = site.api.log().count("; retrying")
        upload.send(DATA[len(HALF) :])
        faults.until(lambda: site.api.log().count("; retrying") > noted, "the API retries")
        site.registry.start()
        assert upload.reply().status == 201
    faults.assert_active(site, image_id, DATA)


# -- hanging -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["list", "get", "reserve", "upload", "delete"])
def test_a_registry_that_hangs_is_answered_503_in_time(site, kind):
    image_id = faults.store(site, DATA)
    with faults.stopped(site.registry):
        assert_unavailable(site, image_id, kind)
    faults.until(lambda: site.http.get("/v1/images").status == 200, "the registry answers again")


def test_other_requests_are_served_while_one_waits_for_the_registry(site):
    with faults.stopped(site.registry):
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", site.port, timeout=faults.PATIENCE)
        ) as waiting:
            waiting.request("GET", "/v1/images")
            assert site.http.get("/versions").status == 300
            assert waiting.getresponse().status == 503


def test_a_registry_that_hangs_for_a_while_after_the_data_does_no_harm(site):
    image_id = new_id()
    with Upload(site, image_id, length=len(DATA)) as upload:
        upload.send(HALF).until_saving()
        noted = site.api.log().count("; retrying")
        with faults.stopped(site.registry):
            upload.send(DATA[len(HALF) :])
            faults.until(lambda: site.api.log().count("; retrying") > noted, "it retries")
        # NOTE: the registry now carries out the first request too, whose answer nobody awaits.
        assert upload.reply().status == 201
    faults.assert_active(site, image_id, DATA)


def test_a_registry_that_hangs_too_long_after_the_data_never_has_an_image_without_data(site):
    image_id = new_id()
    with Upload(site, image_id, length=len(DATA)) as upload:
        upload.send(HALF).until_saving()
        with faults.stopped(site.registry):
            assert upload.send(DATA[len(HALF) :]).reply().status == 503
    # NOTE: requests that the API has given up are carried out now, the activation among them.
    faults.until(lambda: site.http.get("/v1/images").status == 200, "the registry answers again")
    settled = faults.until(lambda: settled_status(site, image_id), "the upload is settled")
    if settled == "active":
        faults.assert_active(site, image_id, DATA)
    else:
        faults.assert_killed(site, image_id)


def settled_status(site, image_id):
    status = faults.status_of(site, image_id)
    return None if status == "saving" else status


# -- back ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, end",
    [
        ("list", "stop"),
        ("get", "kill"),
        ("reserve", "stop"),
        ("reserve", "kill"),
        ("update", "kill"),
        ("delete", "stop"),
    ],
)
def test_a_kept_connection_to_a_registry_that_restarted_does_no_harm(site, kind, end):
    image_id = faults.store(site, DATA)
    assert site.http.get(f"/v1/images/{image_id}").status == 200
    getattr(site.registry, end)()
    site.registry.start()
    assert ask(site, image_id, kind).status in (200, 201)


# -- nonsense ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fooled(tmp_path_factory):
    """A site with a web server in the place of its registry."""
    site = daemons.Site(
        tmp_path_factory.mktemp("fooled"), api={"registry_client_timeout": TIMEOUT}
    )
    site.write()
    with faults.Origin(site.registry.port) as registry:
        site.api.start()
        try:
            yield site, registry
        finally:
            site.api.stop()


JSON = "Content-Type: application/json\r\n"
NONSENSE = {
    "500": faults.answer("500 Internal Server Error", b"Traceback (most recent call last)"),
    "502": faults.answer("502 Bad Gateway", b"<html>gateway</html>"),
    "301": faults.redirect("http://127.0.0.1/elsewhere", "301 Moved Permanently"),
    "not-json": faults.answer("200 OK", b"hello", headers=JSON),
    "no-object": faults.answer("200 OK", b"[]", headers=JSON),
    "another-object": faults.answer("200 OK", b'{"something": "else"}', headers=JSON),
    "bad-encoding": faults.answer("200 OK", b'{"images": "\xff"}', headers=JSON),
    "empty": faults.answer("200 OK", b"", headers=JSON),
    "short": faults.answer("200 OK", b'{"images": [', length=100, headers=JSON),
    "no-http": lambda connection, method: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "nothing": lambda connection, method: None,
    "reset": faults.resetting(),
}


@pytest.mark.parametrize("kind", ["list", "head", "get", "reserve", "upload", "update", "delete"])
@pytest.mark.parametrize("behaviour", NONSENSE.values(), ids=NONSENSE)
def test_a_registry_that_talks_nonsense_is_answered_503(fooled, behaviour, kind):
    site, registry = fooled
    registry.default = behaviour
    assert_unavailable(site, 1, kind)
    assert not site.data_files()


# -- calls whose response is lost ----------------------------------------------------------------


@pytest.fixture(scope="module")
def wired(tmp_path_factory):
    """A site whose API reaches its registry through a proxy that injects faults."""
    site = daemons.Site(
        tmp_path_factory.mktemp("wired"),
        auth_mode="trusted-headers",
        api={"registry_client_timeout": TIMEOUT},
        api_pipeline="versionnegotiation context rootapp",
    )
    try:
        # NOTE: it ends first, because a daemon that stops waits for requests that hang in it.
        with FaultProxy(site.registry.port) as proxy:
            site.api_options["registry_port"] = proxy.port
            yield site.start(), proxy
    finally:
        site.stop()


LOST = {"lost": {"cut_response": -1}, "not-arrived": {"cut_request": 0}}
#: How many calls of each method precede that which is lost: PUT begins, then activates.
CALLS = {"create": ("POST", 0), "begin": ("PUT", 0), "activate": ("PUT", 1)}


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
@pytest.mark.parametrize("call", CALLS)
def test_a_lost_call_of_an_upload_is_repeated(wired, call, fault):
    site, proxy = wired
    method, skip = CALLS[call]
    proxy.order(Fault(method=method, skip=skip, **fault))
    caller = identity(f"{call}-{list(fault)}")
    reply = site.http.add(DATA, caller)
    assert reply.status == 201, reply
    listed = site.http.get("/v1/images/detail?is_public=none", caller).json()["images"]
    assert [(image["id"], image["status"]) for image in listed] == [
        (reply.json()["image"]["id"], "active")
    ]


@pytest.mark.parametrize("fault", ["stall_response", "stall_request"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_registry_that_hangs_where_an_upload_begins_leaves_a_killed_image(wired, method, fault):
    site, proxy = wired
    caller = identity(f"{method}-{fault}")
    path = "/v1/images"
    if method == "PUT":
        path += f"/{site.http.post(path, caller).json()['image']['id']}"
    proxy.order(Fault(method="PUT", **{fault: -1 if fault == "stall_response" else 0}))
    assert site.http.request(method, path, {**OCTETS, **caller}, DATA).status == 503
    image_id = next(call for call in reversed(proxy.seen) if call.startswith("PUT")).split("/")[2]
    path = f"/v1/images/{image_id}"
    faults.until(
        lambda: site.http.head(path, caller).meta()["status"] == "killed", "it is settled"
    )
    faults.until_no_file(site, image_id)


def test_a_registry_that_hangs_where_a_record_is_made_leaves_none(site):
    noted = site.registry.log().count("DELETE /attempts/")
    with faults.stopped(site.registry):
        assert site.http.add(DATA, name="hanging").status == 503
    listing = "/v1/images?is_public=none&name=hanging"
    faults.until(lambda: site.http.get(listing).status == 200, "the registry answers again")
    # NOTE: the registry may now carry out the creation, too, whose response nobody awaits.
    faults.until(
        lambda: site.registry.log().count("DELETE /attempts/") > noted, "the API looks for it"
    )
    faults.until(lambda: site.http.get(listing).json() == {"images": []}, "it is withdrawn", 60)


def test_a_lost_deletion_is_repeated_and_the_data_removed(wired):
    site, proxy = wired
    caller = identity("deleting")
    image_id = site.http.add(DATA, caller).json()["image"]["id"]
    proxy.order(Fault(method="DELETE", cut_response=-1))
    assert site.http.delete(f"/v1/images/{image_id}", caller).status == 200
    assert site.http.head(f"/v1/images/{image_id}", caller).status == 404
    faults.until_no_file(site, image_id)


def test_changes_by_version_2_are_repeated_and_find_no_fault_with_themselves(wired):
    site, proxy = wired
    caller = identity("version-2")

    def lose(method, path, document=None, media_type="application/json"):
        proxy.order(Fault(method=None if method == "GET" else method, cut_response=-1))
        body = b"" if document is None else json.dumps(document).encode()
        headers = {**caller, "Content-Type": media_type}
        reply = site.http.request(method, f"/v2/images{path}", headers, body)
        assert reply.status in (200, 201, 204), reply
        return reply

    image = lose("POST", "", {"name": "lost", "p": "1"}).json()
    path = f"/{image['id']}"
    patch = [{"op": "remove", "path": "/p"}, {"op": "replace", "path": "/name", "value": "n"}]
    lose("PATCH", path, patch, "application/openstack-images-v2.1-json-patch")
    lose("PUT", f"{path}/tags/t")
    lose("DELETE", f"{path}/tags/t")
    lose("POST", f"{path}/members", {"member": "m"})
    lose("DELETE", f"{path}/members/m")
    [found] = lose("GET", "").json()["images"]
    assert (found["name"], found["tags"], found.get("p")) == ("n", [], None)
    lose("DELETE", path)
    assert site.http.get(f"/v2/images{path}", caller).status == 404


def test_no_upload_is_left_undecided_by_a_registry_that_is_killed_again_and_again(site):
    ended = threading.Event()
    answered = []

    def upload():
        while not ended.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                answered.append(site.http.add(b"data", name="storm").status)

    def settled():
        found = site.http.get("/v1/images/detail?is_public=none&limit=1000&name=storm")
        return found.status == 200 and not [
            image["id"] for image in found.json()["images"] if image["status"] != "active"
        ]

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        uploads = [pool.submit(upload) for _ in range(6)]
        try:
            for _ in range(10):
                enough = len(answered) + 20
                faults.until(lambda most=enough: len(answered) > most, "uploads go on")
                site.registry.kill()
                site.registry.start()
        finally:
            ended.set()
        for each in uploads:
            each.result()
    assert set(answered) <= {201, 503}
    faults.until(settled, "each record is active, killed or gone", 60)
