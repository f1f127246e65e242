"""The registry's HTTP API from the client's side, and the functions that the API calls."""

import gc
import json
import logging

import pytest

from glance import registry
from glance.common import config, exception
from glance.identity.context import RequestContext
from glance.registry import client, link

RECORD = {"id": 7, "name": "web", "location": "file:///srv/7", "properties": {"a": "b"}}


def conf(server, **values):
    return config.Conf({"registry_port": str(server.port), **values})


def direct(server):
    return client.RegistryClient("127.0.0.1", server.port, timeout=5)


CALLS = [
    (
        ("get_images", {"filters": {"name": "a b"}, "limit": 2, "nonsense": 1}),
        ("GET", "/images?name=a+b&limit=2", None),
        {"images": [RECORD]},
        [RECORD],
    ),
    (
        ("get_images_detailed", {"marker": 3, "sort_key": "name", "sort_dir": "asc"}),
        ("GET", "/images/detail?marker=3&sort_key=name&sort_dir=asc", None),
        {"images": []},
        [],
    ),
    (("get_image", {"image_id": 7}), ("GET", "/images/7", None), {"image": RECORD}, RECORD),
    (
        ("get_image", {"image_id": "7?a#../b"}),
        ("GET", "/images/7%3Fa%23..%2Fb", None),
        {"image": RECORD},
        RECORD,
    ),
    (
        ("add_image", {"image_metadata": {"name": "web"}}),
        ("POST", "/images", {"image": {"name": "web"}}),
        {"image": RECORD},
        RECORD,
    ),
    (
        ("add_image", {"image_metadata": {"image": {"name": "web"}}}),
        ("POST", "/images", {"image": {"name": "web"}}),
        {"image": RECORD},
        RECORD,
    ),
    (
        ("update_image", {"image_id": 7, "image_metadata": {"size": 1}}),
        ("PUT", "/images/7", {"image": {"size": 1}}),
        {"image": RECORD},
        RECORD,
    ),
    (
        ("update_image", {"image_id": 7, "image_metadata": {}, "from_state": "queued"}),
        ("PUT", "/images/7", {"image": {}, "from_state": "queued"}),
        {"image": RECORD},
        RECORD,
    ),
    (
        ("add_image", {"image_metadata": {}, "attempt": "a", "is_repeated": True}),
        ("POST", "/images", {"image": {}, "attempt": "a", "repeated": True}),
        {"image": RECORD},
        RECORD,
    ),
    (
        ("update_image", {"image_id": 7, "image_metadata": {}, "attempt": "a"}),
        ("PUT", "/images/7", {"image": {}, "attempt": "a"}),
        {"image": RECORD},
        RECORD,
    ),
    (
        ("withdraw_image", {"attempt": "a"}),
        ("DELETE", "/attempts/a", None),
        {"image": RECORD},
        RECORD,
    ),
    (("delete_image", {"image_id": 7}), ("DELETE", "/images/7", None), None, True),
    (
        ("restorable_image", {"image_id": 7}),
        ("GET", "/images/7/restore", None),
        {"image": RECORD},
        RECORD,
    ),
    (
        ("restore_image", {"image_id": 7}),
        ("POST", "/images/7/restore", None),
        {"image": RECORD},
        RECORD,
    ),
    (("remove_image", {"image_id": 7}), ("DELETE", "/images/7", None), {"image": RECORD}, RECORD),
    (
        ("remove_image", {"image_id": 7, "status": "deleted"}),
        ("DELETE", "/images/7?status=deleted", None),
        None,
        {},
    ),
    (
        ("get_image_members", {"image_id": 7}),
        ("GET", "/images/7/members", None),
        {"members": [{"member_id": "t", "can_share": False}]},
        [{"member_id": "t", "can_share": False}],
    ),
    (
        ("get_member_images", {"member_id": "ten ant"}),
        ("GET", "/shared-images/ten%20ant", None),
        {"shared_images": []},
        [],
    ),
    (
        ("replace_members", {"image_id": 7, "member_data": [{"member_id": "t"}]}),
        ("PUT", "/images/7/members", {"memberships": [{"member_id": "t"}]}),
        204,
        True,
    ),
    (
        ("replace_members", {"image_id": 7, "member_data": {"member_id": "t"}}),
        ("PUT", "/images/7/members", {"memberships": [{"member_id": "t"}]}),
        204,
        True,
    ),
    (
        ("replace_members", {"image_id": 7, "member_data": {"memberships": []}}),
        ("PUT", "/images/7/members", {"memberships": []}),
        200,
        False,
    ),
    (
        ("add_member", {"image_id": 7, "member_id": "a/b"}),
        ("PUT", "/images/7/members/a%2Fb", None),
        204,
        True,
    ),
    (
        ("add_member", {"image_id": 7, "member_id": "t", "can_share": False}),
        ("PUT", "/images/7/members/t", {"member": {"can_share": False}}),
        204,
        True,
    ),
    (
        ("delete_member", {"image_id": 7, "member_id": "t"}),
        ("DELETE", "/images/7/members/t", None),
        204,
        True,
    ),
]


