"""What version 2 of the API knows of an image: where commands show it, and at what cost."""

import json
import re

import pytest

from glance.image import fields

UUID = "5b0f6c5e-2c64-4d5b-9a5e-0f5a7b1d3c11"
GONE = "00000000-0000-4000-8000-000000000000"
SHOWN = {
    "id": UUID,
    "name": "of version 2",
    "visibility": "community",
    "os_hidden": False,
    "tags": ["a, b", "wéb"],
    "os_hash_algo": "sha256",
    "os_hash_value": "5" * 64,
    "direct_url": "file:///x",
}
ADDED = {name: SHOWN[name] for name in SHOWN.keys() - {"id", "name", "direct_url"}}


@pytest.fixture
def web(api):
    """An API whose only image has a UUID, attributes of version 2 and a property."""
    api.second[api.add(name="web", status="active", properties={"tags": "own"})] = SHOWN
    return api


def asked(api):
    """Return methods and paths of the requests, and forget them."""
    found = [f"{seen.method} {seen.target.partition('?')[0]}" for seen in api.server.requests]
    api.server.requests.clear()
    return found


# -- what stays as it was ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "requests"),
    [
        (("show", "1"), ["HEAD /v1/images/1"]),
        (("show", "1", "--format=value"), ["HEAD /v1/images/1"]),
        (("show", "1", "--columns=id,property-tags"), ["HEAD /v1/images/1"]),
        (("index",), ["GET /v1/images"] * 2),
        (("index", "--long"), ["GET /v1/images/detail"] * 2),
        (("index", "--format=json"), ["GET /v1/images/detail"] * 2),
        (("details", "--long"), ["GET /v1/images/detail"] * 2),
        (("details", "--format=json"), ["GET /v1/images/detail"] * 2),
        (("update", "1", "--verbose"), ["PUT /v1/images/1"]),
        (("add", "name=x", "--verbose"), ["POST /v1/images"]),
    ],
)
def test_other_screens_neither_ask_version_2_nor_show_it(glance, web, words, requests):
    done = glance(*words)
    assert done.code == 0
    assert not [word for word in (UUID, "uuid", "UUID", "community") if word in done.out]
    assert asked(web) == requests


# -- one image -----------------------------------------------------------------------------------


def test_long_show_ends_with_what_version_2_knows(glance, web):
    plain, long = glance("show", "1").lines, glance("show", "1", "--long").lines
    added = [line for line in long if line not in plain]
    assert added[-5:] == [
        f"UUID: {UUID}",
        "Visibility: community",
        "Hidden: No",
        "Tags: a, b, wéb",
        f"Hash: sha256 {'5' * 64}",
    ]
    assert [line for line in long if line in plain] == plain
    web.second[1] = {**SHOWN, "tags": [], "os_hidden": True, "os_hash_value": None}
    assert glance("show", "1", "--long").lines[-4:-1] == [
        "Visibility: community",
        "Hidden: Yes",
        "Tags: ",
    ]


def test_json_of_show_has_what_version_2_knows(glance, web):
    shown = json.loads(glance("show", "1", "--format=json").out)
    assert {name: shown[name] for name in ADDED} == ADDED
    assert (shown["uuid"], shown["id"], shown["name"]) == (UUID, 1, "web")
    assert "direct_url" not in shown
    assert asked(web) == ["HEAD /v1/images/1", f"GET /v2/images/{UUID}"]


@pytest.mark.parametrize("reference", ["1", UUID, UUID.upper(), f"http://x/v2/images/{UUID}"])
def test_named_columns_of_one_image(glance, web, reference):
    words = ("--columns=uuid,visibility,tags,os_hidden,property-tags", "--format=value")
    assert glance("show", reference, *words).out == (
        f'{UUID}\ncommunity\n["a, b", "wéb"]\nFalse\nown\n'
    )
    asked(web)
    assert glance("show", reference, "--columns=UUID").out == f"UUID: {UUID}\n"
    assert [line.split()[0] for line in asked(web)] == ["HEAD"]


