"""The registry's certificate is verified: by whom it is signed, until when, and for what name."""

import contextlib
import socket
import ssl
import threading

import pytest

from glance import registry
from glance.common import config, exception
from glance.identity import context as identity_context

from support.certificates import Authority

RECORD = b'{"image": {"id": "1"}}'


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def certificates(authority, tmp_path_factory):
    """Every certificate of the tests: name -> (chain, key)."""
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    return {
        "good": authority.issue("good"),
        "expired": authority.issue("expired", end="20210101000000Z"),
        "another name": authority.issue("elsewhere", "stranger_extensions"),
        "self-signed": authority.self_signed("lonely"),
        "another authority": stranger.issue("stranger"),
        "no intermediate": (authority.directory / "good.pem", authority.directory / "good.key"),
    }


@contextlib.contextmanager
def serving(chain, key):
    """Answer every connection with one record inside TLS; yields the port and what failed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    listener = socket.create_server(("127.0.0.1", 0))
    failures = []

    def serve():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(sock, server_side=True) as secure:
                    secure.recv(65536)
                    length = b"Content-Length: %d\r\n\r\n" % len(RECORD)
                    secure.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + length + RECORD)
            except OSError as err:
                failures.append(err)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], failures
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def ask(port, **options):
    conf = config.Conf(
        {
            "registry_host": "127.0.0.1",
            "registry_port": str(port),
            "registry_client_protocol": "https",
            **{f"registry_client_{name}": str(value) for name, value in options.items()},
        }
    )
    return registry.get_image_metadata(conf, identity_context.RequestContext(is_admin=True), "1")


def test_a_chain_that_leads_to_the_authority_is_taken(authority, certificates):
    with serving(*certificates["good"]) as (port, _):
        assert ask(port, ca_file=authority.root) == {"id": "1"}


@pytest.mark.parametrize(
    "name, reason",
    [
        ("expired", "expired"),
        ("another name", "mismatch"),
        ("self-signed", "self-signed"),
        ("another authority", "unable to get"),
        ("no intermediate", "unable to get"),
    ],
)
def test_any_other_is_refused_and_the_reason_logged(authority, certificates, name, reason, caplog):
    with serving(*certificates[name]) as (port, failures):
        with pytest.raises(exception.RegistryUnavailable):
            ask(port, ca_file=authority.root)
        assert reason in caplog.text
    assert failures, "the request was sent to a registry that nobody has verified"


def test_without_a_file_only_the_systems_authorities_count(certificates):
    with serving(*certificates["good"]) as (port, _), pytest.raises(exception.RegistryUnavailable):
        ask(port)


@pytest.mark.parametrize("name", ["expired", "another name", "self-signed"])
def test_insecure_takes_anything(certificates, name):
    with serving(*certificates[name]) as (port, _):
        assert ask(port, insecure=True) == {"id": "1"}
