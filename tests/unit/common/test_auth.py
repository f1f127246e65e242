"""Signing in at Keystone, in both versions and with every way in which it goes wrong."""

import pytest

from glance.common import auth, exception

V1_OK = (204, b"", {"X-Server-Management-Url": "http://glance:9292/v1", "X-Auth-Token": "tok"})
V2_OK = {
    "auth": {
        "token": {"id": "tok"},
        "serviceCatalog": {"glance": [{"publicURL": "http://glance:9292/v1"}]},
    }
}
ACCESS = {
    "access": {
        "token": {"id": "tok"},
        "serviceCatalog": [
            {"type": "compute", "endpoints": [{"publicURL": "http://nova"}]},
            {
                "type": "image",
                "endpoints": [
                    {"region": "one", "publicURL": "http://one:9292/v1"},
                    {"region": "two", "publicURL": "http://two:9292/v1"},
                ],
            },
        ],
    }
}


def strategy(server, path="/", **creds):
    url = f"http://127.0.0.1:{server.port}{path}"
    creds = {"username": "joe", "password": "s3cret", "auth_url": url, **creds}
    return auth.KeystoneStrategy(creds, timeout=5)


@pytest.mark.parametrize("name", ["username", "password", "auth_url"])
@pytest.mark.parametrize("value", [None, ""])
def test_missing_credential_is_named(loopback, name, value):
    plugin = strategy(loopback.answering(lambda seen: V1_OK), **{name: value})
    with pytest.raises(
        exception.MissingArgumentError, match=f"'{name}' must be included in creds"
    ):
        plugin.authenticate()


@pytest.mark.parametrize("path", ["/", "", "/v1.0"])
def test_version_1_sends_headers_and_reads_headers(loopback, path):
    server = loopback.answering(lambda seen: V1_OK)
    plugin = strategy(server, path, tenant="acme")
    assert not plugin.is_authenticated
    plugin.authenticate()
    assert plugin.is_authenticated
    assert (plugin.auth_token, plugin.management_url) == ("tok", "http://glance:9292/v1")
    seen = server.requests[0]
    assert (seen.method, seen.target) == ("GET", f"{path.rstrip('/')}/tokens")
    sent = [seen.headers[f"x-auth-{name}"] for name in ("user", "key", "tenant")]
    assert (sent, seen.headers["user-agent"]) == (["joe", "s3cret", "acme"], "glance-client")


def test_version_1_without_a_tenant_sends_none(loopback):
    server = loopback.answering(lambda seen: V1_OK)
    strategy(server, tenant=None).authenticate()
    assert "x-auth-tenant" not in server.requests[0].headers


def test_credentials_outside_ascii_travel_as_utf_8(loopback):
    server = loopback.answering(lambda seen: V1_OK)
    strategy(server, username="jörg").authenticate()
    assert server.requests[0].headers["x-auth-user"].encode("latin-1").decode() == "jörg"


def test_version_1_answer_without_a_token_leads_to_version_2(loopback):
    server = loopback.answering(lambda seen: V2_OK if "v2.0" in seen.target else (200, b"{}"))
    plugin = strategy(server, "/identity")
    plugin.authenticate()
    assert [seen.target for seen in server.requests] == [
        "/identity/tokens",
        "/identity/v2.0/tokens",
    ]
    assert plugin.creds["auth_url"].endswith("/identity/v2.0/")


@pytest.mark.parametrize("path", ["/v2.0", "/v2.0/", "/identity/v2.0"])
def test_version_2_sends_the_tenant_and_reads_the_catalogue(loopback, path):
    server = loopback.answering(lambda seen: V2_OK)
    plugin = strategy(server, path, tenant="acme")
    plugin.authenticate()
    assert (plugin.auth_token, plugin.management_url) == ("tok", "http://glance:9292/v1")
    seen = server.requests[0]
    assert (seen.method, seen.target) == ("POST", f"{path.rstrip('/')}/tokens")
    assert seen.json == {
        "passwordCredentials": {"username": "joe", "password": "s3cret", "tenantId": "acme"}
    }


@pytest.mark.parametrize(
    ("creds", "tenant"),
    [
        ({"tenant": "acme"}, {"tenantName": "acme"}),
        ({"tenant_id": "42"}, {"tenantId": "42"}),
        ({}, {}),
    ],
)
def test_version_2_server_that_refuses_the_old_body_gets_the_later_one(loopback, creds, tenant):
    server = loopback.answering(lambda seen: ACCESS if "auth" in seen.json else (400, b"what?"))
    plugin = strategy(server, "/v2.0", **creds)
    plugin.authenticate()
    login = {"username": "joe", "password": "s3cret"}
    assert server.requests[1].json == {"auth": {"passwordCredentials": login, **tenant}}
    assert plugin.management_url == "http://one:9292/v1"


