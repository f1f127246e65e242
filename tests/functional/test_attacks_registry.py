"""A registry within reach of tenants, with a real Keystone: what they send there themselves.

Neither file has a `registry_shared_secret`; the daemons have the same service account.
"""

import pytest

from support import identities

pytestmark = pytest.mark.peers

DATA = b"secret of victim" * 100
NO_SECRET = {"registry_shared_secret": ""}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    directory = tmp_path_factory.mktemp("source")
    settings = {"strict": True, "trusted_link": False, "api": NO_SECRET, "registry": NO_SECRET}
    running = identities.Tokens(directory, **settings)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def victim(source):
    return source.caller("victim")


@pytest.fixture(scope="module")
def attacker(source):
    return source.caller("attacker")


@pytest.fixture
def image(source, victim):
    reply = source.site.http.add(DATA, victim)
    assert reply.status == 201, reply
    return reply.json()["image"]["id"]


def test_the_api_works_without_any_secret_in_the_files(source, victim, image):
    http = source.site.http
    assert http.get(f"/v1/images/{image}", victim).body == DATA
    assert http.delete(f"/v1/images/{image}", victim).status == 200
    assert not [path for path in source.site.data_files() if path.name == str(image)]


@pytest.mark.parametrize("more", [{"status": "active"}, {"size": 1}, {}], ids=str)
def test_the_data_of_others_cannot_be_registered_at_the_registry(source, attacker, image, more):
    location = f"file://{source.site.data_dir}/{image}"
    registry = source.site.registry.http
    reply = registry.put_json(
        "/images", {"image": {"location": location, **more}}, attacker, "POST"
    )
    assert reply.status == 403, reply
    made = registry.put_json("/images", {"image": {"name": "mine"}}, attacker, "POST")
    assert made.status == 200, made
    own = made.json()["image"]["id"]
    reply = registry.put_json(f"/images/{own}", {"image": {"location": location}}, attacker)
    assert reply.status == 403, reply
    reply = source.site.http.get(f"/v1/images/{own}", attacker)
    assert reply.status != 200
    assert b"secret of victim" not in reply.body


def test_the_data_of_others_cannot_be_handed_to_the_scrubber(source, attacker, image):
    registry = source.site.registry.http
    made = registry.put_json("/images", {"image": {"name": "mine"}}, attacker, "POST").json()
    left = {"scrub": {"error": "X", "location": f"file://{source.site.data_dir}/{image}"}}
    path = f"/images/{made['image']['id']}/scrub"
    assert registry.put_json(path, left, attacker, "POST").status == 403


def test_the_registry_shows_no_location_to_tenants(source, victim, image):
    registry = source.site.registry.http
    for path in (f"/images/{image}", "/images/detail"):
        reply = registry.get(path, victim)
        assert reply.status == 200
        assert b"file://" not in reply.body


def test_both_daemons_agree(source):
    assert all("WARNING [glance.api.agreement]" not in text for _, text in source.site.logs())
