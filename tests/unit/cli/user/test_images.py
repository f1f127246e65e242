"""add, update, delete, show, index, details and clear: what they ask, send and print."""

import io
import json
import os
import pty
import subprocess
import sys

import pytest

from glance.cli.user import images
from glance.cli.user.screen import tables
from glance.client import Client

DATA = b"image data" * 1000


def image_headers(seen):
    return {k: v for k, v in seen.headers.items() if k.startswith("x-image-meta-")}


def requests(api, method):
    return [seen for seen in api.server.requests if seen.method == method]


# -- add -----------------------------------------------------------------------------------------


def test_add_uploads_standard_input(glance, api):
    done = glance("add", "name=web", "distro=Debian 6", "is_public=1", stdin=DATA)
    assert (done.code, done.out, done.err) == (0, "Added new image with ID: 1\n", "")
    assert api.images[1]["size"] == len(DATA)
    assert image_headers(requests(api, "POST")[0]) == {
        "x-image-meta-name": "web",
        "x-image-meta-is-public": "True",
        "x-image-meta-disk-format": "raw",
        "x-image-meta-container-format": "ovf",
        "x-image-meta-min-disk": "0",
        "x-image-meta-min-ram": "0",
        "x-image-meta-size": str(len(DATA)),
        "x-image-meta-property-distro": "Debian 6",
    }


@pytest.mark.parametrize("name", ["id", "owner", "store", "checksum"])
def test_add_takes_attributes_beside_the_usual_ones(glance, api, name):
    glance("add", "name=web", f"{name}=v")
    sent = image_headers(requests(api, "POST")[0])
    assert sent[f"x-image-meta-{name}"] == "v"
    assert f"x-image-meta-property-{name}" not in sent


@pytest.mark.parametrize(
    ("word", "sent"),
    [("true", "True"), ("ON", "True"), (" 1 ", "True"), ("yes", "False"), ("0", "False")],
)
def test_add_understands_three_words_as_public(glance, api, word, sent):
    glance("add", "name=web", f"is_public={word}")
    assert requests(api, "POST")[0].headers["x-image-meta-is-public"] == sent


def test_add_needs_a_name(glance, api):
    done = glance("add", "distro=x")
    assert (done.code, done.out) == (
        1,
        "Please specify a name for the image using name=VALUE\n",
    )
    assert not api.server.requests


def test_add_refuses_what_is_no_field(glance, api):
    done = glance("add", "name=web", "oops")
    assert (done.code, done.out) == (
        1,
        "Arguments should be in the form of field=value. You specified oops.\n",
    )


def test_add_removes_what_cannot_be_set(glance, api):
    done = glance("add", "name=web", "size=3", "status=active")
    assert done.lines == [
        "Found non-settable field size. Removing.",
        "Found non-settable field status. Removing.",
        "Added new image with ID: 1",
    ]
    assert "status" not in str(image_headers(requests(api, "POST")[0]))


def test_add_verbose_shows_what_the_server_made_of_it(glance, api):
    lines = glance("add", "-v", "name=web", stdin=b"x").lines
    assert lines[:2] == [
        "Added new image with ID: 1",
        "Returned the following metadata for the new image:",
    ]
    assert f" {'container_format':>30} => ovf" in lines
    assert f" {'owner':>30} => None" in lines
    assert f" {'properties':>30} => {{}}" in lines
    rows = [line.partition(" => ")[0].strip() for line in lines[2:-1]]
    assert rows == sorted(rows)
    assert lines[-1].startswith("Completed in ")


def test_add_dry_run_sends_nothing(glance, api):
    done = glance("add", "--dry-run", "name=web", "location=http://h/i")
    assert done.code == 0
    assert done.lines == [
        "Dry run. We would have done the following:",
        "Add new image with metadata:",
        "               container_format => ovf",
        "                    disk_format => raw",
        "                      is_public => False",
        "                       location => http://h/i",
        "                       min_disk => 0",
        "                        min_ram => 0",
        "                           name => web",
        "                     properties => {}",
    ]
    assert not api.server.requests


