"""index, details and show: how many requests they make, and how wide what they print is."""

import json
import unicodedata
import urllib.parse

import pytest

from glance.cli.user.screen import columns, tables
from glance.image import fields as image_fields


def limits(api):
    """The page sizes that were asked for, in order."""
    found = []
    for seen in api.server.requests:
        query = urllib.parse.urlsplit(seen.target).query
        found.append(int(dict(urllib.parse.parse_qsl(query))["limit"]))
    return found


def capped(api, cap):
    """Let the server send at most `cap` images at a time."""
    real = api.list

    def some(path, query):
        return real(path, {**query, "limit": str(min(int(query["limit"]), cap))})

    api.list = some


# -- pages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("index",), ("details",), ("index", "--format=json")])
@pytest.mark.parametrize("more", [(), ("--limit=3",), ("--force",)])
def test_where_nobody_is_asked_pages_are_large(glance, api, words, more):
    for number in range(25):
        api.add(name=f"image-{number}")
    done = glance(*words, *more, reading="--force" in more)
    assert (done.code, done.out.count("image-")) == (0, 25)
    assert limits(api) == [1000, 1000]


def test_a_page_larger_than_the_usual_cap_is_asked_for_as_it_was_said(glance, api):
    api.add()
    glance("index", "--limit=5000")
    assert limits(api) == [5000, 5000]


@pytest.mark.parametrize("limit", ["0", "-1"])
def test_a_limit_that_is_no_size_goes_to_the_server(glance, api, limit):
    api.add()
    glance("index", f"--limit={limit}")
    assert limits(api)[0] == int(limit)


@pytest.mark.parametrize("words", [("index",), ("index", "--format=json"), ("details",)])
def test_a_server_that_sends_less_than_it_was_asked_for_does_not_end_the_list(glance, api, words):
    for number in range(20):
        api.add(name=f"image-{number}")
    capped(api, 7)
    assert glance(*words).out.count("image-") == 20


@pytest.mark.parametrize(("cap", "sizes"), [(1000, [4, 4, 4]), (3, [4, 1, 4, 1, 4])])
def test_who_is_asked_is_asked_after_each_page_of_the_limit(glance, api, cap, sizes):
    for number in range(10):
        api.add(name=f"image-{number}")
    capped(api, cap)
    done = glance("index", "--limit=4", stdin="y\ny\n", reading=True)
    pages = [part.count("image-") for part in done.out.split("Fetch next page? [Y/n] ")]
    assert pages == [4, 4, 2]
    assert limits(api)[: len(sizes)] == sizes


def test_many_pages_print_one_table_with_the_same_columns(glance, api):
    for number in range(9):
        api.add(name=f"image-{number}", size=number)
    once = glance("index").out
    capped(api, 2)
    assert glance("index").out == once


# -- wide characters -----------------------------------------------------------------------------

WIDE = {
    "ascii": ("abc", 3),
    "wide": ("日本語", 6),
    "full width": ("ＡＢ", 4),
    "half width": ("ｱｲ", 2),
    "combining": ("e\u0301te\u0301", 3),
    "enclosing": ("1\u20dd", 1),
    "syllables of parts": ("\u1112\u1161\u11ab", 2),
    "emoji": ("😀", 2),
    "ambiguous": ("Ωж", 2),
    "empty": ("", 0),
}


@pytest.mark.parametrize("name", WIDE)
def test_cells_of_a_text(name):
    text, count = WIDE[name]
    assert tables.cells(text) == count


@pytest.mark.parametrize("align", ["<", ">"])
@pytest.mark.parametrize("name", WIDE)
def test_a_cell_is_exactly_as_wide_as_it_should_be(name, align):
    text, count = WIDE[name]
    for width in range(count + 3):
        found = tables.fitted(text, width, align)
        assert tables.cells(found) == width
        assert found.strip() == (text if width >= count else found.strip())
        assert text.startswith(found.strip())
        assert not text[len(found.strip()) :].startswith("\u0301")


def test_columns_are_straight_whatever_the_names_are(glance, api):
    for text, _ in WIDE.values():
        api.add(name=text, disk_format="raw", size=7)
        api.add(name=text * 20, disk_format="raw", size=7)
    lines = glance("index").lines
    assert {tables.cells(line) for line in lines} == {104}
    assert {tables.cells(line[: line.index(" raw ")]) for line in lines[2:]} == {47}
    assert any(unicodedata.east_asian_width(c) == "W" for line in lines for c in line)


# -- narrow terminals ----------------------------------------------------------------------------


@pytest.fixture
def terminal(monkeypatch):
    """Make standard output a terminal with so many columns."""

    def make(columns):
        monkeypatch.setattr(tables, "room", lambda: columns)

    return make


