"""Signing in at Keystone, in both versions and with every way in which it goes wrong."""

import json
import sys

import pytest

from glance.common import exception
from glance.http.client import connection
from glance.identity import catalog, strategies

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
    return strategies.KeystoneStrategy(creds, timeout=5)


@pytest.mark.parametrize("name", ["username", "password", "auth_url"])
@pytest.mark.parametrize("value", [None, ""])
def test_missing_credential_is_named(loopback, name, value):
    plugin = strategy(loopback.answering(lambda seen: V1_OK), **{name: value})
    with pytest.raises(
        exception.MissingArgumentError, match=f"'{name}' must be included in creds"
    ):
        plugin.authenticate()


# -- version 3 and 2.0, by keystoneauth -----------------------------------------------------------


def v3_answer(**endpoint):
    entry = {"interface": "public", "region": "one", "url": "http://glance:9292", **endpoint}
    return {
        "token": {
            "methods": ["password"],
            "expires_at": "2099-01-01T00:00:00.000000Z",
            "issued_at": "2026-01-01T00:00:00.000000Z",
            "user": {"id": "u", "name": "joe", "domain": {"id": "default", "name": "Default"}},
            "catalog": [
                {"type": "compute", "endpoints": [{**entry, "url": "http://nova"}]},
                {"type": "image", "endpoints": [{**entry, "interface": "admin"}, entry]},
            ],
        }
    }


def v3(seen):
    return (201, json.dumps(v3_answer()).encode(), {"X-Subject-Token": "tok"})


@pytest.mark.parametrize("path", ["/v3", "/v3/", "/identity/v3"])
def test_version_3_signs_in_with_the_default_domain(loopback, path):
    server = loopback.answering(v3)
    plugin = strategy(server, path, tenant="acme")
    plugin.authenticate()
    assert (plugin.auth_token, plugin.management_url) == ("tok", "http://glance:9292/v1")
    (seen,) = server.requests
    assert (seen.method, seen.target) == ("POST", f"{path.rstrip('/')}/auth/tokens")
    sent = seen.json["auth"]
    login = {"name": "joe", "password": "s3cret", "domain": {"id": "default"}}
    assert sent["identity"] == {"methods": ["password"], "password": {"user": login}}
    assert sent["scope"] == {"project": {"name": "acme", "domain": {"id": "default"}}}


@pytest.mark.parametrize(
    ("creds", "identity", "scope"),
    [
        (
            {"user_id": "u", "username": None, "project_id": "p"},
            {"user": {"id": "u", "password": "s3cret"}},
            {"project": {"id": "p"}},
        ),
        (
            {"user_domain_name": "people", "project_domain_id": "work", "project_name": "acme"},
            {"user": {"name": "joe", "password": "s3cret", "domain": {"name": "people"}}},
            {"project": {"name": "acme", "domain": {"id": "work"}}},
        ),
        (
            {"default_domain_id": "corp", "tenant_name": "acme"},
            {"user": {"name": "joe", "password": "s3cret", "domain": {"id": "corp"}}},
            {"project": {"name": "acme", "domain": {"id": "corp"}}},
        ),
        (
            {"user_domain_id": "people", "tenant_name": "acme"},
            {"user": {"name": "joe", "password": "s3cret", "domain": {"id": "people"}}},
            {"project": {"name": "acme", "domain": {"id": "default"}}},
        ),
        (
            {"default_domain_name": "corp", "tenant_name": "acme"},
            {"user": {"name": "joe", "password": "s3cret", "domain": {"name": "corp"}}},
            {"project": {"name": "acme", "domain": {"name": "corp"}}},
        ),
        (
            {"user_domain_id": "people", "domain_name": "all"},
            {"user": {"name": "joe", "password": "s3cret", "domain": {"id": "people"}}},
            {"domain": {"name": "all"}},
        ),
    ],
)
def test_version_3_says_who_and_what_for_as_it_is_told(loopback, creds, identity, scope):
    server = loopback.answering(v3)
    strategy(server, "/v3", **creds).authenticate()
    sent = server.requests[0].json["auth"]
    assert (sent["identity"]["password"], sent["scope"]) == (identity, scope)