def test_a_tag_controls_no_terminal(glance, web):
    web.second[1] = {**SHOWN, "tags": ["x\x1b[2J\ny"], "visibility": "a\x1b[2J"}
    for words in (("--long",), ("--columns=tags,visibility",)):
        done = glance("show", "1", *words)
        assert "\x1b" not in done.out and done.out.count("\nVisibility: a?[2J\n") == 1


# -- lists ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["index", "details"])
def test_named_columns_of_a_list(glance, web, command):
    web.second[web.add()] = {**SHOWN, "id": GONE, "tags": [], "visibility": "shared"}
    done = glance(command, "--columns=id,uuid,visibility,tags", "--format=json")
    assert json.loads(done.out) == [
        {"id": 2, "uuid": GONE, "visibility": "shared", "tags": []},
        {"id": 1, "uuid": UUID, "visibility": "community", "tags": ["a, b", "wéb"]},
    ]
    asked(web)
    assert glance(command, "--columns=uuid", "--format=value").lines == [GONE, UUID]
    heads = [line for line in asked(web) if "detail" not in line]
    assert heads == ["HEAD /v1/images/2", "HEAD /v1/images/1"]


def test_a_table_shows_a_uuid_whole(glance, web):
    lines = glance("index", "--columns=id,uuid,tags,visibility").lines
    assert [line[17:53].strip() for line in lines] == ["UUID", "-" * 36, UUID]
    assert lines[2][54:].rstrip() == '["a, b", "wéb"]      community'


def test_an_image_that_is_deleted_meanwhile_has_no_values(glance, web):
    web.second[web.add()] = {**SHOWN, "id": GONE}
    web.refuse["HEAD", "/images/2"] = (404, b"")
    done = glance("index", "--columns=id,visibility", "--format=value")
    assert (done.code, done.out, done.err) == (0, "2\tNone\n1\tcommunity\n", "")


# -- servers without version 2 -------------------------------------------------------------------

NO_DOCUMENT = (404, b"404 Not Found\n\nThe resource was not found\n")


@pytest.fixture(params=["of Diablo", "300", "404", "403"])
def old(request, web):
    """A server that serves version 1 alone, with two images, and how it says so."""
    web.add(name="other", properties={"tags": "its"})
    if request.param == "of Diablo":
        web.second.clear()
        return web
    web.second[2] = {**SHOWN, "id": GONE}
    web.serves_v2 = False
    if request.param != "300":
        number = int(request.param)
        for uuid in (UUID, GONE):
            web.refuse["GET", f"/v2/images/{uuid}"] = (number, NO_DOCUMENT[1])
        web.refuse["GET", "/versions"] = NO_DOCUMENT
    return web


def test_a_server_without_version_2_has_none_of_it(glance, old):
    plain = glance("show", "1")
    long, shown = glance("show", "1", "--long"), glance("show", "1", "--format=json")
    assert (long.code, long.err, shown.code, shown.err) == (0, "", 0, "")
    assert not {*json.loads(shown.out)} & {*ADDED}
    assert [line for line in long.lines if line in plain.lines] == plain.lines
    assert not [line for line in long.lines if line.startswith(("Visibility", "Hidden", "Tags"))]


def test_a_list_asks_a_server_without_version_2_once(glance, old):
    done = glance("index", "--columns=id,visibility", "--format=value")
    assert (done.code, done.out, done.err) == (0, "2\tNone\n1\tNone\n", "")
    assert len([line for line in asked(old) if line.startswith("HEAD")]) == 1


def test_there_a_property_may_have_such_a_name(glance, old):
    assert glance("index", "--columns=tags", "--format=value").out == "its\nown\n"
    assert json.loads(glance("show", "1", "--columns=tags", "--format=json").out) == {
        "tags": "own"
    }
    assert old.images


def test_where_both_versions_have_the_same_ids_they_are_the_uuids(glance, web):
    web.images[1]["id"] = UUID
    assert glance("show", UUID, "--columns=uuid,visibility", "--format=value").lines == [
        UUID,
        "community",
    ]


