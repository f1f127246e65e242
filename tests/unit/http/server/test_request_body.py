import socket

import hypothesis
import pytest
from hypothesis import strategies as st

from glance.http.server import request_body, stream


class Script(stream.SocketStream):
    """A stream that receives the given pieces, one with each call, and then its end."""

    __slots__ = ("pieces", "sent")

    def __init__(self, *pieces):
        ours, theirs = socket.socketpair()
        theirs.close()
        super().__init__(ours, None)
        ours.close()
        self.pieces = list(pieces)
        self.sent = b""

    def recv(self, size, timeout=-1):
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if len(piece) > size:
            self.pieces.insert(0, piece[size:])
        return piece[:size]

    def recv_into(self, view):
        data = self.recv(len(view))
        view[: len(data)] = data
        return len(data)

    def send(self, data, *, more=False):
        self.sent += data


def cut(data, size):
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("step", [97, 1024, 100_000, 1_000_000])
def test_read_gives_as_much_as_was_asked_for(step):
    data = bytes(range(256)) * 1000
    source = request_body.Input(Script(*cut(data + b"next", step)), len(data))
    assert source.read(200_000) == data[:200_000]
    assert not source.finished
    assert source.read(200_000) == data[200_000:]
    assert source.finished
    assert source.read(1) == b""


def test_read_takes_what_came_with_the_head_first():
    script = Script(b"cdef", b"next")
    script.pending = b"ab"
    source = request_body.Input(script, 6)
    assert source.read() == b"abcdef"


def test_what_follows_the_body_stays():
    script = Script()
    script.pending = b"bodynext"
    assert request_body.Input(script, 4).read(100) == b"body"
    assert script.pending == b"next"


@pytest.mark.parametrize("size", [10, 100_000, None])
def test_a_body_cut_short_just_ends(size):
    source = request_body.Input(Script(b"only"), 100_000)
    assert source.read(size) == b"only"
    assert source.read(size) == b""
    assert source.broken and not source.finished


def test_a_huge_announced_length_takes_no_room():
    source = request_body.Input(Script(b"only"), 10**17)
    assert source.read(10**17) == b"only"


def test_lines():
    source = request_body.Input(Script(b"one\ntw", b"o\nthree"), 13)
    assert source.readline(2) == b"on"
    assert source.readlines() == [b"e\n", b"two\n", b"three"]


def test_the_client_is_told_to_continue_at_the_first_read_only():
    script = Script(b"body")
    source = request_body.Input(script, 4, expects_continue=True)
    assert script.sent == b""
    source.read(2)
    source.read(2)
    assert script.sent == request_body.CONTINUE


def test_a_client_that_did_not_wait_is_not_told_to_continue():
    script = Script()
    script.pending = b"body"
    assert request_body.Input(script, 4, expects_continue=True).read() == b"body"
    assert script.sent == b""


GOOD = b"4\r\nWiki\r\n0005;ext=1\r\npedia\r\n0\r\nTrailer: x\r\n\r\n"


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
@pytest.mark.parametrize("size", [1, 3, 9, 100, None])
def test_chunks_are_joined(step, size):
    script = Script(*cut(GOOD + b"next", step))
    source = request_body.ChunkedInput(script)
    read = b""
    while data := source.read(size):
        read += data
        if size is None:
            break
    assert read == b"Wikipedia"
    source.read(1)
    assert source.finished
    assert b"next".startswith(script.pending)


