"""The registry as programs see it that act for the service: who they say they are."""

import json

import pytest

from glance.common import config, exception
from glance.registry import service_account
from glance.registry.link import RegistryLink

RECORD = {"id": 7, "status": "active"}


@pytest.fixture
def keystone(loopback):
    """A Keystone v2.0 that gives tokens tok1, tok2 ... and keeps what it was asked."""
    given = []

    def answer(seen):
        given.append(seen.json)
        token = {"id": f"tok{len(given)}"}
        return 200, json.dumps({"access": {"token": token, "serviceCatalog": []}}).encode()

    server = loopback.answering(answer)
    server.given = given
    return server


def account(server, **options):
    conf = config.Conf({"registry_port": str(server.port), **options})
    return service_account.ServiceAccount(conf, RegistryLink(conf))


def signing_in(server, keystone):
    return account(
        server,
        admin_user="glance",
        admin_password="s3cret",
        admin_tenant_name="service",
        auth_url=f"http://127.0.0.1:{keystone.port}/v2.0/",
    )


def ask(made):
    return made.call(made.link.get_image_metadata, 7)


def tokens(server):
    return [seen.headers.get("x-auth-token") for seen in server.requests]


def test_without_an_account_no_token_is_sent(loopback):
    server = loopback.answering(lambda seen: {"image": RECORD})
    assert ask(account(server)) == RECORD
    assert tokens(server) == [None]


def test_a_token_of_the_file_is_sent_as_it_is(loopback):
    server = loopback.answering(lambda seen: {"image": RECORD})
    ask(account(server, admin_token="fixed", admin_user="glance"))
    assert tokens(server) == ["fixed"]


def test_a_user_signs_in_once_for_many_calls(loopback, keystone):
    server = loopback.answering(lambda seen: {"image": RECORD})
    made = signing_in(server, keystone)
    assert not keystone.requests
    assert [ask(made), ask(made)] == [RECORD, RECORD]
    assert tokens(server) == ["tok1", "tok1"]
    assert len(keystone.requests) == 1


def test_a_refused_token_is_replaced_by_a_fresh_one(loopback, keystone):
    server = loopback.answering(
        lambda seen: (
            {"image": RECORD} if seen.headers["x-auth-token"] == "tok2" else (401, b"expired")
        )
    )
    made = signing_in(server, keystone)
    assert [ask(made), ask(made)] == [RECORD, RECORD]
    assert tokens(server) == ["tok1", "tok2", "tok2"]


@pytest.mark.parametrize(
    ("status", "error", "times"),
    [(401, exception.NotAuthorized, 2), (403, exception.Forbidden, 1)],
)
def test_a_user_that_is_not_let_in_is_an_error(loopback, keystone, status, error, times):
    server = loopback.answering(lambda seen: (status, b"no"))
    with pytest.raises(error):
        ask(signing_in(server, keystone))
    assert len(server.requests) == times


def test_a_fixed_token_that_is_refused_is_not_tried_again(loopback):
    server = loopback.answering(lambda seen: (401, b"no"))
    with pytest.raises(exception.NotAuthorized):
        ask(account(server, admin_token="fixed"))
    assert len(server.requests) == 1


@pytest.mark.parametrize("answer", [None, (500, b"no"), (200, b"no JSON")])
def test_an_identity_service_in_trouble_is_a_registry_that_cannot_be_asked(loopback, answer):
    server = loopback.answering(lambda seen: {"image": RECORD})
    identity = loopback.answering(lambda seen: answer)
    if answer is None:
        identity.stop()
    with pytest.raises(exception.RegistryUnavailable) as caught:
        ask(signing_in(server, identity))
    assert "s3cret" not in str(caught.value)
    assert not server.requests


def test_a_password_that_is_wrong_is_no_passing_trouble(loopback):
    server = loopback.answering(lambda seen: {"image": RECORD})
    identity = loopback.answering(lambda seen: (401, b"no"))
    with pytest.raises(exception.NotAuthorized):
        ask(signing_in(server, identity))


def test_identity_headers_name_an_administrator(loopback):
    server = loopback.answering(lambda seen: {"image": RECORD})
    ask(account(server, send_identity_headers="True", admin_role="boss"))
    assert server.requests[0].headers["x-roles"] == "boss"


def test_half_an_account_is_an_error_of_the_configuration(loopback):
    server = loopback.answering(lambda seen: {})
    with pytest.raises(
        exception.ConfigError, match="admin_user also requires admin_password and auth_url"
    ):
        account(server, admin_user="glance")


def test_no_secret_is_shown(loopback):
    server = loopback.answering(lambda seen: {"image": RECORD})
    made = account(server, admin_token="fixed", admin_password="s3cret")
    assert set(made.conf.secrets()) == {"admin_token", "admin_password"}
    assert "fixed" not in repr(made)