@pytest.mark.parametrize(("call", "sent", "answer", "result"), CALLS)
def test_call_sends_and_returns(loopback, call, sent, answer, result):
    status, body = (answer, b"") if isinstance(answer, int) else (200, json.dumps(answer).encode())
    server = loopback.answering(lambda seen: (status, body))
    method, arguments = call
    assert getattr(direct(server), method)(**arguments) == result
    seen = server.requests[0]
    assert (seen.method, seen.target, seen.json if seen.body else None) == sent


@pytest.mark.parametrize(("purge", "header"), [(True, "true"), (False, None)])
def test_purge_is_asked_for_by_header(loopback, purge, header):
    server = loopback.answering(lambda seen: {"image": RECORD})
    direct(server).update_image(7, {}, purge_props=purge)
    assert server.requests[0].headers.get("x-glance-registry-purge-props") == header


# -- the functions -------------------------------------------------------------------------------

ALL = [
    (registry.get_images_list, ()),
    (registry.get_images_detail, ()),
    (registry.get_image_metadata, (7,)),
    (registry.add_image_metadata, ({"name": "web"},)),
    (registry.update_image_metadata, (7, {"name": "web"})),
    (registry.delete_image_metadata, (7,)),
    (registry.get_image_members, (7,)),
    (registry.get_member_images, ("t",)),
    (registry.replace_members, (7, [])),
    (registry.add_member, (7, "t")),
    (registry.delete_member, (7, "t")),
]
every_function = pytest.mark.parametrize(
    ("function", "arguments"), ALL, ids=[function.__name__ for function, _ in ALL]
)


@every_function
def test_connections_are_shared_by_all_callers(loopback, function, arguments):
    everything = {"images": [], "image": {}, "members": [], "shared_images": []}
    server = loopback.answering(lambda seen: everything)
    settings = conf(server)
    for token in ("one", "two"):
        function(settings, RequestContext(auth_tok=token), *arguments)
    assert server.connections == 1
    assert [seen.headers["x-auth-token"] for seen in server.requests] == ["one", "two"]


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        ((200, b"OK\n"), None),
        ((503, b"database\n"), "database"),
        ((503, b"draining\n"), "registry"),
        ((503, b"<html>no server is available</html>" * 1000), "registry"),
        ((500, b"database"), "database"),
        # Registries of older releases have no health checks.
        ((404, b"404 Not Found"), None),
        ((401, b"a secret is required"), None),
        ((300, b"{}"), None),
    ],
)
def test_health_of_the_registry(loopback, answer, missing):
    server = loopback.answering(lambda seen: answer)
    asked = link.RegistryLink(conf(server, registry_shared_secret="canary"))
    assert asked.missing() == missing
    seen = server.requests[0]
    assert (seen.method, seen.target) == ("GET", "/healthcheck/ready")
    assert "canary" not in str(seen.headers)
    asked.close()


def test_a_registry_that_is_not_there_has_no_health(loopback):
    server = loopback.answering(lambda seen: (200, b"OK"))
    port = server.port
    server.stop()
    with pytest.raises(exception.ClientConnectionError):
        link.RegistryLink(config.Conf({"registry_port": str(port)})).missing()


@every_function
@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (400, exception.Invalid),
        (401, exception.NotAuthorized),
        (403, exception.Forbidden),
        (404, exception.NotFound),
        (409, exception.Duplicate),
        (413, exception.LimitExceeded),
    ],
)
def test_refusal_keeps_its_class_and_reason(loopback, function, arguments, status, cls):
    server = loopback.answering(lambda seen: (status, f"{status} No\n\nThe reason.\n".encode()))
    with pytest.raises(cls, match=r"^The reason\.$"):
        function(conf(server), RequestContext(auth_tok="tok"), *arguments)
    assert [seen.headers["x-auth-token"] for seen in server.requests] == ["tok"]


def says(*parts):
    def script(peer):
        peer.request()
        for part in parts:
            peer.send(part)

    return script


def stalls(peer):
    peer.request()
    peer.wait_closed()


def resets(peer):
    peer.request()
    peer.reset()


