"""A daemon around a small application, for the tests, and the process that starts such daemons.

Importing what a daemon needs takes longer than most tests. This process has it all imported and
forks a daemon for each line on its standard input: a JSON object with `options`, the option values
(`fail` makes make_app raise, `farewell` are seconds that each work at the end takes, `fork` are
seconds that pass before a worker does anything, `hold` is a directory where each worker but the
one that finds no file `first` leaves its process id, and starts when there is a file `go`),
`notify`, a NOTIFY_SOCKET, and `stderr`, a file.
It answers with the daemon's process id. A line with a `pid` asks for its exit status, null as long
as it runs.
"""

import errno
import functools
import json
import logging
import os
import pathlib
import signal
import sys
import tempfile
import traceback
import urllib.parse

import eventlet
from eventlet import hubs, patcher

eventlet.monkey_patch()

from glance.common import (  # noqa: E402
    config,
    exception,
    hooks,
    log,
)
from glance.http import server  # noqa: E402
from glance.streaming import body  # noqa: E402

#: In a worker that has no hub yet the patched one cannot be used.
pause = patcher.original("time").sleep
closed = []
ended = []


class Watched(body.IterBody):
    """A body that notes its closing."""

    def _release(self):
        closed.append(self.length)
        super()._release()


def describe(environ):
    read = environ["wsgi.input"].read() if "HTTP_X_READ" in environ else b""
    keep = ("REQUEST_METHOD", "PATH_INFO", "RAW_PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL")
    return {
        "raw": environ["headers_raw"],
        "http": {name: value for name, value in environ.items() if name.startswith("HTTP_")},
        "type": environ.get("CONTENT_TYPE"),
        "length": environ.get("CONTENT_LENGTH"),
        "scheme": environ["wsgi.url_scheme"],
        "body": read.decode("latin-1"),
        **{name: environ[name] for name in keep},
    }


def count(stream, size):
    total = 0
    while data := stream.read(size):
        total += len(data)
    return total


def file_body(query):
    size = int(query["size"])
    block = bytes(range(256)) * 4096
    with tempfile.TemporaryFile() as file:
        for _ in range(0, size, len(block)):
            file.write(block)
        file.truncate(size)
        file.flush()
        whole = body.FileBody(os.dup(file.fileno()), size=size)
        if "cut" in query:
            file.truncate(int(query["cut"]))
    if "start" in query:
        return whole.slice(int(query["start"]), int(query["stop"]))
    return whole


def pieces(*parts):
    yield from parts


def breaking():
    yield b"some"
    raise RuntimeError("the secret of the application")


FAILURES = {
    "store": exception.BackendUnavailable().of("http").because("the cause"),
    "corrupt": exception.BackendCorrupt(),
    "disk": OSError(errno.EIO, os.strerror(errno.EIO), "/path-canary"),
}


def failing(first, failure):
    if first:
        yield first
    raise FAILURES[failure]


def application(environ, start_response):
    query = dict(urllib.parse.parse_qsl(environ["QUERY_STRING"]))
    name = environ["PATH_INFO"].lstrip("/")
    headers = [("Content-Type", "text/plain")]
    if "note" in query:
        hooks.after_response(environ, lambda *end: ended.append([query["note"], *end]))

    def answer(data, status="200 OK"):
        start_response(status, [*headers, ("Content-Length", str(len(data)))])
        return [data]

    if name == "ignore":
        return answer(b"not taken\n", "413 Request Entity Too Large")
    if name == "count":
        total = count(environ["wsgi.input"], int(query.get("size", 65536)))
        return answer(b"%d" % total)
    if name == "take":
        return answer(environ["wsgi.input"].read(int(query["size"])))
    if name == "file":
        found = file_body(query)
        start_response("200 OK", [*headers, ("Content-Length", str(found.length))])
        return found
    if name == "watched":
        promised = int(query["promise"])
        if "header" in query:
            headers.append(("Content-Length", str(promised)))
        start_response("200 OK", headers)
        return Watched(pieces(b"x" * int(query["size"])), None if "header" in query else promised)
    if name == "closed":
        return answer(json.dumps(closed).encode())
    if name == "ended":
        return answer(json.dumps(ended).encode())
    if name == "pieces":
        start_response("200 OK", headers)
        return pieces(b"one", b"", b"two", b"3" * 100_000)
    if name == "written":
        start_response("200 OK", headers)(b"written")
        return [b" and returned"]
    if name == "nothing":
        start_response(query["status"] + " Whatever", [])
        return []
    if name == "boom":
        raise RuntimeError("the secret of the application")
    if name == "break":
        start_response("200 OK", headers)
        return breaking()
    if name == "fails":
        start_response("200 OK", headers)
        return failing(query.get("first", "").encode(), query["failure"])
    if name == "headers":
        value = query["value"].encode("utf-8").decode("latin-1")
        start_response("200 OK", [("x-image-meta-name", value), ("Content-Length", "2")])
        return [b"ok"]
    if name == "slow":
        eventlet.sleep(float(query["seconds"]))
        return answer(b"slept")
    if name == "drip":
        start_response("200 OK", headers)
        return drip(float(query["seconds"]))
    if name == "pid":
        return answer(b"%d" % os.getpid())
    if name == "draining":
        return answer(b"%r" % environ[hooks.IS_DRAINING]())
    if name == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return answer(json.dumps(describe(environ)).encode())


def drip(seconds):
    for _ in range(int(seconds / 0.05)):
        yield b"drop"
        eventlet.sleep(0.05)


def say(word, seconds):
    eventlet.sleep(seconds)
    logging.getLogger("testing").warning("the %s word", word)
    if word == "first":
        raise RuntimeError("it fails")


def wait_in(directory):
    try:
        (directory / "first").touch(exist_ok=False)
    except FileExistsError:
        (directory / str(os.getpid())).touch()
        while not (directory / "go").exists():
            pause(0.01)


def run(options):
    failure = options.pop("fail", None)
    farewell = float(options.pop("farewell", 0))
    hold = options.pop("hold", None)
    os.register_at_fork(after_in_child=functools.partial(pause, options.pop("fork", 0)))
    conf = config.Conf({"bind_host": "127.0.0.1", "bind_port": 0, **options})

    def make_app():
        if hold:
            wait_in(pathlib.Path(hold))
        if failure:
            raise exception.ConfigError(failure)
        if farewell:
            for word in ("last", "first"):
                hooks.at_stop(functools.partial(say, word, farewell), stop_timeout=farewell + 1)
        return application

    log.setup(conf, "testing")
    try:
        return server.serve(conf, make_app, "testing")
    except exception.ConfigError as err:
        print("ERROR:", err, file=sys.stderr)
        return 1


def start(wish):
    pid = os.fork()
    if pid:
        return pid
    code = 1
    # The hub that monkey_patch has made is the parent's: what its epoll tells, one process learns.
    hubs.use_hub()
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(os.open(wish["stderr"], os.O_WRONLY | os.O_CREAT, 0o600), 2)
        os.environ["NOTIFY_SOCKET"] = wish["notify"]
        code = run(wish["options"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def status_of(pid):
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def main():
    for line in sys.stdin:
        wish = json.loads(line)
        answer = status_of(wish["pid"]) if "pid" in wish else start(wish)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