@pytest.mark.parametrize(
    "data",
    [
        b"4\nWiki\r\n0\r\n\r\n",
        b"4\r\nWikipedia\r\n0\r\n\r\n",
        b"4\r\nWiki\n0\r\n\r\n",
        b"-4\r\nWiki\r\n0\r\n\r\n",
        b"+4\r\nWiki\r\n0\r\n\r\n",
        b"0x4\r\nWiki\r\n0\r\n\r\n",
        b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
        b"\r\nWiki\r\n0\r\n\r\n",
        b"x\r\nWiki\r\n0\r\n\r\n",
        b"f" * 17 + b"\r\nWiki",
        b"4;" + b"x" * 10_000 + b"\r\nWiki\r\n0\r\n\r\n",
        b"0\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
        b"0\r\na: b\n\r\n",
        b" 4\r\nWiki\r\n0\r\n\r\n",
        b"\t4\r\nWiki\r\n0\r\n\r\n",
        b"4 \r\nWiki\r\n0\r\n\r\n",
        b"4\r\nWiki\r\n 0\r\n\r\n",
        b"4\r\nWiki\r\n0 \r\n\r\n",
        b"4\r\nWiki\r\n\r\n0\r\n\r\n",
        b"4\r\nWiki\r\n\xb2\r\n\r\n",
        b"4;\r\nWiki\r\n0\r\n\r\n",
        b"4;=b\r\nWiki\r\n0\r\n\r\n",
        b"4;a=\r\nWiki\r\n0\r\n\r\n",
        b"4;a b\r\nWiki\r\n0\r\n\r\n",
        b"4;a \r\nWiki\r\n0\r\n\r\n",
        b"4,a\r\nWiki\r\n0\r\n\r\n",
        b'4;a="b\r\nWiki\r\n0\r\n\r\n',
        b'4;a="b"c\r\nWiki\r\n0\r\n\r\n',
        b"4;a=b\rc\r\nWiki\r\n0\r\n\r\n",
        b"4;a=\x00\r\nWiki\r\n0\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\n: no name\r\n\r\n",
        b"0\r\na : b\r\n\r\n",
        b"0\r\n a: b\r\n\r\n",
        b"0\r\na: b\r\n folded\r\n\r\n",
        b"0\r\na: b\rc\r\n\r\n",
        b"0\r\na: b\x00\r\n\r\n",
        b"0\r\na: b\x7f\r\n\r\n",
        b"0\r\n" + b"a: b\r\n" * 257 + b"\r\n",
        b"0\r\na: " + b"b" * 4096 + b"\r\n\r\n",
        b"1;a=bcdefghijklmnop\r\nx\r\n" * 4000 + b"0\r\n\r\n",
    ],
)
def test_a_malformed_chunk_is_an_error(data):
    source = request_body.ChunkedInput(Script(*cut(data, 65536)))
    with pytest.raises(request_body.MalformedChunk):
        source.read()
    assert source.broken and not source.finished
    with pytest.raises(OSError):
        source.read()


@pytest.mark.parametrize(
    "data",
    [
        b'4;a;b=c; d = e ;f="g;h\\"i\xe9"\r\nWiki\r\n00;x\r\nA:b\r\nB-c: \xe9\t \r\nc:\r\n\r\n',
        b"000000000000004\r\nWiki\r\n0\r\n" + b"a: b\r\n" * 256 + b"\r\n",
        b"4\r\nWiki\r\n0;a=" + b"b" * 4000 + b"\r\n\r\n",
    ],
)
def test_everything_in_the_grammar_is_read(data):
    source = request_body.ChunkedInput(Script(*cut(data + b"next", 7)))
    assert source.read() == b"Wiki"
    assert source.finished


class Pausing(Script):
    """A script in which the client pauses before each piece, for longer than `PAUSE`."""

    __slots__ = ("paused",)

    def __init__(self, *pieces):
        super().__init__(*pieces)
        self.timeout = 900.0
        self.paused = False

    def recv(self, size, timeout=-1):
        if self.timeout <= request_body.PAUSE and not self.paused:
            self.paused = True
            raise TimeoutError
        self.paused = False
        return super().recv(size, timeout)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_some_bytes_are_passed_on_when_the_client_pauses(step, size):
    script = Pausing(*cut(GOOD, step))
    source = request_body.ChunkedInput(script)
    pieces = list(iter(lambda: source.read_some(size), b""))
    assert b"".join(pieces) == b"Wikipedia"
    assert source.finished and not source.broken and script.timeout == 900.0
    assert max(map(len, pieces)) <= min(size, max(step, 4) if step < 1000 else 9)


@pytest.mark.parametrize("step", [1, 3, 100])
def test_some_bytes_of_a_body_of_known_length(step):
    script = Pausing(*cut(b"Wikipedia" + b"next", step))
    source = request_body.Input(script, 9)
    pieces = list(iter(lambda: source.read_some(100), b""))
    assert b"".join(pieces) == b"Wikipedia" and max(map(len, pieces)) <= step
    assert source.finished and not source.broken and script.timeout == 900.0


def test_some_bytes_of_a_body_cut_short():
    source = request_body.Input(Pausing(b"Wiki"), 9)
    assert (source.read_some(100), source.read_some(100)) == (b"Wiki", b"")
    assert source.broken and not source.finished
    source = request_body.ChunkedInput(Pausing(b"9\r\nWiki"))
    assert source.read_some(100) == b"Wiki"
    with pytest.raises(ConnectionError):
        source.read_some(100)


def test_a_stall_is_a_timeout_for_the_first_byte_only():
    class Stalled(Pausing):
        def recv(self, size, timeout=-1):
            raise TimeoutError

    for source in (request_body.Input(Stalled(), 9), request_body.ChunkedInput(Stalled())):
        with pytest.raises(TimeoutError):
            source.read_some(100)
        assert source.broken


