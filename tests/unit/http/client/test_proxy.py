"""Proxies: which one is chosen, what it is told, and tunnels for https."""

import contextlib
import socket
import subprocess
import threading

import pytest

from glance import client
from glance.common import exception
from glance.http.client import proxy as http_proxy
from glance.identity import strategies
from glance.registry import client as registry_client

PROXY = http_proxy.Proxy("proxy", 3128)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)


# -- which one -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "use_ssl", "chosen"),
    [
        ({}, False, None),
        ({"http_proxy": "http://proxy:3128"}, False, PROXY),
        ({"HTTP_PROXY": "http://proxy:3128/"}, False, PROXY),
        ({"http_proxy": "proxy:3128"}, False, PROXY),
        ({"http_proxy": "http://proxy:3128"}, True, None),
        ({"https_proxy": "http://proxy:3128"}, True, PROXY),
        ({"https_proxy": "http://proxy:3128"}, False, None),
        ({"all_proxy": "http://proxy:3128"}, True, PROXY),
        ({"http_proxy": "http://proxy:3128", "HTTP_PROXY": "http://other"}, False, PROXY),
        ({"http_proxy": "", "HTTP_PROXY": "http://other"}, False, None),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "glance.test"}, False, None),
        ({"http_proxy": "http://proxy:3128", "NO_PROXY": "*"}, False, None),
        ({"HTTP_PROXY": "http://evil", "REQUEST_METHOD": "GET"}, False, None),
    ],
)
def test_environment_names_the_proxy(monkeypatch, environ, use_ssl, chosen):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert http_proxy.choose(use_ssl, "glance.test", 9292) == chosen


@pytest.mark.parametrize(
    ("exceptions", "host", "direct"),
    [
        ("glance.test", "glance.test", True),
        ("GLANCE.test", "Glance.Test.", True),
        ("other, glance.test ,third", "glance.test", True),
        (".test", "glance.test", True),
        ("*.test", "glance.test", True),
        ("test", "glance.test", True),
        ("est", "glance.test", False),
        ("glance.test", "my.glance.test", True),
        ("glance.test", "notglance.test", False),
        ("glance.test:9292", "glance.test", True),
        ("glance.test:80", "glance.test", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "glance.test", False),
        ("fd00::/8", "fd00::1", True),
        ("fd00::1", "fd00::1", True),
        ("[fd00::1]:9292", "fd00::1", True),
        ("", "glance.test", False),
        (",", "glance.test", False),
    ],
)
def test_hosts_that_need_no_proxy(exceptions, host, direct):
    assert http_proxy.bypasses(host, 9292, exceptions) is direct


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.9.1", "localhost", "a.localhost", "::1", "0.0.0.0"]
)
def test_loopback_needs_no_proxy_of_the_environment(monkeypatch, host):
    monkeypatch.setenv("all_proxy", "http://proxy:3128")
    assert http_proxy.choose(False, host, 9292) is None
    assert http_proxy.choose(False, host, 9292, {"http": "http://proxy:3128"}) == PROXY


@pytest.mark.parametrize("url", ["socks5://s3cret@h:1", "http://", "http://h:x", "http://[h"])
def test_url_that_names_no_http_proxy_is_an_error_without_its_password(url):
    with pytest.raises(exception.BadInputError, match="must look like") as caught:
        http_proxy.parse(url)
    assert "s3cret" not in str(caught.value)


def test_password_of_a_proxy_is_not_shown():
    proxy = http_proxy.parse("http://joe:s3cr%40t@proxy:3128")
    assert proxy.fields == {"proxy-authorization": "Basic am9lOnMzY3JAdA=="}
    assert "am9lOnMzY3JAdA" not in repr(proxy)


# -- speaking through it -------------------------------------------------------------------------


def made(proxy, **kw):
    url = f"http://joe:pw@127.0.0.1:{proxy.port}"
    return client.Client("glance.test", 9292, timeout=5, proxies={"http": url, "https": url}, **kw)


def test_proxy_is_given_the_whole_url_and_its_credentials(loopback):
    proxy = loopback.answering(lambda seen: {"images": []})
    one = made(proxy)
    assert one.get_images() == []
    assert one.get_images() == []
    seen = proxy.requests[0]
    assert seen.target == "http://glance.test:9292/v1/images"
    assert seen.headers["host"] == "glance.test:9292"
    assert seen.headers["proxy-authorization"] == "Basic am9lOnB3"
    assert proxy.connections == 1


def test_upload_goes_through_a_proxy(loopback, tmp_path):
    (tmp_path / "disk").write_bytes(b"x" * 300_000)
    proxy = loopback.answering(lambda seen: {"image": {"size": len(seen.body)}})
    with (tmp_path / "disk").open("rb") as data:
        assert made(proxy).add_image({"name": "x"}, data) == {"size": 300_000}


def test_direct_server_sees_no_word_for_a_proxy(loopback):
    server = loopback.answering(lambda seen: {"images": []})
    proxies = {"http": "http://joe:pw@127.0.0.1:1", "no": "127.0.0.1"}
    client.Client("127.0.0.1", server.port, proxies=proxies).get_images()
    assert server.requests[0].target == "/v1/images"
    assert "proxy-authorization" not in server.requests[0].headers


