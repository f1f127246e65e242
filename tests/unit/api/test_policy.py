"""What an operator's policy forbids and permits, through both services."""

import pytest

from tests.unit.api.conftest import PAYLOAD, Api, Registry

URL = "/v1/images"
OWNER = {"tenant": "owner", "user": "u", "roles": "member"}
JANITOR = {"tenant": "cleaners", "user": "u", "roles": "Janitor"}
ADMIN = {"tenant": "root", "user": "u", "roles": "admin"}
PUBLIC = {"x-image-meta-is_public": "True"}
ELSEWHERE = "http://127.0.0.1:1/image"


@pytest.fixture
def make(tmp_path, template):
    made = []

    def start(**options):
        options = {"auth_mode": "trusted-headers", **options}
        made.append(Registry(tmp_path, template, **options))
        return Api(made[-1], tmp_path, **options)

    yield start
    for server in made:
        server.stop()


def create(api, headers=None, body=PAYLOAD, **caller):
    return api("POST", URL, headers, body, **(caller or OWNER))


def test_publicising_can_be_left_to_a_role(make):
    api = make(policy_publicize_image="janitor admin")
    refused = create(api, PUBLIC)
    assert refused.status_int == 403
    assert "make an image public" in refused.text
    assert api("GET", f"{URL}?is_public=none", **ADMIN).json == {"images": []}
    assert create(api, PUBLIC, **JANITOR).json["image"]["is_public"]
    image = create(api).json["image"]
    url = f"{URL}/{image['id']}"
    assert api("PUT", url, PUBLIC, **OWNER).status_int == 403
    assert api("PUT", url, PUBLIC, **ADMIN).status_int == 200
    # What is public already may be called so again, and made private.
    assert api("PUT", url, PUBLIC, **OWNER).status_int == 200
    assert api("PUT", url, {"x-image-meta-is_public": "False"}, **OWNER).status_int == 200


def test_who_may_not_change_an_image_is_not_told_of_the_policy(make):
    api = make(policy_publicize_image="admin")
    url = f"{URL}/{create(api).json['image']['id']}"
    assert api("PUT", url, PUBLIC, **JANITOR).status_int == 404


@pytest.mark.parametrize(
    ("rule", "header"),
    [("set_location", "x-image-meta-location"), ("copy_from", "x-glance-api-copy-from")],
)
def test_data_from_elsewhere_can_be_left_to_administrators(make, rule, header):
    api = make(**{f"policy_{rule}": "admin"})
    assert create(api, {header: ELSEWHERE}, b"").status_int == 403
    queued = create(api, None, b"").json["image"]
    assert queued["status"] == "queued"
    url = f"{URL}/{queued['id']}"
    assert api("PUT", url, {header: ELSEWHERE}, **OWNER).status_int == 403
    assert api("PUT", url, {header: ELSEWHERE}, **ADMIN).status_int == 200
    assert create(api, {header: ELSEWHERE}, b"", **ADMIN).status_int == 201


def test_a_role_may_delete_what_it_sees_of_others_and_no_more(make):
    api = make(policy_delete_any_image="janitor admin")
    shown = f"{URL}/{create(api, PUBLIC).json['image']['id']}"
    hidden = f"{URL}/{create(api).json['image']['id']}"
    assert api("PUT", shown, {"x-image-meta-name": "mine"}, **JANITOR).status_int == 404
    assert api("DELETE", hidden, **JANITOR).status_int == 404
    assert api("DELETE", shown, **JANITOR).status_int == 200
    gone = api("GET", f"{URL}/detail?deleted=true&is_public=none", **ADMIN).json["images"]
    # The data went, too, and the record says so.
    assert [image["status"] for image in gone] == ["deleted"]
    assert len(api.files()) == 1
    assert api("DELETE", hidden, **ADMIN).status_int == 200


def test_even_administrators_can_be_kept_from_deleting(make):
    api = make(policy_delete_any_image="nobody")
    url = f"{URL}/{create(api, PUBLIC).json['image']['id']}"
    assert api("DELETE", url, **ADMIN).status_int == 404
    assert api("DELETE", url, **OWNER).status_int == 200


def test_deleted_images_are_listed_to_whom_the_policy_names(make):
    api = make(policy_see_deleted="janitor")
    url = f"{URL}/{create(api, PUBLIC).json['image']['id']}"
    assert api("DELETE", url, **OWNER).status_int == 200

    def seen(caller):
        return len(api("GET", f"{URL}?deleted=true", **caller).json["images"])

    assert (seen(JANITOR), seen(ADMIN), seen(OWNER)) == (1, 0, 0)


@pytest.mark.parametrize("body", [b"", PAYLOAD], ids=["reserve", "upload"])
def test_no_status_tells_which_ids_others_use(make, body):
    api = make()
    hidden = create(api, **ADMIN).json["image"]["id"]
    mine = create(api).json["image"]["id"]
    gone = create(api).json["image"]["id"]
    assert api("DELETE", f"{URL}/{gone}", **OWNER).status_int == 200
    seen = set()
    for image_id in (hidden, mine, gone, 77, 2**31 - 1):
        refused = create(api, {"x-image-meta-id": str(image_id)}, body)
        seen.add((refused.status_int, refused.text))
    assert {status for status, _ in seen} == {403}
    assert len(seen) == 1
    assert "choose the id of a new image" in refused.text
    assert api("PUT", f"{URL}/{mine}", {"x-image-meta-id": str(mine)}, **OWNER).status_int == 200


def test_administrators_choose_ids_and_others_if_the_operator_lets_them(make):
    chosen = {"x-image-meta-id": "77"}
    api = make()
    assert create(api, chosen, **ADMIN).json["image"]["id"] == 77
    assert create(api, chosen, **ADMIN).status_int == 409
    api = make(policy_choose_id="janitor")
    assert create(api, {"x-image-meta-id": "78"}, **JANITOR).json["image"]["id"] == 78
    assert create(api, {"x-image-meta-id": "79"}).status_int == 403
    api = make(policy_choose_id="anyone")
    assert create(api, {"x-image-meta-id": "79"}).json["image"]["id"] == 79
    assert create(api, chosen).status_int == 409


def test_without_authentication_everybody_chooses_ids(make):
    api = make(auth_mode="noauth")
    chosen = {"x-image-meta-id": "77"}
    assert api("POST", URL, chosen).json["image"]["id"] == 77
    assert api("POST", URL, chosen).status_int == 409
