"""The registry's response to requests that are meant for the API, and the reverse."""

from __future__ import annotations

from typing import Any

import pytest
import webob

from glance.common import exception
from glance.registry import link, wrong_port

SENTENCE = "This is the glance registry, not the image API."
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")


def never(environ: dict[str, Any], start_response: Any) -> Any:
    raise AssertionError("the application was asked")


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"the application"]


def front(method: str, path: str, **headers: str) -> webob.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = webob.Request.blank(path, method=method, headers=names)
    return request.get_response(wrong_port.RegistryFront(app))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "path",
    [
        *("/v1", "/v1.0", "/v1.1/", "/v1.0/images", "/v1/cached_images", "/v1/x"),
        *("/v2", "/v2/images", "/V2/", "/v3/", "/versions", "/versions/", "//v2/images"),
    ],
)
def test_what_only_the_api_serves_names_the_mistake(method: str, path: str) -> None:
    response = front(method, path)
    assert response.status_int == 404
    assert response.content_type == "text/plain"
    if method == "HEAD":
        assert not response.body
    else:
        assert response.text.startswith(SENTENCE)
        assert "9292" in response.text
        assert response.text.count("\n") == 1


@pytest.mark.parametrize("method", [m for m in METHODS if m != "GET"])
def test_the_root_is_a_list_and_nothing_else(method: str) -> None:
    response = front(method, "/")
    assert (response.status_int, response.headers["Allow"]) == (405, "GET")
    assert method == "HEAD" or response.text.startswith(SENTENCE)


@pytest.mark.parametrize(
    "path",
    ["/", "", "/images", "/images/1", "/v1/images", "/v1/", "/v1/shared-images/t", "/healthcheck"],
)
def test_the_registrys_own_paths_reach_it(path: str) -> None:
    assert front("GET", path).text == "the application"


@pytest.mark.parametrize(
    "headers",
    [
        {"User_Agent": "glance-client"},
        {"User_Agent": "python-glanceclient"},
        {"X_Image_Meta_Name": "x"},
        {"X_Glance_API_Copy_From": "http://h/"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/images/detail", "/v1/images/1", "/v1/images"])
def test_a_client_of_the_api_is_told_on_shared_paths(headers: dict[str, str], path: str) -> None:
    for method in ("GET", "POST", "PUT", "DELETE"):
        response = front(method, path, **headers)
        assert response.status_int == 404
        assert response.text.startswith(SENTENCE)


def test_the_registry_itself_says_it_before_its_secret(registry: Any) -> None:
    from glance.common import config
    from glance.registry import server

    conf = config.Conf({"registry_shared_secret": "s"})
    locked = server.RegistryAPI(conf, registry.db)
    request = webob.Request.blank("/v1/versions", method="GET")
    response = request.get_response(locked)
    assert (response.status_int, response.text[: len(SENTENCE)]) == (404, SENTENCE)


# -- the API asked as a registry -----------------------------------------------------------------


@pytest.mark.parametrize("path", ["/images", "/images/detail", "/attempts/1", "/v1/images"])
def test_the_api_is_no_registry(path: str) -> None:
    request = webob.Request.blank(path, headers={"User-Agent": "glance-registry-client"})
    response = request.get_response(wrong_port.ApiFront(never))
    assert response.status_int == 421
    assert "This is the glance image API, not the registry. " in response.text
    assert "registry_port" in response.text


@pytest.mark.parametrize("agent", ["glance-client", "curl/8", ""])
def test_clients_of_the_api_are_served(agent: str) -> None:
    request = webob.Request.blank("/images", headers={"User-Agent": agent})
    assert request.get_response(wrong_port.ApiFront(app)).status_int == 200


def test_a_call_that_reached_an_api_was_not_carried_out() -> None:
    wrong = exception.RegistryUnavailable("x")
    wrong.__cause__ = exception.Misdirected("y")
    assert not link.may_be_done(wrong)