@pytest.mark.parametrize("given", [{"username": None, "password": None}, {"username": "joe"}])
def test_a_token_is_exchanged_and_no_password_sent(loopback, given):
    server = loopback.answering(v3)
    given = {**given, "token": "old", "project_id": "p"}
    plugin = strategy(server, "/v3", **given)
    plugin.authenticate()
    sent = server.requests[0].json["auth"]
    assert (sent["identity"], sent["scope"]) == (
        {"methods": ["token"], "token": {"id": "old"}},
        {"project": {"id": "p"}},
    )
    assert plugin.auth_token == "tok"


@pytest.mark.parametrize("path", ["/v3", "/"])
def test_an_application_credential_needs_neither_user_nor_project(loopback, path):
    server = loopback.answering(v3)
    given = {"application_credential_id": "a", "application_credential_secret": "b"}
    strategy(server, path, username=None, password=None, **given).authenticate()
    (seen,) = server.requests
    assert seen.target == "/v3/auth/tokens"
    sent = seen.json["auth"]["identity"]
    assert sent["application_credential"] == {"id": "a", "secret": "b"}


def test_a_url_without_a_version_is_asked_for_those_it_has(loopback):
    def handler(seen):
        if seen.method == "POST":
            return v3(seen)
        links = [{"rel": "self", "href": f"http://127.0.0.1:{server.port}/v3/"}]
        values = [{"id": "v3.14", "status": "stable", "links": links}]
        return (300, json.dumps({"versions": {"values": values}}).encode())

    server = loopback.answering(handler)
    plugin = strategy(server, "/")
    plugin.authenticate()
    assert [seen.target for seen in server.requests] == ["/", "/v3/auth/tokens"]
    assert plugin.auth_token == "tok"


def test_a_url_that_has_version_2_alone_is_signed_in_to_by_it(loopback):
    def handler(seen):
        if seen.method == "POST":
            return ACCESS
        links = [{"rel": "self", "href": f"http://127.0.0.1:{server.port}/v2.0/"}]
        values = [{"id": "v2.0", "status": "stable", "links": links}]
        return (300, json.dumps({"versions": {"values": values}}).encode())

    server = loopback.answering(handler)
    plugin = strategy(server, "/", tenant="acme")
    plugin.authenticate()
    assert [seen.target for seen in server.requests] == ["/", "/v2.0/tokens"]
    assert server.requests[1].json["auth"]["tenantName"] == "acme"


@pytest.mark.parametrize(
    ("version", "target"), [("3", "/v3/auth/tokens"), ("v2.0", "/v2.0/tokens")]
)
def test_the_version_can_be_told_beside_the_url(loopback, version, target):
    server = loopback.answering(lambda seen: v3(seen) if "v3" in seen.target else ACCESS)
    strategy(server, "/", identity_api_version=version).authenticate()
    assert [seen.target for seen in server.requests] == [target]


@pytest.mark.parametrize(
    ("auth_type", "target"), [("v3password", "/v3/auth/tokens"), ("v2password", "/v2.0/tokens")]
)
def test_a_plug_in_may_tell_the_version(loopback, auth_type, target):
    server = loopback.answering(lambda seen: v3(seen) if "v3" in seen.target else ACCESS)
    strategy(server, "/", auth_type=auth_type).authenticate()
    assert [seen.target for seen in server.requests] == [target]


@pytest.mark.parametrize("path", ["/v2.0", "/v2.0/", "/identity/v2.0"])
@pytest.mark.parametrize(
    ("creds", "tenant"),
    [
        ({"tenant": "acme"}, {"tenantName": "acme"}),
        ({"tenant_id": "42"}, {"tenantId": "42"}),
        ({"project_name": "acme"}, {"tenantName": "acme"}),
        ({}, {}),
    ],
)
def test_version_2_sends_the_tenant_and_reads_the_catalogue(loopback, path, creds, tenant):
    server = loopback.answering(lambda seen: ACCESS)
    plugin = strategy(server, path, **creds)
    plugin.authenticate()
    assert (plugin.auth_token, plugin.management_url) == ("tok", "http://one:9292/v1")
    (seen,) = server.requests
    assert (seen.method, seen.target) == ("POST", f"{path.rstrip('/')}/tokens")
    login = {"username": "joe", "password": "s3cret"}
    assert seen.json == {"auth": {"passwordCredentials": login, **tenant}}


