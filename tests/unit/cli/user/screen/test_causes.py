"""What stands behind an error: the address and the cause, in a line on standard error."""

import socket

import pytest

ADD = ("add", "name=x")
INDEX = ("index",)


@pytest.fixture
def silent(loopback):
    """A server that never responds."""
    return loopback(lambda peer: (peer.head(), peer.wait_closed()))


def connected_in_vain(done, place, way=""):
    """Check the documented line of add, and return the one on standard error."""
    assert (done.code, done.out) == (
        1,
        f"Failed to connect to the Glance API server {place}. Is the server running?\n",
    )
    assert "Traceback" not in done.err
    first = done.err.splitlines()[0]
    assert first.startswith(f"glance: {place}{way}: ")
    return first


def failed_list(done, place):
    """Check the documented lines of index, and return what is on standard error."""
    assert (done.code, done.lines[0]) == (1, "Failed to show index. Got error:")
    assert done.lines[1].startswith(f"Unable to connect to server. Got error: {place}")
    assert len(done.lines) == 2
    return done.err


def test_nothing_listens(glance, api):
    api.server.stop()
    place = f"127.0.0.1:{api.server.port}"
    hint = "nothing listens there: check --host and --port"
    assert connected_in_vain(glance(*ADD), place).endswith(f"Connection refused; {hint}")
    assert failed_list(glance(*INDEX), place) == f"glance: {hint}\n"
    # What was on standard output is not said twice.
    assert glance(*ADD, "-v").err == f"glance: {hint}\n"


@pytest.mark.parametrize("name", ["show", "update", "delete", "member-images", "download"])
def test_every_command_says_it(glance, api, name):
    api.server.stop()
    done = glance(name, "1", *(["-f"] if name == "delete" else []))
    assert done.code == 1
    assert f"127.0.0.1:{api.server.port}: [Errno 111] Connection refused" in done.out + done.err
    assert "nothing listens there" in done.err.splitlines()[-1]


def test_a_name_that_cannot_be_resolved(glance, monkeypatch):
    def unknown(*args, **kw):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    done = glance(*INDEX, "-H", "nosuch.invalid", port=9)
    assert failed_list(done, "nosuch.invalid:9: ").endswith("cannot be resolved: check --host\n")


def test_no_way_there(glance, monkeypatch):
    def nowhere(*args, **kw):
        raise OSError(113, "No route to host")

    monkeypatch.setattr(socket, "create_connection", nowhere)
    assert "no way leads there" in failed_list(glance(*INDEX, port=9), "127.0.0.1:9: ")


def test_a_server_that_does_not_respond(glance, silent):
    done = glance(*INDEX, "--timeout=0.1", port=silent.port)
    told = failed_list(done, f"127.0.0.1:{silent.port}: timed out")
    assert told.endswith("wait longer with --timeout\n")


def test_a_connection_that_is_closed_in_the_middle(glance, loopback):
    server = loopback(lambda peer: (peer.request(), peer.send(b"HTTP/1.1 2"), peer.close()))
    place = f"127.0.0.1:{server.port}"
    assert failed_list(glance(*INDEX, port=server.port), f"{place}: the server closed") == ""


def test_a_body_that_is_cut_off_names_the_server(glance, loopback):
    server = loopback(
        lambda peer: (peer.request(), peer.answer(200, b"[", length=9), peer.close())
    )
    done = glance(*INDEX, port=server.port)
    failed_list(done, f"127.0.0.1:{server.port}: the response ended 8 bytes early")


def test_another_kind_of_server(glance, loopback):
    server = loopback(
        lambda peer: (peer.head(), peer.send(b"SSH-2.0-OpenSSH_9.2\r\n"), peer.close())
    )
    told = failed_list(glance(*INDEX, port=server.port), f"127.0.0.1:{server.port}: the response")
    assert told == "glance: check --port: a server of another kind seems to use this one\n"


# -- proxies -------------------------------------------------------------------------------------


def test_a_proxy_that_is_not_there_is_named_without_its_password(glance, loopback):
    gone = loopback(lambda peer: None)
    gone.stop()
    env = {"http_proxy": f"http://joe:s3cret@127.0.0.1:{gone.port}"}
    done = glance(*ADD, "-H", "glance.test", port=9292, env=env)
    way = f" through the proxy 127.0.0.1:{gone.port}"
    told = connected_in_vain(done, "glance.test:9292", way)
    assert "http_proxy" in told
    assert "s3cret" not in done.out + done.err


