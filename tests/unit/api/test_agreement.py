"""An API whose registry asks its callers for something else: the operator is told."""

import logging

import pytest

from glance.api import agreement
from glance.common import config
from glance.registry.link import RegistryLink

REFUSED = (401, b"401 Unauthorized\n\nA valid token is required.\n")
SERVED = {"images": []}


def told(loopback, response, **settings):
    peer = loopback.answering(lambda seen: response)
    conf = config.Conf({"registry_port": str(peer.port), **settings})
    link = RegistryLink(conf)
    try:
        return agreement.disagreement(conf, link), peer.requests
    finally:
        link.close()


@pytest.mark.parametrize("mode", ["keystone", "trusted-headers"])
def test_a_registry_that_serves_strangers_of_an_api_that_does_not(loopback, mode):
    problem, requests = told(loopback, SERVED, auth_mode=mode, send_identity_headers="True")
    assert "serves requests without a token" in problem
    (request,) = requests
    names = {name.lower() for name in request.headers}
    assert not names & {"x-auth-token", "x-identity-status", "x-tenant-id", "x-roles"}


@pytest.mark.parametrize("mode", ["", "noauth"])
def test_a_registry_that_refuses_an_api_without_tokens(loopback, mode):
    problem, _ = told(loopback, REFUSED, auth_mode=mode)
    assert "asks its own callers for no token" in problem


@pytest.mark.parametrize(
    "settings, response",
    [
        ({"auth_mode": "keystone"}, REFUSED),
        ({"auth_mode": "trusted-headers"}, REFUSED),
        ({"auth_mode": "noauth"}, SERVED),
        ({"auth_mode": "keystone", "allow_anonymous_access": "True"}, SERVED),
        ({"auth_mode": "keystone", "allow_anonymous_access": "True"}, REFUSED),
    ],
    ids=str,
)
def test_daemons_that_agree_are_not_told_of(loopback, settings, response):
    assert told(loopback, response, **settings)[0] is None


def test_the_first_process_warns(loopback, caplog):
    peer = loopback.answering(lambda seen: SERVED)
    conf = config.Conf({"registry_port": str(peer.port), "auth_mode": "keystone"})
    with caplog.at_level(logging.WARNING):
        agreement._compare(conf)
    assert f"The registry at 127.0.0.1 port {peer.port}" in caplog.text


def test_a_registry_that_never_comes_up_is_no_problem_of_this_kind(caplog, monkeypatch):
    monkeypatch.setattr(agreement, "BACKOFF", agreement.retry.Backoff(0, 0, retries=1))
    with caplog.at_level(logging.WARNING, "glance.api.agreement"):
        agreement._compare(config.Conf({"registry_port": "1", "auth_mode": "keystone"}))
    assert not [line for line in caplog.records if line.name == "glance.api.agreement"]
