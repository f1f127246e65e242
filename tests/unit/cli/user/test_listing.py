"""index, details and show: how many requests they make, and how wide what they print is."""

import json
import unicodedata
import urllib.parse

import pytest

from glance.cli.user import tables


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
