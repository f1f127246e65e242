"""Lists by version 2: their pages and links. Which images they hold is the registry's to test."""

import pytest

from tests.unit.api.v2.callers import ADMIN, ANONYMOUS, OWNER, STRANGER
from tests.unit.api.v2.validator import problems


def listed(api, query="", **caller):
    response = api.json("GET", f"/v2/images{query}", **(caller or OWNER))
    assert response.status_int == 200, response.text
    return response.json


def names(page):
    return [image["name"] for image in page["images"]]


def test_a_list_of_nothing(api):
    assert listed(api) == {"images": [], "first": "/v2/images", "schema": "/v2/schemas/images"}


def test_a_list_has_whole_images_and_is_as_its_schema_says(api):
    image = api.create(OWNER, name="a", tags=["x"], os="linux")
    page = listed(api)
    assert page["images"] == [image]
    assert not problems(page, api("GET", "/v2/schemas/images", **OWNER).json)


def test_pages_follow_their_links_to_the_end(api):
    for number in range(5):
        api.create(OWNER, name=f"n{number}", tags=["a", "b"])
    api.create(OWNER, name="other", tags=["a"])
    path, seen = "?limit=2&tag=a&tag=b&sort=name:asc", []
    while True:
        page = listed(api, path)
        seen += names(page)
        assert page["first"] == "/v2/images?limit=2&tag=a&tag=b&sort=name%3Aasc"
        if "next" not in page:
            break
        assert page["next"].endswith(f"&marker={page['images'][-1]['id']}")
        path = page["next"].removeprefix("/v2/images")
    assert seen == [f"n{number}" for number in range(5)]
    assert names(listed(api, f"{path.partition('&marker')[0]}&limit=5")) == seen


def test_a_page_that_ends_with_the_list_has_no_next(api):
    for number in range(3):
        api.create(OWNER, name=f"n{number}")
    assert "next" not in listed(api, "?limit=3")
    assert "next" in listed(api, "?limit=2")
    empty = listed(api, "?limit=0")
    assert (empty["images"], "next" in empty) == ([], False)


def test_the_last_image_as_marker_gives_an_empty_page(api):
    image = api.create(OWNER)
    assert listed(api, f"?marker={image['id']}")["images"] == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=a",
        "limit=",
        "marker=7",
        "marker=5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c11",
        "visibility=odd",
        "os_hidden=zz",
        "sort=nope",
        "sort=name&sort_key=name",
        "changes-since=2011-01-01",
        "created_at=xx:2011-01-01",
        "name=%ff",
        'name=in:"a',
        "size_min=x",
    ],
)
def test_a_query_that_cannot_be_is_refused(api, query):
    refused = api.json("GET", f"/v2/images?{query}", **OWNER)
    assert refused.status_int == 400
    assert refused.json["error"]["message"]


def test_hidden_images_are_listed_when_asked_for(api):
    api.create(OWNER, name="hidden", os_hidden=True)
    api.create(OWNER, name="shown")
    assert names(listed(api)) == ["shown"]
    assert names(listed(api, "?os_hidden=True")) == ["hidden"]


def test_a_hidden_image_is_in_no_list_of_version_1(api):
    api.create(OWNER, name="hidden", os_hidden=True)
    assert api("GET", "/v1/images", **OWNER).json["images"] == []
    everything = api("GET", "/v1/images?is_public=none", **ADMIN).json["images"]
    assert [image["name"] for image in everything] == ["hidden"]


def test_who_finds_what(api):
    for visibility in ("public", "community", "shared", "private"):
        api.create(OWNER, name=visibility, visibility=visibility)
    for caller, seen in (
        (OWNER, {"public", "community", "shared", "private"}),
        (STRANGER, {"public"}),
        (ADMIN, {"public", "shared", "private"}),
    ):
        assert set(names(listed(api, **caller))) == seen
    response = api.json("GET", "/v2/images", **ANONYMOUS)
    assert names(response.json) == ["public"]


def test_a_registry_that_does_not_write_the_images_makes_no_difference(api, registry):
    for number in range(3):
        api.create(OWNER, name=f"ü{number}", tags=["x"], os="linux")
    queries = ("", "?limit=2", "?limit=2&sort=name:asc", "?limit=0", "?name=x")
    pages = [listed(api, query) for query in queries]
    real = registry.app

    def older(environ, start_response):
        environ.pop("HTTP_X_GLANCE_REGISTRY_PUBLIC_SHAPE", None)
        return real(environ, start_response)

    registry.app = older
    assert [listed(api, query) for query in queries] == pages
    assert "next" in pages[1] and len(pages[1]["images"]) == 2
