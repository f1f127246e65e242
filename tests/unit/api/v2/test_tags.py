"""Tags one by one, by version 2."""

import urllib.parse

import pytest

from tests.unit.api.v2.both import CALLERS, OWNER, UNKNOWN


@pytest.fixture
def registry_options():
    return {"image_tag_quota": "3"}


def tag_of(image, tag):
    return f"{image['self']}/tags/{urllib.parse.quote(tag, safe='')}"


TAGS = ["prod", "ü", "a b", "%41", "A", "x" * 255, "日本", "."]


def test_a_tag_comes_and_goes(api):
    image = api.make(None, OWNER)
    for tag in TAGS:
        for _ in range(2):
            response = api("PUT", tag_of(image, tag), **OWNER)
            assert (response.status_int, response.body) == (204, b"")
            assert "Content-Type" not in response.headers
            assert api("GET", image["self"], **OWNER).json["tags"] == [tag]
        assert api("DELETE", tag_of(image, tag), **OWNER).status_int == 204
        assert api("GET", image["self"], **OWNER).json["tags"] == []
        assert api("DELETE", tag_of(image, tag), **OWNER).status_int == 404


def test_tags_differ_by_case_and_are_sorted(api):
    image = api.make(None, OWNER)
    for tag in ("b", "a", "B"):
        assert api("PUT", tag_of(image, tag), **OWNER).status_int == 204
    assert api("GET", image["self"], **OWNER).json["tags"] == ["B", "a", "b"]
    assert api("DELETE", tag_of(image, "A"), **OWNER).status_int == 404


def test_a_tag_that_no_image_can_have(api):
    image = api.make(None, OWNER)
    for tag in ("x" * 256, "\x00", "a\nb", "\x7f"):
        for method in ("PUT", "DELETE"):
            assert api(method, tag_of(image, tag), **OWNER).status_int == 400
    assert api("GET", image["self"], **OWNER).json["tags"] == []


def test_a_tag_that_is_not_utf_8(api):
    image = api.make(None, OWNER)
    assert api("PUT", f"{image['self']}/tags/%ff", **OWNER).status_int == 400


def test_there_is_a_quota_of_tags(api):
    image = api.make(None, OWNER)
    for tag in "abc":
        assert api("PUT", tag_of(image, tag), **OWNER).status_int == 204
    assert api("PUT", tag_of(image, "d"), **OWNER).status_int == 413
    assert api("PUT", tag_of(image, "c"), **OWNER).status_int == 204


@pytest.mark.parametrize(
    ("caller", "private", "public"),
    [
        ("owner", 204, 204),
        ("admin", 204, 204),
        ("stranger", 404, 403),
        ("anonymous", 403, 403),
    ],
)
def test_who_changes_tags(api, caller, private, public):
    for visibility, status in (("private", private), ("public", public)):
        image = api.make(None, OWNER, visibility=visibility, tags=["old"])
        for method, tag in (("PUT", "new"), ("DELETE", "old")):
            response = api(method, tag_of(image, tag), **CALLERS[caller])
            assert response.status_int == status, response.text


def test_a_change_of_a_tag_is_a_change_of_the_image(api):
    image = api.make(None, OWNER)
    moments = [
        api("HEAD", f"/v1/images/{image['id']}", **OWNER).headers["x-image-meta-updated_at"]
    ]
    for method in ("PUT", "PUT", "DELETE"):
        assert api(method, tag_of(image, "t"), **OWNER).status_int == 204
        headers = api("HEAD", f"/v1/images/{image['id']}", **OWNER).headers
        moments.append(headers["x-image-meta-updated_at"])
    assert moments[0] < moments[1] == moments[2] < moments[3]


def test_a_body_is_refused(api):
    image = api.make(None, OWNER)
    assert api("PUT", tag_of(image, "t"), None, b"x", **OWNER).status_int == 400
    headers = {"Content-Type": "application/octet-stream", "Content-Length": "0"}
    assert api("PUT", tag_of(image, "t"), headers, **OWNER).status_int == 204


def test_paths_beside_those_of_tags(api):
    assert api("GET", f"{UNKNOWN}/tags", **OWNER).status_int == 404
    response = api("GET", f"{UNKNOWN}/tags/t", **OWNER)
    assert (response.status_int, response.headers["Allow"]) == (405, "DELETE, OPTIONS, PUT")
    for method in ("PUT", "DELETE"):
        assert api(method, f"{UNKNOWN}/tags/t", **OWNER).status_int == 404
        assert api(method, "/v2/images/7/tags/t", **OWNER).status_int == 404