def test_add_to_an_absent_server(glance, api):
    api.server.stop()
    done = glance("add", "name=web")
    place = f"127.0.0.1:{api.server.port}"
    assert (done.code, done.lines) == (
        1,
        [f"Failed to connect to the Glance API server {place}. Is the server running?"],
    )
    assert glance("add", "-v", "name=web").lines[1].startswith("Unable to connect to server")


def test_add_that_the_server_refuses(glance, api):
    api.refuse["POST", "/images"] = (409, b"409 Conflict\n\nThe id is taken.\n")
    done = glance("add", "name=web")
    assert (done.code, done.lines) == (
        1,
        [
            "Failed to add image. Got error:",
            "409 Conflict",
            "The id is taken.",
        ],
    )


KILLED = (
    "Note: Your image metadata may still be in the registry, but the image's status will likely "
    "be 'killed'."
)


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("killed", "image 1 is killed; delete it with: glance delete 1"),
        ("saving", "image 1 is saving; delete it with: glance delete 1"),
        ("queued", "image 1 is queued; upload its data with: glance upload 1 --file=FILE"),
        ("active", "image 1 is active; see: glance show 1"),
        (None, "nothing remains of image 1"),
    ],
)
def test_add_that_fails_after_the_record_was_made_names_it(glance, api, status, told):
    api.refuse["POST", "/images"] = (413, b"413 Large\n\nToo large.\n", {"X-Image-Meta-Id": 1})
    if status:
        api.add(status=status)
    done = glance("add", "name=web")
    assert (done.code, done.lines[2:]) == (1, ["Too large.", KILLED])
    assert done.err == f"Note: {told}\n"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 500, 503])
def test_add_without_a_record_has_no_note(glance, api, status):
    api.refuse["POST", "/images"] = (status, b"no")
    done = glance("add", "name=web")
    assert (done.code, "Note:" in done.out + done.err) == (1, False)


@pytest.mark.parametrize("status", [502, 504])
def test_add_through_a_proxy_that_has_lost_the_server_may_have_a_record(glance, api, status):
    api.refuse["POST", "/images"] = (status, b"no")
    done = glance("add", "name=web")
    assert (done.lines[-1], done.err) == (KILLED, "")


def test_add_over_a_connection_that_breaks_may_have_a_record(glance, loopback):
    server = loopback(lambda peer: (peer.request(), peer.close()))
    done = glance("add", "name=web", port=server.port)
    place = f"127.0.0.1:{server.port}"
    assert done.lines == [
        f"Failed to connect to the Glance API server {place}. Is the server running?"
    ]
    assert KILLED in done.err


class Stopping(io.BytesIO):
    """Data in the sending of which the user presses Ctrl-C; it is looked at before."""

    looked_at = False

    def read(self, size=-1):
        if self.looked_at:
            raise KeyboardInterrupt
        self.looked_at = True
        return super().read(size)


def test_add_that_is_interrupted_before_it_sends_anything_has_left_nothing(
    glance, api, monkeypatch
):
    monkeypatch.setattr(Stopping, "looked_at", True)
    monkeypatch.setattr(images, "stdin_data", lambda: Stopping(b"x"))
    done = glance("add", "name=web")
    assert (done.code, done.out, done.err) == (130, "", "glance: interrupted\n")
    assert not api.server.requests


def test_interrupted_add_names_what_the_server_has_recorded(glance, api, monkeypatch):
    api.add(status="killed")
    api.refuse["POST", "/images"] = (400, b"interrupted", {"X-Image-Meta-Id": "1"})

    monkeypatch.setattr(images, "stdin_data", lambda: Stopping(b"x" * 100_000))
    done = glance("add", "name=web")
    assert (done.code, done.out) == (130, "")
    assert done.err == (
        "glance: interrupted; image 1 is killed; delete it with: glance delete 1\n"
    )