def test_region_chooses_among_endpoints(loopback):
    plugin = strategy(loopback.answering(lambda seen: ACCESS), "/v2.0", region="two")
    plugin.authenticate()
    assert plugin.management_url == "http://two:9292/v1"


def test_interface_chooses_among_endpoints(loopback):
    answer = v3_answer(url="http://inside:9292", interface="internal")
    body = (201, json.dumps(answer).encode(), {"X-Subject-Token": "tok"})
    plugin = strategy(loopback.answering(lambda seen: body), "/v3", interface="internal")
    plugin.authenticate()
    assert plugin.management_url == "http://inside:9292/v1"


@pytest.mark.parametrize(
    ("creds", "told"),
    [
        ({}, None),
        ({"region": "one", "interface": "admin"}, None),
        ({"region": "mars"}, "no image service in region 'mars' (--os-region-name, "),
        ({"region": "mars", "interface": "internal"}, "no image service in region 'mars'"),
        ({"interface": "internal"}, "no 'internal' interface of the image service (--os-i"),
        (
            {"region": "one", "interface": "x"},
            "no 'x' interface of the image service in region 'o",
        ),
    ],
)
def test_what_the_catalogue_lacks_is_named(loopback, creds, told):
    plugin = strategy(loopback.answering(v3), "/v3", **creds)
    plugin.authenticate()
    assert (plugin.management_url is None) == (told is not None)
    assert told in plugin.missing if told else plugin.missing is None


@pytest.mark.parametrize("creds", [{"region": "one"}, {"interface": "public"}])
def test_a_catalogue_without_an_image_service_has_no_region_of_it_either(loopback, creds):
    answer = v3_answer()
    del answer["token"]["catalog"][1]
    body = (201, json.dumps(answer).encode(), {"X-Subject-Token": "tok"})
    plugin = strategy(loopback.answering(lambda seen: body), "/v3", **creds)
    plugin.authenticate()
    assert plugin.missing == "The catalog of the identity service has no image service"


@pytest.mark.parametrize(
    ("listed", "used"),
    [
        ("http://g:9292", "http://g:9292/v1"),
        ("http://g:9292/", "http://g:9292/v1"),
        ("http://g:9292/v1", "http://g:9292/v1"),
        ("http://g:9292/v1.1/", "http://g:9292/v1"),
        ("http://g:9292/v2", "http://g:9292/v1"),
        ("https://g/image", "https://g/image/v1"),
        ("https://g/image/v2/", "https://g/image/v1"),
    ],
)
def test_whatever_version_a_catalogue_names_the_first_is_spoken(listed, used):
    assert catalog.images_url(listed) == used


@pytest.mark.parametrize("place", ["/v3", "/v2.0"])
def test_token_without_an_image_endpoint_keeps_the_callers_address(loopback, place):
    answer = v3_answer()
    answer["token"]["catalog"] = []
    later = {"access": {**ACCESS["access"], "serviceCatalog": []}}
    bodies = {
        "/v3": (201, json.dumps(answer).encode(), {"X-Subject-Token": "tok"}),
        "/v2.0": later,
    }
    plugin = strategy(loopback.answering(lambda seen: bodies[place]), place)
    plugin.authenticate()
    assert (plugin.auth_token, plugin.management_url) == ("tok", None)


# -- clouds.yaml ----------------------------------------------------------------------------------


@pytest.fixture
def cloud(loopback, tmp_path, monkeypatch):
    """A server that an entry `acme` names; variables of another cloud are there, too."""
    server = loopback.answering(v3)
    entry = {
        "auth": {
            "auth_url": f"http://127.0.0.1:{server.port}/v3",
            "username": "joe",
            "password": "s3cret",
            "project_name": "acme",
            "user_domain_name": "people",
            "project_domain_name": "work",
        },
        "region_name": "one",
        "cacert": "/nowhere/ca.pem",
    }
    path = tmp_path / "clouds.yaml"
    path.write_text(json.dumps({"clouds": {"acme": entry, "bare": {"auth": {}}}}))
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(path))
    monkeypatch.setenv("OS_USERNAME", "somebody else")
    monkeypatch.setenv("OS_AUTH_URL", "http://127.0.0.1:1/v3")
    monkeypatch.setenv("OS_REGION_NAME", "elsewhere")
    return server


