"""Uploads to S3 in parts: one part is sent while the next one is gathered.

The service is a small one in this process, because the tests decide when it goes on: it holds a
part back until it is told to respond, or reads no further. With GLANCE_TEST_GREEN set all of this
runs on eventlet's hub, which the last test does.
"""

import collections
import contextlib
import gc
import hashlib
import http.server
import logging
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import urllib.parse

import pytest

from glance.common import exception, log
from glance.common.config import Conf
from glance.store import s3, spool
from glance.store.s3 import exchange, sending, upload
from glance.streaming import retry, tasks
from glance.testing.store_suite import Killed, make_data

from support.faults import until

GREEN = bool(os.environ.get("GLANCE_TEST_GREEN"))
green_only = pytest.mark.skipif(not GREEN, reason="only greenthreads can be interrupted")

KIB = 1024
PART = 256 * KIB
#: More than the kernel takes of a request that nobody reads.
LARGE_PART = 12 * KIB * KIB
#: Seconds for which the service holds a request back when a test has gone wrong.
HELD = 30


class Service(http.server.ThreadingHTTPServer):
    """One bucket, with one key: `uploads` has the parts of open uploads, `object` the image."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
        self.uploads = {}
        self.object = self.token = None
        self.completed = []
        #: Number of a part -> statuses to give for it, before it is taken.
        self.refusals = collections.defaultdict(list)
        #: Numbers of parts that are not responded to, or not read, before `go_on` is set.
        self.held, self.unread = set(), set()
        self.go_on = threading.Event()
        self.arrived = collections.Counter()
        self.responded, self.cut = [], []
        self.in_flight = self.most_in_flight = 0
        tasks.spawn(self.serve_forever, 0.02)

    @property
    def address(self):
        return f"127.0.0.1:{self.server_address[1]}"

    def part(self, number, upload_id, reader, length):
        """Return the status and ETag for a part, whose body `reader` has."""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if number in self.unread:
                self.arrived[number] += 1
                self.go_on.wait(HELD)
            data = reader.read(length)
            if len(data) < length:
                self.cut.append(number)
                return None
            if number not in self.unread:
                self.arrived[number] += 1
            if number in self.held:
                self.go_on.wait(HELD)
            if self.refusals[number]:
                return self.refusals[number].pop(0), ""
            if upload_id not in self.uploads:
                return 404, ""
            self.uploads[upload_id][number] = data
            return 200, f'"{hashlib.md5(data).hexdigest()}"'
        finally:
            self.in_flight -= 1

    def complete(self, upload_id, text):
        parts = self.uploads.pop(upload_id)
        self.completed = re.findall(r"<PartNumber>(\d+)</PartNumber><ETag>(.*?)</ETag>", text)
        self.object = b"".join(parts[int(number)] for number, _ in self.completed)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def respond(self, status, body="", **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def query(self):
        parts = urllib.parse.urlsplit(self.path)
        return dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))

    def do_HEAD(self):
        service = self.server
        if self.path.rstrip("/") == "/pail":
            self.respond(200)
        elif service.object is None:
            self.respond(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(service.object)))
            self.send_header("x-amz-meta-glance-upload", service.token)
            self.end_headers()

    def do_POST(self):
        service, query = self.server, self.query()
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if "uploads" in query:
            upload_id = f"upload-{len(service.uploads)}"
            service.uploads[upload_id] = {}
            service.token = self.headers["x-amz-meta-glance-upload"]
            begun = f"<UploadId>{upload_id}</UploadId>"
            self.respond(
                200, f"<InitiateMultipartUploadResult>{begun}</InitiateMultipartUploadResult>"
            )
        else:
            service.complete(query["uploadId"], text)
            self.respond(
                200,
                '<?xml version="1.0"?><CompleteMultipartUploadResult><ETag>"x"'
                "</ETag></CompleteMultipartUploadResult>",
            )

    def do_PUT(self):
        service, query = self.server, self.query()
        length = int(self.headers["Content-Length"])
        if "partNumber" not in query:
            service.object = self.rfile.read(length)
            service.token = self.headers["x-amz-meta-glance-upload"]
            self.respond(200, ETag=f'"{hashlib.md5(service.object).hexdigest()}"')
            return
        number = int(query["partNumber"])
        result = service.part(number, query["uploadId"], self.rfile, length)
        self.close_connection = result is None
        if result is not None:
            service.responded.append(number)
            with contextlib.suppress(OSError):
                self.respond(result[0], ETag=result[1])

    def do_DELETE(self):
        service, query = self.server, self.query()
        found = service.uploads.pop(query.get("uploadId"), None)
        if "uploadId" not in query:
            service.object = None
        self.respond(404 if found is None and "uploadId" in query else 204)


@pytest.fixture
def service():
    service = Service()
    yield service
    service.go_on.set()
    service.shutdown()
    service.server_close()


@pytest.fixture
def make(service, tmp_path):
    """Return a function that makes a store with small parts."""

    def make(part=PART, retries=0):
        store = s3.S3Store(
            Conf(
                {
                    "s3_store_host": service.address,
                    "s3_store_access_key": "AKEY",
                    "s3_store_secret_key": "SKEY",
                    "s3_store_bucket": "pail",
                    "s3_store_object_buffer_dir": str(tmp_path),
                    "s3_store_retries": str(retries),
                }
            )
        )
        store.part_size, store.settle_delay = part, 0.05
        return store

    return make


@pytest.fixture
def nothing_left(service, tmp_path):
    """Return a function that says whether neither the service nor the disk holds anything."""

    def nothing_left():
        open_files = [
            path
            for fd in os.listdir("/proc/self/fd")
            if (path := _target(fd)).startswith(str(tmp_path))
        ]
        return (service.uploads, service.object, os.listdir(tmp_path), open_files) == (
            {},
            None,
            [],
            [],
        )

    return nothing_left


def _target(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


def begin(store, service, number=1):
    """Return a staged write whose part `number` is in flight, and has arrived."""
    staged = store.stage("1", None)
    staged.write(make_data(number * store.part_size + 1))
    until(lambda: service.arrived[number], "the part is on its way")
    return staged


def only_journal(tmp_path):
    (name,) = os.listdir(tmp_path)
    return (tmp_path / name).read_text()


@pytest.mark.parametrize("size", [3 * PART, 3 * PART + 1, 5 * PART - 1, PART + 1])
def test_the_parts_are_joined_in_order_with_their_etags(make, service, size, nothing_left):
    data = make_data(size)
    with make().stage("1", None) as staged:
        for begin in range(0, size, 100_000):
            staged.write(data[begin : begin + 100_000])
        staged.commit()
    assert service.object == data
    pieces = [data[begin : begin + PART] for begin in range(0, size, PART)]
    assert service.completed == [
        (str(number), f'"{hashlib.md5(piece).hexdigest()}"')
        for number, piece in enumerate(pieces, 1)
    ]
    assert service.most_in_flight == 1
    service.object = None
    assert nothing_left()


def test_what_fits_into_one_part_is_one_request_and_one_spool(make, service, monkeypatch):
    spools = watched_spools(monkeypatch)
    with make().stage("1", None) as staged:
        staged.write(make_data(PART))
        staged.commit()
    assert service.object == make_data(PART)
    assert (len(spools.made), service.completed) == (1, [])


class watched_spools:
    """Counts the spools that are made, and the bytes that they have at most together."""

    def __init__(self, monkeypatch):
        self.made, self.most = [], 0
        self.closed = collections.Counter()
        watch = self

        class Watched(spool.UploadSpool):
            def __init__(self, directory):
                super().__init__(directory)
                watch.made.append(self)

            def _write(self, data):
                super()._write(data)
                watch.most = max(watch.most, sum(one.size for one in watch.made))

        monkeypatch.setattr(spool, "UploadSpool", Watched)


def test_a_part_is_gathered_while_the_one_before_is_sent_and_two_at_most(
    make, service, monkeypatch
):
    spools = watched_spools(monkeypatch)
    service.held = {1}
    data = make_data(5 * PART)
    with make().stage("1", None) as staged:
        staged.write(data[: 2 * PART])
        assert service.responded == []
        assert spools.most == 2 * PART
        writer = tasks.spawn(staged.write, data[2 * PART :])
        assert not writer.join(0.05)
        assert spools.most == 2 * PART
        service.go_on.set()
        writer.join()
        staged.commit()
    assert service.object == data
    assert (len(spools.made), spools.most, service.most_in_flight) == (2, 2 * PART, 1)


REFUSED = [
    (403, exception.StorageWriteDenied),
    (507, exception.StorageFull),
    (500, exception.BackendUnavailable),
]


@pytest.mark.parametrize(("status", "error"), REFUSED)
def test_an_error_of_the_part_is_raised_by_the_next_write(
    make, service, status, error, nothing_left
):
    service.refusals[1] = [status]
    with make().stage("1", None) as staged:
        staged.write(make_data(PART + 1))
        # Long before the second part is full.
        with pytest.raises(error):
            until(lambda: staged.write(b"x"), "the error is there")
        # Nothing goes on without that part.
        for call in (lambda: staged.write(make_data(2 * PART)), staged.commit):
            with pytest.raises(error) as caught:
                call()
            assert caught.value.store == "s3"
    until(nothing_left, "nothing is left")
    assert service.arrived == {1: 1}


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(("status", "error"), REFUSED)
def test_an_error_of_the_part_is_raised_by_the_commit(
    make, service, status, error, number, nothing_left
):
    service.held, service.refusals[number] = {1}, [status]
    with make().stage("1", None) as staged:
        staged.write(make_data(PART + 1))
        service.go_on.set()
        with pytest.raises(error):
            staged.commit()
    until(nothing_left, "nothing is left")
    assert service.completed == []


def test_a_disk_without_room_for_a_second_part_is_an_error(
    make, service, monkeypatch, nothing_left
):
    with make().stage("1", None) as staged:
        staged.write(make_data(PART))

        def full(directory):
            raise exception.StorageFull()

        monkeypatch.setattr(upload, "_Part", full)
        with pytest.raises(exception.StorageFull):
            staged.write(b"x")
    assert nothing_left()
    assert service.arrived == {}


@pytest.mark.parametrize("end", ["abort", "abandon"])
def test_an_end_while_the_response_is_on_its_way_leaves_nothing(
    make, service, monkeypatch, end, nothing_left
):
    service.held = {1}
    staged = begin(make(), service)
    cancel = sending.BackgroundPart.cancel

    def respond_and_cancel(self):
        service.go_on.set()
        cancel(self)

    monkeypatch.setattr(sending.BackgroundPart, "cancel", respond_and_cancel)
    if end == "abort":
        staged.abort()
    else:
        staged.abandon().discard()
    # At once: it is known what became of the part.
    assert nothing_left()
    assert (service.responded, service.in_flight) == ([1], 0)
    with pytest.raises(ValueError):
        staged.write(b"x")


@pytest.mark.parametrize("end", ["abort", "drop"])
def test_each_part_is_closed_once_and_not_while_it_is_sent(make, service, monkeypatch, end):
    service.held = {1}
    closed = []
    close = upload._Part.close

    def noted(self):
        closed.append((self.count, service.in_flight))
        close(self)

    monkeypatch.setattr(upload._Part, "close", noted)
    monkeypatch.setattr(sending, "PATIENCE", HELD)
    staged = begin(make(), service)
    ended = tasks.spawn(staged.abort) if end == "abort" else None
    del staged
    gc.collect()
    if end == "abort" or GREEN:
        until(lambda: len(closed) >= 1, "the second part is closed")
    assert (PART, 0) not in closed
    service.go_on.set()
    until(lambda: len(closed) == 2, "the first part is closed")
    if ended:
        ended.join()
    gc.collect()
    assert [count for count, _ in closed] == [1, PART]
    if end == "abort":
        assert closed[1] == (PART, 0)


def test_a_part_is_not_sent_again_after_the_end(make, service, monkeypatch, nothing_left):
    monkeypatch.setattr(exchange, "BACKOFF", retry.Backoff.steady(0.001))
    service.refusals[1] = [503] * 100_000
    staged = begin(make(retries=100_000), service)
    until(lambda: service.arrived[1] > 3, "it is sent again and again")
    staged.abort()
    count = service.arrived[1]
    until(nothing_left, "nothing is left")
    assert service.arrived[1] == count


def test_lines_of_the_log_name_the_request_of_the_writer(make, service, monkeypatch):
    monkeypatch.setattr(exchange, "BACKOFF", retry.Backoff.steady(0.001))
    service.refusals[1] = [503]
    seen = []

    class Handler(logging.Handler):
        def emit(self, record):
            seen.append((log.REQUEST_ID.get(), record.getMessage()))

    handler = Handler()
    token = log.REQUEST_ID.set("req-17")
    exchange.LOG.addHandler(handler)
    try:
        with make(retries=1).stage("1", None) as staged:
            staged.write(make_data(PART + 1))
            staged.commit()
    finally:
        exchange.LOG.removeHandler(handler)
        log.REQUEST_ID.reset(token)
    ((request_id, text),) = seen
    assert request_id == "req-17"
    assert "retrying" in text


def test_a_part_that_is_dropped_is_left_to_the_next_sweep(make, service, nothing_left):
    store = make()
    service.held = {1}
    staged = begin(store, service)
    del staged
    gc.collect()
    if not GREEN:
        # The request itself cannot be interrupted, but it is the last one.
        service.go_on.set()
    (left,) = until(store.sweep, "the request has ended")
    assert not left.committed
    left.discard()
    assert nothing_left()


# -- under eventlet: a request that waits is interrupted --


@green_only
def test_a_service_that_reads_no_further_does_not_hold_the_end(
    make, service, monkeypatch, nothing_left
):
    monkeypatch.setattr(sending, "PATIENCE", HELD)
    service.unread = {1}
    staged = begin(make(part=LARGE_PART), service)
    staged.abort()
    # The body is not complete, so there is no doubt.
    assert nothing_left()
    service.go_on.set()
    until(lambda: service.cut == [1], "the request has broken off")


@green_only
def test_a_service_that_does_not_respond_leaves_doubt(
    make, service, monkeypatch, nothing_left, tmp_path
):
    monkeypatch.setattr(sending, "PATIENCE", 0.05)
    service.held = {1}
    store = make()
    store.settle_delay = HELD
    staged = begin(store, service)
    staged.abort()
    # It is looked after again in a moment, or by the next start.
    assert '"doubtful": true' in only_journal(tmp_path).splitlines()[-1]
    assert service.uploads == {}


@green_only
def test_the_second_look_removes_the_record(make, service, monkeypatch, nothing_left):
    monkeypatch.setattr(sending, "PATIENCE", 0.05)
    service.held = {1}
    begin(make(), service).abort()
    until(nothing_left, "nothing is left")


@green_only
def test_a_killed_writer_takes_the_request_with_it(make, service, monkeypatch, nothing_left):
    import eventlet

    service.unread = {1}
    store = make(part=LARGE_PART)

    def write():
        with store.stage("1", None) as staged:
            for _ in range(3):
                staged.write(make_data(store.part_size))

    writer = eventlet.spawn(write)
    until(lambda: service.arrived[1], "the part is on its way")
    writer.kill(Killed())
    with pytest.raises(Killed):
        writer.wait()
    assert nothing_left()


@green_only
def test_a_dropped_request_that_waits_ends(make, service, nothing_left):
    service.unread = {1}
    store = make(part=LARGE_PART)
    staged = begin(store, service)
    del staged
    gc.collect()
    (left,) = until(store.sweep, "the request has ended")
    left.discard()
    assert nothing_left()


@pytest.mark.full
def test_all_of_this_holds_under_eventlet():
    if GREEN:
        return
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", __file__],
        env={**os.environ, "GLANCE_TEST_GREEN": "1"},
        cwd=pathlib.Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout
