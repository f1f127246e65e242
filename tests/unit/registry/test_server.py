"""The registry's application as a whole: routes, strange input, start-up."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import webob
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glance.common import exception
from glance.registry import server
from glance.registry.context import RequestContext
from glance.registry.db import migration, models

ADMIN = RequestContext(is_admin=True)


# -- routes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path,allow",
    [
        ("/", "GET"),
        ("/images", "GET, POST"),
        ("/images/detail", "GET"),
        ("/images/1", "DELETE, GET, PUT"),
        ("/images/1/members", "GET, PUT"),
        ("/images/1/members/t", "DELETE, PUT"),
        ("/shared-images/t", "GET"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(registry: Any, path: str, allow: str) -> None:
    for method in {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"} - set(allow.split(", ")):
        for prefix in ("", "/v1"):
            response = registry.call(method, prefix + path)
            assert response.status_int == 405
            assert response.headers["Allow"] == allow


@pytest.mark.parametrize(
    "path", ["/image", "/images/1/edit", "/images.json", "/v2/images", "/v1x", "/shared-images"]
)
def test_other_paths_are_not_there(registry: Any, path: str) -> None:
    assert registry.call("GET", path).status_int == 404


def test_an_unknown_method_is_not_implemented(registry: Any) -> None:
    assert registry.call("BREW", "/images").status_int == 501


def test_the_version_prefix_is_accepted(registry: Any) -> None:
    registry.create(is_public=True)
    assert registry.get("/v1/images") == registry.get("/images")
    assert registry.get("/v1/images/1") == registry.get("/images/1")
    assert registry.get("/v1/") == registry.get("/")


# -- strange input -------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
_FIELDS = st.sampled_from(
    [
        *("id", "name", "status", "size", "is_public", "protected", "location", "owner"),
        *("disk_format", "container_format", "checksum", "min_disk", "min_ram", "properties"),
        *("created_at", "updated_at", "deleted_at", "deleted", "members", "metadata", "__class__"),
    ]
)
_IMAGE = st.dictionaries(_FIELDS, _JSON | st.just("active"), max_size=4)
_BODY = st.one_of(
    _JSON,
    st.builds(lambda image: {"image": image}, _IMAGE),
    st.builds(lambda image, state: {"image": image, "from_state": state}, _IMAGE, _JSON),
    st.builds(
        lambda image, *more: {"image": image, "attempt": more[0], "repeated": more[1]},
        _IMAGE,
        _JSON | st.just("a" * 32),
        _JSON,
    ),
    st.builds(lambda value: {"memberships": value}, _JSON),
    st.builds(
        lambda member, share: {"memberships": [{"member_id": member, "can_share": share}]},
        _JSON,
        _JSON,
    ),
    st.builds(lambda value: {"member": {"can_share": value}}, _JSON),
)
_CALLS = st.sampled_from(
    [
        ("POST", "/images"),
        ("PUT", "/images/1"),
        ("PUT", "/images/1/members"),
        ("PUT", "/images/1/members/t"),
    ]
)
_FIXTURES = {"suppress_health_check": [HealthCheck.function_scoped_fixture]}


@settings(max_examples=150, **_FIXTURES)
@given(call=_CALLS, body=_BODY)
def test_no_json_body_makes_the_registry_fail(
    registry: Any, call: tuple[str, str], body: Any
) -> None:
    registry.call("POST", "/images", {"image": {"id": 1}})
    response = registry.call(*call, body)
    assert response.status_int in (200, 204, 400, 404, 409, 413)
    if response.status_int == 200:
        image_id = response.json["image"]["id"]
        assert registry.get(f"/images/{image_id}")["image"] == response.json["image"]
    elif response.status_int != 204:
        assert "Traceback" not in response.text and "sqlite" not in response.text.lower()


@settings(max_examples=100, **_FIXTURES)
@given(
    params=st.dictionaries(
        st.sampled_from(
            [
                *("name", "status", "size_min", "min_ram", "is_public", "protected", "deleted"),
                *("changes-since", "limit", "marker", "sort_key", "sort_dir", "property-a"),
                *("property-", "property-\x00"),
            ]
        ),
        st.text(max_size=6) | st.integers().map(str) | st.just("2011-09-22T10:11:12"),
        max_size=4,
    ),
    admin=st.booleans(),
)
def test_no_query_makes_the_registry_fail(
    registry: Any, params: dict[str, str], admin: bool
) -> None:
    request = webob.Request.blank("/images/detail")
    request.GET.update(
        {k: v.encode("utf-8", "replace").decode("utf-8") for k, v in params.items()}
    )
    request.environ["glance.context"] = RequestContext(is_admin=admin, tenant="t")
    assert request.get_response(registry.app).status_int in (200, 400)


@settings(max_examples=60, **_FIXTURES)
@given(text=st.text(max_size=12), method=st.sampled_from(["GET", "PUT", "DELETE"]))
def test_no_path_makes_the_registry_fail(registry: Any, text: str, method: str) -> None:
    for path in (f"/images/{text}", f"/images/1/members/{text}", f"/shared-images/{text}"):
        request = webob.Request.blank("/", method=method)
        request.environ["PATH_INFO"] = path.encode("utf-8", "replace").decode("latin-1")
        request.environ["glance.context"] = ADMIN
        assert request.get_response(registry.app).status_int < 500


def test_a_failure_shows_nothing_of_the_inside(
    registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("secret /path")

    monkeypatch.setattr(server.api, "image_get", fail)
    response = registry.call("GET", "/images/1")
    assert response.status_int == 500
    assert "secret" not in response.text and "Traceback" not in response.text


def test_a_location_is_never_logged(registry: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        registry.create(location="swift://user:secret@host/c/o")
        registry.update(1, location="swift://user:secret2@host/c/o")
        registry.call("DELETE", "/images/1")
    assert "secret" not in caplog.text


# -- start-up ------------------------------------------------------------------------------------


def test_the_factory_serves_a_new_sqlite_file_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new.sqlite"
    app = server.app_factory({"sql_connection": url}, api_limit_max="10")
    request = webob.Request.blank("/images", method="POST")
    request.environ["glance.context"] = ADMIN
    request.body = json.dumps({"image": {"name": "a"}}).encode()
    assert request.get_response(app).json["image"]["id"] == 1
    assert migration.db_version(url) == models.SCHEMA_VERSION


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        "nonsense",
        "sqlite://",
        "sqlite:///:memory:",
        "oracool://h/d",
        "mssql+pyodbc://h/d",
    ],
)
def test_the_factory_needs_a_usable_connection(url: str | None) -> None:
    with pytest.raises(exception.ConfigError, match="sql_connection"):
        server.app_factory({} if url is None else {"sql_connection": url})


def test_the_manuals_name_of_the_idle_timeout_is_understood(
    new_registry: Callable[..., Any],
) -> None:
    from glance.common import config

    assert config.Conf({"sql_timeout": "60"}).sql_idle_timeout == 60
