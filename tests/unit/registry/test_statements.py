"""How many statements a call runs: none more for each image, none more for who may not see it."""

from __future__ import annotations

from typing import Any

import pytest

from glance.registry.context import RequestContext

from support import statements

OWNER = RequestContext(tenant="owner", user="u")
OTHER = RequestContext(tenant="other", user="u")
UNKNOWN = 987654


def fill(registry: Any, count: int) -> list[int]:
    """Make private images of owner, each with a property and shared with two others."""
    made = []
    for number in range(count):
        image = registry.create(OWNER, name=f"i{number}", properties={"a": "b"})
        made.append(image["id"])
        for member in ("member", "third"):
            path = f"/images/{image['id']}/members/{member}"
            assert registry.call("PUT", path, context=OWNER).status_int == 204
    return made


@pytest.mark.parametrize("path", ["/images", "/images/detail", "/shared-images/member"])
@pytest.mark.parametrize("tenant", ["owner", "member", "other"])
def test_a_list_runs_as_many_statements_for_many_images_as_for_one(
    registry: Any, path: str, tenant: str
) -> None:
    caller = RequestContext(tenant=tenant, user="u")
    counts = []
    for more in (1, 20):
        fill(registry, more)
        with statements.noted(registry.db) as asked:
            registry.get(f"{path}?limit=1000", caller)
        counts.append(len(asked))
    assert 1 <= counts[0] == counts[1] <= 2


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/images/{}", None),
        ("PUT", "/images/{}", {"image": {"name": "mine"}}),
        ("DELETE", "/images/{}", None),
        ("GET", "/images/{}/members", None),
        ("PUT", "/images/{}/members", {"memberships": []}),
        ("PUT", "/images/{}/members/other", None),
        ("DELETE", "/images/{}/members/other", None),
    ],
)
def test_anothers_image_costs_what_one_costs_that_does_not_exist(
    registry: Any, method: str, path: str, body: Any
) -> None:
    """Who measures times learns nothing: the same statements, of which none finds a row."""
    (theirs,) = fill(registry, 1)
    seen = []
    for number in (theirs, UNKNOWN):
        with statements.noted(registry.db) as asked:
            response = registry.call(method, path.format(number), body, OTHER)
        seen.append((response.status_int, [statement for statement, _ in asked]))
    assert seen[0] == seen[1]
    assert seen[0][1]
    assert seen[0][0] == 404
