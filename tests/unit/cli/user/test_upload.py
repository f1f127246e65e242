"""The data of an image from a file: `glance upload`, and `glance add --file`."""

import hashlib
import io
import json
import os
import subprocess
import sys

import pytest

from glance.cli.user import images

DATA = b"image data" * 10_000
MD5 = hashlib.md5(DATA).hexdigest()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def queued(api):
    """An API that fills the queued image 1."""
    api.add(name="web", properties={"distro": "deb"})

    def put(seen, image):
        if image["status"] != "queued":
            text = f"Unable to upload image data to an image which is {image['status']}"
            return (409, f"409 Conflict\n\n{text}\n".encode())
        md5 = hashlib.md5(seen.body).hexdigest()
        if seen.headers.get("x-image-meta-checksum", md5) != md5:
            image["status"] = "killed"
            return (400, b"400 Bad Request\n\nThe MD5 differs\n")
        assert seen.headers["x-glance-registry-purge-props"] == "false"
        image.update(status="active", size=len(seen.body), checksum=md5)
        return {"image": image}

    api.put = put
    return api


DONE = f"Uploaded the data of image 1: {len(DATA)} bytes\n"


def nothing_sent(api):
    return not [seen for seen in api.server.requests if seen.method in ("POST", "PUT")]


# -- upload --------------------------------------------------------------------------------------


def test_upload_of_a_file(glance, queued, file):
    done = glance("upload", "1", "--file", str(file))
    assert (done.code, done.out, done.err) == (0, DONE, "")
    seen = queued.server.requests[-1]
    assert (seen.headers["content-length"], seen.body) == (str(len(DATA)), DATA)
    sent = {name for name in seen.headers if name.startswith("x-image-meta-")}
    assert sent == {"x-image-meta-size"}


@pytest.mark.parametrize("args", [(), ("--file=-",)])
def test_upload_of_standard_input(glance, queued, args):
    done = glance("upload", "1", *args, stdin=DATA)
    assert (done.code, done.out, done.err) == (0, DONE, "")
    assert queued.images[1]["checksum"] == MD5


def test_upload_gives_json(glance, queued, file):
    done = glance("upload", "1", f"--file={file}", "--format=json")
    assert (json.loads(done.out)["checksum"], done.err) == (MD5, DONE)


def test_upload_shows_the_progress(glance, queued, file):
    assert "100%" in glance("upload", "1", f"--file={file}", watching=True).err


def test_a_checksum_is_sent_to_be_compared(glance, queued, file):
    done = glance("upload", "1", f"checksum={'0' * 32}", f"--file={file}")
    told = "The MD5 differs; image 1 is killed; delete it with: glance delete 1"
    assert (done.code, done.out, done.err) == (1, "", f"glance: {told}\n")
    queued.images[1]["status"] = "queued"
    assert glance("upload", "1", f"Checksum={MD5}", f"--file={file}").code == 0


@pytest.mark.parametrize("status", ["active", "killed", "saving"])
def test_an_image_that_takes_no_data(glance, queued, file, status):
    queued.images[1]["status"] = status
    done = glance("upload", "1", f"--file={file}")
    told = f"Unable to upload image data to an image which is {status}"
    assert (done.code, done.out, done.err) == (1, "", f"glance: {told}\n")


def test_an_image_that_is_missing(glance, queued, file):
    done = glance("upload", "9", f"--file={file}")
    assert (done.code, done.err) == (1, "glance: No image with ID 9 was found\n")


@pytest.mark.parametrize("status", [401, 403])
def test_upload_without_permission(glance, queued, file, status):
    queued.refuse["PUT", "/images/1"] = (status, b"no")
    done = glance("upload", "1", f"--file={file}")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("glance: no")


def test_a_connection_that_breaks_says_where_to_look(glance, loopback, file):
    server = loopback(lambda peer: (peer.request(), peer.close()))
    done = glance("upload", "1", f"--file={file}", port=server.port)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert f"127.0.0.1:{server.port}: the server closed the connection" in done.err
    assert "see its status: glance show 1" in done.err


def test_an_interrupted_upload_tells_the_status(glance, queued, monkeypatch):
    class Stopping(io.BytesIO):
        def read(self, size=-1):
            raise KeyboardInterrupt

    monkeypatch.setattr(images, "stdin_data", lambda: Stopping(b"x" * 100_000))
    queued.put = lambda seen, image: (400, b"interrupted")
    queued.images[1]["status"] = "killed"
    done = glance("upload", "1", "--file=-")
    told = "interrupted; image 1 is killed; delete it with: glance delete 1"
    assert (done.code, done.out, done.err) == (130, "", f"glance: {told}\n")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ((), "Please specify the ID of the image whose data you upload"),
        (("1", "disk.img"), "This command does not take the argument disk.img; name a file"),
        (("1", "name=x"), "This command does not take the argument name=x"),
        (("1", "--file="), "--file needs the name of a file"),
        (("1/x", "--file=-"), "An image ID must not hold a slash"),
    ],
)
def test_wrong_arguments_of_upload(glance, api, args, told):
    done = glance("upload", *args, stdin=b"")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert told in done.err
    assert nothing_sent(api)


