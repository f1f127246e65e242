"""Names where ids are taken, and several images in one deletion."""

import json

import pytest


def methods(api):
    return [seen.method for seen in api.server.requests]


@pytest.fixture
def web(api):
    """Images 1 to 4: one named `web server`, two named `twin`, one whose name is a number."""
    for name in ("web server", "twin", "twin", "77"):
        api.add(name=name, status="active", disk_format="raw", size=2048)
    return api


#: Commands, and what shows that they worked on image 1.
TAKERS = {
    "show": (("show", "web server"), "Id: 1"),
    "update": (("update", "web server", "name=new"), "Updated image 1"),
    "delete": (("delete", "-f", "web server"), "Deleted image 1"),
    "image-members": (("image-members", "web server", "--format=json"), "t1"),
}


@pytest.mark.parametrize("name", TAKERS)
def test_a_name_that_only_one_image_has_is_taken_as_its_id(glance, web, name):
    web.members[1] = [{"member_id": "t1", "can_share": True}]
    words, told = TAKERS[name]
    done = glance(*words)
    assert (done.code, done.err) == (0, "")
    assert told in done.out


@pytest.mark.parametrize("name", ["linux/amd64", "..", "-x", "x=y", "a?b#c", "日本 été", "%2F"])
@pytest.mark.parametrize("command", ["show", "delete", "image-members", "update"])
def test_a_name_may_be_what_no_id_can_be(glance, api, command, name):
    api.add(name=name)
    done = glance(command, "-f", "--", name)
    assert (done.code, done.err) == (0, "")


def test_data_is_uploaded_to_the_image_of_a_name(glance, api, tmp_path):
    api.add(name="web/1")
    data = tmp_path / "data"
    data.write_bytes(b"bytes")
    done = glance("upload", "web/1", f"--file={data}")
    assert (done.code, done.out) == (0, "Uploaded the data of image 1: 5 bytes\n")
    assert methods(api) == ["GET", "HEAD", "PUT"]


@pytest.mark.parametrize("command", ["member-add", "member-delete", "members-replace"])
def test_members_of_an_image_with_a_name(glance, web, command):
    assert glance(command, "web server", "t1").code == 0
    assert web.server.requests[-1].target.startswith("/v1/images/1/members")


def test_a_name_costs_at_most_three_requests_and_an_id_one(glance, web):
    glance("show", "1")
    assert methods(web) == ["HEAD"]
    glance("show", "web server")
    assert methods(web)[1:] == ["HEAD", "GET", "HEAD"]


@pytest.mark.parametrize(
    "words",
    [
        ("show", "twin"),
        ("update", "twin", "name=x"),
        ("delete", "-f", "twin"),
        ("delete", "-f", "1", "twin"),
        ("image-members", "twin"),
        ("member-add", "twin", "t1"),
        ("download", "twin"),
    ],
    ids=" ".join,
)
def test_a_name_that_several_images_have_is_refused_with_the_candidates(glance, web, words):
    done = glance(*words)
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "glance: 2 images are named twin; give the ID of one: 2 (raw, 2.00 KiB), "
        "3 (raw, 2.00 KiB)\n"
    )
    assert len(web.images) == 4
    assert {image["name"] for image in web.images.values()} == {"web server", "twin", "77"}


def test_of_very_many_candidates_some_are_named(glance, api):
    for _ in range(40):
        api.add(name="twin")
    done = glance("show", "twin")
    assert done.err.startswith("glance: 40 images are named twin; ")
    assert done.err.endswith(" and 30 more\n")


def test_an_id_wins_over_a_name(glance, web):
    web.images[1]["name"] = "4"
    assert "Id: 4" in glance("show", "4").lines


def test_a_number_is_a_name_only_where_nothing_is_changed(glance, web):
    assert "Id: 4" in glance("show", "77").lines
    for words in (("update", "77", "name=x"), ("delete", "-f", "77")):
        done = glance(*words)
        assert (done.code, done.out) == (1, "No image with ID 77 was found\n")
    assert glance("member-add", "77", "t1").code == 1
    assert web.images[4]["name"] == "77"
    assert not [seen for seen in web.server.requests if seen.target.startswith("/v1/images/4/")]


@pytest.mark.parametrize("name", ["WEB SERVER", "web", "web server ", "nowhere"])
def test_a_name_must_be_exactly_that_of_the_image(glance, web, name):
    real = web.list

    def careless(path, query):
        """As a database that compares without regard to case and blanks."""
        return real(path, {key: value for key, value in query.items() if key != "name"})

    web.list = careless
    done = glance("delete", "-f", name)
    assert (done.code, done.out) == (1, f"No image with ID {name} was found\n")
    assert len(web.images) == 4


