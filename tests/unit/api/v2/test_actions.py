"""Images that are deactivated: whose data nobody reads but administrators."""

import pytest

from tests.unit.api.conftest import PAYLOAD
from tests.unit.api.v2.both import (
    ADMIN,
    CALLERS,
    OCTETS,
    OWNER,
    OWNING_ADMIN,
    STRANGER,
    UNKNOWN,
)


def act(api, image, action, **caller):
    return api("POST", f"{image['self']}/actions/{action}", **caller).status_int


def status_of(api, image):
    return api("GET", image["self"], **ADMIN).json["status"]


def test_an_image_goes_and_comes_back(api):
    image = api.make(PAYLOAD, OWNER)
    for action, status in (("deactivate", "deactivated"), ("reactivate", "active")):
        for _ in range(2):
            assert act(api, image, action, **OWNER) == 204
            assert status_of(api, image) == status


def test_nobody_but_administrators_reads_the_data(api):
    image = api.make(PAYLOAD, OWNER, visibility="public")
    assert act(api, image, "deactivate", **OWNER) == 204
    for path in (image["file"], f"/v1/images/{image['id']}", f"/v1/images/{image['id']}/file"):
        for caller, status in ((OWNER, 403), (STRANGER, 403), (ADMIN, 200)):
            response = api("GET", path, **caller)
            assert response.status_int == status
            if status == 200:
                assert response.body == PAYLOAD
    assert api("HEAD", image["file"], **OWNER).status_int == 403
    headers = api("HEAD", f"/v1/images/{image['id']}", **OWNER).headers
    assert headers["x-image-meta-status"] == "deactivated"
    assert headers["x-image-meta-size"] == "5120"


def test_a_deactivated_image_takes_no_data(api):
    image = api.make(PAYLOAD, OWNER)
    act(api, image, "deactivate", **OWNER)
    assert api("PUT", image["file"], OCTETS, b"x", **OWNER).status_int == 409
    assert api("PUT", f"/v1/images/{image['id']}", OCTETS, b"x", **OWNER).status_int == 409


def test_the_rest_of_a_deactivated_image_can_be_changed_and_deleted(api):
    image = api.make(PAYLOAD, OWNER)
    act(api, image, "deactivate", **OWNER)
    path = f"/v1/images/{image['id']}"
    assert api("PUT", path, {"x-image-meta-name": "new"}, **OWNER).status_int == 200
    assert api("GET", image["self"], **OWNER).json["name"] == "new"
    assert api("DELETE", image["self"], **OWNER).status_int == 204
    assert api.files() == []


@pytest.mark.parametrize("action", ["deactivate", "reactivate"])
@pytest.mark.parametrize("status", ["queued", "killed"])
def test_an_image_without_data_has_no_such_state(api, action, status):
    image = api.make(None, OWNER)
    if status == "killed":
        path = f"/v1/images/{image['id']}"
        headers = {**OCTETS, "x-image-meta-checksum": "0" * 32}
        assert api("PUT", path, headers, PAYLOAD, **OWNER).status_int == 400
    assert act(api, image, action, **OWNER) == 403
    assert status_of(api, image) == status


@pytest.mark.parametrize(
    ("caller", "private", "public"),
    [
        ("owner", 204, 204),
        ("admin", 204, 204),
        ("stranger", 404, 403),
        ("anonymous", 403, 403),
    ],
)
@pytest.mark.parametrize("action", ["deactivate", "reactivate"])
def test_who_does_it(api, action, caller, private, public):
    for visibility, status in (("private", private), ("public", public)):
        image = api.make(PAYLOAD, OWNER, visibility=visibility)
        assert act(api, image, action, **CALLERS[caller]) == status


