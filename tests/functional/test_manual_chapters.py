"""Chapters 9 and 10 of the administrator's manual: every example, against real daemons."""

import collections
import contextlib
import io
import re
import textwrap

import pytest

from glance.client import Client

from support import daemons, manual, operators

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    directory = tmp_path_factory.mktemp("manual")
    with daemons.Site(directory / "site") as site:
        yield manual.Session(site, directory)


@pytest.fixture(scope="module")
def printed(session):
    return manual.replay_chapter_9(session)


@pytest.mark.parametrize("example", manual.CHAPTER_9, ids=lambda example: example.name)
def test_command_prints_what_the_manual_shows(printed, example):
    ours = printed[example.name]
    more = collections.Counter(example.more)
    kept = []
    for line in ours:
        if more[line]:
            more[line] -= 1
        else:
            kept.append(line)
    assert kept == example.wanted(), manual.side_by_side(example, ours)
    assert not +more, "these lines are not added any more"


COMMANDS = {
    "help <command>": "Output help for one of the commands below",
    "add": "Adds a new image",
    "update": "Updates an image's metadata",
    "delete": "Deletes an image",
    "index": "",
    "details": "",
    "show": "",
    "clear": "",
}
OPTIONS = [
    "--version",
    "-h, --help",
    "-v, --verbose",
    "-H ADDRESS, --host=ADDRESS",
    "-p PORT, --port=PORT",
    "--limit=LIMIT",
    "--marker=MARKER",
    "--sort_key=KEY",
    "--sort_dir=[desc|asc]",
    "-f, --force",
    "--dry-run",
]


def glance(*args):
    return operators.run("glance", *args, cwd=daemons.ROOT, env={"COLUMNS": "80"})


def test_glance_alone_prints_the_brief_help():
    out = glance().stdout
    assert out.startswith("Usage: glance <command> [options] [args]\n\nCommands:\n")
    listed = re.findall(r"^    (\S+(?: <\w+>)?) +(.*)$", out, re.MULTILINE)[: len(COMMANDS)]
    assert [name for name, _ in listed] == list(COMMANDS)
    assert all(summary.startswith(COMMANDS[name]) for name, summary in listed)
    places = [out.index(f"\n  {option}") for option in OPTIONS]
    assert places == sorted(places)


def test_help_of_update():
    lines = glance("help", "update").stdout.splitlines()
    assert lines[:3] == [
        "",
        "glance update [options] <ID> <field1=value1 field2=value2 ...>",
        "",
    ]
    text = "\n".join(lines)
    fields = ("name", "is_public", "disk_format", "container_format")
    assert all(field in text for field in fields)
    assert "custom propert" in text


# -- chapter 10 ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A site with an image 1 for the examples of the client library."""
    directory = tmp_path_factory.mktemp("library")
    with daemons.Site(directory / "site") as site:
        client = Client("127.0.0.1", site.port)
        meta = {"name": "Ubuntu 10.04", "is_public": True, "disk_format": "raw"}
        meta["container_format"] = "ovf"
        client.add_image(meta, b"the first image")
        (directory / "image.tar.gz").write_bytes(b"a new image")
        yield site, directory, client


@pytest.fixture
def run(library, monkeypatch):
    """Run an example as printed, but for print being a function now; return what it printed."""
    site, directory, _ = library
    monkeypatch.chdir(directory)

    def run_example(code):
        code = textwrap.dedent(code)
        code = code.replace(
            'Client("glance.example.com", 9292)', f'Client("127.0.0.1", {site.port})'
        )
        code = code.replace("/path/to/", f"{directory}/")
        out = io.StringIO()
        names = {}
        with contextlib.redirect_stdout(out):
            exec(compile(code, "example", "exec"), names)
        text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+", "<time>", out.getvalue())
        text = text.replace(f"http://127.0.0.1:{site.port}/v1/", "http://glance.example.com/")
        names["printed"] = text
        return names

    return run_example


START = 'from glance.client import Client\nc = Client("glance.example.com", 9292)\n'

BRIEF = {
    "id": 1,
    "name": "Ubuntu 10.04",
    "disk_format": "raw",
    "container_format": "ovf",
    "size": 15,
    "checksum": "5ad2a3ef4b4fd3ba50fa9c4e5dd0b3e2",
    "uri": "http://glance.example.com/images/1",
}


def value(text):
    """Return the Python value that an example printed."""
    return eval(text, {})


def test_list_of_public_images(run):
    (image,) = [i for i in value(run(START + "print(c.get_images())")["printed"]) if i["id"] == 1]
    assert image.keys() == BRIEF.keys()
    del image["checksum"]
    assert image.items() <= BRIEF.items()


def test_details_of_public_images(run):
    images = value(run(START + "print(c.get_images_detailed())")["printed"])
    (image,) = [image for image in images if image["id"] == 1]
    assert BRIEF.keys() | {"status", "is_public", "properties", "created_at"} <= image.keys()
    assert (image["status"], image["created_at"], image["properties"]) == ("active", "<time>", {})