def test_interrupted_add_without_a_response_says_what_to_expect(glance, loopback, monkeypatch):
    server = loopback(lambda peer: (peer.head(), peer.wait_closed()))

    monkeypatch.setattr(images, "stdin_data", lambda: Stopping(b"x" * 100_000))
    done = glance("add", "name=web", port=server.port)
    assert done.code == 130
    assert done.err == (
        "glance: interrupted; if the image has been recorded, its status will be killed\n"
    )


def test_add_from_a_terminal_leaves_the_image_queued(glance, api):
    done = glance("add", "name=web", terminal=True)
    assert (done.code, done.out) == (0, "Added new image with ID: 1\n")
    assert "queued" in done.err
    assert api.images[1]["status"] == "queued"


@pytest.mark.parametrize("name", ["add", "update"])
def test_text_that_is_no_utf_8_is_refused(glance, api, name):
    done = glance(name, "1", "name=b\udcff") if name == "update" else glance(name, "name=b\udcff")
    assert (done.code, done.out) == (1, "")
    assert done.err == "glance: This argument is not UTF-8 text: name=b?\n"
    assert not api.server.requests


def test_names_outside_ascii_survive(glance, api):
    glance("add", "name=Büro ☃", stdin=b"x")
    assert api.images[1]["name"] == "Büro ☃"
    assert "Büro ☃" in glance("index").out


PROGRAM = [
    sys.executable,
    "-c",
    "import sys; from glance.cli.user import command; sys.exit(command.main(sys.argv[1:]))",
]


def program(api, *args, **kw):
    place = ["-H", "127.0.0.1", "-p", str(api.server.port)]
    command = [*PROGRAM, *args, *place]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, **kw)


CLASH = (
    "Either supply a location=LOCATION argument or supply image \n"
    "data via a redirect. You have supplied BOTH image data \n"
    "AND a location.\n"
)


