"""Images with as many properties as they may have can be read by every client."""

import http.client

import pytest

from glance import client
from glance.common import config
from glance.registry import server  # noqa: F401  # declares the quota

QUOTA = config.TABLE["image_property_quota"].default
#: Headers that proxies on the way add, and those of services to come.
SPARE = 12


def properties(count):
    return {f"x-image-meta-property-p{number}": "v" for number in range(count)}


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_pythons_own_client_reads_an_image_with_all_its_properties(site, method):
    meta = {"disk_format": "raw", "container_format": "bare", "min_disk": 1, "min_ram": 1}
    made = site.http.add(b"data", properties(QUOTA), name="full", is_public="true", **meta)
    assert made.status == 201, made
    path = f"/v1/images/{made.json()['image']['id']}"
    for headers in ({}, {"Range": "bytes=1-2"}):
        # NOTE: http.client, which this uses, raises HTTPException for more than 100 headers.
        reply = site.http.request(method, path, headers)
        assert reply.status in (200, 206)
        assert len(reply.headers) + SPARE <= http.client._MAXHEADERS
        assert sum(name.startswith("property_") for name in reply.meta()) == QUOTA


def test_one_property_more_is_refused(site):
    refused = site.http.add(b"data", properties(QUOTA + 1), name="over")
    assert refused.status == 413
    assert str(QUOTA) in refused.text
    found = site.http.get("/v1/images/detail?name=over").json()["images"]
    assert [image["status"] for image in found if image["status"] == "active"] == []


def test_our_own_client_reads_images_of_a_site_that_allows_more(make_site):
    site = make_site(registry={"image_property_quota": 300})
    made = site.http.add(b"data", properties(300), is_public="true")
    assert made.status == 201, made
    ours = client.Client("127.0.0.1", site.port)
    meta = ours.get_image_meta(made.json()["image"]["id"])
    assert len(meta["properties"]) == 300
