"""The glance command and the Python client where version 2 is served, and where it is not."""

import hashlib
import json
import re

import pytest

from glance import client
from glance.cli.user import command
from glance.common import exception

from support import daemons

BOTH = "versionnegotiation context cachemanage rootapp"
#: Pipelines without version 2: that of a configuration file of Diablo, and with no filter that
#: knows of versions.
OLD = {
    "diablo": ("versionnegotiation context apiv1app", {}),
    "off": ("versionnegotiation context rootapp", {"enable_v2_api": False}),
    "bare": ("context rootapp", {"enable_v2_api": False}),
}
GONE = "00000000-0000-4000-8000-000000000000"
CHOSEN = "5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c11"
DATA = b"data" * 1000
OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Both daemons with both versions of the API; with a cache, and deleted data that is kept."""
    directory = tmp_path_factory.mktemp("both")
    options = {"image_cache_dir": directory / "cache", "delayed_delete": True}
    with daemons.Site(directory, api_pipeline=BOTH, api=options) as running:
        yield running


@pytest.fixture
def glance(monkeypatch, capsysbinary):
    """Run the program in this process: `glance(site, "show", "1")`; return code, out and err."""
    for name in list(command.os.environ):
        if name.startswith(("OS_", "GLANCE_")):
            monkeypatch.delenv(name)

    def run(site, *words):
        place = ["--host=127.0.0.1", f"--port={site.port}"]
        code = command.main([words[0], *place, *words[1:]])
        out, err = (stream.decode() for stream in capsysbinary.readouterr())
        return code, out, err

    return run


@pytest.fixture
def image(both):
    """An image of version 2, with data; its JSON, and its number as `number`."""
    shown = {"name": "wéb", "disk_format": "vhdx", "container_format": "ova"}
    more = {"visibility": "community", "tags": ["b, c", "ä"], "Trait:X": "y"}
    body = json.dumps(shown | more).encode()
    made = both.http.request("POST", "/v2/images", {}, body)
    path = f"/v2/images/{made.json()['id']}"
    assert both.http.request("PUT", f"{path}/file", OCTETS, DATA).status == 204
    yield both.http.get(path).json() | {"number": made.header("x-openstack-image-v1-id")}
    both.http.request("DELETE", path)


def test_show_has_what_version_2_knows_for_who_asks(glance, both, image):
    uuid, number = image["id"], image["number"]
    code, plain, err = glance(both, "show", uuid)
    assert (code, err) == (0, "")
    assert plain == glance(both, "show", number)[1]
    assert "vhdx" in plain and uuid not in plain and "community" not in plain
    _, long, _ = glance(both, "show", number, "--long")
    assert [line for line in long.splitlines() if line not in plain.splitlines()][-5:] == [
        f"UUID: {uuid}",
        "Visibility: community",
        "Hidden: No",
        "Tags: b, c, ä",
        f"Hash: sha256 {hashlib.sha256(DATA).hexdigest()}",
    ]
    shown = json.loads(glance(both, "show", uuid, "--format=json")[1])
    same = ("visibility", "tags", "os_hidden", "os_hash_algo", "os_hash_value")
    assert {name: shown[name] for name in same} == {name: image[name] for name in same}
    assert (shown["uuid"], str(shown["id"])) == (uuid, number)


def test_lists_have_it_in_named_columns(glance, both, image):
    words = ("index", "is_public=none", "--columns=id,uuid,visibility,tags", "--format=value")
    code, out, err = glance(both, *words)
    line = f'{image["number"]}\t{image["id"]}\tcommunity\t["b, c", "ä"]'
    assert (code, err, out.splitlines().count(line)) == (0, "", 1)
    assert len(out.splitlines()) == len(glance(both, *words[:2], "--format=value")[1].splitlines())


@pytest.fixture(params=["lower", "upper"])
def uuid(request, image):
    """The UUID of the image, in either case of its letters."""
    return getattr(image["id"], request.param)()


@pytest.fixture
def does(glance, both):
    """Run a command that has to succeed; return what it prints."""

    def run(*words):
        code, out, err = glance(both, *words)
        assert code == 0, (out, err)
        return out

    return run


def test_show_takes_a_uuid(does, image, uuid):
    assert does("show", uuid) == does("show", image["number"])


def test_update_takes_a_uuid(does, both, image, uuid):
    assert does("update", uuid, "name=other", "distro=x") == f"Updated image {uuid}\n"
    shown = both.http.get(f"/v2/images/{image['id']}").json()
    assert (shown["name"], shown["distro"], shown["Trait:X"]) == ("other", "x", "y")


def test_delete_and_restore_take_a_uuid(does, both, image, uuid):
    assert does("delete", uuid, "--force") == f"Deleted image {uuid}\n"
    assert both.http.get(f"/v2/images/{image['id']}").status == 404
    assert does("restore", uuid) == f"Restored image {image['number']}\n"
    assert both.http.get(f"/v2/images/{image['id']}").json()["status"] == "active"


def test_download_takes_a_uuid(does, uuid, tmp_path):
    does("download", uuid, f"--file={tmp_path / 'data'}")
    assert (tmp_path / "data").read_bytes() == DATA


def test_member_commands_take_a_uuid(does, uuid):
    does("member-add", uuid, "joe", "--can-share")
    assert does("image-members", uuid).startswith("joe *\n")
    does("members-replace", uuid, "jim")
    assert does("image-members", uuid, "--format=value") == "jim\tFalse\n"
    does("member-delete", uuid, "jim")
    assert does("image-members", uuid, "--format=value") == ""


def test_cache_commands_take_a_uuid(does, image, uuid):
    does("cache-prefetch", uuid)
    queued = json.loads(does("cache-prefetching", "--format=json"))
    assert image["number"] in [str(entry["image_id"]) for entry in queued]
    does("cache-purge", uuid, "--force")


def test_a_marker_may_be_a_uuid(does, both, image, uuid):
    newer = both.http.add(b"newer", name="newer", is_public="true").json()["image"]["id"]
    words = ("index", "is_public=none", "--columns=id", "--format=value")
    after = does(*words, f"--marker={uuid}").split()
    assert after == does(*words, f"--marker={image['number']}").split()
    assert not {str(newer), image["number"]} & {*after}


@pytest.mark.parametrize(
    "words",
    [
        ("show", GONE),
        ("update", GONE, "name=x"),
        ("delete", GONE, "--force"),
        ("download", GONE),
        ("image-members", GONE),
        ("member-add", GONE, "joe"),
        ("cache-prefetch", GONE),
        ("restore", GONE),
    ],
)
def test_a_uuid_that_no_image_has_is_told(glance, both, words):
    code, out, err = glance(both, *words)
    assert code == 1
    assert GONE in out + err and "Traceback" not in out + err


def test_an_image_is_added_and_filled_by_its_uuid(glance, both, tmp_path):
    location = f"--file={tmp_path / 'data'}"
    (tmp_path / "data").write_bytes(DATA)
    code, out, _ = glance(both, "add", "name=x", f"id={CHOSEN}", location, "--format=json")
    assert (code, json.loads(out)["uuid"]) == (0, CHOSEN)
    assert glance(both, "delete", CHOSEN, str(json.loads(out)["id"]), "--force")[0] == 0
    made = both.http.request(
        "POST", "/v2/images", {}, b'{"disk_format": "raw", "container_format": "bare"}'
    ).json()
    code, out, _ = glance(both, "upload", made["id"], location, "--format=json")
    assert (code, json.loads(out)["uuid"], json.loads(out)["size"]) == (0, made["id"], len(DATA))


def test_a_record_of_version_2_by_number_and_uuid(both, image):
    one = client.Client("127.0.0.1", both.port)
    shown = {name: value for name, value in image.items() if name != "number"}
    assert one.get_image_v2(image["id"]) == one.get_image_v2(image["number"]) == shown
    for missing in (GONE, 999999):
        with pytest.raises(exception.NotFound):
            one.get_image_v2(missing)
    meta = one.get_image_meta(image["number"])
    assert one.get_image_meta(image["id"], with_uuid=True) == meta | {"uuid": image["id"]}
    # What a program sends back changes nothing that only version 2 knows.
    del meta["location"]
    one.update_image(image["number"], meta)
    assert one.get_image_v2(image["id"])["visibility"] == "community"


@pytest.fixture(scope="module", params=OLD)
def old(request, tmp_path_factory):
    """Daemons that serve version 1 alone, with an image whose number is 1."""
    pipeline, options = OLD[request.param]
    directory = tmp_path_factory.mktemp("old")
    with daemons.Site(directory, api_pipeline=pipeline, api=options) as running:
        assert running.http.add(b"x", name="old", is_public="true").status == 201
        yield running


def test_a_server_of_version_1_has_none_of_it(glance, old):
    code, plain, _ = glance(old, "show", "1")
    assert code == 0
    for words in (
        ("show", "1", "--long"),
        ("show", "1", "--format=json"),
        ("show", "1", "--columns=visibility,tags"),
        ("index", "--columns=id,visibility,tags,os_hidden"),
        ("details", "--columns=id,os_hash_value", "--format=json"),
    ):
        code, out, err = glance(old, *words)
        assert (code, err) == (0, "")
        # NOTE: version 2 would show the visibility as `public`.
        assert "public" not in re.findall(r"\w+", out) and '"os_hidden": false' not in out
    assert glance(old, "index", "--columns=id,visibility", "--format=value")[1] == "1\tNone\n"
    assert glance(old, "show", "1")[1] == plain
    one = client.Client("127.0.0.1", old.port)
    for reference in (1, GONE):
        with pytest.raises(exception.MultipleChoices, match="does not serve version 2"):
            one.get_image_v2(reference)
