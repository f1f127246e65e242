"""Version 1 shows an upgraded Diablo database byte for byte as before version 2 was served.

`data/diablo/responses.json` was recorded from such a database, made as below, at schema version
20, the last one without UUIDs and visibilities. The expected differences are headers alone.
"""

import http.client
import json
import pathlib

import pytest
import sqlalchemy as sa

from glance.registry.db import migration

from support import daemons, diablo

pytestmark = pytest.mark.full

RECORDED = json.loads(
    (pathlib.Path(__file__).parent / "data" / "diablo" / "responses.json").read_text()
)
#: The data of each image that has some, by its id.
DATA = {1: b"one", 2: b"two" * 1000, 5: b"five"}
LIVE = {"created_at": "2011-09-22 10:11:12.000123", "deleted": 0}
GONE = {"status": "deleted", "deleted": 1, "deleted_at": "2011-09-23 00:00:00.000000"}
#: Headers that came with UUIDs and with HTTP caching, or name the machine.
LATER = {
    "cache-control",
    "content-disposition",
    "date",
    "last-modified",
    "surrogate-key",
    "vary",
    "x-image-id",
    "x-image-meta-location",
    "x-openstack-image-uuid",
    "x-openstack-request-id",
}
#: What HEAD has said since then of images without data, too.
OF_DATA = {"accept-ranges", "content-length"}


def fill(conn, directory):
    def image(number, name, **values):
        data = DATA.get(number)
        diablo.insert_image(conn, number, name, directory, data=data, **values)

    image(1, "public", is_public=1, min_ram="512")
    image(2, "shared", owner="tenant1", min_ram="plenty")
    image(3, "gone", **GONE)
    image(4, "killed", status="killed")
    kernel = {"disk_format": "aki", "container_format": "aki", "owner": None}
    image(5, "kernel", **kernel, updated_at="2012-01-01 00:00:00")
    image(6, "queued", status="queued", disk_format=None, container_format=None)
    image(7, None, status="queued", is_public=1)
    property_of = {"image_id": 1, **LIVE}
    for name, value in (("distro", "D\u00e9bian"), ("Foo", "x"), ("foo", None)):
        diablo.insert(conn, "image_properties", name=name, value=value, **property_of)
    diablo.insert(conn, "image_members", image_id=2, member="tenant2", can_share=1, **LIVE)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return a site with that database; it is in SQLite whatever the others are in."""
    home = tmp_path_factory.mktemp("diablo")
    (home / "old").mkdir()
    for number, data in DATA.items():
        (home / "old" / str(number)).write_bytes(data)
    url = f"sqlite:///{home / 'old.sqlite'}"
    old = sa.create_engine(url)
    with old.begin() as conn:
        diablo.build(conn, diablo.DDL[9], 9)
        fill(conn, home / "old")
    old.dispose()
    migration.db_sync(url)
    with daemons.Site(home / "site", registry={"sql_connection": url}) as site:
        yield site


def test_the_recorded_requests_are_of_every_kind():
    requests = [each["request"] for each in RECORDED]
    assert len(requests) == len(set(requests)) == 34
    assert {request.partition(" ")[0] for request in requests} == {"GET", "HEAD"}


@pytest.mark.parametrize("before", RECORDED, ids=lambda each: each["request"])
def test_an_upgraded_database_is_shown_byte_for_byte_as_before(site, before):
    connection = http.client.HTTPConnection("127.0.0.1", site.port)
    try:
        connection.request(*before["request"].split())
        response = connection.getresponse()
        body = response.read().decode()
    finally:
        connection.close()
    assert (response.status, body) == (before["status"], before["body"])
    then = dict(before["headers"])
    now = {name.lower(): value for name, value in response.getheaders()}
    if "etag" in then:
        # RFC 9110 §8.8.3 has quotes around it.
        then["etag"] = f'"{then["etag"]}"'
    ignored = LATER | (OF_DATA - set(then))
    assert {name: value for name, value in now.items() if name not in ignored} == then
