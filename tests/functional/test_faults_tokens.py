"""Tokens that end while they are in use, and a Keystone that is away."""

import pytest

from support import faults, identities, keystone, records

pytestmark = pytest.mark.peers

DATA = b"data" * 50_000
HALF = DATA[:100_000]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with keystone.Keystone(tmp_path_factory.mktemp("keystone") / "home") as started:
        started.user("joe", "acme")
        yield started


@pytest.fixture
def make(running, tmp_path):
    """Return a function that starts daemons which ask Keystone each time."""
    made = []

    def start(account=True, **options):
        api = {}
        if account:
            api = {
                "admin_user": "glance",
                "admin_password": keystone.PASSWORD,
                "admin_tenant_name": "service",
                "auth_url": running.url,
            }
        new = identities.site(tmp_path, running, token_cache_time=-1, api=api, **options)
        made.append(new)
        return new.start()

    yield start
    for site in made:
        site.kill()


def admin(running):
    return {"X-Auth-Token": running.token("admin", "admin")}


def status_of(site, image_id):
    """Return an image's status as the database has it: who asked the API would ask Keystone."""
    found = records.row(site, image_id)
    return found and found[0]


def upload_with_a_token_that_ends(site, running):
    """Return the id of an image, and the answer to its upload, during which the token ended."""
    image_id = faults.new_id()
    token = running.token("joe", "acme")
    with faults.Upload(site, image_id, headers={"X-Auth-Token": token}) as upload:
        upload.send(HALF)
        faults.until(lambda: status_of(site, image_id) == "saving", "data is taken in")
        running.revoke(token)
        return image_id, upload.send(DATA[len(HALF) :]).end().reply()


@pytest.mark.parametrize("strict", [True, False])
def test_an_upload_whose_token_ends_is_401_and_leaves_nothing(make, running, strict):
    site = make(strict=strict, trusted_link=False)
    image_id, reply = upload_with_a_token_that_ends(site, running)
    assert reply.status == 401
    assert "token expired during the upload" in reply.text
    # The service has an account of its own to say what became of the image.
    faults.until(lambda: status_of(site, image_id) == "killed", "the image is killed")
    faults.until_no_file(site, image_id)


def test_without_an_account_the_record_waits_and_no_credentials_are_made_up(make, running):
    site = make(account=False, strict=True, trusted_link=False)
    image_id, reply = upload_with_a_token_that_ends(site, running)
    assert reply.status == 401
    faults.until_no_file(site, image_id)
    told = f"Image {image_id} could not be killed"
    faults.until(lambda: told in site.api.log(), "the operator is told")
    assert status_of(site, image_id) == "saving"
    joe = {"X-Auth-Token": running.token("joe", "acme")}
    assert site.http.delete(f"/v1/images/{image_id}", joe).status == 200


def test_over_a_trusted_link_an_upload_outlives_its_token(make, running):
    site = make(strict=True)
    image_id, reply = upload_with_a_token_that_ends(site, running)
    assert (reply.status, reply.json()["image"]["status"]) == (201, "active")
    assert site.http.get(f"/v1/images/{image_id}", admin(running)).body == DATA


def test_what_a_dead_process_left_is_settled_by_the_account(make, running):
    site = make(strict=True, trusted_link=False, workers=1)
    image_id = faults.new_id()
    token = running.token("joe", "acme")
    with faults.Upload(site, image_id, headers={"X-Auth-Token": token}) as upload:
        upload.send(HALF)
        faults.until(lambda: status_of(site, image_id) == "saving", "data is taken in")
        site.api.kill()
    site.api.start()
    faults.until(lambda: status_of(site, image_id) == "killed", "the image is killed")
    faults.until_no_file(site, image_id)


def test_tokens_and_passwords_are_in_no_log(make, running):
    site = make(strict=True, trusted_link=False, registry={"debug": True}, workers=1)
    site.api_options["debug"] = site.registry_options["debug"] = True
    site.stop()
    site.start()
    joe = running.token("joe", "acme")
    gone = running.token("joe", "acme")
    running.revoke(gone)
    made_up = "made-up-token-of-nobody"
    image = site.http.add(DATA, {"X-Auth-Token": joe}).json()["image"]
    url = f"/v1/images/{image['id']}"
    assert site.http.get(url, {"X-Storage-Token": joe}).status == 200
    assert site.http.put(f"{url}/members/m", {"X-Auth-Token": joe}).status == 204
    for token in (gone, made_up):
        assert site.http.get(url, {"X-Auth-Token": token}).status == 401
        assert site.http.get(url, {"X-Service-Token": token, "X-Auth-Token": joe}).status == 401
    assert site.http.delete(url, {"X-Auth-Token": joe}).status == 200
    upload_with_a_token_that_ends(site, running)
    for program, log in site.logs():
        assert "DEBUG" in log, program
        for secret in (joe, gone, made_up, keystone.PASSWORD, "known to both"):
            assert secret not in log, (program, secret)


def test_whoever_is_not_let_in_is_told_where_to_get_a_token(make, running):
    # The token filter lets everybody pass, and the context filter has the last word.
    site = make(strict=False, trusted_link=False, anonymous=False)
    for headers in ({}, {"X-Auth-Token": "made up"}):
        for method in ("GET", "POST"):
            refused = site.http.request(method, "/v1/images", headers)
            assert refused.status == 401
            assert refused.header("WWW-Authenticate") == f'Keystone uri="{running.url}"'


def test_a_keystone_that_is_away_is_503_and_nobody_is_let_in(make, running):
    site = make(strict=True, http_request_max_retries=0)
    joe = {"X-Auth-Token": running.token("joe", "acme")}
    assert site.http.post("/v1/images", joe).status == 201
    running.stop()
    try:
        for method in ("GET", "POST"):
            assert site.http.request(method, "/v1/images", joe).status == 503
        assert site.http.get("/v1/images").status == 401
    finally:
        running.resume()
    assert site.http.get("/v1/images", joe).status == 200
