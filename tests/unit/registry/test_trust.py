"""What a registry takes from glance-api only, when its tenants can reach it with their tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from glance.common import config
from glance.identity import authtoken
from glance.identity.context import RequestContext
from glance.registry import client, link
from glance.registry.db import api

ACCOUNT = authtoken.account_secret({"username": "glance", "password": "canary"})
PROOF = {client.SHARED_SECRET: ACCOUNT}
TENANT = RequestContext(user="u", tenant="t", auth_tok="token")
ADMIN = RequestContext(user="a", tenant="a", is_admin=True)
OF_THE_API = [
    {"location": "file:///images/1"},
    {"location": None},
    {"status": "active"},
    {"checksum": "0" * 32},
    {"size": 7},
    {"name": "x", "size": "7"},
]


@pytest.fixture
def registry(new_registry: Callable[..., Any]) -> Any:
    """A registry behind a token filter, with the account of that filter."""
    return new_registry(auth_mode="keystone", **{authtoken.ACCOUNT_SECRET: ACCOUNT})


def stored(registry: Any) -> int:
    """Register an image of the tenant as the API does; return its id."""
    values = {"location": "file:///images/7", "size": 3, "is_public": True}
    made = registry.call("POST", "/images", {"image": values}, TENANT, **PROOF)
    assert made.status_int == 200, made.text
    number: int = made.json["image"]["id"]
    return number


def record(registry: Any, number: int) -> Any:
    return api.image_get(registry.db, ADMIN, number)


# -- changes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", OF_THE_API, ids=str)
@pytest.mark.parametrize("sent", [{}, {client.SHARED_SECRET: "guessed"}], ids=str)
def test_a_tenant_cannot_say_where_data_is_or_that_it_is_there(
    registry: Any, values: dict[str, Any], sent: dict[str, str]
) -> None:
    number = stored(registry)
    before = record(registry, number)
    for method, path in (("POST", "/images"), ("PUT", f"/v1/images/{number}")):
        refused = registry.call(method, path, {"image": values}, TENANT, **sent)
        assert refused.status_int == 403, refused.text
        assert ACCOUNT not in refused.text
    assert record(registry, number) == before
    assert registry.listed(context=TENANT) == [number]


@pytest.mark.parametrize("values", OF_THE_API, ids=str)
@pytest.mark.parametrize(
    "context, sent", [(TENANT, PROOF), (ADMIN, {})], ids=["the API", "an administrator"]
)
def test_the_api_and_administrators_can(
    registry: Any, values: dict[str, Any], context: RequestContext, sent: dict[str, str]
) -> None:
    number = stored(registry)
    done = registry.call("PUT", f"/images/{number}", {"image": values}, context, **sent)
    assert done.status_int == 200, done.text


def test_a_tenants_record_waits_for_its_data(registry: Any) -> None:
    made = registry.call("POST", "/images", {"image": {"name": "x"}}, TENANT)
    assert made.json["image"]["status"] == "queued"
    renamed = registry.call(
        "PUT", f"/images/{made.json['image']['id']}", {"image": {"name": "y"}}, TENANT
    )
    assert renamed.json["image"]["name"] == "y"


@pytest.mark.parametrize("query", ["status=deleted", "status=pending_delete&lease=9", "due_in=9"])
def test_a_tenants_deletion_leaves_the_data_to_the_scrubber(registry: Any, query: str) -> None:
    number = stored(registry)
    assert registry.call("DELETE", f"/images/{number}?{query}", context=TENANT).status_int == 403
    assert record(registry, number)["status"] == "active"
    assert registry.call("DELETE", f"/images/{number}", context=TENANT).status_int == 200
    seeing = RequestContext(is_admin=True, show_deleted=True)
    assert api.image_get(registry.db, seeing, number)["status"] == "pending_delete"


def test_a_tenant_cannot_hand_data_to_the_scrubber(registry: Any) -> None:
    number = stored(registry)
    left = {"scrub": {"error": "X", "location": "file:///images/of-somebody"}}
    path = f"/images/{number}/scrub"
    assert registry.call("POST", path, left, TENANT).status_int == 403
    assert registry.call("POST", path, left, TENANT, **PROOF).status_int == 204


# -- what is shown -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "context, sent, shown",
    [(TENANT, {}, False), (TENANT, PROOF, True), (ADMIN, {}, True)],
    ids=["a tenant", "the API", "an administrator"],
)
def test_locations_are_shown_to_the_api_and_administrators(
    registry: Any, context: RequestContext, sent: dict[str, str], shown: bool
) -> None:
    number = stored(registry)
    for path in (f"/images/{number}", "/images/detail"):
        response = registry.call("GET", path, context=context, **sent)
        assert response.status_int == 200
        assert ("file:///images/7" in response.text) == shown
    changed = registry.call(
        "PUT", f"/images/{number}", {"image": {"name": "n"}}, context=context, **sent
    )
    assert ("file:///images/7" in changed.text) == shown


@pytest.mark.parametrize("free", [False, True])
def test_a_tenant_at_the_registry_learns_from_no_status_which_ids_exist(
    registry: Any, free: bool
) -> None:
    number = stored(registry) + free
    values = {"image": {"id": number}}
    refused = registry.call("POST", "/images", values, TENANT)
    assert (refused.status_int, str(number) in refused.text) == (403, False)
    made = registry.call("POST", "/images", values, TENANT, **PROOF)
    assert made.status_int == (200 if free else 409)
    assert registry.call("POST", "/images", {"image": {"id": None}}, TENANT).status_int == 200


def test_a_tenant_at_the_registry_may_choose_ids_by_policy(
    new_registry: Callable[..., Any],
) -> None:
    registry = new_registry(auth_mode="keystone", policy_choose_id="anyone")
    made = registry.call("POST", "/images", {"image": {"id": 77}}, TENANT)
    assert (made.status_int, made.json["image"]["id"]) == (200, 77)


def test_a_tenant_at_the_registry_publishes_by_policy(new_registry: Callable[..., Any]) -> None:
    registry = new_registry(
        auth_mode="keystone",
        policy_publicize_image="admin",
        **{authtoken.ACCOUNT_SECRET: ACCOUNT},
    )
    number = registry.call("POST", "/images", {"image": {}}, TENANT).json["image"]["id"]
    public = {"image": {"is_public": True}}
    for method, path in (("POST", "/images"), ("PUT", f"/images/{number}")):
        assert registry.call(method, path, public, TENANT).status_int == 403
        assert registry.call(method, path, public, TENANT, **PROOF).status_int == 200


# -- who is who ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, trusted",
    [
        ({"auth_mode": "noauth"}, True),
        ({"auth_mode": "trusted-headers"}, True),
        ({}, True),
        # An unknown token filter: there is no account to recognise the API by.
        ({"auth_mode": "keystone", "bind_host": "127.0.0.1"}, True),
        ({"auth_mode": "keystone", "bind_host": "::1"}, True),
        ({"auth_mode": "keystone", "bind_host": "0.0.0.0"}, False),
        ({"auth_mode": "keystone", "bind_host": "192.0.2.1"}, False),
        ({"auth_mode": "keystone"}, False),
        (
            {
                "auth_mode": "keystone",
                "bind_host": "127.0.0.1",
                authtoken.ACCOUNT_SECRET: ACCOUNT,
            },
            False,
        ),
    ],
    ids=str,
)
def test_whom_a_registry_without_a_shared_secret_takes_locations_from(
    new_registry: Callable[..., Any], settings: dict[str, str], trusted: bool
) -> None:
    registry = new_registry(**settings)
    values = {"location": "file:///images/1"}
    response = registry.call("POST", "/images", {"image": values}, TENANT)
    assert response.status_int == (200 if trusted else 403)


def test_the_shared_secret_is_proof_enough(new_registry: Callable[..., Any]) -> None:
    registry = new_registry(auth_mode="keystone", registry_shared_secret="s", bind_host="0.0.0.0")
    values = {"image": {"location": "file:///images/1"}}
    assert registry.call("POST", "/images", values, TENANT).status_int == 401
    headers = {client.SHARED_SECRET: "s"}
    assert registry.call("POST", "/images", values, TENANT, **headers).status_int == 200


@pytest.mark.parametrize(
    "settings, sent",
    [
        ({}, None),
        ({authtoken.ACCOUNT_SECRET: ACCOUNT}, ACCOUNT),
        ({authtoken.ACCOUNT_SECRET: ACCOUNT, "registry_shared_secret": "own"}, "own"),
    ],
    ids=["neither", "the account", "both"],
)
def test_what_the_api_proves_itself_with(
    loopback: Any, settings: dict[str, str], sent: str | None
) -> None:
    peer = loopback.answering(lambda seen: {"images": []})
    made = link.RegistryLink(config.Conf({"registry_port": str(peer.port), **settings}))
    made.get_images_list(TENANT)
    assert peer.requests[0].headers.get(client.SHARED_SECRET) == sent
    made.close()