def test_upload_from_a_terminal_is_refused(glance, api):
    done = glance("upload", "1", terminal=True)
    assert (done.code, done.out) == (1, "")
    assert "Standard input is a terminal: use --file=FILE" in done.err
    assert nothing_sent(api)


def test_dry_run_of_upload(glance, api):
    lines = glance("upload", "1", "--file=x", "--dry-run").lines
    assert lines == ["Dry run. We would have done the following:", "Upload x to image 1"]
    assert not api.server.requests


# -- what can be wrong with a file ---------------------------------------------------------------


@pytest.mark.parametrize("words", [("add", "name=x"), ("upload", "1")])
@pytest.mark.parametrize("kind", ["missing", "directory", "unreadable", "nul"])
def test_a_file_that_cannot_be_read(glance, queued, tmp_path, monkeypatch, words, kind):
    path = tmp_path / "disk"
    if kind == "directory":
        path.mkdir()
    if kind == "unreadable":
        # Root may read everything.
        def refuse(*args):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(images, "open", refuse, raising=False)
    name = "a\0b" if kind == "nul" else str(path)
    done = glance(*words, f"--file={name}")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert nothing_sent(queued)


def test_standard_input_stays_for_others_beside_a_file(glance, api, queued, file):
    # As in: while read id; do glance upload $id --file=FILE; done < LIST
    for words in (("add", "name=x"), ("upload", "1")):
        assert glance(*words, f"--file={file}", stdin=b"2\n3\n").code == 0
    assert {image["checksum"] for image in api.images.values()} == {MD5}


# -- add -----------------------------------------------------------------------------------------


def test_add_of_a_file(glance, api, file):
    done = glance("add", "name=web", "is_public=1", f"--file={file}")
    assert (done.code, done.out, done.err) == (0, "Added new image with ID: 1\n", "")
    assert (api.images[1]["checksum"], api.images[1]["status"]) == (MD5, "active")


def test_add_of_standard_input_by_its_sign(glance, api):
    assert glance("add", "name=web", "--file=-", stdin=DATA).code == 0
    assert api.images[1]["checksum"] == MD5


def test_add_of_a_file_and_a_location_clash(glance, api, file):
    done = glance("add", "name=x", "location=http://h/i", f"--file={file}")
    assert (done.code, done.err) == (1, "glance: Give either --file or location=, not both\n")
    assert nothing_sent(api)


def test_add_at_a_terminal_says_how_the_data_comes_later(glance, api):
    done = glance("add", "name=x", "is_public=1", terminal=True)
    assert done.err.endswith("glance upload 1 --file=FILE\n")


# -- in a process of its own ---------------------------------------------------------------------


def run(api, *args, **kw):
    code = "import sys; from glance.cli.user import command; sys.exit(command.main(sys.argv[1:]))"
    place = ["-H", "127.0.0.1", "-p", str(api.server.port)]
    return subprocess.run(
        [sys.executable, "-c", code, *args, *place],
        capture_output=True,
        text=True,
        timeout=60,
        **kw,
    )


@pytest.mark.parametrize("closed", [False, True], ids=["dev-null", "closed"])
def test_no_input_is_not_taken_for_an_empty_image(queued, file, closed):
    kw = {"preexec_fn": lambda: os.close(0)} if closed else {"stdin": subprocess.DEVNULL}
    done = run(queued, "upload", "1", **kw)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Standard input has no data: use --file=FILE" in done.stderr
    assert nothing_sent(queued)
    assert "image 1: 0 bytes" in run(queued, "upload", "1", "--file=-", **kw).stdout
    queued.images[1]["status"] = "queued"
    # It does not get in the way of a file.
    assert run(queued, "upload", "1", f"--file={file}", **kw).stdout == DONE


def test_a_pipe_and_a_redirected_file_are_uploaded(queued, file):
    with file.open("rb") as data:
        assert run(queued, "upload", "1", stdin=data).stdout == DONE
    queued.images[1]["status"] = "queued"
    done = run(queued, "upload", "1", input="x" * 100_000)
    assert done.stdout == "Uploaded the data of image 1: 100000 bytes\n"


def test_an_empty_file_makes_an_empty_image(queued, tmp_path):
    (tmp_path / "empty").touch()
    done = run(queued, "upload", "1", f"--file={tmp_path}/empty", stdin=subprocess.DEVNULL)
    assert done.stdout == "Uploaded the data of image 1: 0 bytes\n"


def test_a_named_pipe_is_a_file_to_read(queued, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = subprocess.Popen(["sh", "-c", f"printf data > {tmp_path}/pipe"])
    done = run(queued, "upload", "1", f"--file={tmp_path}/pipe", stdin=subprocess.DEVNULL)
    assert writer.wait(60) == 0
    assert done.stdout == "Uploaded the data of image 1: 4 bytes\n"