@pytest.fixture
def data_file(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(DATA)
    return path


def test_redirected_file_is_sent_with_its_size(api, data_file):
    with data_file.open("rb") as file:
        done = program(api, "add", "name=web", stdin=file)
    assert (done.returncode, done.stdout) == (0, "Added new image with ID: 1\n")
    seen = requests(api, "POST")[0]
    assert (seen.body, seen.headers["content-length"]) == (DATA, str(len(DATA)))


def test_pipe_is_streamed(api):
    done = program(api, "add", "name=web", input="x" * 100_000)
    assert done.returncode == 0
    seen = requests(api, "POST")[0]
    assert seen.headers["transfer-encoding"] == "chunked"
    assert "x-image-meta-size" not in seen.headers
    assert len(seen.body) == 100_000


@pytest.mark.parametrize("closed", [False, True], ids=["dev-null", "closed"])
def test_no_input_at_all_makes_an_empty_active_image(api, closed):
    kw = {"preexec_fn": lambda: os.close(0)} if closed else {"stdin": subprocess.DEVNULL}
    done = program(api, "add", "name=web", "is_public=true", **kw)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Added new image with ID: 1\n", "")
    assert (api.images[1]["status"], api.images[1]["size"]) == ("active", 0)


def test_location_with_a_redirected_file_is_refused(api, data_file):
    with data_file.open("rb") as file:
        done = program(api, "add", "name=web", "location=http://h/i", stdin=file)
    assert (done.returncode, done.stdout) == (1, CLASH)
    assert not api.server.requests


def test_location_with_data_in_a_pipe_is_refused(api):
    reader, writer = os.pipe()
    os.write(writer, b"x")
    done = program(api, "add", "name=web", "location=http://h/i", stdin=reader)
    os.close(reader)
    os.close(writer)
    assert (done.returncode, done.stdout) == (1, CLASH)


@pytest.mark.parametrize("kind", ["dev-null", "closed", "empty-file", "silent-pipe", "ended-pipe"])
def test_location_is_registered_without_a_terminal(api, tmp_path, kind):
    reader, writer = os.pipe()
    if kind == "ended-pipe":
        os.close(writer)
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open() as empty:
        kw = {
            "dev-null": {"stdin": subprocess.DEVNULL},
            "closed": {"preexec_fn": lambda: os.close(0)},
            "empty-file": {"stdin": empty},
            "silent-pipe": {"stdin": reader},
            "ended-pipe": {"stdin": reader},
        }[kind]
        done = program(api, "add", "name=web", "location=http://h/i", **kw)
    os.close(reader)
    if kind != "ended-pipe":
        os.close(writer)
    assert (done.returncode, done.stdout) == (0, "Added new image with ID: 1\n"), done.stderr
    seen = requests(api, "POST")[0]
    assert (seen.headers["x-image-meta-location"], seen.body) == ("http://h/i", b"")
    assert "transfer-encoding" not in seen.headers


def test_location_is_registered_from_a_terminal(api):
    master, slave = pty.openpty()
    fields = ("name=web", "location=http://h/i", "is_public=true")
    done = program(api, "add", *fields, stdin=slave)
    os.close(master)
    os.close(slave)
    assert (done.returncode, done.stderr) == (0, "")


# -- update --------------------------------------------------------------------------------------


def test_update_changes_what_is_named(glance, api):
    api.add(name="old", status="active", properties={"a": "1"})
    done = glance("update", "1", "name=new", "is_public=on", "owner=", "b=2")
    assert (done.code, done.out) == (0, "Updated image 1\n")
    assert image_headers(requests(api, "PUT")[0]) == {
        "x-image-meta-name": "new",
        "x-image-meta-is-public": "True",
        "x-image-meta-owner": "",
        "x-image-meta-property-b": "2",
    }
    assert api.images[1]["properties"] == {"b": "2"}


def test_update_can_keep_properties(glance, api):
    api.add(properties={"a": "1"})
    glance("update", "1", "b=2", "--keep-properties")
    assert api.images[1]["properties"] == {"a": "1", "b": "2"}


def test_update_removes_what_cannot_be_modified(glance, api):
    api.add()
    names = "created_on deleted_on deleted updated_on size status created_at id checksum"
    done = glance("update", "1", *(f"{name}=x" for name in names.split()))
    assert [line.split()[3] for line in done.lines[:-1]] == [f"{name}." for name in names.split()]
    assert done.lines[0] == "Found non-modifiable field created_on. Removing."
    assert image_headers(requests(api, "PUT")[0]) == {}


def test_update_verbose_shows_the_image(glance, api):
    api.add(name="old", status="active")
    lines = glance("update", "-v", "1", "name=new").lines
    assert lines[:3] == [
        "Updated image 1",
        "Updated image metadata for image 1:",
        f"URI: http://127.0.0.1:{api.server.port}/v1/images/1",
    ]
    assert "Name: new" in lines


def test_update_dry_run(glance, api):
    done = glance("update", "--dry-run", "1", "name=new", "b=2")
    assert (done.code, done.lines) == (
        0,
        [
            "Dry run. We would have done the following:",
            "Update existing image with metadata:",
            "                           name => new",
            "                     properties => {'b': '2'}",
        ],
    )
    assert not api.server.requests


def test_update_failures(glance, api):
    done = glance("update", "9", "name=x")
    assert (done.code, done.out) == (1, "No image with ID 9 was found\n")
    api.refuse["PUT", "/images/9"] = (400, b"bad")
    done = glance("update", "9", "name=x")
    assert (done.code, done.lines) == (
        1,
        ["Failed to update image. Got error:", "400 Bad Request", "bad"],
    )


MISSING = {
    "update": "Please specify the ID of the image you wish to update \nas the first argument\n",
    "delete": "Please specify the ID of the image you wish to delete \nas the first argument\n",
    "show": "Please specify the image identifier as the \nfirst argument. Example: \n"
    "$> glance show 12345\n",
}


@pytest.mark.parametrize("name", MISSING)
def test_missing_id(glance, name):
    done = glance(name)
    assert (done.code, done.out) == (1, MISSING[name])


@pytest.mark.parametrize("args", [("show", "1", "2"), ("clear", "1")])
def test_surplus_arguments_are_refused(glance, api, args):
    api.add(), api.add()
    done = glance(*args)
    assert (done.code, done.out) == (1, "")
    assert "does not take the argument" in done.err
    assert len(api.images) == 2


# -- delete --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "options", "code", "out"),
    [
        ("y\n", (), 0, "Delete image 1? [y/N] Deleted image 1\n"),
        ("", ("--force",), 0, "Deleted image 1\n"),
        ("\n", (), 1, "Delete image 1? [y/N] Not deleting image 1\n"),
        ("", (), 1, "Delete image 1? [y/N] \nNot deleting image 1\n"),
    ],
    ids=["yes", "force", "default", "end-of-input"],
)
def test_delete_asks_first(glance, api, typed, options, code, out):
    api.add()
    done = glance("delete", "1", *options, stdin=typed)
    assert (done.code, done.out) == (code, out)
    assert len(api.images) == code


