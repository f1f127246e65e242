"""Version 2 by two APIs, each with a registry of its own: one database, one store, one truth."""

import itertools
import json
import threading
import uuid

import pytest

from support import daemons
from support.faults import until

BOTH = "versionnegotiation context cache rootapp"
OCTETS = {"Content-Type": "application/octet-stream"}
V21 = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
JSON = {"Accept": "application/json"}
RAW = {"disk_format": "raw", "container_format": "bare"}
DATA = b"data" * 50_000
MEMBER = b'{"member": "m"}'
#: How often callers meet; each time they may meet at another moment.
ROUNDS = 6

# Here one database and one directory are for both nodes.
pytestmark = [pytest.mark.files, pytest.mark.full]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """Two sites; the second has the database and the data of the first, and its own cache."""
    first, second = (tmp_path_factory.mktemp(name) for name in ("first", "second"))

    def caching(directory):
        return {
            "image_cache_enabled": True,
            "image_cache_dir": directory / "cache",
            "image_cache_min_free_disk": 0,
            "image_cache_debug_header": True,
        }

    with daemons.Site(first, api=caching(first), api_pipeline=BOTH) as one:
        shared = {"sql_connection": one.registry_options["sql_connection"]}
        place = {"filesystem_store_datadir": one.data_dir, **caching(second)}
        with daemons.Site(second, api=place, registry=shared, api_pipeline=BOTH) as other:
            yield one, other


@pytest.fixture
def site(nodes):
    """The first node, whose logs are shown with a failure."""
    return nodes[0]


@pytest.fixture
def one(nodes):
    return nodes[0].http


@pytest.fixture
def other(nodes):
    return nodes[1].http


def create(http, data=None, **values):
    reply = http.request("POST", "/v2/images", JSON, json.dumps({**RAW, **values}).encode())
    assert reply.status == 201, reply
    image = reply.json()
    if data is not None:
        assert http.put(image["file"], OCTETS, data).status == 204
    return image


def change(http, image, op, path, value):
    body = json.dumps([{"op": op, "path": path, "value": value}]).encode()
    return http.request("PATCH", image["self"], {**JSON, **V21}, body)


def at_once(*calls):
    """Make calls at the same moment, each in a thread of its own; return their statuses."""
    gate, statuses = threading.Barrier(len(calls)), [0] * len(calls)

    def make(number):
        gate.wait()
        statuses[number] = calls[number]().status

    threads = [threading.Thread(target=make, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def test_what_one_node_does_the_other_shows(one, other):
    image = create(one, name="one", tags=["a"])
    assert other.get(image["self"]).json() == image
    assert other.put(image["file"], OCTETS, DATA).status == 204
    assert one.get(image["file"]).body == DATA
    assert change(one, image, "add", "/k", "v").status == 200
    assert other.put(f"{image['self']}/tags/b").status == 204
    assert one.post(f"{image['self']}/members", {}, MEMBER).status == 200
    found = one.get(image["self"]).json()
    assert found == other.get(image["self"]).json()
    assert (found["status"], found["k"], found["tags"]) == ("active", "v", ["a", "b"])
    assert other.get(f"{image['self']}/members/m").json()["status"] == "pending"
    listed = other.get("/v2/images?name=one").json()["images"]
    assert listed == [found]
    assert other.get(f"/v2/images?marker={image['id']}&limit=1").status == 200
    assert other.delete(image["self"]).status == 204
    assert {http.get(image[p]).status for http in (one, other) for p in ("self", "file")} == {404}


def test_an_id_that_two_nodes_choose_at_once_is_one_image(one, other):
    for _ in range(ROUNDS):
        body = json.dumps({"id": str(uuid.uuid4()), **RAW}).encode()
        calls = [lambda http=http, b=body: http.post("/v2/images", {}, b) for http in (one, other)]
        assert sorted(at_once(*calls)) == [201, 409]


def test_of_uploads_to_two_nodes_one_wins(nodes, one, other):
    for _ in range(ROUNDS):
        image = create(one)
        datas = [DATA, DATA[::-1]]
        calls = [
            lambda http=http, path=image["file"], data=data: http.put(path, OCTETS, data)
            for http, data in zip((one, other), datas, strict=True)
        ]
        statuses = at_once(*calls)
        assert sorted(statuses) == [204, 409]
        for http in (one, other):
            assert http.get(image["file"]).body == datas[statuses.index(204)]
    assert all(path.name.isdigit() for path in nodes[0].data_files())


def test_an_image_deleted_by_one_node_ends_the_upload_to_the_other(nodes, one, other):
    image = create(one)

    def pieces():
        yield DATA
        until(lambda: other.get(image["self"]).json()["status"] == "saving", "the upload begins")
        assert other.delete(image["self"]).status == 204
        yield DATA

    before = nodes[0].data_files()
    assert one.put(image["file"], OCTETS, pieces()).status == 410
    assert nodes[0].data_files() == before


def test_changes_by_two_nodes_are_all_there(one, other):
    image = create(one)
    refused = []

    def add(http, name):
        for number in range(10):
            reply = change(http, image, "add", f"/{name}{number}", "x")
            if reply.status != 200:
                refused.append(reply)

    threads = [threading.Thread(target=add, args=pair) for pair in ((one, "a"), (other, "b"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not refused
    wanted = {f"{name}{number}" for name in "ab" for number in range(10)}
    assert wanted <= other.get(image["self"]).json().keys()


def test_tags_and_members_that_two_nodes_add_at_once_are_there_once(one, other):
    for _ in range(ROUNDS):
        image = create(one)
        tag, members = f"{image['self']}/tags/t", f"{image['self']}/members"
        assert at_once(lambda t=tag: one.put(t), lambda t=tag: other.put(t)) == [204, 204]
        assert one.get(image["self"]).json()["tags"] == ["t"]
        calls = [lambda http=http, m=members: http.post(m, {}, MEMBER) for http in (one, other)]
        assert sorted(at_once(*calls)) == [200, 409]
        assert len(one.get(members).json()["members"]) == 1
        gone = [lambda http=http, m=members: http.delete(f"{m}/m") for http in (one, other)]
        assert sorted(at_once(*gone)) == [204, 404]


def test_a_copy_in_the_cache_of_a_node_obeys_the_other(one, other):
    image = create(one, DATA)

    def is_hit():
        reply = one.get(image["file"])
        assert reply.body == DATA
        return reply.header("cache-status") == "glance; hit"

    until(is_hit, "the first node has a copy")
    assert other.post(f"{image['self']}/actions/deactivate").status == 204
    # Without authentication everybody is an administrator, who reads it still.
    assert one.get(image["self"]).json()["status"] == "deactivated"
    assert one.put(image["file"], OCTETS, b"other").status == 409
    assert other.post(f"{image['self']}/actions/reactivate").status == 204
    assert is_hit()
    assert other.delete(image["self"]).status == 204
    for http, path in itertools.product((one, other), ("self", "file")):
        assert http.get(image[path]).status == 404


def test_an_image_is_deleted_by_one_of_two_nodes(one, other):
    for _ in range(ROUNDS):
        path = create(one, b"data")["self"]
        calls = [lambda http=http, p=path: http.delete(p) for http in (one, other)]
        assert sorted(at_once(*calls)) == [204, 404]
