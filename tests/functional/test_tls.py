"""Both daemons inside TLS, with a chain of certificates that openssl made."""

import hashlib
import http.client
import os
import ssl
import subprocess

import pytest

from support import daemons
from support.certificates import Authority

# NOTE: more than one window of sendfile and more than one chunk of a store.
DATA = os.urandom(9_000_001)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


class Site(daemons.Site):
    """A site whose daemons answer inside TLS only."""

    def __init__(self, directory, authority, **options):
        chain, key = authority.issue("server")
        server = {"cert_file": chain, "key_file": key}
        api = {
            "registry_client_protocol": "https",
            "registry_client_ca_file": authority.root,
            **server,
            **options,
        }
        super().__init__(directory, api=api, registry=server)
        self.context = ssl.create_default_context(cafile=authority.root)
        for daemon in (self.api, self.registry):
            # It answers whoever can speak TLS.
            daemon.answers = lambda daemon=daemon: self.answers(daemon)

    def connect(self, daemon=None):
        port = (daemon or self.api).port
        return http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=self.context)

    def answers(self, daemon):
        connection = self.connect(daemon)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
            return True
        except OSError:
            return False
        finally:
            connection.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory, authority):
    with Site(tmp_path_factory.mktemp("site"), authority) as running:
        yield running


@pytest.fixture
def connection(site):
    connection = site.connect()
    yield connection
    connection.close()


def ask(connection, method, path, headers=(), body=None):
    connection.request(method, path, body, dict(headers))
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def add(connection, data):
    headers = {"Content-Type": "application/octet-stream", "x-image-meta-is-public": "True"}
    status, answer, _ = ask(connection, "POST", "/v1/images", headers, data)
    assert status == 201
    return answer["Location"].rpartition("/")[2]


def test_an_image_goes_in_and_comes_out_whole_on_one_connection(connection):
    image_id = add(connection, DATA)
    sock = connection.sock
    for _ in range(2):
        status, headers, data = ask(connection, "GET", f"/v1/images/{image_id}")
        assert (status, int(headers["Content-Length"])) == (200, len(DATA))
        assert data == DATA
        assert headers["x-image-meta-checksum"] == hashlib.md5(DATA).hexdigest()
    assert (
        ask(connection, "GET", f"/v1/images/{image_id}", {"Range": "bytes=5-4999999"})[2]
        == (DATA[5:5_000_000])
    )
    assert connection.sock is sock


def test_links_speak_of_https(connection):
    assert b'"https://127.0.0.1:' in ask(connection, "GET", "/versions")[2]


def test_the_access_log_counts_the_bytes_of_the_image(site, connection):
    image_id = add(connection, DATA)
    ask(connection, "GET", f"/v1/images/{image_id}")
    ask(connection, "GET", "/v1/images")
    assert f'"GET /v1/images/{image_id} HTTP/1.1" 200 {len(DATA)} ' in site.api.log()


def test_plain_text_gets_no_answer(site):
    with pytest.raises((OSError, http.client.HTTPException)):
        daemons.Http(site.port).get("/v1/images")


def test_an_api_that_trusts_somebody_else_does_not_talk_to_the_registry(
    site, tmp_path, tmp_path_factory
):
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    other = Site(tmp_path, stranger, registry_port=site.registry.port)
    other.write()
    other.api.start()
    try:
        connection = other.connect()
        assert ask(connection, "GET", "/v1/images")[0] == 503
        connection.close()
        assert "certificate verify failed" in other.api.log()
    finally:
        other.kill()


def test_a_key_with_a_passphrase_is_an_error_and_no_question(site, authority, tmp_path):
    chain, key = authority.issue("locked")
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-in", key, "-aes128", "-passout", "pass:x", "-out", locked],
        check=True,
    )
    other = Site(tmp_path / "other", authority, key_file=locked, cert_file=chain)
    other.write()
    other.api.start(wait=False)
    assert other.api.process.wait(30) == 1
    assert other.api.log() == (
        f"ERROR: {other.api.conf}: cert_file and key_file cannot be used: "
        "the key has a passphrase; remove it with: openssl pkey\n"
    )