def test_delete_of_an_absent_image(glance):
    done = glance("delete", "-f", "5")
    assert (done.code, done.out) == (1, "No image with ID 5 was found\n")


@pytest.mark.parametrize(
    ("args", "meant"),
    [
        (("add", "name=x", "is_publik=true", "is-publik=1"), ("is_publik", "is_public")),
        (("add", "name=x", "Disk-Fromat=raw,"), ("disk_fromat", "disk_format")),
        (("update", "1", "nme=x"), ("nme", "name")),
        (("update", "1", "is-publik=x"), ("is_publik", "is_public")),
        (("index", "statsu=active"), ("statsu", "status")),
        (("details", "is_publik=none"), ("is_publik", "is_public")),
    ],
)
def test_a_field_that_looks_misspelt_gets_a_line(glance, api, args, meant):
    api.add()
    public = ["is_public=true"] if args[0] == "add" else []
    done = glance(*args, *public, stdin=b"x")
    name, field = meant
    told = f"glance: {name} is taken for a custom property; did you mean {field}?\n"
    assert (done.code, done.err) == (0, told)


@pytest.mark.parametrize("name", ["ip", "os", "kernel_id", "distro"])
def test_a_property_of_its_own_is_not_taken_for_a_mistake(glance, name):
    assert glance("add", "name=x", "is_public=true", f"{name}=x").err == ""


@pytest.mark.parametrize("command", ["delete", "show", "update", "image-members", "download"])
@pytest.mark.parametrize("image_id", ["1/members/zz", "", ".."])
def test_what_is_no_image_id_is_refused_and_at_most_taken_for_a_name(
    glance, api, command, image_id
):
    api.add()
    done = glance(command, image_id, *(["-f"] if command == "delete" else []))
    assert done.code == 1
    assert "An image ID must not" in done.out + done.err
    targets = [(seen.method, seen.target.partition("?")[0]) for seen in api.server.requests]
    assert targets == ([("GET", "/v1/images")] if image_id else [])


def test_delete_dry_run_deletes_nothing(glance, api):
    api.add()
    done = glance("delete", "--dry-run", "1")
    assert (done.code, done.out) == (
        0,
        "Dry run. We would have done the following:\nDelete image 1\n",
    )
    assert api.images


# -- show ----------------------------------------------------------------------------------------


SHOWN = [
    "Id: 1",
    "Public: No",
    "Name: Fedora 9",
    "Status: active",
    "Size: 3040",
    "Location: file:///tmp/images/1",
    "Disk format: vdi",
    "Container format: bare",
    "Minimum Ram Required (MB): 0",
    "Minimum Disk Required (GB): 0",
    "Owner: tenant1",
    "Property 'arch': x86",
    "Property 'distro': Fedora",
]


