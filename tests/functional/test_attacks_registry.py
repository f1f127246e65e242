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


#: As what the API is when it uses the registry's paths of version 2.
AGENT = {"User-Agent": "glance-registry-client"}


def test_the_api_works_without_any_secret_in_the_files(source, victim, image):
    http = source.site.http
    assert http.get(f"/v1/images/{image}", victim).body == DATA
    made = http.post("/v2/images", victim, b'{"disk_format": "raw", "container_format": "bare"}')
    octets = {"Content-Type": "application/octet-stream"}
    assert http.put(made.json()["file"], {**victim, **octets}, DATA).status == 204
    assert http.get(made.json()["file"], victim).body == DATA
    assert http.delete(made.json()["self"], victim).status == 204
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


def test_no_call_of_version_2_to_the_registry_reaches_the_data_of_others(source, attacker, image):
    """Not by the tenant itself, which may send there whatever the API would."""
    registry, http = source.site.registry.http, source.site.http
    location = f"file://{source.site.data_dir}/{image}"
    sent = {**attacker, **AGENT}

    def ask(method, path, document):
        return registry.put_json(f"/v2/images{path}", document, sent, method)

    made = http.post("/v2/images", attacker, b"{}").json()
    own = f"/{made['id']}"
    active = {"from": ["queued"], "to": "active", "values": {}}
    made_up = ({"location": location}, {"status": "active", "size": 1600, "checksum": "0" * 32})
    for values in made_up:
        # What a record cannot be given is left out.
        created = ask("POST", "", {"image": values})
        changed = ask("PATCH", own, {"set": values})
        for reply in (created, changed):
            assert reply.status in (200, 403), reply
            assert location not in reply.text
        if created.status == 200:
            uuid = created.json()["image"]["uuid"]
            assert http.get(f"/v2/images/{uuid}/file", attacker).status == 204
    for values in ({}, *made_up):
        reply = ask("POST", f"{own}/state", {"state": {**active, "values": values}})
        assert reply.status in (400, 403), reply
    assert http.get(made["self"], attacker).json() == made
    assert http.get(made["file"], attacker).status == 204
    uuid = http.head(f"/v1/images/{image}", source.caller("victim"))
    theirs = f"/{uuid.header('x-openstack-image-uuid')}"
    for method, path, document in (
        ("GET", theirs, None),
        ("PATCH", theirs, {"set": {"owner": source.owner("attacker")}}),
        ("POST", f"{theirs}/members", {"member": source.owner("attacker")}),
        ("POST", f"{theirs}/state", {"state": {**active, "to": "deactivated"}}),
        ("PUT", f"{theirs}/tags/x", None),
        ("DELETE", theirs, None),
    ):
        assert ask(method, path, document).status in (403, 404), (method, path)


def test_the_data_of_others_cannot_be_handed_to_the_scrubber(source, attacker, image):
    registry = source.site.registry.http
    made = registry.put_json("/images", {"image": {"name": "mine"}}, attacker, "POST").json()
    left = {"scrub": {"error": "X", "location": f"file://{source.site.data_dir}/{image}"}}
    path = f"/images/{made['image']['id']}/scrub"
    assert registry.put_json(path, left, attacker, "POST").status == 403


def test_the_registry_shows_no_location_to_tenants(source, victim, image):
    registry = source.site.registry.http
    uuid = source.site.http.head(f"/v1/images/{image}", victim).header("x-openstack-image-uuid")
    for path in (f"/images/{image}", "/images/detail", f"/v2/images/{uuid}"):
        reply = registry.get(path, {**victim, **AGENT})
        assert reply.status == 200
        assert b"file://" not in reply.body


def test_both_daemons_agree(source):
    assert all("WARNING [glance.api.agreement]" not in text for _, text in source.site.logs())
