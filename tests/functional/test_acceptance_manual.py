"""The URIs of the manual work as it prints them: without a version, with trailing slashes."""

import pytest

OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def manual_image(site):
    return site.http.add(b"manual", is_public="true", name="manual").json()["image"]["id"]


@pytest.mark.parametrize("prefix", ["", "/v1", "/v1.0", "/v1.1"])
@pytest.mark.parametrize(
    "path",
    [
        *("/images", "/images/", "/images/detail", "/images/detail/"),
        *("/images/{id}", "/images/{id}/", "/images/{id}/members", "/images/{id}/members/"),
        *("/shared-images/tenant1", "/images?name=manual", "/images/detail?sort_key=id"),
    ],
)
def test_the_manuals_uris_work_as_printed(site, manual_image, prefix, path):
    assert site.http.get(prefix + path.format(id=manual_image)).status == 200


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_manuals_way_of_making_changing_sharing_and_deleting(site, slash):
    http = site.http
    made = http.post(f"/images{slash}", {**OCTETS, "x-image-meta-name": "m"}, b"data")
    assert made.status == 201
    url = f"/images/{made.json()['image']['id']}"
    assert made.header("Location") == f"http://127.0.0.1:{site.port}/v1{url}"
    assert http.put(url + slash, {"x-image-meta-name": "n"}).json()["image"]["name"] == "n"
    assert http.put(f"{url}/members/tenant1").status == 204
    members = {"memberships": [{"member_id": "tenant2", "can_share": True}]}
    assert http.put_json(f"{url}/members{slash}", members).status == 204
    listed = http.get(f"{url}/members{slash}").json()
    assert listed == {"members": [{"member_id": "tenant2", "can_share": True}]}
    shared = http.get(f"/shared-images/tenant2{slash}").json()["shared_images"]
    assert {"image_id": made.json()["image"]["id"], "can_share": True} in shared
    assert http.delete(f"{url}/members/tenant2").status == 204
    assert http.delete(url + slash).status == 200


def test_the_manuals_example_registers_an_image_that_cannot_be_reached(make_site):
    # Its host has to look unreachable and must not be asked: a name that cannot exist.
    http = make_site().http
    headers = {
        "x-image-meta-name": "Some web image",
        "x-image-meta-disk_format": "vhd",
        "x-image-meta-container_format": "ovf",
        "x-image-meta-location": "http://images.example.invalid/images/myimage.vhd",
        "x-image-meta-type": "raw",
    }
    reply = http.post("/v1/images", headers)
    assert reply.status == 201
    image = reply.json()["image"]
    assert (image["size"], image["status"]) == (0, "active")
    assert image["location"] == headers["x-image-meta-location"]
    assert image["properties"] == {}