def test_show_prints_the_lines_in_order(glance, api):
    api.add(
        name="Fedora 9",
        status="active",
        size=3040,
        disk_format="vdi",
        container_format="bare",
        owner="tenant1",
        location="file:///tmp/images/1",
        properties={"distro": "Fedora", "arch": "x86"},
    )
    done = glance("show", "1")
    assert done.code == 0
    assert done.lines == [f"URI: http://127.0.0.1:{api.server.port}/v1/images/1", *SHOWN]
    more = {"checksum": "c" * 32, "protected": True, "deleted_at": None}
    api.images[1].update(more, created_at="2011-09-22T10:00:00", updated_at="2011-09-23T10:00:00")
    long = glance("show", "1", "--long").lines
    assert long[12:-2] == [
        f"Checksum: {'c' * 32}",
        "Protected: Yes",
        "Created: 2011-09-22T10:00:00",
        "Updated: 2011-09-23T10:00:00",
    ]
    assert long[:12] + long[-2:] == done.lines
    assert glance("details", "--long", "-f").lines[1:-1] == long
    api.images[1]["deleted_at"] = "2011-09-24T10:00:00"
    assert "Deleted: 2011-09-24T10:00:00" in glance("show", "1", "--long").lines


@pytest.mark.parametrize(
    ("url", "uri"),
    [
        # The two that the manual prints.
        ("http://example.com:9292/v1", "http://example.com/images/1"),
        ("https://[::1]:9292/v1/", "https://[::1]/images/1"),
        ("http://example.com:9393/v1", "http://example.com:9393/v1/images/1"),
        ("http://example.com/v1", "http://example.com/v1/images/1"),
        ("https://example.com/v1", "https://example.com/v1/images/1"),
        ("http://example.com:443/v1", "http://example.com:443/v1/images/1"),
        ("https://[::1]:9393/v1", "https://[::1]:9393/v1/images/1"),
        ("http://example.com:9292/image/v1/", "http://example.com:9292/image/v1/images/1"),
    ],
)
def test_uri_has_port_and_path_unless_both_are_the_defaults(capsys, url, uri):
    client = Client("elsewhere")
    client.configure_from_url(url)
    tables.print_image(client, {"id": 1})
    assert capsys.readouterr().out.startswith(f"URI: {uri}\n")


def test_the_uri_that_is_shown_is_taken_as_an_id(glance, api):
    api.add(name="web")
    uri = glance("show", "1").lines[0].removeprefix("URI: ")
    assert glance("show", uri).lines[3] == "Name: web"


def test_show_of_a_bare_image_is_shorter(glance, api):
    api.add(is_public=True)
    lines = glance("show", "1").lines
    assert len(lines) == 10
    assert lines[2:4] == ["Public: Yes", "Name: None"]
    assert lines[6] == "Disk format: None"


def test_show_failures(glance, api):
    done = glance("show", "9")
    assert (done.code, done.out) == (1, "No image with ID 9 was found\n")
    api.refuse["HEAD", "/images/9"] = (500, b"")
    done = glance("show", "9")
    assert (done.code, done.lines[:2]) == (
        1,
        ["Failed to show image. Got error:", "500 Internal Server Error"],
    )


# -- index and details ---------------------------------------------------------------------------


def test_index_prints_a_table(glance, api):
    api.add(name="Demo server", disk_format="qcow2", container_format="bare", size=1048576)
    api.add(name="x" * 40)
    done = glance("index")
    assert done.code == 0
    assert done.lines == [
        "ID               Name                           Disk Format          "
        "Container Format     Size          ",
        "---------------- ------------------------------ -------------------- "
        "-------------------- --------------",
        "2                xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx None                 "
        "None                              0",
        "1                Demo server                    qcow2                "
        "bare                        1048576",
    ]


