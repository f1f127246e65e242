"""A whole site of Diablo is taken over with what the page prints: on a host of its own."""

import hashlib
import json
import pathlib

import pytest
import sqlalchemy as sa

from support import checkout, diablo, host, images, pages

pytestmark = [pytest.mark.full, pytest.mark.peers]

RUNS = {
    "diablo-upgrade": {"": "test_a_site_of_diablo_goes_on_with_all_it_had"},
    "images-api-v2": {"Run both versions": "test_a_site_of_diablo_goes_on_with_all_it_had"},
}

PAGE = pages.path("diablo-upgrade")
FILES = pathlib.Path(__file__).parent / "data" / "diablo"
LOCATION = """import sqlite3
database = sqlite3.connect("/var/lib/glance/glance.sqlite")
print(database.execute("SELECT location FROM images WHERE id = 6").fetchone()[0])
"""
API = "http://127.0.0.1:9292"
LIVE = {"created_at": "2011-09-22 10:11:12.000123", "deleted": 0}
GONE = {"status": "deleted", "deleted": 1, "deleted_at": "2011-09-23 00:00:00.000000"}
#: The data of each image that has some, by its id.
DATA = {1: b"one", 2: b"two" * 1000, 5: b"five"}


def make(directory):
    """Make the files of a site of Diablo below a directory, which stands for the root."""
    (directory / "etc" / "glance").mkdir(parents=True)
    for path in FILES.glob("*.conf"):
        (directory / "etc" / "glance" / path.name).write_text(path.read_text())
    home = directory / "var" / "lib" / "glance"
    (home / "images").mkdir(parents=True)
    for number, data in DATA.items():
        (home / "images" / str(number)).write_bytes(data)
    engine = sa.create_engine(f"sqlite:///{home / 'glance.sqlite'}")
    with engine.begin() as conn:
        diablo.build(conn, diablo.DDL[9], 9)
        fill(conn)
    engine.dispose()


def fill(conn):
    def image(number, name, **values):
        data = DATA.get(number)
        diablo.insert_image(conn, number, name, "/var/lib/glance/images", data=data, **values)

    image(1, "public", is_public=1, min_ram="512")
    image(2, "shared", owner="tenant1", min_ram="plenty")
    image(3, "gone", **GONE)
    image(4, "killed", status="killed")
    image(5, "kernel", disk_format="aki", container_format="aki", owner=None)
    elsewhere = "swift://acme:user:p/ss@127.0.0.1:1/v1.0/glance/6"
    image(6, "swift", location=elsewhere, size=diablo.BIG)
    property_of = {"image_id": 1, **LIVE}
    diablo.insert(conn, "image_properties", name="distro", value="D\u00e9bian", **property_of)
    diablo.insert(conn, "image_members", image_id=2, member="tenant2", can_share=1, **LIVE)


@pytest.fixture
def old(tmp_path):
    """A host with the files of Diablo, which its programs have left for the ones of today."""
    images.need("tar", "gzip")
    shell = host.with_programs(tmp_path)
    try:
        make(tmp_path / "held" / "old")
        shell.run("rm -rf /etc/glance && cp -r /mnt/old/. /")
        yield shell
        # Shown if the test fails.
        print(shell.ask("tail -n 50 /var/log/glance/*.log /run/units/*.log")[1])
    finally:
        shell.close()


def block(section, page=PAGE, number=0):
    return checkout.blocks(page, section)[number]


def portrait(shell):
    program = f"{host.LENT}/checkout/tests/support/portrait.py"
    return json.loads(shell.run(f"/opt/glance/bin/python {program} {API}"))


def test_a_site_of_diablo_goes_on_with_all_it_had(old):
    old.run(block("Copy the old site"))
    old.run("rm -r /etc/glance /var/lib/glance")
    unpack, adapt = checkout.blocks(PAGE, "Install")
    old.run(unpack)
    commands = block("From an empty host to running daemons", pages.path("one-host"))
    for line in commands.splitlines()[host.BRINGING : 6]:
        old.run(line)
    assert "999888777666" in old.run("cat /etc/glance/glance-api.conf")  # the old file
    for line in adapt.splitlines():
        old.run(line)
    for line in block("Upgrade the database").splitlines():
        old.run(line)
    # A file that was forgotten is found.
    old.run("mv /var/lib/glance/images/5 kept")
    code, said = old.ask(block("Upgrade the database").splitlines()[-1])
    assert code == 3 and "5" in said
    old.run("mv kept /var/lib/glance/images/5")
    told = old.run(f"/opt/glance/bin/python -c '{LOCATION}'")
    assert told == "swift://acme:user:p%2Fss@127.0.0.1:1/v1.0/glance/6\n"
    start, index = block("Start").splitlines()
    old.run(start)
    said = old.run(index)
    assert "public" in said and "gone" not in said

    # As version 1 showed it then.
    found = portrait(old)
    assert {image["v1"]["id"] for image in found.values()} == {1, 2, 5, 6}
    public, shared = found["public"]["v1"], found["shared"]["v1"]
    assert public["properties"] == {"distro": "D\u00e9bian"}
    assert (public["is_public"], public["owner"], public["min_ram"]) == (True, "acme", 512)
    assert public["created_at"] == "2011-09-22T10:11:12.000123"
    assert shared["members"] == [{"member_id": "tenant2", "can_share": True}]
    assert "Status: killed\n" in old.run("/opt/glance/bin/glance show 4")
    for name, number in (("public", 1), ("shared", 2), ("kernel", 5)):
        assert found[name]["v1"]["data"] == hashlib.sha256(DATA[number]).hexdigest()
    # It goes on from there.
    said = old.run("echo new | /opt/glance/bin/glance add name=new disk_format=raw")
    assert "ID: 7" in said
    assert "Traceback" not in old.run("cat /var/log/glance/*.log")

    # With the steps of the page about version 2.
    composite = block("Run both versions", pages.path("images-api-v2"))
    assert composite.startswith("[pipeline:glance-api]")
    sections = composite.partition("\n\n")[2]
    conf = "/etc/glance/glance-api.conf"
    old.run(f"sed -i '/^.app:apiv1app/,/^$/d; s/^\\(pipeline = .*\\)apiv1app/\\1rootapp/' {conf}")
    old.run(f"cat >> {conf} <<'END'\n{sections}\nEND")
    old.run("systemctl restart glance-api")
    found = portrait(old)
    assert found["public"]["v2"]["visibility"] == "public"
    assert found["shared"]["v2"]["visibility"] == "shared"
    assert found["public"]["v2"]["distro"] == "D\u00e9bian"
