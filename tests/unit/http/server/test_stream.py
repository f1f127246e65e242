"""Large pieces from a real socket: what native threads receive, and what the hub waits for."""

import os
import socket
import threading
import time

import pytest

from glance.http.server import stream
from glance.streaming import threads

MIB = 1 << 20


@pytest.fixture
def pair(sockets):
    """A stream, and the socket of its client."""
    near, far = sockets
    return stream.SocketStream(far, 20), near


@pytest.fixture
def native(monkeypatch):
    """Note the calls of native threads."""
    calls = []
    run = threads.run_big

    def run_big(function, *args):
        calls.append(function.__name__)
        return run(function, *args)

    monkeypatch.setattr(threads, "run_big", run_big)
    return calls


def in_background(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    return thread


def when_waited_for(ours, theirs, data):
    """Send `data` as soon as the hub waits for it."""

    def send():
        while not ours.waiting:
            time.sleep(0.001)
        theirs.sendall(data)

    return in_background(send)


def test_what_was_sent_ahead_is_received_by_native_threads(pair, native):
    ours, theirs = pair
    piece = 64 * 1024
    data = os.urandom(3 * piece)
    for number in range(3):
        theirs.sendall(data[number * piece :][:piece])
        # NOTE: the first bytes are those that the hub takes; it need not wait for the rest.
        ours.pending = ours.recv(10)
        assert ours.read_some(piece, 5) == data[number * piece :][:piece]
    assert native == ["_fill_natively"] * 2
    theirs.sendall(data[:piece])
    assert ours.read_some(piece, 5) == data[:piece]
    assert native[2:] == ["_recv_natively"]


def test_a_client_that_is_waited_for_gets_no_thread(pair, native):
    ours, theirs = pair
    for _ in range(3):
        theirs.sendall(b"begun")
        later = when_waited_for(ours, theirs, b"x" * 1000)
        assert ours.read_some(1005, 5) == b"begun" + b"x" * 1000
        later.join()
    assert native == []


def test_a_thread_does_not_wait_for_a_client_that_stops(pair, native):
    ours, theirs = pair
    ours._keeps_pace = True
    theirs.sendall(b"a" * 10)
    assert ours.read_some(100, 0.05) == b"a" * 10
    # It was the hub that waited until the pause was over.
    assert native == ["_recv_natively", "_fill_natively"] and ours.waits == 1
    theirs.sendall(b"b" * 10)
    assert ours.read_some(100, 0.05) == b"b" * 10
    assert len(native) == 2


def test_a_thread_does_not_wait_for_a_client_that_has_sent_nothing(pair, native):
    ours, theirs = pair
    ours._keeps_pace = True
    later = when_waited_for(ours, theirs, b"x" * 100)
    assert ours.read_some(100, 5) == b"x" * 100
    later.join()
    assert native == ["_recv_natively"] and ours.waits == 1


def test_the_end_of_input_is_found_in_a_native_thread_too(pair, native):
    ours, theirs = pair
    ours._keeps_pace = True
    theirs.sendall(b"last")
    theirs.shutdown(socket.SHUT_WR)
    assert ours.read_some(100, 5) == b"last"
    assert native == ["_recv_natively", "_fill_natively"] and ours.waits == 0
    assert ours.read_some(100, 5) == b""


def test_much_data_comes_whole(pair):
    ours, theirs = pair
    data = os.urandom(MIB) * 16
    sender = in_background(lambda: (theirs.sendall(data), theirs.shutdown(socket.SHUT_WR)))
    pieces = list(iter(lambda: ours.read_some(2 * MIB, 5), b""))
    sender.join()
    assert b"".join(pieces) == data
