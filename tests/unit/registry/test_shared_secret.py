"""The secret that glance-api and its registry may share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from glance import registry as functions
from glance.common import config, exception
from glance.identity.context import RequestContext
from glance.registry import client, server

SECRET = "open Sesame"
CALLS = [
    ("GET", "/"),
    ("GET", "/v1/images/detail"),
    ("GET", "/images/1"),
    ("POST", "/images"),
    ("DELETE", "/images/1"),
    ("PUT", "/images/1/members/t"),
    ("GET", "/nowhere"),
    ("BREW", "/images"),
]
WRONG = ["", "open", "open sesame", f"{SECRET},{SECRET}", "s\xe9same", "open Sesame!"]


# -- the registry's side -------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize("given", [None, *WRONG])
def test_without_the_secret_every_request_is_refused_before_anything_else(
    new_registry: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    path: str,
    given: str | None,
) -> None:
    registry = new_registry(registry_shared_secret=SECRET)
    monkeypatch.delattr(registry.app, "router")
    headers = {} if given is None else {client.SHARED_SECRET: given}
    assert registry.call(method, path, b"{", **headers).status_int == 401


def test_with_the_secret_requests_are_served(new_registry: Callable[..., Any]) -> None:
    registry = new_registry(registry_shared_secret=SECRET)
    response = registry.call("GET", "/images", **{client.SHARED_SECRET: SECRET})
    assert (response.status_int, response.json) == (200, {"images": []})


@pytest.mark.parametrize("unset", [{}, {"registry_shared_secret": " "}], ids=str)
@pytest.mark.parametrize("given", [SECRET, *WRONG])
def test_a_registry_without_a_secret_ignores_the_header(
    new_registry: Callable[..., Any], unset: dict[str, str], given: str
) -> None:
    registry = new_registry(**unset)
    assert registry.call("GET", "/images", **{client.SHARED_SECRET: given}).status_int == 200


def test_neither_the_secret_nor_what_was_sent_is_shown_or_logged(
    new_registry: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        registry = new_registry(registry_shared_secret="canary1")
        refused = registry.call("GET", "/images", **{client.SHARED_SECRET: "canary2"})
        registry.call("GET", "/images", **{client.SHARED_SECRET: "canary1"})
    assert "canary" not in caplog.text + refused.text + str(refused.headers)
    assert "registry_shared_secret" in caplog.text
    assert "registry_shared_secret" not in refused.text


# -- the client's side ---------------------------------------------------------------------------


def header_sent(loopback: Any, **values: str) -> str | None:
    peer = loopback.answering(lambda seen: {"images": []})
    settings = config.Conf({"registry_port": str(peer.port), **values})
    functions.get_images_list(settings, RequestContext(auth_tok="tok"))
    sent: str | None = peer.requests[0].headers.get(client.SHARED_SECRET)
    return sent


@pytest.mark.parametrize("identity", ["true", "false"])
def test_the_client_sends_the_secret_as_it_is_configured(loopback: Any, identity: str) -> None:
    sent = header_sent(loopback, registry_shared_secret=SECRET, send_identity_headers=identity)
    assert sent == SECRET


@pytest.mark.parametrize("unset", [{}, {"registry_shared_secret": ""}], ids=str)
def test_the_client_sends_nothing_without_a_secret(loopback: Any, unset: dict[str, str]) -> None:
    assert header_sent(loopback, **unset) is None


def test_a_refused_client_shows_and_logs_no_secret(
    loopback: Any, caplog: pytest.LogCaptureFixture
) -> None:
    peer = loopback.answering(lambda seen: (401, b"401 Unauthorized\n\nNo.\n"))
    settings = config.Conf({"registry_port": str(peer.port), "registry_shared_secret": "canary"})
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(exception.NotAuthorized, match=r"^No\.$"),
    ):
        functions.get_image_metadata(settings, RequestContext(auth_tok="tok"), 1)
    assert "canary" not in caplog.text
    assert "canary" not in repr(functions._link(settings))


# -- the option ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["sésame", "open\nsesame", "open\x7f"])
def test_a_secret_that_no_header_can_hold_is_refused_without_being_shown(
    database: Any, value: str
) -> None:
    with pytest.raises(exception.ConfigError, match="registry_shared_secret") as caught:
        server.RegistryAPI(config.Conf({"registry_shared_secret": value}), database)
    assert value not in str(caught.value)


def test_a_dump_of_the_settings_masks_the_secret() -> None:
    assert config.TABLE["registry_shared_secret"].secret
    assert config.mask("registry_shared_secret", "canary") == "***"