# -- TLS -----------------------------------------------------------------------------------------


@pytest.fixture
def listing(tls):
    """A server of empty lists, behind TLS."""
    return tls.serve(lambda seen: {"images": []})


@pytest.fixture
def plain(loopback):
    """A server without TLS, which refuses a greeting of TLS as a malformed request."""
    refusal = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
    return loopback(lambda peer: (peer.sock.recv(9999), peer.send(refusal), peer.close()))


def test_https_to_a_port_of_http(glance, plain):
    done = glance(*INDEX, "--use-ssl", port=plain.port)
    told = failed_list(done, f"127.0.0.1:{plain.port}: the server speaks http, not https")
    assert told == "glance: leave out --use-ssl, or begin the URL with http:\n"


def test_https_to_a_server_that_waits_for_more(glance, loopback):
    server = loopback(lambda peer: peer.wait_closed())
    done = glance(*INDEX, "--use-ssl", "--timeout=0.1", port=server.port)
    assert "does not begin TLS" in failed_list(done, f"127.0.0.1:{server.port}: ")


def test_http_to_a_port_of_https(glance, listing):
    told = failed_list(glance(*INDEX, port=listing.port), f"127.0.0.1:{listing.port}: ")
    assert told.endswith("add --use-ssl, or begin the URL with https:\n")


def test_what_a_port_of_https_did_not_understand_has_made_no_record(glance, listing, loopback):
    alert = b"\x15\x03\x03\x00\x02\x02\x46"
    other = loopback(lambda peer: (peer.head(), peer.send(alert), peer.close()))
    for server in (listing, other):
        done = glance(*ADD, port=server.port)
        assert (done.code, "https" in done.err) == (1, True)
        assert "may still be in the registry" not in done.err


def test_an_alert_of_tls_is_known(glance, loopback):
    alert = b"\x15\x03\x03\x00\x02\x02\x46"
    server = loopback(lambda peer: (peer.head(), peer.send(alert), peer.close()))
    place = f"127.0.0.1:{server.port}: the server speaks https, not http"
    assert "add --use-ssl" in failed_list(glance(*INDEX, port=server.port), place)


def test_a_certificate_of_nobody_known(glance, listing):
    told = failed_list(glance(*INDEX, "--use-ssl", port=listing.port), "127.0.0.1:")
    assert "name a file with the CA certificates by --ca-file (OS_CACERT)" in told
    assert glance(*INDEX, "--use-ssl", "--insecure", port=listing.port).code == 0


def test_a_certificate_for_another_name_tells_its_names(glance, listing, tls):
    options = ("--use-ssl", f"--ca-file={tls.root}", "-H", "localhost")
    told = failed_list(glance(*INDEX, *options, port=listing.port), "localhost:")
    assert told == (
        "glance: the certificate of the server is for glance.test, 127.0.0.1, not for localhost: "
        "check --host\n"
    )
    assert glance(*INDEX, "--use-ssl", f"--ca-file={tls.root}", port=listing.port).code == 0


# -- the address as people write it --------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [
        "http://127.0.0.1:{}",
        "http://127.0.0.1:{}/v1",
        "http://joe:s3cret@127.0.0.1:{}/",
        "127.0.0.1:{}",
    ],
)
def test_a_url_or_a_port_in_the_host_works(glance, api, shape):
    api.add(name="web")
    done = glance(*INDEX, "-H", shape.format(api.server.port), port=1)
    assert (done.code, "web" in done.out, done.err) == (0, True, "")


def test_a_url_without_a_port_takes_that_of_the_option(glance, api):
    api.add(name="web")
    assert "web" in glance(*INDEX, "-H", "http://127.0.0.1/v1").out


def test_a_url_of_http_does_not_undo_tls(glance, plain):
    done = glance(*INDEX, "-H", f"http://127.0.0.1:{plain.port}", "--use-ssl")
    failed_list(done, f"127.0.0.1:{plain.port}: the server speaks http, not https")