def test_an_entry_of_clouds_yaml_says_who_and_where(cloud):
    plugin = strategies.KeystoneStrategy({"cloud": "acme"})
    plugin.authenticate()
    assert (plugin.auth_token, plugin.management_url) == ("tok", "http://glance:9292/v1")
    assert plugin.tls == connection.TLS(ca_file="/nowhere/ca.pem")
    sent = cloud.requests[0].json["auth"]
    login = {"name": "joe", "password": "s3cret", "domain": {"name": "people"}}
    assert sent["identity"]["password"] == {"user": login}
    assert sent["scope"] == {"project": {"name": "acme", "domain": {"name": "work"}}}


def test_what_is_given_beside_a_cloud_wins(cloud):
    creds = {"cloud": "acme", "username": "ann", "interface": "internal"}
    plugin = strategies.KeystoneStrategy(creds, tls=connection.TLS(insecure=True))
    plugin.authenticate()
    assert cloud.requests[0].json["auth"]["identity"]["password"]["user"]["name"] == "ann"
    assert plugin.management_url is None
    assert plugin.tls == connection.TLS(insecure=True)


@pytest.mark.parametrize(("name", "told"), [("other", "other"), ("bare", "must be included")])
def test_an_entry_that_says_nothing_is_told(cloud, name, told):
    with pytest.raises(exception.MissingArgumentError, match=told):
        strategies.KeystoneStrategy({"cloud": name}).authenticate()


def test_without_openstacksdk_it_is_told_what_to_install(cloud, monkeypatch):
    monkeypatch.setitem(sys.modules, "openstack", None)
    with pytest.raises(exception.Error, match=r"pip install 'glance\[clouds\]'"):
        strategies.KeystoneStrategy({"cloud": "acme"}).authenticate()


# -- Keystones of the time of Diablo --------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "", "/v1.0"])
def test_version_1_sends_headers_and_reads_headers(loopback, path):
    server = loopback.answering(lambda seen: V1_OK)
    plugin = strategy(server, path, tenant="acme")
    assert not plugin.is_authenticated
    plugin.authenticate()
    assert plugin.is_authenticated
    assert (plugin.auth_token, plugin.management_url) == ("tok", "http://glance:9292/v1")
    seen = server.requests[-1]
    assert (seen.method, seen.target) == ("GET", f"{path.rstrip('/')}/tokens")
    sent = [seen.headers[f"x-auth-{name}"] for name in ("user", "key", "tenant")]
    assert (sent, seen.headers["user-agent"]) == (["joe", "s3cret", "acme"], "glance-client")


def test_version_1_without_a_tenant_sends_none(loopback):
    server = loopback.answering(lambda seen: V1_OK)
    strategy(server, tenant=None).authenticate()
    assert "x-auth-tenant" not in server.requests[-1].headers


def test_credentials_outside_ascii_travel_as_utf_8(loopback):
    server = loopback.answering(lambda seen: V1_OK)
    strategy(server, username="jörg").authenticate()
    assert server.requests[-1].headers["x-auth-user"].encode("latin-1").decode() == "jörg"


def test_version_1_answer_without_a_token_leads_to_version_2(loopback):
    server = loopback.answering(lambda seen: V2_OK if "v2.0" in seen.target else (200, b"{}"))
    plugin = strategy(server, "/identity")
    plugin.authenticate()
    assert [seen.target for seen in server.requests][-2:] == [
        "/identity/tokens",
        "/identity/v2.0/tokens",
    ]
    assert plugin.creds["auth_url"].endswith("/identity/v2.0/")


