"""What the program says on standard error beside its documented messages."""

import pytest

UNSEEN = "Note: no image{} is visible to you."
NO_PUBLIC = "Note: there are no public images"
NO_TOKEN = "You sent no token; a server with authentication then shows public images only.\n"


# -- a private image -----------------------------------------------------------------------------


def test_a_private_image_of_nobody_is_found_with_a_filter(glance, api):
    done = glance("add", "name=x", stdin=b"x")
    assert done.out == "Added new image with ID: 1\n"
    assert len(done.err.splitlines()) == 1
    assert "private and has no owner" in done.err
    assert done.err.endswith("glance index is_public=none\n")


def test_a_private_image_of_an_owner_says_who_sees_it(glance):
    done = glance("add", "name=x", "owner=acme", stdin=b"x")
    assert len(done.err.splitlines()) == 1
    assert "only its owner acme, its members and administrators see it" in done.err
    assert "index" not in done.err


@pytest.mark.parametrize("args", [("is_public=true",), ("--format=json",), ("--dry-run",)])
def test_nothing_is_said_of_a_public_image_nor_to_programs(glance, args):
    assert "Note:" not in glance("add", "name=x", *args, stdin=b"x").err


# -- an empty list -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["index", "details"])
def test_an_empty_list_points_to_private_images_where_there_are_any(glance, api, command):
    api.hides_private = True
    api.add(name="mine")
    done = glance(command)
    assert (done.code, done.out) == (0, "")
    assert done.err == f"{NO_PUBLIC}. To list private ones too, add is_public=none\n"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ((), f"{UNSEEN.format('')} {NO_TOKEN}"),
        (("-A", "tok"), f"{UNSEEN.format('')}\n"),
        (("name=x",), f"{UNSEEN.format(' with these fields')} {NO_TOKEN}"),
        (("is_public=none",), f"{UNSEEN.format(' with these fields')}\n"),
        (("--deleted",), "Note: no deleted image is visible to you.\n"),
        (
            ("--deleted", "name=x"),
            f"{UNSEEN.format(' with these fields').replace('no ', 'no deleted ')}\n",
        ),
    ],
)
def test_an_empty_list_where_there_is_nothing_else(glance, args, told):
    done = glance("index", *args)
    assert (done.code, done.out, done.err) == (0, "", told)


def test_a_filter_holds_for_the_search_among_private_images(glance, api):
    api.hides_private = True
    api.add(name="mine")
    assert glance("index", "name=other").err.startswith(UNSEEN.format(" with these fields"))
    assert glance("index", "name=mine").err.startswith(f"{NO_PUBLIC} with these fields")


@pytest.mark.parametrize("args", [("--format=json",), ("--limit=0",), ("--marker=1",)])
def test_nothing_is_said_to_programs_nor_of_a_page_that_has_to_be_empty(glance, api, args):
    api.add(name="mine", is_public=True)
    if args == ("--format=json",):
        api.images.clear()
    assert glance("index", *args).err == ""


def test_a_list_with_an_end_needs_no_note(glance, api):
    api.add(name="mine", is_public=True)
    assert glance("index").err == ""


def test_a_server_that_refuses_the_second_question_is_not_shown(glance, api):
    api.list = lambda path, query: (400, b"no") if "is_public" in query else {"images": []}
    done = glance("index")
    assert (done.code, done.err) == (0, f"{UNSEEN.format('')} {NO_TOKEN}")
