"""Settings of the token filter, of today and of old."""

import sys

import pytest

from glance.common import exception
from glance.identity import authtoken

TODAY = {
    "auth_type": "password",
    "auth_url": "http://keystone:5000/v3",
    "www_authenticate_uri": "http://public:5000/v3",
    "username": "glance",
    "password": "secret",
    "project_name": "service",
    "user_domain_id": "default",
    "project_domain_id": "default",
    "delay_auth_decision": "True",
}
DIABLO = {
    "service_protocol": "http",
    "service_host": "127.0.0.1",
    "service_port": "5000",
    "auth_host": "127.0.0.2",
    "auth_port": "5001",
    "auth_protocol": "http",
    "auth_uri": "http://127.0.0.3:5000/",
    "admin_token": "999888777666",
    "delay_auth_decision": "1",
}
ESSEX = {"admin_user": "glance", "admin_password": "secret", "admin_tenant_name": "service"}


def test_settings_of_today_stay_as_they_are():
    assert authtoken.modern(TODAY) == TODAY


def test_diablos_names_are_understood():
    assert authtoken.modern(DIABLO) == {
        "auth_type": "admin_token",
        "endpoint": "http://127.0.0.2:5001/v3",
        "token": "999888777666",
        "www_authenticate_uri": "http://127.0.0.3:5000/",
        "delay_auth_decision": "1",
    }


def test_a_user_and_a_password_win_over_the_token_of_old():
    made = authtoken.modern({**DIABLO, **ESSEX})
    assert {name: made[name] for name in TODAY if name in made} == {
        **TODAY,
        "auth_url": "http://127.0.0.2:5001",
        "www_authenticate_uri": "http://127.0.0.3:5000/",
        "delay_auth_decision": "1",
    }
    assert "999888777666" not in made.values()


def test_domains_that_are_given_stay():
    made = authtoken.modern({**ESSEX, "identity_uri": "http://k", "user_domain_name": "acme"})
    assert made["user_domain_name"] == "acme"
    assert "user_domain_id" not in made


@pytest.mark.parametrize("name", ["auth_url", "www_authenticate_uri", "username", "password"])
def test_names_of_today_win_over_those_of_old(name):
    made = authtoken.modern({**DIABLO, **ESSEX, name: "today's"})
    assert made[name] == "today's"


def test_the_address_for_clients_is_made_of_its_parts_without_a_whole_one():
    without = {name: value for name, value in DIABLO.items() if name != "auth_uri"}
    assert authtoken.modern(without)["www_authenticate_uri"] == "http://127.0.0.1:5000"
    assert authtoken.modern({"auth_host": "k"})["auth_url"] == "https://k"


def test_without_keystonemiddleware_the_operator_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "keystonemiddleware", None)
    with pytest.raises(exception.ConfigError, match=r"pip install 'glance\[keystone\]'"):
        authtoken.filter_factory({}, **TODAY)


# -- the secret of the account -------------------------------------------------------------------


def test_daemons_with_the_same_account_make_the_same_secret():
    old = {"admin_user": "glance", "admin_password": "secret", "auth_host": "elsewhere"}
    secret = authtoken.account_secret(TODAY)
    assert secret == authtoken.account_secret(old)
    assert secret.isascii() and "secret" not in secret


@pytest.mark.parametrize("name, value", [("password", "secreT"), ("username", "other")])
def test_another_account_makes_another_secret(name, value):
    assert authtoken.account_secret({**TODAY, name: value}) != authtoken.account_secret(TODAY)


def test_the_token_of_old_is_an_account():
    assert authtoken.account_secret(DIABLO)
    assert authtoken.account_secret({**DIABLO, "admin_token": "x"}) != authtoken.account_secret(
        DIABLO
    )


@pytest.mark.parametrize("settings", [{}, {"auth_url": "http://k"}, {"password": ""}], ids=str)
def test_without_an_account_there_is_no_secret(settings):
    assert authtoken.account_secret(settings) is None