def test_a_name_that_the_server_refuses_is_no_image(glance, api):
    api.refuse["GET", "/images"] = (400, b"400 Bad Request\n\nno\n")
    assert glance("show", "x").out == "No image with ID x was found\n"


def test_the_lookup_of_a_name_may_fail(glance, api):
    api.refuse["GET", "/images"] = (500, b"")
    done = glance("show", "x")
    assert (done.code, done.lines[0]) == (1, "Failed to show image. Got error:")


# -- several in one deletion ---------------------------------------------------------------------


def test_delete_of_several_asks_once_and_reports_each(glance, web):
    done = glance("delete", "2", "web server", "3", "2", stdin="y\n")
    assert done.code == 0
    assert done.out == (
        "Delete images 2, 1 (web server) and 3? [y/N] "
        "Deleted image 2\nDeleted image 1\nDeleted image 3\n"
    )
    assert list(web.images) == [4]


@pytest.mark.parametrize("typed", ["", "\n", "n\n"])
def test_several_are_kept_unless_all_are_confirmed(glance, web, typed):
    done = glance("delete", "2", "3", stdin=typed)
    assert (done.code, done.out.endswith("Not deleting images 2 and 3\n")) == (1, True)
    assert len(web.images) == 4


def test_a_failure_does_not_keep_the_others_from_their_turn(glance, web):
    web.refuse["DELETE", "/images/2"] = (403, b"403 Forbidden\n\nIt is protected.\n")
    done = glance("delete", "--force", "2", "9", "nowhere", "3")
    assert done.code == 1
    assert done.lines == [
        "Failed to delete image 2",
        "403 Forbidden",
        "It is protected.",
        "No image with ID 9 was found",
        "No image with ID nowhere was found",
        "Deleted image 3",
    ]
    assert list(web.images) == [1, 2, 4]


def test_dry_run_of_several_names_each(glance, web):
    done = glance("delete", "--dry-run", "1", "2")
    assert (done.code, done.lines[1:]) == (0, ["Delete image 1", "Delete image 2"])
    assert not web.server.requests


def test_the_question_shows_what_a_name_means(glance, web):
    done = glance("delete", "web server", stdin="n\n")
    assert done.out.startswith("Delete image 1 (web server)? [y/N] ")
    assert len(web.images) == 4


# -- restore -------------------------------------------------------------------------------------


@pytest.fixture
def restoring(api):
    """An API that restores image 5."""
    image = {"id": 5, "name": "web", "status": "active"}
    api.refuse["POST", "/images/5/restore"] = {"image": image}
    return api


def test_restore(glance, restoring):
    done = glance("restore", "5")
    assert (done.code, done.out, done.err) == (0, "Restored image 5\n", "")
    done = glance("restore", "5", "--format=json")
    assert (json.loads(done.out)["status"], done.err) == ("active", "Restored image 5\n")
    assert glance("restore", "5", "--format=value").lines[:3] == ["5", "web", "active"]


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (404, b"404 Not Found\n\nNo image with ID 5 was found\n", "No image with ID 5 was found"),
        (410, b"410 Gone\n\nThe data has been removed\n", "The data has been removed"),
        (409, b"409 Conflict\n\nImage 5 is active\n", "Image 5 is active"),
    ],
)
def test_what_cannot_be_restored_is_one_line(glance, api, status, body, told):
    api.refuse["POST", "/images/5/restore"] = (status, body)
    done = glance("restore", "5")
    assert (done.code, done.out) == (1, "")
    assert done.err == f"glance: {told}\n"


def test_restore_needs_one_id(glance, restoring):
    assert glance("restore").err == (
        "glance: Please specify the ID of the image you wish to restore\n"
    )
    assert "does not take the argument" in glance("restore", "5", "6").err
    done = glance("restore", "5", "--dry-run")
    assert done.lines[1:] == ["Restore image 5"]
    assert not restoring.server.requests


# -- what is nowhere -----------------------------------------------------------------------------


def test_nobody_is_asked_about_a_name_that_no_image_has(glance, web):
    done = glance("delete", "nowhere", stdin="y\n")
    assert (done.code, done.out) == (1, "No image with ID nowhere was found\n")
    done = glance("delete", "nowhere", "1", "--dry-run")
    assert (done.code, done.lines[1:]) == (
        1,
        ["Delete image 1", "No image with ID nowhere was found"],
    )
    done = glance("delete", "nowhere", "1", "2", stdin="y\n")
    assert (done.code, done.lines) == (
        1,
        [
            "Delete images 1 and 2? [y/N] No image with ID nowhere was found",
            "Deleted image 1",
            "Deleted image 2",
        ],
    )
