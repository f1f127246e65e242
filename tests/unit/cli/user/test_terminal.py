"""What the program prints cannot control a terminal, whatever a server sends; and lists end."""

import ast
import json
import pathlib

import pytest

from glance.cli.user.screen import console

ROOT = pathlib.Path(__file__).resolve().parents[4]
#: An escape sequence, one of eight bits, the title of a window, a bell, controls of direction,
#: ends of lines.
EVIL = "\x1b[2J\x9b2J\x1b]0;t\x07\u202e\u2066\u200f\r\x08\n\u2028\x7f"


def is_clean(text):
    return all(character.isprintable() or character == "\n" for character in text)


@pytest.fixture
def evil(api):
    """An image all of whose texts, and its id itself, hold such characters."""
    image_id = api.add(
        name=f"n{EVIL}",
        disk_format=f"d{EVIL}",
        owner=f"o{EVIL}",
        properties={f"p{EVIL}": f"v{EVIL}"},
    )
    api.members[f"7{EVIL}"] = [{"member_id": f"m{EVIL}", "can_share": True}]
    api.images[image_id]["id"] = f"7{EVIL}"
    real = api.post

    def post(seen):
        status, body = real(seen)
        image = json.loads(body)["image"]
        image.update(id=f"8{EVIL}", name=f"n{EVIL}", properties={f"p{EVIL}": EVIL})
        return (status, json.dumps({"image": image}).encode())

    api.post = post


@pytest.mark.usefixtures("evil")
@pytest.mark.parametrize(
    "words",
    [
        ("index",),
        ("details",),
        ("index", "-v"),
        ("index", "--format=json"),
        ("details", "--format=json"),
        ("image-members", "1"),
        ("image-members", "1", "--format=json"),
        ("clear", "--dry-run"),
        ("clear", "-fv"),
        ("update", "1", "name=x", "-v"),
        ("update", "1", "name=x", "--format=json"),
        ("add", "name=x", "-v"),
        ("add", "name=x", "--format=json"),
        ("show", f"9{EVIL}"),
        ("delete", "-f", f"9{EVIL}"),
        ("delete", f"9{EVIL}"),
        ("delete", "--dry-run", f"9{EVIL}"),
        ("update", f"9{EVIL}", "name=x"),
        ("update", "--dry-run", "9", f"name={EVIL}", f"{EVIL}=x"),
        ("add", f"size{EVIL}"),
        ("member-add", "--dry-run", "1", EVIL),
        ("cache-prefetch", EVIL, "-v"),
        ("cache-purge", EVIL),
        ("download", EVIL),
        ("download", EVIL, f"--file={EVIL}"),
        ("help", EVIL),
        (EVIL,),
        ("index", f"--{EVIL}"),
        ("index", f"--limit={EVIL}"),
    ],
)
def test_nothing_that_is_printed_controls_a_terminal(glance, words):
    done = glance(*words, stdin=b"data")
    assert is_clean(done.out) and is_clean(done.err), ascii(done.out + done.err)
    assert done.out or done.err


def test_errors_of_a_server_do_not_control_a_terminal(glance, api):
    api.refuse["GET", "/images"] = (500, f"500 {EVIL}".encode())
    done = glance("index")
    assert done.code == 1
    assert is_clean(done.out) and is_clean(done.err)


def test_a_name_makes_no_lines_of_its_own(glance, api):
    api.add(name="x\n2   forged")
    assert len(glance("index").lines) == 3
    assert not any(line.startswith("2 ") for line in glance("details").lines)


def test_json_is_the_same_value_with_all_that_is_not_printable_escaped(glance, api):
    api.add(name=f"Zürich 日本 😀{EVIL}\U000e0041")
    done = glance("index", "--format=json")
    assert is_clean(done.out)
    assert "Zürich 日本 😀" in done.out
    assert json.loads(done.out)[0]["name"] == api.images[1]["name"]


def test_printable_text_stays_as_it_is():
    text = "Zürich 日本 😀 a\\b ~"
    assert console.printable(text) == text


def test_whatever_has_a_place_for_a_name_is_printed_by_the_console():
    """Only texts of the program itself are printed directly."""
    own = {"command.py": 3, "cache.py": 1}
    found = {}
    for path in sorted((ROOT / "glance" / "cli" / "user").rglob("*.py")):
        # pprint, in glance-upload, escapes what is not printable.
        if path.name in ("console.py", "glance_upload.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_print = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
            if is_print and any(isinstance(part, ast.JoinedStr) for part in node.args):
                found[path.name] = found.get(path.name, 0) + 1
    assert found == own


# -- lists of servers that repeat themselves -----------------------------------------------------


@pytest.fixture
def repeating(api):
    """An API that ignores the marker and sends the same page again and again."""
    for _ in range(3):
        api.add(name="web")
    real = api.list
    api.list = lambda path, query: real(path, {k: v for k, v in query.items() if k != "marker"})
    return api


@pytest.mark.usefixtures("repeating")
@pytest.mark.parametrize("words", [("index",), ("details",), ("index", "--marker=9")])
def test_a_list_ends_when_a_server_repeats_a_page(glance, words):
    done = glance(*words, "--limit=3", "--force")
    assert (done.code, done.err) == (
        1,
        "glance: The server sent the same page of the list again, so the list is not complete\n",
    )
    assert done.out.count("web") == 3


def test_a_list_ends_when_a_server_goes_round_in_circles(glance, api):
    for _ in range(4):
        api.add(name="web")
    real = api.list

    def circle(path, query):
        found = real(path, query)["images"]
        return {"images": found or real(path, {"limit": query["limit"]})["images"]}

    api.list = circle
    done = glance("index", "--limit=2", "--force")
    assert (done.code, done.out.count("web")) == (1, 4)


@pytest.mark.parametrize("words", [("clear", "--force"), ("clear", "--dry-run")])
def test_clear_ends_when_a_server_repeats_a_page(glance, repeating, words):
    done = glance(*words)
    assert done.code == 1
    assert "the same page" in done.err


def test_clear_ends_when_a_server_does_not_forget_what_it_has_deleted(glance, api):
    api.add(name="web")
    api.delete = lambda seen, image: b""
    assert glance("clear", "--force").code == 0
    assert [seen.method for seen in api.server.requests].count("DELETE") == 1
