"""Images move from another service by the script of the page, with the client it names.

A second site of our own plays today's Glance: it serves version 2 as that does.
"""

import json
import re
import subprocess

import pytest

from support import checkout, clients, daemons, images, pages

pytestmark = [pytest.mark.slow, pytest.mark.peers]

RUNS = {
    "from-todays-glance": {
        "Copy": "test_every_image_moves_with_all_it_has",
        "Compare the lists": "test_every_image_moves_with_all_it_has",
    },
    "images-api-v2": {"See that both are there": "test_both_versions_are_there"},
}

PAGE = pages.path("from-todays-glance")
BOTH = "versionnegotiation context rootapp"
#: Set by a service, whatever was sent.
TIMES = ("created_at", "updated_at")
CLOUDS = """
clouds:
  old:
    auth_type: none
    auth: {{endpoint: "{old}"}}
    image_endpoint_override: {old}/v2
  new:
    auth_type: none
    auth: {{endpoint: "{new}"}}
    image_endpoint_override: {new}/v2
"""


@pytest.fixture
def sites(tmp_path_factory):
    top = tmp_path_factory.mktemp("sites")
    few = {"image_property_quota": 10}
    with (
        daemons.Site(top / "old", api_pipeline=BOTH) as old,
        daemons.Site(top / "new", api_pipeline=BOTH, api=few, registry=few) as new,
    ):
        yield old, new


@pytest.fixture
def folder(sites, tmp_path_factory):
    """A folder with the script as the page prints it, and with an environment named as there."""
    home = tmp_path_factory.mktemp("reader")
    old, new = sites
    (home / "clouds.yaml").write_text(CLOUDS.format(old=old.url, new=new.url))
    script = checkout.blocks(PAGE, "Copy")[0]
    assert script.startswith("import sys")
    (home / "move-images.py").write_text(script)
    bin_ = home / "move" / "bin"
    bin_.mkdir(parents=True)
    (bin_ / "python").write_text(f'#!/bin/sh\nexec {clients.python()} -W ignore "$@"\n')
    (bin_ / "python").chmod(0o755)
    return home


def run(folder, command):
    """Run what a block prints, in the folder; return its exit code and what it printed."""
    path = f"{clients.python().parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**daemons.environment(), "HOME": str(folder), "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


def json_of(answer):
    assert answer.status in (200, 201), answer
    return answer.json()


def create(site, data=None, **values):
    body = {"disk_format": "raw", "container_format": "bare", **values}
    kind = {"Content-Type": "application/json"}
    image = json_of(site.http.post("/v2/images", kind, json.dumps(body).encode()))
    if data is not None:
        stream = {"Content-Type": "application/octet-stream"}
        assert site.http.put(f"/v2/images/{image['id']}/file", stream, data).status == 204
    return image["id"]


def everything(site):
    found = {}
    for hidden in ("false", "true"):
        page = json_of(site.http.get(f"/v2/images?limit=1000&os_hidden={hidden}"))
        for image in page["images"]:
            image = {name: value for name, value in image.items() if name not in TIMES}
            if image["visibility"] == "shared":
                members = json_of(site.http.get(f"/v2/images/{image['id']}/members"))["members"]
                image["shared_with"] = [(one["member_id"], one["status"]) for one in members]
            found[image["id"]] = image
    return found


def post(site, path, **body):
    kind = {"Content-Type": "application/json"}
    return site.http.post(path, kind, json.dumps(body).encode() if body else b"")


def test_every_image_moves_with_all_it_has(sites, folder):
    images.need("bash", "diff", "sort")
    old, new = sites
    many = {f"p{number}": "x" for number in range(11)}
    create(
        old,
        b"one" * 1000,
        name="b\u00fccher",
        visibility="public",
        owner="acme",
        protected=True,
        tags=["a", "\u00e9t\u00e9"],
        min_ram=512,
        CASE="Kept",
        empty="",
    )
    shared = create(old, b"two", name="shared", visibility="shared", owner="acme")
    for member, status in (("accepting", "accepted"), ("waiting", "pending")):
        assert post(old, f"/v2/images/{shared}/members", member=member).status == 200
        member_of = f"/v2/images/{shared}/members/{member}"
        kind = {"Content-Type": "application/json"}
        body = json.dumps({"status": status}).encode()
        assert old.http.put(member_of, kind, body).status == 200
    create(old, b"", name="nothing", visibility="private", os_hidden=True)
    create(old, name="queued", visibility="community")
    off = create(old, b"off", name="off")
    assert post(old, f"/v2/images/{off}/actions/deactivate").status == 204
    refused = create(old, b"many", name="many", **many)
    command = checkout.blocks(PAGE, "Copy")[1]
    code, said = run(folder, command)
    assert code == 1, said
    # The one that the new service does not permit is named, and no other fails.
    assert re.findall(r"^(\S+) FAILED: (\d+)", said, re.MULTILINE) == [(refused, "413")]
    assert "Traceback" not in said
    wanted = everything(old)
    del wanted[refused]
    assert everything(new) == wanted
    assert old.http.delete(f"/v2/images/{refused}").status == 204

    # An upload that was cut is sent, and what is there is not touched.
    cut = create(old, b"cut" * 1000, name="cut")
    create(new, id=cut, name="cut")
    code, said = run(folder, command)
    assert (code, said.count(" is there\n")) == (0, 6), said
    assert everything(new) == everything(old)
    (compare,) = checkout.blocks(PAGE, "Compare the lists")
    code, said = run(folder, compare)
    # Without Keystone the client says so, and nothing else.
    assert code == 0 and not re.findall("^[<>]", said, re.MULTILINE)
    assert shared in (folder / "new.csv").read_text()


def test_other_data_under_the_same_id_is_not_taken_for_the_image(sites, folder):
    old, new = sites
    image = create(old, b"right", name="same")
    create(new, b"wrong", id=image, name="same")
    code, said = run(folder, checkout.blocks(PAGE, "Copy")[1])
    assert code == 1
    assert re.findall(r"^(\S+) FAILED: (.*)$", said, re.MULTILINE)[0][0] == image
    assert new.http.get(f"/v2/images/{image}/file").body == b"wrong"


def test_both_versions_are_there(sites, folder):
    old, _ = sites
    create(old, b"listed", name="listed", visibility="public")
    (printed,) = checkout.blocks(pages.path("images-api-v2"), "See that both are there")
    for line, seen in zip(printed.splitlines(), ('"v1.1"', "listed"), strict=True):
        command = line.removeprefix("$ ").replace("HOST:9292", f"127.0.0.1:{old.port}")
        code, said = run(folder, command)
        assert code == 0 and seen in said