@pytest.mark.parametrize("status", [401, 500, 503])
def test_a_failure_of_version_2_is_an_error_only_for_who_asked_for_it(glance, web, status):
    web.refuse["GET", f"/v2/images/{UUID}"] = (status, b"it is\x1b away")
    for words in (("show", "1", "--long"), ("show", "1", "--format=json")):
        done = glance(*words)
        assert (done.code, done.err.count("\n")) == (0, 1)
        assert done.err.startswith("Note: what version 2 of the API knows of the image is missing")
        assert UUID in done.out and "\x1b" not in done.err
    for words in (("show", "1"), ("index",), ("details",)):
        done = glance(*words, "--columns=visibility", "--format=value")
        assert (done.code, done.out) == (1, "")
        assert "Traceback" not in done.err


def test_a_page_in_place_of_version_2_is_an_error_in_one_line(glance, web):
    web.refuse["GET", f"/v2/images/{UUID}"] = (200, b"<html>welcome</html>")
    done = glance("show", "1", "--format=json")
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert "is it glance-api?" in done.err


# -- UUIDs as ids --------------------------------------------------------------------------------


def test_commands_that_change_something_take_a_uuid_for_an_id_only(glance, web, tmp_path):
    web.add(name=GONE)
    data = tmp_path / "data"
    data.write_bytes(b"x")
    for words in (
        ("update", GONE, "name=x"),
        ("delete", GONE, "--force"),
        ("upload", GONE, f"--file={data}"),
        ("member-add", GONE, "joe"),
        ("member-delete", GONE, "joe"),
        ("members-replace", GONE, "joe"),
    ):
        assert glance(*words).code == 1
    assert {line.partition(" ")[2] for line in asked(web)} <= {
        f"/v1/images/{GONE}",
        f"/v1/images/{GONE}/members",
        f"/v1/images/{GONE}/members/joe",
    }
    assert web.images.keys() == {1, 2}
    # Where nothing is changed, it may be a name.
    assert glance("show", GONE, "--columns=id", "--format=value").out == "2\n"


@pytest.mark.parametrize(
    "words", [("1", UUID), (UUID, "1"), (UUID, UUID.upper()), ("web", UUID), (UUID, "web")]
)
def test_an_image_that_is_named_twice_is_deleted_once(glance, web, words):
    done = glance("delete", *words, "--force")
    assert (done.code, web.images) == (0, {})
    assert len([line for line in asked(web) if line.startswith("DELETE")]) == 1
    assert done.out.startswith("Deleted image ")


@pytest.mark.parametrize(
    "words",
    [("add", "name=x"), ("update", "1", "name=x"), ("upload", "1"), ("restore", "1")],
)
def test_json_of_a_change_has_the_uuid(glance, web, words):
    restored = json.dumps({"image": {"id": 1}}).encode()
    told = {"X-Openstack-Image-Uuid": UUID}
    web.refuse["POST", "/images/1/restore"] = (200, restored, told)
    web.second[2] = SHOWN
    done = glance(*words, "--format=json", stdin=b"x")
    assert (done.code, json.loads(done.out)["uuid"]) == (0, UUID)


def test_data_of_a_deactivated_image_is_the_servers_to_refuse(glance, web, tmp_path):
    web.images[1]["status"] = "deactivated"
    web.refuse["GET", "/images/1"] = (403, b"403 Forbidden\n\nThe image is deactivated.\n")
    done = glance("download", "1", f"--file={tmp_path / 'x'}")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "The image is deactivated" in done.err and "no data" not in done.err
    assert not [*tmp_path.iterdir()]


# -- formats -------------------------------------------------------------------------------------


def test_help_of_add_names_all_formats(glance):
    lines = glance("help", "add").out.split("disk_format ")[1].partition("min_disk")[0]
    words = re.findall(r"\w+", lines)
    for name in (*fields.DISK_FORMATS, *fields.CONTAINER_FORMATS):
        assert name in words