FILTERED = START + (
    "filters = {'status': '%s', 'size_max': (5 * 1024 * 1024 * 1024)}\n"
    "print(c.get_images_detailed(filters=filters))"
)


def test_filtered_images(run):
    assert value(run(FILTERED % "saving")["printed"]) == []
    assert 1 in [image["id"] for image in value(run(FILTERED % "active")["printed"])]


def test_sorted_images(run, library):
    client = library[2]
    extra = client.add_image({"name": "Arch", "is_public": True}, b"x")
    images = value(run(START + "print(c.get_images(sort_key='name', sort_dir='asc'))")["printed"])
    client.delete_image(extra["id"])
    names = [image["name"] for image in images]
    assert names == sorted(names)
    assert {"Arch", "Ubuntu 10.04"} <= set(names)


def test_details_of_one_image(run):
    code = START + 'print(c.get_image_meta("http://glance.example.com/images/1"))'
    image = value(run(code)["printed"])
    assert image.items() >= {"id": 1, "name": "Ubuntu 10.04", "size": 15, "properties": {}}.items()


def test_retrieving_an_image(run, library):
    code = """
        meta, image_file = c.get_image("http://glance.example.com/images/1")

        print(meta)

        f = open('some_local_file', 'wb')
        for chunk in image_file:
            f.write(chunk)
        f.close()
    """
    assert value(run(START + textwrap.dedent(code))["printed"])["id"] == 1
    assert (library[1] / "some_local_file").read_bytes() == b"the first image"


def test_adding_an_image(run, library):
    code = """
        meta = {'name': 'Ubuntu 10.10 5G',
                'type': 'machine',
                'is_public': True,
                'properties': {'distro': 'Ubuntu 10.10'}}

        new_meta = c.add_image(meta, open('/path/to/image.tar.gz', 'rb'))

        print('Stored image. Got identifier: %s' % new_meta['id'])
    """
    names = run(START + textwrap.dedent(code))
    image_id = names["new_meta"]["id"]
    assert names["printed"] == f"Stored image. Got identifier: {image_id}\n"
    client = library[2]
    meta, data = client.get_image(image_id, verify=True)
    assert b"".join(data) == b"a new image"
    assert (meta["status"], meta["properties"]) == ("active", {"distro": "Ubuntu 10.10"})
    client.delete_image(image_id)


def test_adding_metadata_alone(run, library):
    names = run(START + "meta = c.add_image({'name': 'later'})")
    assert names["meta"]["status"] == "queued"
    library[2].delete_image(names["meta"]["id"])


def test_adding_an_identifier_that_exists(run):
    code = """
        from glance.common import exception
        try:
            c.add_image({'name': 'again', 'id': 1})
        except exception.Duplicate:
            print('Duplicate')
    """
    assert run(START + textwrap.dedent(code))["printed"] == "Duplicate\n"


def test_adding_to_a_store_that_is_not_there(run):
    code = """
        from glance.common import exception
        try:
            c.add_image({'name': 'x', 'store': 'nowhere'}, b'data')
        except exception.BadRequest:
            print('BadRequest')
    """
    assert run(START + textwrap.dedent(code))["printed"] == "BadRequest\n"


@pytest.fixture
def shared(library):
    """Image 1 with the members that the manual speaks of."""
    client = library[2]
    client.replace_members(
        1,
        {"member_id": "tenant1", "can_share": False},
        {"member_id": "tenant2", "can_share": True},
    )
    return client


def members(client):
    return {entry["member_id"]: entry["can_share"] for entry in client.get_image_members(1)}


def test_requesting_members(run, shared):
    assert run(START + "members = c.get_image_members(1)")["members"] == [
        {"member_id": "tenant1", "can_share": False},
        {"member_id": "tenant2", "can_share": True},
    ]


def test_requesting_images_of_a_member(run, shared):
    images = run(START + "images = c.get_member_images('tenant1')")["images"]
    assert images == [{"image_id": 1, "can_share": False}]


def test_adding_members(run, shared):
    shared.replace_members(1)
    run(START + "c.add_member(1, 'tenant1')\nc.add_member(1, 'tenant2', True)")
    assert members(shared) == {"tenant1": False, "tenant2": True}


def test_adding_a_member_again_keeps_its_right(run, shared):
    run(START + "c.add_member(1, 'tenant2')")
    assert members(shared)["tenant2"] is True


def test_removing_a_member(run, shared):
    run(START + "c.delete_member(1, 'tenant1')")
    assert members(shared) == {"tenant2": True}


def test_replacing_members(run, shared):
    shared.add_member(1, "tenant3")
    code = """
        c.replace_members(1, {'member_id': 'tenant2', 'can_share': True},
                             {'member_id': 'tenant1', 'can_share': False})
    """
    run(START + textwrap.dedent(code))
    assert members(shared) == {"tenant1": False, "tenant2": True}