@pytest.mark.parametrize(
    "host", ["ftp://joe:s3cret@h/", "//h", "http://", "h/v1", "http://h:x", "http://[::1/"]
)
def test_what_is_no_address_says_what_to_write(glance, host):
    for command in (ADD, INDEX):
        done = glance(*command, "-H", host)
        assert (done.code, done.err) == (1, "")
        assert "--host takes a name or an address" in done.lines[1]
        assert "s3cret" not in done.out


# -- the registry --------------------------------------------------------------------------------

REGISTRY = "This is the glance registry, not the image API. Check the port that you use."


@pytest.fixture
def registry(loopback):
    """What answers as the registry does: HEAD without a length."""

    def script(peer):
        while (seen := peer.request()) is not None:
            body = b"" if seen.method == "HEAD" else f"{REGISTRY}\n".encode()
            length = "" if seen.method == "HEAD" else f"Content-Length: {len(body)}\r\n"
            head = f"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\n{length}\r\n"
            peer.send(head.encode() + body)

    return loopback(script)


@pytest.mark.parametrize(
    "name", ["index", "show", "update", "delete", "download", "member-images"]
)
def test_the_port_of_the_registry_is_recognised(glance, registry, name):
    args = [] if name == "index" else ["1", *(["-f"] if name == "delete" else [])]
    done = glance(name, *args, port=registry.port)
    assert done.code == 1
    assert REGISTRY in done.out + done.err
    assert "was found" not in done.out + done.err


def test_the_port_of_the_registry_is_recognised_by_add(glance, registry):
    done = glance(*ADD, port=registry.port)
    assert done.lines[0].startswith("Failed to connect to the Glance API server 127.0.0.1:")
    assert done.err == f"glance: {REGISTRY}\n"


# -- servers of another kind ---------------------------------------------------------------------

PAGE = b"<html><body>Welcome!</body></html>"
COMMANDS = {
    "index": ("index",),
    "details": ("details",),
    "show": ("show", "1"),
    "delete": ("delete", "-f", "1"),
    "clear": ("clear", "-f"),
    "update": ("update", "1", "name=x"),
    "download": ("download", "1"),
    "upload": ("upload", "1"),
    "restore": ("restore", "1"),
    "member-add": ("member-add", "1", "acme"),
    "image-members": ("image-members", "1"),
    "member-images": ("member-images", "acme"),
    "cache-index": ("cache-index",),
    "cache-purge": ("cache-purge", "-f", "1"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_web_server_with_a_page_for_everything_is_not_taken_for_glance(
    glance, loopback, command
):
    server = loopback.answering(lambda seen: (200, b"" if seen.method == "HEAD" else PAGE))
    done = glance(*COMMANDS[command], port=server.port, stdin=b"x")
    assert done.code == 1
    assert "is it glance-api?" in done.out + done.err
    assert "Deleted" not in done.out


@pytest.mark.parametrize(
    "images", [None, 7, {"id": 1}, [7], [None], [{"name": "x"}], "x"], ids=repr
)
@pytest.mark.parametrize("command", ["index", "details", "clear"])
def test_lists_of_another_shape(glance, loopback, command, images):
    server = loopback.answering(lambda seen: {"images": images})
    done = glance(command, "-f", port=server.port)
    assert done.code == 1
    assert "is it glance-api?" in done.out + done.err


def test_a_status_that_cannot_be_found_out_advises_no_deletion(glance, loopback, tmp_path):
    data = tmp_path / "data"
    data.write_bytes(b"x")
    server = loopback.answering(lambda seen: (502, b""))
    done = glance("upload", "1", f"--file={data}", port=server.port)
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith("the status of image 1 is not known; see: glance show 1\n")
    assert ".;" not in done.err


def test_an_upload_that_has_not_begun_does_not_point_to_a_status(glance, api, tmp_path):
    data = tmp_path / "data"
    data.write_bytes(b"x")
    api.server.stop()
    done = glance("upload", "1", f"--file={data}")
    assert done.code == 1
    assert done.err.endswith("; nothing listens there: check --host and --port\n")
    assert "glance show" not in done.err


def test_a_port_that_no_server_has_in_the_host(glance, api):
    done = glance("index", "--host=127.0.0.1:65536")
    assert done.code == 1
    assert "the port 65536, which is not a number from 1 to 65535" in done.out
