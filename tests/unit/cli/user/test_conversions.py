"""The commands about conversions: what they send and print, waiting, and what may go wrong."""

import json
import re
import signal

import pytest

from glance.cli.user import conversions
from glance.image import types

JOB = "0b6e2a2e-98c8-4f0e-9f3c-0f5a7b1d3c11"
QUEUED = f"Queued conversion with ID: {JOB}\nNew image ID: 2\n"
EVIL = "\x1b[2J\x9b\u202e\r\n\x07"


def job(**values):
    return {
        "id": JOB,
        "status": "queued",
        "phase": None,
        "progress": None,
        "source_image_id": "1",
        "image_id": "2",
        "source_format": "raw",
        "disk_format": "qcow2",
        "created_at": "2026-01-01T00:00:00Z",
        "started_at": None,
        "finished_at": None,
        "bytes_in": None,
        "bytes_out": None,
        "virtual_size": None,
        "attempts": 0,
        "error": None,
        "owner": "acme",
        **values,
    }


RUNNING = {"status": "running", "phase": "converting", "progress": 42}
SUCCEEDED = {"status": "succeeded", "progress": 100}
FAILED = {"status": "failed", "error": {"code": "unsafe_image", "message": "It is not safe."}}


class Jobs:
    """What the fake server says of conversions: `states` are those that a job goes through."""

    def __init__(self, api, images):
        self.api, self.images = api, images
        self.posted, self.states, self.looks = [], [SUCCEEDED], 0
        self.listed, self.queries, self.refusal, self.cancelled = [], [], None, (204,)

    def __call__(self, seen):
        path, _, query = seen.target.removeprefix("/v1").partition("?")
        if not path.startswith("/conversions"):
            return self.images(seen)
        if self.refusal:
            return self.refusal
        if seen.method == "POST":
            return self.post(seen.json["conversion"])
        if path == "/conversions":
            self.queries.append(query)
            return {"conversions": [] if "marker=" in query else self.listed}
        if not path.endswith(JOB):
            return (404, b"404 Not Found\n\nNo conversion with this ID was found\n")
        if seen.method == "DELETE":
            return self.cancelled
        state = self.states[min(self.looks, len(self.states) - 1)]
        self.looks += 1
        return state() if callable(state) else {"conversion": job(**state)}

    def post(self, values):
        number = values["source_image_id"]
        if not number.isdigit() or int(number) not in self.api.images:
            return (404, b"404 Not Found\n\nNo image with this ID was found\n")
        self.posted.append(values)
        return (202, json.dumps({"conversion": job()}).encode())


@pytest.fixture
def jobs(api, loopback, monkeypatch):
    monkeypatch.setattr(conversions, "PAUSES", (0,))
    fake = Jobs(api, api)
    api.server = loopback.answering(fake)
    api.add(name="web", status="active")
    return fake


def test_convert_prints_two_ids(glance, jobs):
    done = glance("convert", "1", "disk_format=qcow2")
    assert (done.code, done.out, done.err) == (0, QUEUED, "")
    assert jobs.posted == [{"source_image_id": "1", "disk_format": "qcow2"}]