def test_region_chooses_among_endpoints(loopback):
    plugin = strategy(loopback.answering(lambda seen: ACCESS), "/v2.0", region="two")
    plugin.authenticate()
    assert plugin.management_url == "http://two:9292/v1"


@pytest.mark.parametrize("catalogue", [None, {}, [], {"glance": []}, [{"type": "compute"}], "x"])
def test_token_without_an_image_endpoint_keeps_the_callers_address(loopback, catalogue):
    answer = {"auth": {"token": {"id": "tok"}, "serviceCatalog": catalogue}}
    plugin = strategy(loopback.answering(lambda seen: answer), "/v2.0")
    plugin.authenticate()
    assert (plugin.auth_token, plugin.management_url) == ("tok", None)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"auth": {"token": {"id": 7}}}'])
def test_useless_version_2_answer_is_an_authorization_failure(loopback, body):
    plugin = strategy(loopback.answering(lambda seen: body), "/v2.0")
    with pytest.raises(exception.AuthorizationFailure):
        plugin.authenticate()


@pytest.mark.parametrize("path", ["/", "/v2.0/"])
def test_refused_credentials_are_not_authorized(loopback, path):
    plugin = strategy(loopback.answering(lambda seen: (401, b"")), path)
    with pytest.raises(exception.NotAuthorized) as caught:
        plugin.authenticate()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("path", ["/", "/v2.0/"])
def test_other_status_is_reported(loopback, path):
    plugin = strategy(loopback.answering(lambda seen: (404, b"")), path)
    with pytest.raises(exception.UnexpectedStatus, match="Unexpected response: 404"):
        plugin.authenticate()


@pytest.mark.parametrize("location", ["/moved/v2.0/", "/moved/v2.0/tokens"])
def test_redirect_is_followed_and_the_version_told_anew(loopback, location):
    def handler(seen):
        if seen.target.startswith("/moved"):
            return V2_OK
        return (305, b"", {"Location": f"http://127.0.0.1:{server.port}{location}"})

    server = loopback.answering(handler)
    plugin = strategy(server)
    plugin.authenticate()
    assert plugin.creds["auth_url"] == f"http://127.0.0.1:{server.port}/moved/v2.0/"
    assert server.requests[-1].method == "POST"


def test_endless_redirects_end_after_ten(loopback):
    server = loopback.answering(lambda seen: (305, b"", {"Location": "/v2.0/"}))
    with pytest.raises(exception.AuthorizationFailure, match="Exceeded max redirects 10"):
        strategy(server, "/v2.0").authenticate()
    assert len(server.requests) == 10


def test_redirect_from_https_to_http_is_refused():
    with pytest.raises(exception.AuthorizationFailure, match="https to http"):
        auth.KeystoneStrategy._follow("https://keystone/v2.0/", "http://keystone/v2.0/")


def test_nobody_at_the_auth_url_is_a_connection_error(loopback):
    server = loopback.answering(lambda seen: b"")
    server.stop()
    with pytest.raises(exception.ClientConnectionError):
        strategy(server).authenticate()


@pytest.mark.parametrize("url", ["keystone:5000", "ftp://keystone/", "http:///v2.0"])
def test_auth_url_that_is_none_is_an_error(url):
    creds = {"username": "joe", "password": "s3cret", "auth_url": url}
    with pytest.raises(exception.MissingArgumentError, match="auth_url"):
        auth.KeystoneStrategy(creds).authenticate()


def test_noauth_is_always_authenticated_and_has_no_token():
    plugin = auth.NoAuthStrategy()
    plugin.authenticate()
    assert (plugin.is_authenticated, plugin.auth_token, plugin.management_url) == (
        True,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("name", "cls"), [("noauth", auth.NoAuthStrategy), ("keystone", auth.KeystoneStrategy)]
)
def test_strategy_is_found_by_name(name, cls):
    assert auth.get_plugin_from_strategy(name) is cls


def test_unknown_strategy_is_an_error():
    with pytest.raises(exception.Error, match="Unknown auth strategy 'foo'"):
        auth.get_plugin_from_strategy("foo")