@every_function
@pytest.mark.parametrize(
    "script",
    [
        says(b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nOops"),
        says(b"HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n"),
        says(b"HTTP/1.1 302 Elsewhere\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
        says(b"SSH-2.0-OpenSSH\r\n"),
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
        resets,
        stalls,
    ],
    ids=["500", "503", "302", "not-http", "short", "reset", "stall"],
)
def test_registry_in_trouble_is_unavailable(loopback, function, arguments, script):
    settings = conf(loopback(script), registry_client_timeout="0.1")
    with pytest.raises(exception.RegistryUnavailable):
        function(settings, RequestContext(), *arguments)


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b"[1]", b'{"image": 3}', b"<html>"])
def test_answer_that_holds_no_image_is_unavailable(loopback, body):
    server = loopback.answering(lambda seen: body)
    with pytest.raises(exception.RegistryUnavailable):
        registry.get_image_metadata(conf(server), RequestContext(), 7)


def test_absent_registry_is_unavailable(loopback):
    server = loopback.answering(lambda seen: b"")
    server.stop()
    with pytest.raises(exception.RegistryUnavailable):
        registry.get_images_list(conf(server), RequestContext())


def test_restarted_registry_is_noticed_without_an_error(loopback):
    answer = b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"images":[]}'
    server = loopback(says(answer), says(answer))
    settings = conf(server)
    registry.get_images_list(settings, RequestContext())
    assert registry.get_images_list(settings, RequestContext()) == []
    assert server.connections == 2


def headers_sent(loopback, context, **values):
    server = loopback.answering(lambda seen: {"images": []})
    registry.get_images_list(conf(server, **values), context)
    return server.requests[0].headers


CALLER = RequestContext(
    auth_tok="tok", user="jörg", tenant="acme", roles=["a", "b"], request_id="req-1"
)


def test_token_and_request_id_go_along_but_no_identity(loopback):
    sent = headers_sent(loopback, CALLER)
    assert (sent["x-auth-token"], sent["x-openstack-request-id"]) == ("tok", "req-1")
    assert not {"x-user-id", "x-tenant-id", "x-roles", "x-identity-status"} & set(sent)


def test_identity_goes_along_when_it_is_configured(loopback):
    sent = headers_sent(loopback, CALLER, send_identity_headers="true")
    assert sent["x-user-id"].encode("latin-1").decode() == "jörg"
    assert (sent["x-tenant-id"], sent["x-roles"]) == ("acme", "a,b")
    assert sent["x-identity-status"] == "Confirmed"


def test_caller_without_a_token_sends_none(loopback):
    assert "x-auth-token" not in headers_sent(loopback, RequestContext())


@pytest.mark.parametrize(
    ("configured", "asked"),
    [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("[::1]", "::1"), ("reg.example", "reg.example")],
)
def test_any_address_means_this_host(configured, asked):
    settings = config.Conf({"registry_host": configured})
    assert registry.get_registry_client(settings, RequestContext()).host == asked


def test_calls_with_the_same_settings_share_their_connections(loopback):
    server = loopback.answering(lambda seen: {"images": []})
    settings = conf(server)
    for _ in range(3):
        registry.get_images_list(settings, RequestContext())
    assert server.connections == 1


def test_a_link_goes_with_its_settings():
    settings = config.Conf()
    registry.get_registry_client(settings, RequestContext())
    kept = set(registry._LINKS)
    assert id(settings) in kept
    number = id(settings)
    del settings
    gc.collect()
    assert number not in registry._LINKS


def test_a_link_of_an_application_is_no_other_ones(loopback):
    server = loopback.answering(lambda seen: {"images": []})
    settings = conf(server)
    links = [link.RegistryLink(settings) for _ in range(2)]
    for one in links:
        assert one.get_images_list(RequestContext()) == []
    assert server.connections == 2
    links[0].close()
    assert links[0].get_images_list(RequestContext()) == []
    assert server.connections == 3


def test_tls_files_are_read_with_the_first_call(tmp_path):
    made = link.RegistryLink(
        config.Conf(
            {
                "registry_client_protocol": "https",
                "registry_client_ca_file": str(tmp_path / "absent"),
            }
        )
    )
    with pytest.raises(exception.BadInputError, match="ca_file"):
        made.get_images_list(RequestContext())


def test_plain_mapping_serves_as_configuration(loopback):
    server = loopback.answering(lambda seen: {"images": []})
    options = {"registry_host": "127.0.0.1", "registry_port": str(server.port)}
    assert registry.get_images_list(options, RequestContext()) == []


def test_https_registry_is_verified(tmp_path):
    settings = config.Conf({"registry_client_protocol": "https"})
    made = registry.get_registry_client(settings, RequestContext())
    assert made._connections().context.check_hostname


def test_debug_log_shows_metadata_without_the_location(loopback, caplog):
    server = loopback.answering(lambda seen: {"image": RECORD})
    with caplog.at_level(logging.DEBUG, "glance.registry"):
        registry.add_image_metadata(conf(server), RequestContext(), {"name": "web"})
    assert f"{'name':>20}: web" in caplog.text
    assert "file:///srv/7" not in caplog.text