@pytest.mark.parametrize("columns", [60, 80, 100, 103])
@pytest.mark.parametrize("image_id", [1, 1234567])
def test_a_row_is_one_line_of_a_narrow_terminal(glance, api, terminal, columns, image_id):
    api.add(name="日" * 40, disk_format="qcow2", container_format="bare", size=123456789012)
    api.images[1]["id"] = image_id
    terminal(columns)
    lines = glance("index").lines
    assert len(lines) == 3
    assert {tables.cells(line) for line in lines} == {columns - 1}
    assert lines[2].split()[0] == str(image_id)
    assert lines[2].split()[2:] == ["qcow2", "bare", "123456789012"]


def test_ids_and_sizes_are_whole_on_the_narrowest_terminal(glance, api, terminal):
    api.add(name="web", size=10**15)
    api.list = lambda path, query: {"images": [] if "marker" in query else [api.images[1]]}
    api.images[1]["id"] = "a" * 36
    terminal(20)
    row = glance("index").lines[2].split()
    assert (row[0], row[-1]) == ("a" * 36, str(10**15))


def test_later_pages_keep_the_columns_of_the_first(glance, api, terminal):
    api.add(name="x" * 30, size=123456)
    api.add(name="x", size=1)
    terminal(80)
    lines = glance("index", "--limit=1", "--force").lines
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize("columns", [104, 200])
def test_a_terminal_that_is_wide_enough_shows_the_table_of_the_manual(
    glance, api, terminal, columns
):
    api.add(name="web")
    piped = glance("index").out
    terminal(columns)
    assert glance("index").out == piped


def test_output_that_is_no_terminal_has_no_room():
    assert tables.room() is None


def test_json_does_not_depend_on_the_terminal(glance, api, terminal):
    api.add(name="x" * 60)
    terminal(40)
    assert json.loads(glance("index", "--format=json").out)[0]["name"] == "x" * 60


# -- what is shown of an image -------------------------------------------------------------------


@pytest.fixture
def web(api):
    """An image with two properties, and one without any."""
    times = {"created_at": "2011-09-22T10:00:00", "updated_at": "2011-09-23T10:00:00"}
    more = {"protected": False, "deleted_at": None, **times}
    api.add(name="bare", **more)
    api.add(
        name="web server",
        status="active",
        size=3040,
        disk_format="qcow2",
        container_format="bare",
        is_public=True,
        owner="t1",
        checksum="c" * 32,
        properties={"distro": "Debian 6", "status": "of its own"},
        **more,
    )
    return api


def test_every_attribute_is_a_column():
    second = {"uuid", "visibility", "tags", "os_hidden", "os_hash_algo", "os_hash_value"}
    assert set(columns.V2_KEYS) == second
    assert set(columns.ATTRIBUTES) == {*image_fields.DETAIL_KEYS, "uri", *second}


@pytest.mark.usefixtures("web")
def test_index_long_adds_columns_to_those_of_the_manual(glance):
    plain, long = glance("index").lines, glance("index", "--long").lines
    assert [line[:104] for line in long] == plain
    assert long[0][104:].split() == ["Status", "Public", "Owner", "Created"]
    assert long[2][104:].split() == ["active", "True", "t1", "2011-09-22T10:00:00"]


@pytest.mark.usefixtures("web")
@pytest.mark.parametrize("words", [("--columns=ID, Status,Disk-Format,distro,property-status",)])
def test_columns_are_attributes_and_properties(glance, words):
    lines = glance("index", *words).lines
    assert lines[0].split() == ["ID", "Status", "Disk", "Format", "distro", "status"]
    assert lines[2].split() == ["2", "active", "qcow2", "Debian", "6", "of", "its", "own"]
    assert lines[3].split() == ["1", "queued", "None", "None", "None"]


@pytest.mark.usefixtures("web")
@pytest.mark.parametrize("command", [("index",), ("details",), ("show", "2")])
@pytest.mark.parametrize("kind", ["text", "json", "value"])
def test_a_column_that_is_unknown_is_one_line_that_names_the_others(glance, command, kind):
    done = glance(*command, "--columns=id,staus", f"--format={kind}")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith("glance: There is no column staus. There are id, name, status, ")
    assert "distro" in done.err


@pytest.mark.parametrize("text", ["", ",", " , "])
def test_no_column_at_all_is_refused_before_a_request(glance, api, text):
    done = glance("index", f"--columns={text}")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "names no column" in done.err
    assert not api.server.requests


def test_a_property_that_no_image_has_can_be_meant(glance, web):
    done = glance("index", "--columns=id,property-nowhere", "--format=value")
    assert (done.code, done.out) == (0, "2\tNone\n1\tNone\n")
    web.images.clear()
    assert glance("index", "--columns=id,nowhere", "--format=value").out == ""


