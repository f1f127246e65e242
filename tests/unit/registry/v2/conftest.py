"""Calls of version 2 to a registry in process, and callers of all kinds."""

from __future__ import annotations

from typing import Any

import pytest
import webob

from glance.registry import client
from glance.registry.context import RequestContext
from tests.unit.registry.conftest import ADMIN, Registry

OWNER = RequestContext(tenant="owner")
MEMBER = RequestContext(tenant="member")
STRANGER = RequestContext(tenant="stranger")
ANONYMOUS = RequestContext(read_only=True)
CALLERS = {
    "admin": ADMIN,
    "owner": OWNER,
    "member": MEMBER,
    "stranger": STRANGER,
    "anonymous": ANONYMOUS,
}


class V2:
    """The registry's paths below `/v2`, as its own client calls them."""

    def __init__(self, registry: Registry):
        self.registry = registry

    def call(
        self, method: str, path: str, body: Any = None, context: RequestContext = OWNER
    ) -> webob.Response:
        agent = client.RegistryClient.USER_AGENT
        return self.registry.call(method, f"/v2/images{path}", body, context, User_Agent=agent)

    def create(self, context: RequestContext = OWNER, **values: Any) -> dict[str, Any]:
        response = self.call("POST", "", {"image": values}, context)
        assert response.status_int == 200, response.text
        return response.json["image"]

    def show(self, image: dict[str, Any], context: RequestContext = ADMIN) -> dict[str, Any]:
        response = self.call("GET", f"/{image['uuid']}", context=context)
        assert response.status_int == 200, response.text
        return response.json["image"]

    def patch(
        self, image: dict[str, Any], context: RequestContext = OWNER, **change: Any
    ) -> webob.Response:
        return self.call("PATCH", f"/{image['uuid']}", change, context)

    def step(
        self, image: dict[str, Any], to: str, *before: str, context: Any = OWNER, **values: Any
    ) -> webob.Response:
        state = {"from": list(before), "to": to, "values": values}
        return self.call("POST", f"/{image['uuid']}/state", {"state": state}, context)

    def activate(self, image: dict[str, Any]) -> dict[str, Any]:
        response = self.step(image, "active", "queued", location="file:///x", size=3)
        assert response.status_int == 200, response.text
        return response.json["image"]

    def share(self, image: dict[str, Any], member: str, context: Any = OWNER) -> webob.Response:
        return self.call("POST", f"/{image['uuid']}/members", {"member": member}, context)

    def decide(
        self, image: dict[str, Any], member: str, status: Any, context: Any = MEMBER
    ) -> webob.Response:
        path = f"/{image['uuid']}/members/{member}"
        return self.call("PUT", path, {"status": status}, context)


@pytest.fixture
def v2(registry: Registry) -> V2:
    return V2(registry)