def test_index_does_not_cut_long_ids(glance, api):
    api.images[1] = {"id": "a" * 36, "name": "web", "size": 0} | dict.fromkeys(
        ("disk_format", "container_format", "checksum")
    )
    api.list = lambda path, query: {"images": [] if "marker" in query else [api.images[1]]}
    lines = glance("index").lines
    assert lines[0].startswith("ID" + " " * 35 + "Name")
    assert lines[2].startswith("a" * 36 + " web")


def test_empty_index_prints_nothing(glance):
    assert (glance("index").code, glance("index").out) == (0, "")


def test_index_replaces_control_characters(glance, api):
    api.add(name="evil\x1b[2J")
    assert "evil?[2J" in glance("index").out


def test_filters_and_order_are_sent(glance, api):
    glance(
        "index",
        "name=web",
        "is_public=None",
        "size-min=3",
        "distro=x",
        "--sort_key=name",
        "--sort-dir=asc",
        "--marker=4",
    )
    assert api.server.requests[0].target == (
        "/v1/images?name=web&is_public=None&size_min=3&property-distro=x"
        "&marker=4&limit=1000&sort_key=name&sort_dir=asc"
    )


@pytest.mark.parametrize("name", ["index", "details"])
def test_malformed_filter_lists_nothing(glance, api, name):
    api.add()
    done = glance(name, "oops")
    assert (done.code, done.out) == (
        1,
        "Arguments should be in the form of field=value. You specified oops.\n",
    )
    assert not api.server.requests


@pytest.mark.parametrize(
    ("typed", "options", "shown", "asked"),
    [
        ("y\n\n", (), 5, 2),
        ("n\n", (), 2, 1),
        ("", (), 2, 1),
        ("", ("--force",), 5, 0),
    ],
    ids=["on", "stop", "end-of-input", "force"],
)
def test_index_pages(glance, api, typed, options, shown, asked):
    for number in range(5):
        api.add(name=f"image-{number}")
    done = glance("index", "--limit=2", *options, stdin=typed, reading=True)
    assert done.code == 0
    assert done.out.count("image-") == shown
    assert done.out.count("Fetch next page? [Y/n] ") == asked
    assert done.out.count("ID  ") == 1


def test_index_asks_nothing_where_nobody_reads_along(glance, api):
    for number in range(5):
        api.add(name=f"image-{number}")
    done = glance("index", "--limit=2", terminal=True)
    assert (done.out.count("image-"), done.out.count("Fetch")) == (5, 0)


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_index_takes_answers_that_stand_ready(api, tmp_path, kind):
    for number in range(5):
        api.add(name=f"image-{number}")
    answers = tmp_path / "answers"
    answers.write_text("y\nn\n")
    reader, writer = os.pipe()
    os.write(writer, answers.read_bytes())
    with answers.open() as file:
        done = program(api, "index", "--limit=2", stdin=reader if kind == "pipe" else file)
    os.close(reader)
    os.close(writer)
    assert (done.stdout.count("image-"), done.stdout.count("Fetch")) == (4, 2)


def test_short_page_is_followed_by_one_more_request_without_a_question(glance, api):
    api.add()
    assert "Fetch" not in glance("index", reading=True).out
    assert len(api.server.requests) == 2


def test_many_pages_do_not_exhaust_the_stack(glance, api):
    for _ in range(1200):
        api.add()
    assert len(glance("index", "-f", "--limit=1").lines) == 1202


def test_details_prints_blocks_between_rules(glance, api):
    api.add(name="one")
    api.add(name="two", owner="t", properties={"a": "b"})
    api.add(name="three")
    lines = glance("details", "--limit=2", "-f").lines
    rule = "=" * 80
    assert lines[0] == rule
    assert [index for index, line in enumerate(lines) if line == rule] == [0, 11, 24, 35]
    assert [line for line in lines if line.startswith("Name")] == [
        "Name: three",
        "Name: two",
        "Name: one",
    ]


# -- clear ---------------------------------------------------------------------------------------