def test_fields_are_those_of_the_request_and_others_are_properties(glance, jobs):
    words = ("name=é ☺", "is_public=on", "compress=yes", "force=0", "store=swift", "os-type=bsd")
    done = glance("convert", "1", "disk-format=vmdk", *words)
    assert (done.code, done.out) == (0, QUEUED)
    assert jobs.posted == [
        {
            "source_image_id": "1",
            "disk_format": "vmdk",
            "name": "é ☺",
            "is_public": True,
            "compress": True,
            "force": False,
            "store": "swift",
            "properties": {"os_type": "bsd"},
        }
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "Please specify the ID of the image to convert"),
        (("disk_format=raw",), "Please specify the ID of the image to convert"),
        (("1",), "using disk_format=FORMAT"),
        (("1", "disk_format="), "using disk_format=FORMAT"),
        (("1", "disk_format=raw", "compress=perhaps"), "compress is true or false, not perhaps"),
        (("", "disk_format=raw"), "must not be empty"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_sent(glance, jobs, words, told):
    done = glance("convert", *words)
    assert (done.code, done.out) == (1, "")
    assert told in done.err and len(done.err.splitlines()) == 1
    assert not jobs.posted


def test_a_word_without_a_sign_is_refused(glance, jobs):
    done = glance("convert", "1", "qcow2")
    assert done.code == 1 and "form of field=value" in done.out
    assert not jobs.posted


def test_a_unique_name_stands_for_an_image(glance, jobs, api):
    assert glance("convert", "web", "disk_format=raw").out == QUEUED
    assert jobs.posted[0]["source_image_id"] == "1"
    api.add(name="web")
    done = glance("convert", "web", "disk_format=raw")
    assert done.code == 1 and "2 images are named web" in done.err


def test_an_image_that_is_not_there(glance, jobs):
    done = glance("convert", "9", "disk_format=raw")
    assert (done.code, done.out, done.err) == (1, "", "glance: No image with ID 9 was found\n")


def test_a_server_without_conversions_says_so(glance, jobs):
    jobs.refusal = (404, b"404 Not Found\n\nThe resource was not found\n")
    done = glance("convert", "1", "disk_format=raw")
    assert done.code == 1 and "does not convert images" in done.err


@pytest.mark.parametrize(
    ("status", "text"),
    [(400, "compress is for qcow2 only"), (409, "queued"), (413, "big"), (429, "later")],
)
def test_a_refusal_is_one_line(glance, jobs, status, text):
    jobs.refusal = (status, f"{status} Reason\n\n{text}\n".encode())
    done = glance("convert", "1", "disk_format=raw")
    assert (done.code, done.out, done.err) == (1, "", f"glance: {text}\n")


def test_dry_run_sends_nothing(glance, jobs, api):
    done = glance("convert", "web", "disk_format=raw", "compress=true", "k=v", "--dry-run")
    assert done.code == 0
    assert re.search(r"^Convert image web with:$", done.out, re.M)
    assert re.search(r"^ +compress => True$", done.out, re.M)
    assert re.search(r"^ +properties => {'k': 'v'}$", done.out, re.M)
    assert not api.server.requests


# -- waiting -------------------------------------------------------------------------------------


def test_waiting_ends_with_the_conversion(glance, jobs):
    jobs.states = [{}, RUNNING, SUCCEEDED]
    done = glance("convert", "1", "disk_format=raw", "--wait")
    assert (done.code, done.out, done.err) == (0, QUEUED, "")
    assert jobs.looks == 3


def test_a_terminal_shows_the_percentage(glance, jobs):
    jobs.states = [{"error": {"code": "no_space", "message": "m"}}, RUNNING, SUCCEEDED]
    done = glance("convert", "1", "disk_format=raw", "--wait", watching=True)
    assert (done.code, done.out) == (0, QUEUED)
    assert "queued (no_space)" in done.err and " 42% converting" in done.err
    assert done.err.endswith("100% succeeded\x1b[K\n")


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (FAILED, "glance: the conversion has failed: It is not safe. (unsafe_image)\n"),
        ({"status": "cancelled"}, "glance: the conversion was cancelled\n"),
        ({"status": "failed"}, "glance: the conversion has failed\n"),
    ],
)
def test_waiting_for_a_conversion_without_a_result(glance, jobs, end, told):
    jobs.states = [RUNNING, end]
    done = glance("convert", "1", "disk_format=raw", "--wait")
    assert (done.code, done.out, done.err) == (1, QUEUED, told)


def test_interrupted_waiting_leaves_the_conversion(glance, jobs, monkeypatch):
    monkeypatch.setattr(conversions.time, "sleep", lambda _: signal.raise_signal(signal.SIGINT))
    jobs.states = [RUNNING]
    done = glance("convert", "1", "disk_format=raw", "--wait")
    assert done.code == 130 and done.out == QUEUED
    assert f"the conversion goes on; see: glance conversion-show {JOB}" in done.err


def test_a_server_that_is_away_for_a_while_does_not_end_the_waiting(glance, jobs):
    away = (503, b"503 Service Unavailable\n\nThe registry is away\n")
    jobs.states = [RUNNING, lambda: away, lambda: away, SUCCEEDED]
    assert glance("convert", "1", "disk_format=raw", "--wait").code == 0


def test_a_server_that_stays_away_ends_it(glance, jobs, monkeypatch):
    monkeypatch.setattr(conversions, "PATIENCE", -1)
    jobs.states = [lambda: (503, b"503 Service Unavailable\n\nThe registry is away\n")]
    done = glance("convert", "1", "disk_format=raw", "--wait")
    assert (done.code, done.out) == (1, QUEUED)
    assert done.err == (
        "glance: The registry is away; the conversion may go on, see: "
        f"glance conversion-show {JOB}\n"
    )


def test_a_job_that_is_gone_ends_it(glance, jobs):
    jobs.states = [lambda: (404, b"404 Not Found\n\nNo conversion with this ID was found\n")]
    done = glance("convert", "1", "disk_format=raw", "--wait")
    assert done.code == 1 and "No conversion with this ID was found" in done.err


# -- jobs ----------------------------------------------------------------------------------------


