import errno
import os
import socket
import threading
import time

import pytest

from glance.http.server import sendfile, stream
from glance.streaming import body


@pytest.fixture
def big_file(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(range(256)) * 4096 * 9)
    return path


def opened(path):
    return body.FileBody(os.open(path, os.O_RDONLY), size=path.stat().st_size)


@pytest.fixture
def pair():
    """A stream, and a list that takes what was sent over it when the stream is closed."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    received = []

    def receive():
        while data := theirs.recv(1 << 20):
            received.append(data)
        theirs.close()

    thread = threading.Thread(target=receive)
    thread.start()

    def finish():
        ours.close()
        thread.join()
        return b"".join(received)

    yield stream.SocketStream(ours, 5), finish
    finish()


def test_all_bytes_of_a_part_are_sent(big_file, pair):
    to, finish = pair
    with opened(big_file).slice(1000, 9_000_000) as part:
        moved = []
        sendfile.send(to, part, moved.append)
        assert sum(moved) == 8_999_000
    assert finish() == big_file.read_bytes()[1000:9_000_000]


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EOPNOTSUPP])
def test_parts_that_are_not_in_memory_are_read_first(big_file, pair, monkeypatch, number):
    read = []

    def probe(*args):
        raise OSError(number, os.strerror(number))

    def read_in(fd, start, stop):
        read.append((start, stop))
        return original(fd, start, stop)

    original = sendfile._read_in
    monkeypatch.setattr(sendfile, "_in_memory", lambda *args: _in_memory(probe, *args))
    monkeypatch.setattr(sendfile, "_read_in", read_in)
    to, finish = pair
    with opened(big_file) as whole:
        sendfile.send(to, whole, lambda count: None)
    assert finish() == big_file.read_bytes()
    assert read == [(0, 4 << 20), (4 << 20, 8 << 20), (8 << 20, 9 << 20)]


def _in_memory(probe, fd, start, stop, real=sendfile._in_memory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "preadv", probe)
        return real(fd, start, stop)


@pytest.fixture
def holey_file(tmp_path):
    """Data at the third, the fourth and the eleventh mebibyte, not whole; small holes as well."""
    path = tmp_path / "holes"
    with path.open("wb") as file:
        for place, size in ((2 << 20, 300_000), (3 << 20, 200_001), ((10 << 20) + 77, 100_000)):
            file.seek(place)
            file.write(b"\x5a" * size)
        file.truncate(12 << 20)
    return path


@pytest.mark.parametrize("borders", [(0, 12 << 20), (5, 9_000_000), (4 << 20, (4 << 20) + 1)])
def test_large_holes_are_sent_without_being_read(holey_file, pair, monkeypatch, borders):
    read = []
    original = sendfile._read_in

    def read_in(fd, start, stop):
        read.append(stop - start)
        return original(fd, start, stop)

    monkeypatch.setattr(sendfile, "_in_memory", lambda *args: False)
    monkeypatch.setattr(sendfile, "_read_in", read_in)
    to, finish = pair
    moved = []
    with opened(holey_file).slice(*borders) as part:
        sendfile.send(to, part, moved.append)
        assert sum(moved) == part.length
    assert finish() == holey_file.read_bytes()[slice(*borders)]
    assert sum(read) < 3 << 20


def test_a_file_system_that_knows_no_holes_will_do(holey_file, pair, monkeypatch):
    def lseek(*args):
        raise OSError(errno.EINVAL, "injected")

    monkeypatch.setattr(os, "lseek", lseek)
    monkeypatch.setattr(sendfile, "_in_memory", lambda *args: False)
    to, finish = pair
    with opened(holey_file) as whole:
        sendfile.send(to, whole, lambda count: None)
    assert finish() == holey_file.read_bytes()


def test_a_file_that_ends_early_has_no_hole_behind_its_end(holey_file, pair, monkeypatch):
    monkeypatch.setattr(sendfile, "_in_memory", lambda *args: False)
    to, finish = pair
    with opened(holey_file) as whole:
        os.truncate(holey_file, 1 << 20)
        moved = []
        sendfile.send(to, whole, moved.append)
    assert sum(moved) == len(finish()) == 1 << 20


def given_up(path):
    """Send a file to a client that never reads; return what was counted, and what had arrived."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    moved = []
    with opened(path) as whole, pytest.raises(stream.ClientGone):
        sendfile.send(stream.SocketStream(ours, 0.05), whole, moved.append)
    ours.close()
    taken = 0
    while data := theirs.recv(1 << 20):
        taken += len(data)
    theirs.close()
    return sum(moved), taken


def test_a_client_that_takes_few_zeros_took_as_many_as_were_counted(holey_file, monkeypatch):
    monkeypatch.setattr(sendfile, "_in_memory", lambda *args: False)
    counted, taken = given_up(holey_file)
    assert counted == taken > 0


def test_a_full_socket_holds_no_native_thread(big_file, monkeypatch):
    pushed = []
    push = sendfile._Part.push

    def pushing(part, patience):
        pushed.append(patience)
        push(part, patience)

    monkeypatch.setattr(sendfile._Part, "push", pushing)
    given_up(big_file)
    # It was the hub that waited for the client then.
    assert pushed == [stream.PATIENCE]


def test_a_slow_client_is_waited_for_by_the_hub_alone(big_file, sockets, monkeypatch):
    theirs, ours = sockets
    pushed = []
    push = sendfile._Part.push

    def pushing(part, patience):
        pushed.append(patience)
        push(part, patience)

    to, is_sent = stream.SocketStream(ours, 20), threading.Event()

    def read_slowly():
        while not is_sent.is_set():
            if to.waiting:
                time.sleep(0.02)
                theirs.recv(1 << 20)
            time.sleep(0.001)

    monkeypatch.setattr(sendfile._Part, "push", pushing)
    reader = threading.Thread(target=read_slowly)
    reader.start()
    with opened(big_file).slice(0, 2_000_000) as part:
        sendfile.send(to, part, lambda count: None)
    is_sent.set()
    reader.join()
    assert pushed[0] == stream.PATIENCE and set(pushed[1:]) == {0}


def test_pages_in_memory_are_found_there(big_file):
    with opened(big_file) as whole:
        sendfile._read_in(whole.fileno(), 0, whole.length)
        assert sendfile._in_memory(whole.fileno(), 0, whole.length)


def test_a_client_that_has_gone_is_told_apart(big_file):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.close()
    with opened(big_file) as whole, pytest.raises(stream.ClientGone):
        sendfile.send(stream.SocketStream(ours, 5), whole, lambda count: None)
    ours.close()


def test_a_client_that_takes_nothing_is_given_up(big_file):
    counted, taken = given_up(big_file)
    assert counted == taken
