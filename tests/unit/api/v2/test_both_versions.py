"""One image, two versions of the API: what each does to what the other has made."""

import re

import pytest

from glance.api.v2 import patch
from tests.unit.api.conftest import PAYLOAD
from tests.unit.api.v2.callers import ADMIN, MEMBER, OWNER, STRANGER
from tests.unit.api.v2.test_images import RAW, set_status, show, v1_id

#: Names as Nova, Horizon and people have them, each with a value.
NAMES = {
    "owner_specified.openstack.md5": "",
    "trait:HW_CPU": "required",
    "a/b": "1",
    "a b": "2",
    "größe": "ß",
    "~0~1": "3",
    "UPPER": "4",
    "upper": "5",
}


def pointer(name):
    return "/" + name.replace("~", "~0").replace("/", "~1")


def listed(api, query="", **caller):
    response = api.json("GET", f"/v2/images?{query}", **(caller or OWNER))
    assert response.status_int == 200, response.text
    return response.json["images"]


def test_names_and_values_are_the_same_in_every_response(api):
    image = api.create(OWNER, **NAMES)
    assert {name: image[name] for name in NAMES} == NAMES
    assert show(api, image, **OWNER).json == image
    assert listed(api) == [image]
    changes = [("replace", pointer(name), f"new {value}") for name, value in NAMES.items()]
    changed = api.patch(image, *changes, **OWNER).json
    assert {name: changed[name] for name in NAMES} == {n: f"new {v}" for n, v in NAMES.items()}
    assert show(api, image, **OWNER).json == changed
    assert listed(api) == [changed]
    gone = api.patch(image, *(("remove", pointer(name)) for name in NAMES), **OWNER).json
    assert not NAMES.keys() & gone.keys()


def test_a_time_that_is_shown_finds_its_image(api):
    image = api.create(OWNER)
    for name in ("created_at", "updated_at"):
        for operator in ("", "eq:", "gte:", "lte:"):
            assert listed(api, f"{name}={operator}{image[name]}") == [image]
        for operator in ("neq:", "gt:", "lt:"):
            assert listed(api, f"{name}={operator}{image[name]}") == []
        span = f"{name}=gte:{image[name]}&{name}=lte:{image[name]}"
        assert listed(api, span) == [image]
    assert listed(api, f"created_at=gte:{image['created_at'][:10]}") == [image]


def test_a_page_has_25_images_unless_it_is_told(api):
    for _ in range(26):
        api.create(OWNER)
    assert len(listed(api)) == 25
    assert len(listed(api, "limit=5000")) == 26
    assert listed(api, "deleted=true") == []


def test_a_purge_by_version_1_leaves_what_it_cannot_show(api):
    kept = {"Trait:X": "1", "hw-disk-bus": "2", "a b": "3"}
    image = api.create(OWNER, plain="4", **kept)
    path = v1_id(api, image)
    assert api("HEAD", path, **OWNER).headers["x-image-meta-property-plain"] == "4"
    assert api("PUT", path, {"x-image-meta-name": "new"}, **OWNER).status_int == 200
    found = show(api, image, **OWNER).json
    assert {name: found.get(name) for name in (*kept, "plain")} == {**kept, "plain": None}


@pytest.mark.parametrize("name", ["status", "metadata", "os_glance_x", "tags"])
def test_what_version_2_does_not_show_is_kept_by_version_1(api, name):
    headers = {f"x-image-meta-property-{name}": "odd", "x-image-meta-name": "old"}
    made = api("POST", "/v1/images", headers, **OWNER)
    image = {"id": made.headers["X-Openstack-Image-Uuid"]}
    assert show(api, image, **OWNER).json.get(name) != "odd"
    for op, *value in (("add", "x"), ("replace", "x"), ("remove",)):
        refused = api.patch(image, (op, f"/{name}", *value), **OWNER)
        assert refused.status_int in (400, 403, 409)
    assert api.patch(image, ("add", "/fine", "x"), **OWNER).status_int == 200
    kept = api("HEAD", v1_id(api, image), **OWNER).headers
    assert kept[f"x-image-meta-property-{name}"] == "odd"


def test_a_killed_image_is_shown_by_its_id_and_in_no_list(api, registry):
    image = api.create(OWNER, name="killed")
    set_status(registry, image, "killed")
    assert show(api, image, **OWNER).json["status"] == "killed"
    assert listed(api) == listed(api, "status=killed") == []
    assert api.json("DELETE", f"/v2/images/{image['id']}", **OWNER).status_int == 204


@pytest.mark.parametrize("status", ["saving", "uploading", "importing"])
def test_data_on_its_way_is_saving_to_version_1(api, registry, status):
    image = api.create(OWNER, visibility="public")
    set_status(registry, image, status)
    assert show(api, image, **OWNER).json["status"] == status
    path = v1_id(api, image)
    assert api("HEAD", path, **OWNER).headers["x-image-meta-status"] == "saving"
    assert api("GET", path, **OWNER).status_int == 404
    found = api("GET", "/v1/images/detail?status=saving", **OWNER).json["images"]
    assert [one["status"] for one in found] == ["saving"]
    assert [one["id"] for one in listed(api, f"status={status}")] == [image["id"]]
    assert api("PUT", path, None, PAYLOAD, **OWNER).status_int == 409


def test_members_by_version_1_of_images_that_are_not_shared(api):
    path = "/members/" + MEMBER["tenant"]
    private = api.create(OWNER, visibility="private")
    refused = api("PUT", v1_id(api, private) + path, **OWNER)
    assert refused.status_int == 403
    assert "shared" in refused.text
    assert show(api, private, **MEMBER).status_int == 404
    community = api.create(OWNER, visibility="community")
    assert api("PUT", v1_id(api, community) + path, **OWNER).status_int == 204
    for caller in (MEMBER, STRANGER):
        assert show(api, community, **caller).status_int == 200
        assert listed(api, **caller) == []


def test_a_member_of_version_1_is_pending_and_vanishes_from_its_lists_by_no(api):
    image = api.create(OWNER, name="one")
    path = v1_id(api, image)
    assert api("PUT", f"{path}/members/{MEMBER['tenant']}", **OWNER).status_int == 204

    def seen():
        old = api("GET", "/v1/images", **MEMBER).json["images"]
        return len(old), len(listed(api, **MEMBER))

    member = f"/v2/images/{image['id']}/members/{MEMBER['tenant']}"
    assert api("GET", member, **MEMBER).json["status"] == "pending"
    for status, wanted in ((None, (1, 0)), ("accepted", (1, 1)), ("rejected", (0, 0))):
        if status is not None:
            assert api.json("PUT", member, {"status": status}, **MEMBER).status_int == 200
        assert seen() == wanted
    assert api("GET", path, **MEMBER).status_int == 404
    assert api("HEAD", path, **MEMBER).status_int == 200


def test_an_image_of_version_1_that_nothing_can_be_made_of_is_changed_by_whole_patches(api):
    """Of a null, glanceclient could change nothing: it checks the image before it sends."""
    headers = {"x-image-meta-name": "old", "x-image-meta-property-none": ""}
    made = api("POST", "/v1/images", headers, **OWNER)
    assert made.json["image"]["properties"] == {"none": None}
    image = {"id": made.headers["X-Openstack-Image-Uuid"]}
    assert show(api, image, **OWNER).json["none"] == ""
    changed = api.patch(image, ("replace", "/none", "some"), ("replace", "/tags", []), **OWNER)
    assert changed.json["none"] == "some"


def test_the_two_versions_agree_about_who_is_admitted_and_to_what(api):
    """The four visibilities as version 1 shows them, and what its `is_public` makes of them."""
    for word in ("private", "shared", "community", "public"):
        image = api.create(OWNER, visibility=word, **RAW)
        path = v1_id(api, image)
        shown = api("HEAD", path, **OWNER).headers["x-image-meta-is_public"]
        assert shown == str(word == "public")
        again = api("PUT", path, {"x-image-meta-is_public": shown}, **OWNER)
        assert again.status_int == 200
        assert show(api, image, **OWNER).json["visibility"] == word
        for flag, after in (("True", "public"), ("False", "shared")):
            api("PUT", path, {"x-image-meta-is_public": flag}, **OWNER)
            assert show(api, image, **OWNER).json["visibility"] == after or shown == flag
    everybodys = api("GET", "/v1/images?is_public=none", **ADMIN).json["images"]
    assert len(everybodys) == 4


def test_no_patch_reaches_an_element_of_the_tags(api):
    """openstacksdk sends these if a caller changes the tags of an image object that it keeps."""
    image = api.create(OWNER, tags=["a", "b"])
    for operation in (("add", "/tags/2", "c"), ("replace", "/tags/0", "c"), ("remove", "/tags/1")):
        refused = api.patch(image, ("replace", "/name", "new"), operation, **OWNER)
        assert refused.status_int == 400
        assert re.search("tags are changed as a whole", refused.json["error"]["message"])
    assert show(api, image, **OWNER).json == image
    assert patch.V21 in patch.MEDIA_TYPES


@pytest.mark.full
def test_a_walk_visits_each_image_once_whatever_the_order(api):
    chosen = [
        {
            "name": f"n{number % 5}" if number % 7 else None,
            "visibility": ("private", "shared", "community", "public")[number % 4],
            "min_disk": number % 3,
            "protected": bool(number % 2),
            "tags": ["a", "b"] if number % 3 else ["a"],
            "disk_format": ("raw", "qcow2", None)[number % 3],
        }
        for number in range(100)
    ]
    made = {api.create(OWNER, **values)["id"]: values for values in chosen}
    orders = [f"{key}:{way}" for key in SORT_KEYS for way in ("asc", "desc")]
    orders += ["name:asc,size:desc", "visibility:desc,min_disk:asc"]
    for order in orders:
        tagged = "min_disk" in order
        path = f"/v2/images?limit=7&sort={order}{'&tag=a&tag=b' * tagged}"
        wanted = {i for i, values in made.items() if not tagged or "b" in values["tags"]}
        found, pages = [], 0
        while path is not None:
            page = api.json("GET", path, **OWNER).json
            found += [one["id"] for one in page["images"]]
            path = page.get("next")
            pages += 1
        assert (sorted(found), pages) == (sorted(wanted), -(-len(wanted) // 7)), order


SORT_KEYS = (
    *("name", "status", "container_format", "disk_format", "size", "id", "created_at"),
    *("updated_at", "owner", "visibility", "protected", "os_hidden", "min_disk", "min_ram"),
)