def test_what_an_administrator_has_deactivated_its_owner_cannot_reactivate(api):
    image = api.make(PAYLOAD, OWNER)
    assert act(api, image, "deactivate", **ADMIN) == 204
    assert act(api, image, "reactivate", **OWNER) == 403
    assert status_of(api, image) == "deactivated"
    assert act(api, image, "reactivate", **ADMIN) == 204
    # Then it is the owner's again.
    assert act(api, image, "deactivate", **OWNER) == 204
    assert act(api, image, "reactivate", **OWNER) == 204


def test_an_administrator_takes_over_what_the_owner_has_deactivated(api):
    image = api.make(PAYLOAD, OWNER)
    assert act(api, image, "deactivate", **OWNER) == 204
    assert act(api, image, "deactivate", **ADMIN) == 204
    assert act(api, image, "reactivate", **OWNER) == 403
    # The owner cannot take it back by deactivating it once more.
    assert act(api, image, "deactivate", **OWNER) == 204
    assert act(api, image, "reactivate", **OWNER) == 403


def test_an_administrator_who_owns_the_image_is_its_owner(api):
    image = api.make(PAYLOAD, OWNER)
    assert act(api, image, "deactivate", **OWNING_ADMIN) == 204
    assert act(api, image, "reactivate", **OWNER) == 204


@pytest.mark.parametrize("action", ["deactivate", "reactivate"])
def test_a_policy_may_reserve_it(make_api, action):
    strict = make_api(**{f"policy_{action}": "admin"})
    image = strict.make(PAYLOAD, OWNER)
    assert act(strict, image, action, **OWNER) == 403
    assert act(strict, image, action, **ADMIN) == 204


def test_a_policy_may_reserve_downloads(make_api):
    strict = make_api(policy_download_image="librarian")
    image = strict.make(PAYLOAD, OWNER)
    librarian = {**OWNER, "roles": "Librarian"}
    for path in (image["file"], f"/v1/images/{image['id']}"):
        assert strict("GET", path, **OWNER).status_int == 403
        assert strict("GET", path, **librarian).status_int == 200


def test_a_head_of_data_that_may_not_be_read_permits_no_proxy_to_send_it(make_api):
    strict = make_api(policy_download_image="librarian", http_cache_share_private="true")
    image = strict.make(PAYLOAD, OWNER)
    path = f"/v1/images/{image['id']}"
    permitted = strict("HEAD", path, **{**OWNER, "roles": "librarian"})
    assert "public" in permitted.headers["Cache-Control"] and permitted.headers["ETag"]
    tag = {"If-None-Match": permitted.headers["ETag"]}
    for headers in (None, tag):
        refused = strict("HEAD", path, headers, **OWNER)
        assert refused.status_int == 200
        assert refused.headers["x-image-meta-checksum"]
        assert refused.headers["Cache-Control"] == "no-store"
        assert not {"ETag", "Last-Modified"} & set(refused.headers)
    # What is deactivated is nobody's to keep, either.
    assert act(strict, image, "deactivate", **OWNER) == 204
    assert strict("HEAD", path, **OWNER).headers["Cache-Control"] == "no-store"


def test_a_body_is_refused(api):
    image = api.make(PAYLOAD, OWNER)
    path = f"{image['self']}/actions/deactivate"
    assert api("POST", path, None, b"{}", **OWNER).status_int == 400
    headers = {"Content-Type": "application/json", "Content-Length": "0"}
    assert api("POST", path, headers, **OWNER).status_int == 204


def test_paths_beside_those_of_actions(api):
    assert api("POST", f"{UNKNOWN}/actions/explode", **OWNER).status_int == 404
    assert api("POST", f"{UNKNOWN}/actions", **OWNER).status_int == 404
    for action in ("deactivate", "reactivate"):
        assert api("POST", f"{UNKNOWN}/actions/{action}", **OWNER).status_int == 404
        assert api("POST", f"/v2/images/7/actions/{action}", **OWNER).status_int == 404
        response = api("GET", f"{UNKNOWN}/actions/{action}", **OWNER)
        assert (response.status_int, response.headers["Allow"]) == (405, "OPTIONS, POST")