def test_conversions_are_a_table(glance, jobs):
    jobs.listed = [job(**RUNNING), job(id=JOB[:-1] + "2")]
    lines = glance("conversions").lines
    header = ["ID", "Status", "Done", "Source", "Image", "Disk", "Format", "Created"]
    assert lines[0].split() == header
    assert lines[2].split() == [JOB, "running", "42%", "1", "2", "qcow2", "2026-01-01T00:00:00Z"]
    assert lines[3].split()[1:3] == ["queued", "1"]


def test_conversions_for_programs(glance, jobs):
    jobs.listed = [job(**FAILED)]
    assert json.loads(glance("conversions", "--format=json").out) == jobs.listed
    assert glance("conversions", "--format=value").out.split("\t")[:2] == [JOB, "failed"]
    jobs.listed = []
    done = glance("conversions", "--format=json")
    assert (done.code, json.loads(done.out), done.err) == (0, [], "")


def test_conversions_in_one_state(glance, jobs):
    done = glance("conversions", "--status", "failed", "--limit=3")
    assert (done.code, done.out) == (0, "")
    assert done.err == "Note: you have no conversions that are failed.\n"
    assert jobs.queries == ["status=failed&limit=1000"]


def test_conversions_take_no_words(glance, jobs):
    assert glance("conversions", "failed").code == 1
    assert not jobs.queries


def test_a_conversion_is_shown(glance, jobs):
    jobs.states = [{**FAILED, "bytes_in": 5, "progress": 3}]
    done = glance("conversion-show", JOB)
    assert done.code == 0
    assert done.lines[:2] == [f"Id: {JOB}", "Status: failed"]
    assert "Progress: 3%" in done.lines and "Bytes read: 5" in done.lines
    assert done.lines[-1] == "Error: It is not safe. (unsafe_image)"
    shown = json.loads(glance("conversion-show", JOB, "--format=json").out)
    assert shown["error"] == FAILED["error"]
    values = glance("conversion-show", JOB, "--format=value").lines
    assert len(values) == len(conversions.LABELS) and values[:2] == [JOB, "failed"]


def test_the_labels_are_those_of_a_job():
    assert set(conversions.LABELS) == set(types.Conversion.__annotations__) == set(job())


@pytest.mark.parametrize("command", ["conversion-show", "conversion-cancel"])
def test_a_conversion_that_is_not_there(glance, jobs, command):
    done = glance(command, "x/y")
    assert (done.code, done.out) == (1, "")
    assert done.err == "glance: No conversion with ID x/y was found\n"
    for words in ((), ("",), (JOB, "more")):
        done = glance(command, *words)
        assert done.code == 1 and len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("status", "word"), [("cancelling", "Cancelling"), ("cancelled", "Cancelled")]
)
def test_a_conversion_is_cancelled(glance, jobs, status, word):
    jobs.cancelled = (202, json.dumps({"conversion": job(status=status)}).encode())
    done = glance("conversion-cancel", JOB)
    assert (done.code, done.out) == (0, f"{word} conversion {JOB}\n")


def test_a_conversion_that_has_ended_is_forgotten(glance, jobs, api):
    assert "Cancel conversion" in glance("conversion-cancel", JOB, "--dry-run").out
    assert not api.server.requests
    done = glance("conversion-cancel", JOB)
    assert done.code == 0
    assert done.out == f"Forgot conversion {JOB}, which had ended before; its images stay\n"


@pytest.mark.parametrize(
    "words",
    [
        ("conversions",),
        ("conversions", "--format=value"),
        ("conversions", "--format=json"),
        ("conversion-show", JOB),
        ("conversion-show", JOB, "--format=json"),
        ("conversion-show", EVIL),
        ("conversion-cancel", EVIL),
        ("conversions", f"--status={EVIL}"),
        ("convert", EVIL, "disk_format=raw"),
        ("convert", "--dry-run", "1", f"disk_format={EVIL}", f"{EVIL}=x"),
        ("convert", "1", "disk_format=raw", "--wait"),
    ],
)
def test_nothing_that_is_printed_controls_a_terminal(glance, jobs, words):
    state = {
        "disk_format": f"d{EVIL}",
        "owner": EVIL,
        "status": "failed",
        "error": {"code": EVIL, "message": EVIL},
    }
    jobs.states, jobs.listed = [state], [job(**state)]
    done = glance(*words)
    text = (done.out + done.err).replace("\n", "").replace("\t", "")
    assert text.isprintable(), ascii(text)


@pytest.mark.parametrize("answer", [{"conversion": {}}, {"conversion": {"id": [1]}}])
def test_a_server_of_another_kind(glance, jobs, answer):
    jobs.refusal = (202, json.dumps(answer).encode())
    done = glance("convert", "1", "disk_format=raw", "--wait")
    assert done.code == 1 and "does not describe a conversion" in done.err