@pytest.mark.parametrize("chunk", [3, 8192, 65_536, 300_000, 1 << 20])
@pytest.mark.parametrize("step", [1448, 100_000, 5 << 20])
def test_large_pieces_of_chunks_of_any_size_come_whole(chunk, step, monkeypatch):
    # Whatever else the machine does meanwhile.
    monkeypatch.setattr(request_body, "PAUSE", 600.0)
    data = bytes(range(251)) * (1000 if chunk == 3 else 5000)
    coded = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in cut(data, chunk))
    script = Script(*cut(coded + b"0\r\n\r\nnext", step))
    script.timeout = None
    source = request_body.ChunkedInput(script)
    pieces = list(iter(lambda: source.read_some(700_000), b""))
    assert b"".join(pieces) == data
    assert {len(piece) for piece in pieces[:-1]} <= {700_000}
    assert source.finished
    assert script.pending + b"".join(script.pieces) == b"next"


class Keeping(Script):
    """A stream of a client that keeps pace, but for a moment before each of its pieces."""

    __slots__ = ("paused",)

    def __init__(self, *pieces):
        super().__init__(*pieces)
        self.paused = False
        self._keeps_pace = True

    def recv(self, size, timeout=-1):
        if self._is_native and not self.paused:
            self.paused = True
            raise TimeoutError
        self.paused = False
        return super().recv(size, timeout)


@pytest.mark.parametrize("chunk", [3, 8192, 300_000])
@pytest.mark.parametrize("step", [5, 1448, 100_000])
def test_native_threads_and_the_hub_take_turns_with_a_body(chunk, step):
    data = bytes(range(251)) * (50 if step == 5 else 5000)
    coded = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in cut(data, chunk))
    sources = (
        request_body.ChunkedInput(Keeping(*cut(coded + b"0\r\n\r\n", step))),
        request_body.Input(Keeping(*cut(data, step)), len(data)),
    )
    for source in sources:
        received = b""
        while not source.finished:
            source._stream._keeps_pace = True
            received += source.read_some(700_000)
        assert received == data and not source.broken
        assert source.read_some(700_000) == b""


@pytest.mark.parametrize("end", [b"", b"x" * 400_000, b"x" * 400_000 + b"no line end"])
def test_a_large_chunk_that_is_cut_or_too_long_is_an_error(end):
    script = Script(b"61a80\r\n" + b"x" * (300_000 if not end else 0), end)
    script.timeout = None
    source = request_body.ChunkedInput(script)
    with pytest.raises((ConnectionError, request_body.MalformedChunk)):
        source.read_some(1 << 20)
    with pytest.raises(ConnectionError):
        source.read_some(1 << 20)


@pytest.mark.parametrize("method", ["read", "read_some"])
def test_a_client_that_left_before_it_was_told_to_continue_has_sent_nothing(method):
    class Gone(Script):
        def send(self, data, *, more=False):
            raise stream.ClientGone

    source = request_body.Input(Gone(), 4, expects_continue=True)
    assert getattr(source, method)(100) == b"" and source.broken
    source = request_body.ChunkedInput(Gone(), expects_continue=True)
    with pytest.raises(ConnectionError):
        getattr(source, method)(100)


class Bytes(bytes):
    """Received bytes that count how many of them are copied."""

    copied = 0

    def __getitem__(self, index):
        part = super().__getitem__(index)
        Bytes.copied += len(part)
        return Bytes(part)

    def __add__(self, other):
        Bytes.copied += len(self) + len(other)
        return Bytes(super().__add__(other))


@pytest.mark.parametrize("size", [1, None, 1000])
@pytest.mark.parametrize("step", [1, 5, 65536])
def test_small_chunks_cost_no_more_than_their_bytes(step, size):
    count = 20_000
    data = b"1\r\nx\r\n" * count + b"0\r\n\r\n"
    source = request_body.ChunkedInput(Script(*map(Bytes, cut(data, step))))
    Bytes.copied = 0
    assert sum(map(len, iter(lambda: source.read(size), b""))) == count
    assert source.finished
    assert Bytes.copied < 12 * len(data)


def test_small_chunks_leave_others_their_turns(monkeypatch):
    turns = []
    monkeypatch.setattr(Script, "rest", lambda script: turns.append(1))
    data = b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"
    assert len(request_body.ChunkedInput(Script(data)).read()) == 10_000
    assert len(turns) >= 9


@pytest.mark.parametrize("length", range(len(GOOD)))
def test_chunks_cut_short_are_an_error(length):
    source = request_body.ChunkedInput(Script(GOOD[:length]))
    with pytest.raises(ConnectionError):
        source.read()
    assert source.broken


@hypothesis.given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_are_chunks_or_an_error(data, step):
    source = request_body.ChunkedInput(Script(*cut(data, step)))
    try:
        source.read()
    except (ValueError, ConnectionError):
        assert not source.finished


@hypothesis.given(st.lists(st.binary(min_size=1, max_size=50)), st.integers(1, 60))
def test_what_was_chunked_comes_out(parts, step):
    data = b"".join(b"%X\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    source = request_body.ChunkedInput(Script(*cut(data, step)))
    assert source.read() == b"".join(parts)
    assert source.finished