def test_sign_in_goes_through_the_proxy(loopback):
    answer = (204, b"", {"X-Auth-Token": "tok", "X-Server-Management-Url": "http://g.test/v1"})
    proxy = loopback.answering(
        lambda seen: answer if seen.target.endswith("/tokens") else {"images": []}
    )
    creds = {
        "strategy": "keystone",
        "username": "u",
        "password": "p",
        "auth_url": "http://keystone.test:5000/",
    }
    made(proxy, creds=creds).get_images()
    assert [seen.target for seen in proxy.requests] == [
        # Which versions there are is asked first.
        "http://keystone.test:5000/",
        "http://keystone.test:5000/tokens",
        "http://g.test/v1/images",
    ]
    assert isinstance(strategies.KeystoneStrategy(creds), strategies.BaseStrategy)


def test_clients_inside_a_server_heed_no_environment(monkeypatch, loopback):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    one = registry_client.RegistryClient("registry.test", 9191)
    assert one._connections().proxy is None
    assert client.Client("glance.test")._connections().proxy == http_proxy.Proxy("127.0.0.1", 1)


# -- tunnels, and a chain of certificates --------------------------------------------------------


@pytest.fixture(scope="module")
def tunnelling():
    """Return a script for a loopback server that joins its clients with one port."""

    def to(port):
        def script(peer):
            seen = peer.head()
            with socket.create_connection(("127.0.0.1", port)) as beyond:
                peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
                back = threading.Thread(target=_copy, args=(beyond, peer.sock), daemon=True)
                back.start()
                _copy(peer.sock, beyond)
                back.join(5)
            return seen

        return script

    return to


def _copy(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def test_https_goes_through_a_tunnel(loopback, tls, tunnelling):
    server = tls.serve(lambda seen: {"images": [], "image": {"size": len(seen.body)}})
    proxy = loopback(tunnelling(server.port))
    one = made(proxy, use_ssl=True, ca_file=tls.root)
    assert one.get_images() == []
    assert one.add_image({"name": "x"}, b"y" * 300_000) == {"size": 300_000}
    assert one.get_images() == []
    connect = proxy.requests[0]
    assert (connect.method, connect.target) == ("CONNECT", "glance.test:9292")
    assert connect.headers["proxy-authorization"] == "Basic am9lOnB3"
    assert server.requests[0].target == "/v1/images"
    assert "proxy-authorization" not in server.requests[0].headers
    assert proxy.connections == 1


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 407 Who are you\r\n\r\n", b"SSH-2.0\r\n\r\n", b""], ids=repr
)
def test_proxy_that_makes_no_tunnel_is_a_connection_error(loopback, answer):
    def script(peer):
        peer.head()
        peer.send(answer)

    with pytest.raises(exception.ClientConnectionError, match="the proxy opened no tunnel"):
        made(loopback(script), use_ssl=True).get_images()


def test_certificate_is_that_of_the_server_and_not_of_the_proxy(loopback, tls, tunnelling):
    server = tls.serve(lambda seen: {"images": []})
    proxy = loopback(tunnelling(server.port))
    one = client.Client(
        "other.test",
        9292,
        True,
        timeout=5,
        ca_file=tls.root,
        proxies={"all": f"http://127.0.0.1:{proxy.port}"},
    )
    with pytest.raises(exception.ClientConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        one.get_images()


def test_chain_is_verified_up_to_its_root(tls):
    server = tls.serve(lambda seen: {"images": []})
    one = client.Client("127.0.0.1", server.port, True, timeout=5, ca_file=tls.root)
    assert one.get_images() == []


@pytest.mark.parametrize("trusted", ["system", "other"])
def test_chain_of_a_stranger_is_refused(tls, trusted):
    server = tls.serve(lambda seen: {"images": []})
    ca_file = tls.other if trusted == "other" else None
    one = client.Client("127.0.0.1", server.port, True, timeout=5, ca_file=ca_file)
    with pytest.raises(exception.ClientConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        one.get_images()


def test_chain_need_not_be_verified(tls):
    server = tls.serve(lambda seen: {"images": []})
    assert client.Client("127.0.0.1", server.port, True, insecure=True).get_images() == []


def test_client_proves_itself_with_a_certificate(tls):
    server = tls.serve(lambda seen: {"images": []}, ask_client=True)
    one = client.Client(
        "127.0.0.1",
        server.port,
        True,
        timeout=5,
        ca_file=tls.root,
        cert_file=tls.chain,
        key_file=tls.key,
    )
    assert one.get_images() == []
    with pytest.raises(exception.ClientConnectionError):
        client.Client("127.0.0.1", server.port, True, timeout=5, ca_file=tls.root).get_images()


def test_command_line_verifies_or_does_not(tls):
    server = tls.serve(lambda seen: {"images": []})
    code = "import sys; from glance.cli.user import command; sys.exit(command.main(sys.argv[1:]))"
    base = [tls.python, "-c", code, "index", "-H", "127.0.0.1", "-p", str(server.port)]
    base.append("--use-ssl")

    def run(*options):
        return subprocess.run([*base, *options], capture_output=True, text=True, timeout=30)

    assert run(f"--ca-file={tls.root}").returncode == 0
    assert run("--insecure").returncode == 0
    refused = run()
    assert refused.returncode == 1
    assert "CERTIFICATE_VERIFY_FAILED" in refused.stdout