@pytest.mark.usefixtures("web")
def test_values_are_lines_with_tabs_and_without_a_header(glance):
    assert glance("index", "--format=value").out == (
        "2\tweb server\tqcow2\tbare\t3040\n1\tbare\tNone\tNone\t0\n"
    )
    done = glance("details", "--format=value", "--columns=name,is_public,properties")
    assert done.lines == [
        'web server\tTrue\t{"distro": "Debian 6", "status": "of its own"}',
        "bare\tFalse\t{}",
    ]
    assert glance("details", "--format=value").lines[0] == (
        "2\tweb server\tactive\tTrue\tFalse\t3040\tqcow2\tbare\t0\t0\tt1\t"
        + "c" * 32
        + "\t2011-09-22T10:00:00\t2011-09-23T10:00:00"
    )
    assert glance("show", "2", "--format=value", "--columns=status,name").out == (
        "active\nweb server\n"
    )
    assert glance("show", "2", "--format=value").lines[:3] == ["2", "web server", "active"]


def test_a_value_is_one_line_whatever_it_holds(glance, api):
    api.add(name="x\ty\n9\tz\x1b[2J\u2028", properties={"a": "b\nc"})
    done = glance("index", "--columns=id,name,a", "--format=value")
    assert done.out == "1\tx?y?9?z?[2J?\tb?c\n"


def test_a_heading_is_one_line_whatever_it_holds(glance, api):
    api.add()
    done = glance("index", "--columns=id,property-a\x1b[2J\nb")
    assert (done.lines[0].split(), len(done.lines)) == (["ID", "a?[2J?b"], 3)


def test_values_of_other_commands(glance, api):
    api.add(name="web")
    api.members["1"] = []
    api.members[1] = [{"member_id": "t1", "can_share": True}]
    assert glance("image-members", "1", "--format=value").out == "t1\tTrue\n"
    done = glance("add", "name=new", "--format=value", stdin=b"x")
    assert done.lines[:3] == ["2", "new", "active"]
    assert "Added new image with ID: 2" in done.err
    assert glance("update", "1", "name=other", "--format=value").lines[:2] == ["1", "other"]


def test_values_read_nobodys_answers(glance, api):
    for _ in range(5):
        api.add()
    done = glance("index", "--format=value", "--limit=2", reading=True)
    assert (len(done.lines), done.err) == (5, "")


@pytest.mark.usefixtures("web")
def test_json_of_index_has_status_and_visibility(glance):
    first, second = json.loads(glance("index", "--format=json").out)
    assert (first["status"], first["is_public"], second["status"]) == ("active", True, "queued")
    keys = {*image_fields.BRIEF_KEYS, "uri", "status", "is_public"}
    assert first.keys() == second.keys() == keys
    (long, _) = json.loads(glance("index", "--format=json", "--long").out)
    assert long["properties"]["distro"] == "Debian 6"
    (picked, other) = json.loads(glance("index", "--format=json", "--columns=id,distro").out)
    assert (picked, other) == ({"id": 2, "distro": "Debian 6"}, {"id": 1, "distro": None})
    shown = json.loads(glance("show", "2", "--format=json", "--columns=size").out)
    assert shown == {"size": 3040}


@pytest.mark.usefixtures("web")
def test_chosen_attributes_in_blocks(glance):
    assert glance("show", "2", "--columns=name,distro").lines == [
        "Name: web server",
        "distro: Debian 6",
    ]
    rule = "=" * 80
    assert glance("details", "--columns=id").lines == [rule, "ID: 2", rule, "ID: 1", rule]


@pytest.mark.usefixtures("web")
def test_sizes_for_people(glance, terminal):
    plain = glance("index").lines
    assert glance("index", "--human").lines[2][104 - 14 : 104] == "2.97 KiB".rjust(14)
    assert "Size: 2.97 KiB" in glance("show", "2", "--human").lines
    assert "Size: 2.97 KiB" in glance("details", "--human").lines
    assert glance("index", "--long").lines[2][104 - 14 : 104] == "3040".rjust(14)
    assert "3040" in glance("index", "--format=value", "--human").out
    terminal(200)
    assert glance("index", "--long").lines[2][104 - 14 : 104] == "2.97 KiB".rjust(14)
    assert glance("index").lines == plain


@pytest.mark.usefixtures("web")
def test_a_long_row_is_one_line_of_a_narrow_terminal(glance, terminal):
    terminal(80)
    lines = glance("index", "--long").lines
    assert {len(line) for line in lines} == {79}
    assert len(lines) == 4


# -- deleted images ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["index", "details"])
def test_deleted_images_are_asked_for(glance, api, command):
    api.add(name="gone", deleted=True, deleted_at="2011-09-24T10:00:00")
    done = glance(command, "--deleted")
    assert (done.code, done.out.count("gone")) == (0, 1)
    query = dict(
        urllib.parse.parse_qsl(urllib.parse.urlsplit(api.server.requests[0].target).query)
    )
    assert (query["deleted"], query["is_public"]) == ("true", "none")


@pytest.mark.parametrize("command", ["index", "details"])
def test_who_may_not_list_deleted_images_does_not_see_others_instead(glance, api, command):
    api.add(name="alive", deleted=False)
    done = glance(command, "--deleted")
    assert (done.code, done.out) == (1, "")
    assert done.err == "glance: Only administrators may list deleted images\n"