@pytest.mark.parametrize("refusal", [(400, b"what?"), V2_OK])
def test_version_2_server_that_knows_the_first_body_alone_gets_it(loopback, refusal):
    server = loopback.answering(lambda seen: refusal if "auth" in seen.json else V2_OK)
    plugin = strategy(server, "/v2.0", tenant="acme")
    plugin.authenticate()
    assert (plugin.auth_token, plugin.management_url) == ("tok", "http://glance:9292/v1")
    assert server.requests[-1].json == {
        "passwordCredentials": {"username": "joe", "password": "s3cret", "tenantId": "acme"}
    }


@pytest.mark.parametrize("catalogue", [None, {}, [], {"glance": []}, "x"])
def test_old_token_without_an_image_endpoint_keeps_the_callers_address(loopback, catalogue):
    answer = {"auth": {"token": {"id": "tok"}, "serviceCatalog": catalogue}}
    plugin = strategy(loopback.answering(lambda seen: answer), "/v2.0")
    plugin.authenticate()
    assert (plugin.auth_token, plugin.management_url) == ("tok", None)


@pytest.mark.parametrize("location", ["/moved/v2.0/", "/moved/v2.0/tokens"])
def test_redirect_is_followed_and_the_version_told_anew(loopback, location):
    def handler(seen):
        if seen.target.startswith("/moved"):
            return V2_OK
        if seen.target == "/":
            return (200, b"no versions here")
        return (305, b"", {"Location": f"http://127.0.0.1:{server.port}{location}"})

    server = loopback.answering(handler)
    plugin = strategy(server)
    plugin.authenticate()
    assert plugin.creds["auth_url"] == f"http://127.0.0.1:{server.port}/moved/v2.0/"
    assert server.requests[-1].method == "POST"


@pytest.mark.parametrize("raw", ["ü", "%C3%BC"])
def test_an_address_from_the_identity_service_is_encoded_once(loopback, raw):
    def handler(seen):
        if seen.target.startswith("/v1.0/%C3%BC/"):
            image_url = f"http://127.0.0.1:9292/{raw}"
            return (204, b"", {"X-Auth-Token": "tok", "X-Server-Management-Url": image_url})
        return (305, b"", {"Location": f"http://127.0.0.1:{server.port}/v1.0/{raw}/tokens"})

    server = loopback.answering(handler)
    plugin = strategy(server, "/v1.0")
    plugin.authenticate()
    assert server.requests[-1].target == "/v1.0/%C3%BC/tokens"
    assert plugin.management_url == "http://127.0.0.1:9292/%C3%BC"


# -- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v2.0", "/v3"])
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"auth": {"token": {"id": 7}}}'])
def test_useless_answer_is_an_authorization_failure(loopback, path, body):
    plugin = strategy(loopback.answering(lambda seen: body), path)
    with pytest.raises(exception.AuthorizationFailure):
        plugin.authenticate()


@pytest.mark.parametrize("path", ["/", "/v2.0/", "/v3"])
def test_refused_credentials_are_not_authorized(loopback, path):
    plugin = strategy(loopback.answering(lambda seen: (401, b"")), path)
    with pytest.raises(exception.NotAuthorized) as caught:
        plugin.authenticate()
    assert "s3cret" not in str(caught.value)
    assert caught.value.status == 401


@pytest.mark.parametrize("path", ["/", "/v2.0/", "/v3"])
def test_other_status_is_reported(loopback, path):
    plugin = strategy(loopback.answering(lambda seen: (404, b"")), path)
    with pytest.raises(exception.UnexpectedStatus, match="Unexpected response: 404"):
        plugin.authenticate()


@pytest.mark.parametrize("path", ["/v1.0/", "/v2.0/", "/v3/"])
def test_endless_redirects_end_after_ten(loopback, path):
    def handler(seen):
        return (305, b"", {"Location": f"http://127.0.0.1:{server.port}{path}"})

    server = loopback.answering(handler)
    with pytest.raises(exception.AuthorizationFailure, match="Exceeded max redirects 10"):
        strategy(server, path).authenticate()
    assert len([seen for seen in server.requests if seen.target.startswith(path)]) % 10 == 0