def test_clear_deletes_beyond_one_page(glance, api):
    for _ in range(60):
        api.add()
    done = glance("clear", "--force")
    assert (done.code, done.out, api.images) == (0, "", {})
    assert "is_public=none" in requests(api, "GET")[0].target


@pytest.mark.parametrize("typed", ["", "n\n"])
def test_clear_asks_first(glance, api, typed):
    api.add()
    done = glance("clear", stdin=typed)
    assert (done.code, done.lines[-1].endswith("Not deleting any images")) == (1, True)
    assert done.out.startswith("Delete all images? [y/N] ")
    assert api.images


def test_clear_verbose_tells_of_each_image(glance, api):
    api.add(name="Some web image")
    done = glance("clear", "-fv")
    assert done.lines[0] == 'Deleting image 1 "Some web image" ... done'
    assert done.lines[1].startswith("Completed in ")


def test_clear_goes_on_after_a_failure(glance, api):
    for _ in range(3):
        api.add(name="x")
    api.refuse["DELETE", "/images/2"] = (403, b"403 Forbidden\n\nIt is protected.\n")
    done = glance("clear", "-f")
    assert done.code == 1
    assert done.lines == ["Failed to delete image 2", "403 Forbidden", "It is protected."]
    assert list(api.images) == [2]


def test_clear_dry_run_names_the_images(glance, api):
    api.add(), api.add()
    done = glance("clear", "--dry-run")
    assert (done.code, done.lines[1:]) == (0, ["Delete image 1", "Delete image 2"])
    assert len(api.images) == 2


# -- for programs --------------------------------------------------------------------------------


def test_listing_for_programs_is_an_array_of_all_pages(glance, api):
    for number in range(5):
        api.add(name=f"Büro {number}\x1b[2J")
    done = glance("index", "--format=json", "--limit=2", reading=True)
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert [image["id"] for image in found] == [5, 4, 3, 2, 1]
    assert found[0]["name"] == "Büro 4\x1b[2J"
    assert "Büro" in done.out


@pytest.mark.parametrize("name", ["index", "details"])
def test_empty_listing_for_programs_is_an_empty_array(glance, api, name):
    done = glance(name, "--format=json")
    assert (done.code, json.loads(done.out)) == (0, [])


def test_details_for_programs_hold_every_attribute(glance, api):
    api.add(name="web", properties={"a": "b"})
    (image,) = json.loads(glance("details", "--format=json").out)
    assert (image["properties"], image["min_ram"], image["uri"][:7]) == ({"a": "b"}, 0, "http://")


def test_show_for_programs_is_an_object(glance, api):
    api.add(name="web", is_public=True, properties={"a": "b"})
    done = glance("show", "1", "--format=json")
    image = json.loads(done.out)
    assert (image["id"], image["is_public"], image["properties"]) == (1, True, {"a": "b"})


def test_add_for_programs_gives_the_image_and_tells_the_rest_elsewhere(glance, api):
    done = glance("add", "name=web", "size=3", "--format=json", "-v", stdin=b"x")
    assert json.loads(done.out)["id"] == 1
    assert "Found non-settable field size. Removing." in done.err
    assert "Added new image with ID: 1" in done.err
    assert "Completed in " in done.err


def test_update_for_programs_gives_the_image(glance, api):
    api.add(name="old")
    assert json.loads(glance("update", "1", "name=new", "--format=json").out)["name"] == "new"


@pytest.mark.parametrize(
    "args", [("show", "9"), ("update", "9", "a=b"), ("index", "oops"), ("add", "a=b")]
)
def test_failure_for_programs_leaves_standard_output_empty(glance, api, args):
    done = glance(*args, "--format=json")
    assert (done.code, done.out) == (1, "")
    assert done.err


def test_format_is_text_or_json(glance):
    done = glance("index", "--format=xml")
    assert (done.code, done.out) == (2, "")
    assert "glance: error: option --format: invalid choice: 'xml'" in done.err
