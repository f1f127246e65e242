"""What the client asks version 2 of the API, and where; results of version 1 stay as they were."""

import json

import pytest

from glance import client
from glance.common import exception

UUID = "5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c11"
RECORD = {"id": UUID, "visibility": "shared", "tags": ["a"], "Trait:X": "wéb"}
NAMED = {"X-Image-Meta-Id": "7", "X-Openstack-Image-Uuid": UUID}
BOTH = b'{"versions": [{"id": "v2.7"}, {"id": "v1.1"}]}'
FIRST = b'{"versions": [{"id": "v1.1"}, {"id": "v1.0"}]}'


def made(server, **kw):
    return client.Client("127.0.0.1", server.port, timeout=5, **kw)


@pytest.fixture
def service(loopback):
    """A server that answers `replies` by path, and HEAD with the UUID of an image."""
    replies = {f"/v2/images/{UUID}": RECORD}

    def handler(seen):
        if seen.method == "HEAD":
            return (200, b"", NAMED)
        return replies.get(seen.target, (404, b"404 Not Found\n\nIt is not here.\n"))

    server = loopback.answering(handler)
    server.replies = replies
    return server


def asked(server):
    return [f"{seen.method} {seen.target}" for seen in server.requests]


@pytest.mark.parametrize(
    ("reference", "more"),
    [
        (UUID, []),
        (UUID.upper(), []),
        (f"http://other/v2/images/{UUID}", []),
        (7, ["HEAD /v1/images/7"]),
        ("7", ["HEAD /v1/images/7"]),
        ("http://other/images/7", ["HEAD /v1/images/7"]),
    ],
)
def test_record_of_version_2(service, reference, more):
    assert made(service, auth_tok="t").get_image_v2(reference) == RECORD
    assert asked(service) == [*more, f"GET /v2/images/{UUID}"]
    assert {seen.headers["x-auth-token"] for seen in service.requests} == {"t"}


@pytest.mark.parametrize(
    ("root", "second"),
    [
        ("/v1", "/v2"),
        ("/v1/", "/v2"),
        ("/v1.1", "/v2"),
        ("", "/v2"),
        ("/", "/v2"),
        ("/image/v1", "/image/v2"),
        ("/image", "/image/v2"),
        ("/v1x", "/v1x/v2"),
    ],
)
def test_version_2_stands_beside_version_1(service, root, second):
    service.replies[f"{second}/images/{UUID}"] = {**RECORD, "root": second}
    assert made(service, doc_root=root).get_image_v2(UUID)["root"] == second


def test_version_2_stands_where_the_catalog_says(service):
    class Catalog:
        is_authenticated = renews = False
        auth_token, tls, missing = "fresh", None, None
        management_url = f"http://127.0.0.1:{service.port}/image/v1"

        def authenticate(self):
            pass

    service.replies[f"/image/v2/images/{UUID}"] = RECORD
    one = client.Client("glance.example.invalid")
    one.auth_plugin = Catalog()
    assert one.get_image_v2(UUID) == RECORD
    assert service.requests[0].headers["x-auth-token"] == "fresh"


@pytest.mark.parametrize(("status", "document"), [(300, BOTH), (200, BOTH)])
def test_an_image_that_is_not_there(service, status, document):
    del service.replies[f"/v2/images/{UUID}"]
    service.replies["/versions"] = (status, document)
    with pytest.raises(exception.NotFound, match="It is not here") as caught:
        made(service).get_image_v2(UUID)
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("reply", "document"),
    [
        ((300, FIRST), None),
        ((404, b""), (300, FIRST)),
        ((404, b""), (200, FIRST)),
        ((404, b""), (404, b"")),
        ((404, b""), (200, b"<html>welcome</html>")),
        ((404, b""), (200, b'{"versions": 7}')),
        ((404, b""), (200, b'{"versions": ["v2.0"]}')),
        ((404, b""), (200, b"[" * 50_000)),
    ],
)
def test_a_server_without_version_2_is_told_from_a_missing_image(service, reply, document):
    service.replies[f"/v2/images/{UUID}"] = reply
    if document:
        service.replies["/versions"] = document
    for reference in (7, UUID):
        with pytest.raises(exception.MultipleChoices, match="does not serve version 2") as caught:
            made(service).get_image_v2(reference)
        assert caught.value.status == reply[0]


def test_a_number_without_uuid_means_a_server_without_version_2(loopback):
    server = loopback.answering(lambda seen: (200, b"", {"X-Image-Meta-Id": "7"}))
    with pytest.raises(exception.MultipleChoices, match="does not serve version 2"):
        made(server).get_image_v2(7)
    assert asked(server) == ["HEAD /v1/images/7"]


@pytest.mark.parametrize("reply", [b"<html>", b"[]", b"{}", {"id": "7"}, b""])
def test_a_success_that_is_no_such_image_is_no_record(service, reply):
    service.replies[f"/v2/images/{UUID}"] = reply
    with pytest.raises(exception.ClientConnectionError, match="is it glance-api"):
        made(service).get_image_v2(UUID)


@pytest.mark.parametrize("status", [403, 500, 503])
def test_a_failure_is_none_of_the_above(service, status):
    service.replies[f"/v2/images/{UUID}"] = (status, b"no")
    with pytest.raises(exception.Error) as caught:
        made(service).get_image_v2(UUID)
    assert caught.value.status == status
    assert not isinstance(caught.value, exception.MultipleChoices | exception.NotFound)


CALLS = {
    "get_image": lambda one, **kw: one.get_image(7, **kw)[0],
    "get_image_meta": lambda one, **kw: one.get_image_meta(7, **kw),
    "add_image": lambda one, **kw: one.add_image({"name": "x"}, **kw),
    "update_image": lambda one, **kw: one.update_image(7, {}, **kw),
    "restore_image": lambda one, **kw: one.restore_image(7, **kw),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("told", [UUID.upper(), None, "", "7", "no uuid", f"{UUID}x"])
def test_results_have_the_uuid_for_who_wants_it(loopback, call, told):
    headers = {"X-Image-Meta-Id": "7"} | ({} if told is None else {"X-Openstack-Image-Uuid": told})
    body = json.dumps({"image": {"id": 7}}).encode()
    server = loopback.answering(lambda seen: (200, body, headers))
    plain = call(made(server))
    # Programs compare the whole mapping, and send it back.
    assert plain.keys() <= {"id", "properties", "uri"}
    added = {"uuid": UUID} if told == UUID.upper() else {}
    assert call(made(server), with_uuid=True) == {**plain, **added}


def test_an_id_that_is_a_uuid_is_the_uuid(loopback):
    server = loopback.answering(lambda seen: (200, b"", {"X-Image-Meta-Id": UUID}))
    assert made(server).get_image_meta(UUID, with_uuid=True)["uuid"] == UUID
