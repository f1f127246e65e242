"""Images whose locations lead back to the service itself, or to another one and back."""

import contextlib
import os

import pytest

from support import caching, daemons, faults
from support.faults import new_id, until
from support.rawhttp import meta_headers

DATA = os.urandom(100_000)
SIZE = len(DATA)
OPTIONS = {"http_store_allowed_hosts": "127.0.0.1", "access_log": True}


@pytest.fixture(scope="module", params=["plain", "caching"])
def sites(request, tmp_path_factory):
    """Two services that may read from loopback, with and without a cache."""
    kind = daemons.Site if request.param == "plain" else caching.CachingSite
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(kind(tmp_path_factory.mktemp("site"), api=OPTIONS))
            for _ in range(2)
        ]


@pytest.fixture
def origin():
    with faults.Origin() as running:
        yield running


def url(site, image_id):
    return f"{site.url}/v1/images/{image_id}"


def register(site, location, image_id=None, size=SIZE):
    image_id = image_id or new_id()
    headers = meta_headers(id=image_id, location=location, size=size)
    reply = site.http.post("/v1/images", headers)
    assert reply.status == 201, reply
    return image_id


def downloads(site, image_id):
    """Return how often the data of an image was requested, by the log."""
    return site.api.log().count(f"GET /v1/images/{image_id} ")


@pytest.mark.parametrize("size", [0, SIZE])
@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-9"}], ids=["whole", "part"])
def test_an_image_that_leads_to_itself_is_508(sites, size, headers):
    site, image_id = sites[0], new_id()
    register(site, url(site, image_id), image_id, size)
    reply = site.http.get(f"/v1/images/{image_id}", headers)
    assert reply.status == 508
    assert b"leads back" in reply.body and site.url.encode() not in reply.body
    # The request itself, and the one that came back.
    assert until(lambda: downloads(site, image_id) == 2, "both requests are logged")
    assert site.http.head(f"/v1/images/{image_id}").status == 200
    assert site.http.delete(f"/v1/images/{image_id}").status == 200


def test_a_redirect_back_is_found_at_once(sites, origin):
    site, image_id = sites[0], new_id()
    origin.paths["/image"] = faults.redirect(url(site, image_id))
    register(site, f"{origin.url}/image", image_id)
    origin.requests.clear()
    assert site.http.get(f"/v1/images/{image_id}").status == 508
    assert len(origin.requests) == 1


def test_two_services_that_lead_to_each_other_are_508(sites):
    first, second = new_id(), new_id()
    register(sites[0], url(sites[1], second), first)
    register(sites[1], url(sites[0], first), second)
    assert sites[0].http.get(f"/v1/images/{first}").status == 508
    assert sites[1].http.get(f"/v1/images/{second}").status == 508
    assert downloads(sites[0], first) <= 4


def test_images_of_one_service_in_a_circle_are_508(sites):
    site, numbers = sites[0], [new_id() for _ in range(4)]
    for image_id, target in zip(numbers, [*numbers[1:], numbers[0]], strict=True):
        register(site, url(site, target), image_id)
    for image_id in numbers:
        assert site.http.get(f"/v1/images/{image_id}").status == 508


def test_a_chain_that_ends_is_served(sites):
    made = sites[1].http.add(DATA, id=new_id()).json()["image"]["id"]
    other = register(sites[1], url(sites[1], made))
    outer = register(sites[0], url(sites[1], other))
    for _ in range(2):
        assert sites[0].http.get(f"/v1/images/{outer}").body == DATA
    part = sites[0].http.get(f"/v1/images/{outer}", {"Range": "bytes=5-9"})
    assert (part.status, part.body) == (206, DATA[5:10])


def test_a_chain_without_a_loop_has_a_bound(sites):
    target = sites[0].http.add(DATA, id=new_id()).json()["image"]["id"]
    chain = []
    for _ in range(7):
        target = register(sites[0], url(sites[0], target))
        chain.append(target)
    # The longest way first: a part of it that is cached would make it shorter.
    statuses = [sites[0].http.get(f"/v1/images/{each}").status for each in reversed(chain)]
    assert statuses == [508] * 2 + [200] * 5


def test_a_copy_of_a_loop_is_killed(sites):
    site, looped, copied = sites[0], new_id(), new_id()
    register(site, url(site, looped), looped)
    headers = {**meta_headers(id=copied), "x-glance-api-copy-from": url(site, looped)}
    assert site.http.post("/v1/images", headers).status == 201
    until(
        lambda: site.http.head(f"/v1/images/{copied}").meta()["status"] == "killed",
        "the copy is killed",
    )
    assert not [path for path in site.data_files() if str(copied) in path.name]


def test_a_loop_of_unknown_size_is_not_registered_again(sites):
    site, looped = sites[0], new_id()
    register(site, url(site, looped), looped, 0)
    headers = meta_headers(id=new_id(), location=url(site, looped))
    reply = site.http.post("/v1/images", headers)
    assert reply.status == 400
    assert b"another" in reply.body