@pytest.mark.parametrize("path", ["/v1.0", "/v2.0", "/v3"])
def test_redirect_from_https_to_http_is_refused(loopback, tls, path):
    plain = loopback.answering(lambda seen: V1_OK)
    target = (305, b"", {"Location": f"http://127.0.0.1:{plain.port}/"})
    server = tls.serve(lambda seen: target)
    creds = {"username": "joe", "password": "s3cret"}
    creds["auth_url"] = f"https://127.0.0.1:{server.port}{path}"
    trusted = connection.TLS(ca_file=tls.root)
    with pytest.raises(exception.AuthorizationFailure, match="https to http"):
        strategies.KeystoneStrategy(creds, timeout=5, tls=trusted).authenticate()
    assert plain.requests == []


def test_nothing_of_a_failure_is_told_to_the_terminal(loopback, capfd):
    with pytest.raises(exception.NotAuthorized):
        strategy(loopback.answering(lambda seen: (401, b""))).authenticate()
    assert capfd.readouterr() == ("", "")


def test_an_auth_type_that_nobody_knows_is_named(loopback):
    plugin = strategy(loopback.answering(v3), "/v3", auth_type="v9magic")
    with pytest.raises(exception.Error, match="'v9magic'"):
        plugin.authenticate()


def test_what_a_plug_in_lacks_is_named(loopback):
    plugin = strategy(loopback.answering(v3), "/v3", auth_type="v3totp", password=None)
    with pytest.raises(exception.MissingArgumentError, match="v3totp needs more credentials"):
        plugin.authenticate()


def test_nobody_at_the_auth_url_is_a_connection_error(loopback):
    server = loopback.answering(lambda seen: b"")
    server.stop()
    with pytest.raises(exception.ClientConnectionError):
        strategy(server).authenticate()


@pytest.mark.parametrize("version", ["1", "4", "three", "v"])
def test_a_version_that_there_is_not_is_named(version):
    creds = {"username": "j", "password": "p", "auth_url": "http://127.0.0.1:1/"}
    with pytest.raises(exception.MissingArgumentError, match="identity_api_version"):
        strategies.KeystoneStrategy({**creds, "identity_api_version": version}).authenticate()


@pytest.mark.parametrize("insecure", [True, False])
def test_certificates_of_the_identity_service_are_verified(tls, insecure, capfd, recwarn):
    server = tls.serve(v3)
    creds = {"username": "joe", "password": "s3cret"}
    creds["auth_url"] = f"https://127.0.0.1:{server.port}/v3"
    how = connection.TLS(insecure=True) if insecure else connection.TLS(ca_file=tls.other)
    plugin = strategies.KeystoneStrategy(creds, timeout=5, tls=how)
    if insecure:
        plugin.authenticate()
        assert plugin.auth_token == "tok"
    else:
        with pytest.raises(exception.ClientConnectionError, match="certificates"):
            plugin.authenticate()
        assert server.requests == []
    assert capfd.readouterr() == ("", "")
    assert not [warning for warning in recwarn if "nverified" in str(warning.message)]


@pytest.mark.parametrize(
    "url",
    [
        *("keystone:5000", "ftp://keystone/", "http:///v2.0"),
        *("http://keystone:port/", "http://keystone:99999/", "http://[::1/", "http://keystone:0/"),
    ],
)
def test_auth_url_that_is_none_is_an_error(url):
    creds = {"username": "joe", "password": "s3cret", "auth_url": url}
    with pytest.raises(exception.MissingArgumentError, match="auth_url"):
        strategies.KeystoneStrategy(creds).authenticate()


def test_noauth_is_always_authenticated_and_has_no_token():
    plugin = strategies.NoAuthStrategy()
    plugin.authenticate()
    assert (plugin.is_authenticated, plugin.auth_token, plugin.management_url) == (
        True,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("name", "cls"),
    [("noauth", strategies.NoAuthStrategy), ("keystone", strategies.KeystoneStrategy)],
)
def test_strategy_is_found_by_name(name, cls):
    assert strategies.get_plugin_from_strategy(name) is cls


def test_unknown_strategy_is_an_error():
    with pytest.raises(exception.Error, match="Unknown auth strategy 'foo'"):
        strategies.get_plugin_from_strategy("foo")
