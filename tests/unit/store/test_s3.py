"""The S3 store where no real server is needed: addresses, settings, keys, what boto may know."""

import contextlib
import dataclasses
import datetime
import logging
import os
import socket
import subprocess
import sys
import threading

import pytest

from glance.common import exception
from glance.common.config import Conf
from glance.store import s3
from glance.store.location import get_location_from_uri
from glance.store.s3 import upload
from glance.store.s3.endpoint import Endpoint
from glance.store.s3.errors import S3Error
from glance.testing.store_suite import ScriptedSource

MIB = 1024 * 1024
KEYS = {"s3_store_access_key": "AKEY", "s3_store_secret_key": "SKEY-canary"}


def make_store(tmp_path, **options):
    settings = {
        "s3_store_host": "s3.example.net",
        **KEYS,
        "s3_store_bucket": "pail",
        "s3_store_object_buffer_dir": str(tmp_path),
        "s3_store_retries": "0",
        "s3_store_timeout": "5",
        **options,
    }
    return s3.S3Store(Conf({name: value for name, value in settings.items() if value is not None}))


class Listener:
    """Takes connections, keeps the heads of requests and gives all the same answer."""

    def __init__(self):
        self.answer = "404 Not Found"
        self.body = b""
        self.heads = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(65536)
                self.heads.append(head.decode("latin-1"))
                lines = [
                    f"HTTP/1.1 {self.answer}",
                    f"Content-Length: {len(self.body)}",
                    "Connection: close\r\n\r\n",
                ]
                # Who has read enough closes the connection.
                with contextlib.suppress(OSError):
                    connection.sendall("\r\n".join(lines).encode() + self.body)

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def listener():
    with contextlib.closing(Listener()) as running:
        yield running


def authorization(listener, store, uri):
    """Return the Authorization header of a request for a location, None if it has none."""
    with pytest.raises(exception.StoreObjectNotFound):
        store.get(get_location_from_uri(uri))
    for line in listener.heads[-1].split("\r\n"):
        if line.lower().startswith("authorization:"):
            return line
    return None


def test_the_trail_is_sent_on(listener, tmp_path):
    store = make_store(tmp_path)
    location = get_location_from_uri(f"s3+http://a:b@127.0.0.1:{listener.port}/v1/images/5")
    with pytest.raises(exception.StoreObjectNotFound):
        store.get(dataclasses.replace(location, trail=("0" * 16, "1" * 16)))
    assert f"X-Glance-Trail: {'0' * 16}, {'1' * 16}" in listener.heads[-1].split("\r\n")


@pytest.mark.parametrize("key", ["ü b", "%C3%BC%20b"])
def test_a_key_is_encoded_once(listener, tmp_path, key):
    uri = f"s3+http://a:b@127.0.0.1:{listener.port}/pail/{key}%2525"
    with pytest.raises(exception.StoreObjectNotFound):
        make_store(tmp_path).get(get_location_from_uri(uri))
    assert listener.heads[-1].startswith("GET /pail/%C3%BC%20b%2525 ")


# -- addresses --


@pytest.mark.parametrize(
    ("text", "secure", "address", "port"),
    [
        ("s3.amazonaws.com", True, "s3.amazonaws.com", 443),
        ("S3.eu-west-1.AmazonAWS.com", True, "s3.eu-west-1.amazonaws.com", 443),
        ("s3.cn-north-1.amazonaws.com.cn", True, "s3.cn-north-1.amazonaws.com.cn", 443),
        ("notamazonaws.com", False, "notamazonaws.com", 80),
        ("http://s3.amazonaws.com", False, "s3.amazonaws.com", 80),
        ("store.example.net", False, "store.example.net", 80),
        ("store.example.net:8080", False, "store.example.net:8080", 8080),
        ("https://store.example.net", True, "store.example.net", 443),
        ("https://store.example.net:8443/", True, "store.example.net:8443", 8443),
        ("http://store.example.net/services/s3/", False, "store.example.net/services/s3", 80),
        ("https://[2001:db8::1]:9000/x", True, "[2001:db8::1]:9000/x", 9000),
        ("[2001:db8::1]", False, "[2001:db8::1]", 80),
        (" 127.0.0.1:9000 ", False, "127.0.0.1:9000", 9000),
    ],
)
def test_the_host_option_takes_a_scheme_a_port_and_a_path(text, secure, address, port):
    endpoint = Endpoint.parse(text)
    assert (endpoint.secure, endpoint.address) == (secure, address)
    assert endpoint.effective_port == port
    assert endpoint.scheme == ("s3+https" if secure else "s3+http")
    location = get_location_from_uri(f"{endpoint.scheme}://{endpoint.address}/pail/17")
    assert Endpoint.of(location.store_location) == endpoint


@pytest.mark.parametrize(
    "text", ["", "ftp://x", "http://", "a:b@host", "host:0", "host:x", "h ost", "http://a://b"]
)
def test_an_address_that_cannot_be_used_leaves_the_store_without_uploads(tmp_path, text, caplog):
    if text:
        store = make_store(tmp_path, s3_store_host=text)
        assert "s3_store_host" in store.add_disabled
        assert [record.levelname for record in caplog.records] == ["ERROR"]
    with pytest.raises(ValueError, match="host"):
        Endpoint.parse(text)


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("s3.amazonaws.com", "us-east-1"),
        ("s3-external-1.amazonaws.com", "us-east-1"),
        ("s3-eu-west-1.amazonaws.com", "eu-west-1"),
        ("s3.eu-central-1.amazonaws.com", "eu-central-1"),
        ("s3.dualstack.ap-northeast-2.amazonaws.com", "ap-northeast-2"),
        ("s3-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("s3.eu-west-1.example.net", "us-east-1"),
        ("127.0.0.1", "us-east-1"),
    ],
)
def test_the_region_is_read_from_names_of_amazon(host, region):
    assert Endpoint.parse(host).region == region


@pytest.mark.parametrize(
    ("host", "bucket", "style", "by_host"),
    [
        ("s3.amazonaws.com", "pail", "auto", True),
        ("s3.amazonaws.com", "pail.example", "auto", False),
        ("s3.amazonaws.com", "Pail", "auto", False),
        ("s3.amazonaws.com", "my_pail", "auto", False),
        ("s3.amazonaws.com", "pail", "path", False),
        ("127.0.0.1", "pail", "auto", False),
        ("store.example.net", "pail", "auto", False),
        ("store.example.net", "pail", "subdomain", True),
        ("store.example.net", "Pail", "subdomain", False),
    ],
)
def test_buckets_are_named_by_host_where_that_works(host, bucket, style, by_host):
    assert Endpoint.parse(host).names_by_host(bucket, style) is by_host


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://h", "https://h", True),
        ("http://h", "http://h:80", True),
        ("https://h:443", "https://h", True),
        ("http://h:8080", "https://h:8080", True),
        ("http://h", "http://h:8080", False),
        ("http://h", "http://h/x", False),
        ("http://h", "http://i", False),
        ("http://h", "http://h.i", False),
    ],
)
def test_one_service_is_known_by_host_port_and_path(one, other, same):
    assert Endpoint.parse(one).is_same_service(Endpoint.parse(other)) is same


# -- sizes of parts --


@pytest.mark.parametrize("size", [5 * MIB, 100 * MIB, 10**12, upload.MAX_OBJECT])
@pytest.mark.parametrize("configured", [5 * MIB, 10 * MIB, 4000 * MIB])
def test_an_image_of_known_size_fits_into_ten_thousand_equal_parts(size, configured):
    part = upload.part_size(configured, size, 1)
    assert part == upload.part_size(configured, size, 10_000) >= configured
    assert part * upload.MAX_PARTS >= size
    assert part % MIB == 0
    assert part <= upload.MAX_PART


def test_parts_of_an_unknown_size_grow_until_the_largest_object_fits():
    sizes = [upload.part_size(10 * MIB, None, number) for number in range(1, 10_001)]
    assert sizes[0] == sizes[999] == 10 * MIB
    assert sizes[1000] == 20 * MIB
    assert max(sizes) <= upload.MAX_PART
    assert sum(sizes) >= upload.MAX_OBJECT


# -- settings --


def test_without_settings_it_is_silent_and_boto_is_not_loaded():
    code = (
        "import logging, sys\n"
        "logging.basicConfig(level=logging.WARNING)\n"
        "from glance.common.config import Conf\n"
        "from glance import store\n"
        "stores = store.create_stores(Conf({'enabled_stores': 's3 http'}))\n"
        "assert stores.for_scheme('s3+https').add_disabled\n"
        "assert 'boto' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("missing", ["access_key", "secret_key", "bucket"])
def test_a_missing_setting_is_named_in_one_line_and_reading_still_works(tmp_path, caplog, missing):
    store = make_store(tmp_path, **{f"s3_store_{missing}": None})
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert f"s3_store_{missing} is not set" in caplog.text
    with pytest.raises(exception.StoreAddDisabled):
        store.stage("1", 1)
    # Nobody listens there, which is found out by trying.
    location = get_location_from_uri("s3://A:B@127.0.0.1:1/pail/1")
    with pytest.raises(exception.BackendUnavailable):
        store.get(location)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"s3_store_bucket": "a/b"}, "s3_store_bucket"),
        ({"s3_store_bucket": "Pail", "s3_store_host": "s3.amazonaws.com"}, "lower case"),
        ({"s3_store_bucket": "Pail", "s3_store_bucket_url_format": "subdomain"}, "lower case"),
        ({"s3_store_object_buffer_dir": "/nonexistent/dir"}, "s3_store_object_buffer_dir"),
        ({"s3_store_cacert": "/nonexistent/ca"}, "s3_store_cacert"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_in_one_line(tmp_path, caplog, options, said):
    store = make_store(tmp_path, **options)
    assert said in store.add_disabled
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "canary" not in caplog.text


def test_a_bucket_with_capitals_is_good_enough_for_others_than_amazon(tmp_path):
    assert make_store(tmp_path, s3_store_bucket="Pail").add_disabled is None


@pytest.mark.parametrize(
    "options",
    [
        {"s3_store_signature_version": "3"},
        {"s3_store_bucket_url_format": "both"},
        {"s3_store_large_object_chunk_size": "4"},
        {"s3_store_timeout": "0"},
    ],
)
def test_values_outside_of_the_table_stop_the_start(options):
    with pytest.raises(exception.ConfigError, match=next(iter(options))):
        Conf(options).check()


def test_a_missing_library_is_one_line_in_the_log_and_no_uploads(tmp_path, monkeypatch, caplog):
    for name in [name for name in sys.modules if name.split(".")[0] == "boto"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("client", "connection"):
        monkeypatch.delitem(sys.modules, f"glance.store.s3.{name}", raising=False)
        monkeypatch.delattr(s3, name, raising=False)
    monkeypatch.setitem(sys.modules, "boto", None)
    store = make_store(tmp_path)
    assert "library" in store.add_disabled
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    with pytest.raises(exception.BackendUnavailable):
        store.get(get_location_from_uri("s3://A:B@127.0.0.1:1/pail/1"))


# -- registering --


def test_administrators_register_what_the_keys_open_or_what_brings_its_own(tmp_path):
    store = make_store(tmp_path)
    ours = get_location_from_uri("s3+https://s3.example.net/other/1")
    store.check_registerable(ours, is_admin=True)
    with pytest.raises(exception.Forbidden):
        store.check_registerable(ours, is_admin=False)
    elsewhere = get_location_from_uri("s3://A:B@8.8.8.8/a/b")
    store.check_registerable(elsewhere, is_admin=True)
    with pytest.raises(exception.Forbidden):
        store.check_registerable(elsewhere, is_admin=False)
    for elsewhere in ("s3://A:B@169.254.169.254/a/b", "s3://s3.example.net:81/a/b"):
        with pytest.raises(exception.BadStoreUri):
            store.check_registerable(get_location_from_uri(elsewhere), is_admin=True)


@pytest.mark.parametrize(
    ("uri", "ours"),
    [
        ("s3+http://s3.example.net/pail/17", True),
        ("s3://OLD:KEY@s3.example.net/pail/17", True),
        ("s3+http://s3.example.net/pail/18", False),
        ("s3+http://s3.example.net/other/17", False),
        ("s3+http://s4.example.net/pail/17", False),
    ],
)
def test_it_wrote_what_lies_under_the_id_in_its_own_bucket(tmp_path, uri, ours):
    assert make_store(tmp_path).owns(get_location_from_uri(uri), "17") is ours


# -- abandoned uploads --


@pytest.mark.parametrize(
    ("begun", "newest", "stale"),
    [(25, 25, True), (25, None, True), (25, 23, False), (23, None, False), (None, 25, False)],
)
def test_an_upload_is_abandoned_a_day_after_its_last_part(begun, newest, stale):
    def ago(hours):
        if hours is None:
            return None
        return datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=hours)

    class Client:
        def last_part(self, found):
            return ago(newest)

    from glance.store.s3.client import OpenUpload

    assert s3._is_stale(Client(), OpenUpload("1", "x", ago(begun))) is stale


# -- answers --


def add(store):
    return store.add("1", ScriptedSource(b"data"), 4)


def test_the_path_of_the_host_option_comes_before_the_bucket(tmp_path, listener):
    host = f"127.0.0.1:{listener.port}/services/s3"
    store = make_store(tmp_path, s3_store_host=host)
    with pytest.raises(exception.StorageWriteDenied):
        add(store)
    authorization(listener, store, f"s3://{host}/pail/a%2Fb%20c")
    first, second = (head.split("\r\n")[0] for head in listener.heads)
    assert first == "HEAD /services/s3/pail/ HTTP/1.1"
    assert second == "GET /services/s3/pail/a/b%20c HTTP/1.1"


def test_an_answer_that_never_ends_is_not_read_for_ever(tmp_path, listener):
    listener.body = b"x" * (17 * MIB)
    listener.answer = "200 OK"
    host = f"127.0.0.1:{listener.port}"
    with pytest.raises(exception.BackendUnavailable):
        list(make_store(tmp_path, s3_store_host=host).list_objects())


@pytest.mark.parametrize(
    "text",
    [
        b"<Error><Code>InternalError</Code><Message>SKEY-canary</Message></Error>",
        b"<?xml version='1.0'?>  <Error><Code>SlowDown</Code></Error>",
        b"no xml",
        b"",
        b"\xff",
    ],
)
def test_an_error_inside_of_a_good_answer_is_an_error(tmp_path, listener, text):
    listener.answer, listener.body = "200 OK", text
    host = f"127.0.0.1:{listener.port}"
    client = make_store(tmp_path, s3_store_host=host).client_for(
        get_location_from_uri(f"s3://{host}/pail/1").store_location
    )
    for ask in (
        lambda: client.complete("1", "id", ['"etag"']),
        lambda: client.initiate("1", "token"),
        lambda: client.abort("1", "id"),
    ):
        with pytest.raises(S3Error) as caught:
            ask()
        assert "canary" not in f"{caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize(
    ("offset", "length", "part"), [(0, None, b"0123456789"), (2, 3, b"234"), (8, 9, b"89")]
)
def test_a_service_without_ranges_is_read_nevertheless(tmp_path, listener, offset, length, part):
    listener.answer, listener.body = "200 OK", b"0123456789"
    host = f"127.0.0.1:{listener.port}"
    location = get_location_from_uri(f"s3://{host}/pail/1")
    with make_store(tmp_path, s3_store_host=host).get(location, offset, length) as body:
        assert (b"".join(body), body.size) == (part, 10)


def test_a_name_that_is_no_utf_8_is_the_name_of_nothing(tmp_path, listener):
    host = f"127.0.0.1:{listener.port}"
    store = make_store(tmp_path, s3_store_host=host)
    for ask in (store.get, store.get_size, store.delete):
        with pytest.raises(exception.StoreObjectNotFound):
            ask(get_location_from_uri(f"s3://{host}/pail/%ff"))
    assert listener.heads == []


def test_what_is_too_large_for_s3_is_refused_before_it_is_sent(tmp_path, listener):
    store = make_store(tmp_path, s3_store_host=f"127.0.0.1:{listener.port}")
    with pytest.raises(exception.StorageFull):
        store.stage("1", upload.MAX_OBJECT + 1)
    assert listener.heads == []


def test_codes_of_errors_are_kept_and_nothing_else_of_them(tmp_path, listener, caplog):
    listener.answer = "403 Forbidden"
    listener.body = (
        b"<Error><Code>SignatureDoesNotMatch</Code><StringToSign>canary-1</StringToSign></Error>"
    )
    host = f"127.0.0.1:{listener.port}"
    with caplog.at_level(logging.DEBUG), pytest.raises(exception.BackendUnavailable) as caught:
        make_store(tmp_path, s3_store_host=host).get(get_location_from_uri(f"s3://{host}/pail/1"))
    assert str(caught.value.__cause__) == "403 SignatureDoesNotMatch"
    assert "SignatureDoesNotMatch" in exception.described(caught.value)
    assert "canary" not in caplog.text


# -- keys --


@pytest.mark.parametrize("version", ["2", "4"])
@pytest.mark.parametrize(
    ("credentials", "bucket", "used"),
    [
        ("", "pail", "AKEY"),
        ("OLD:KEY@", "pail", "AKEY"),
        ("AKEY:stale@", "other", "AKEY"),
        ("OLD:KEY@", "other", "OLD"),
        ("", "other", None),
    ],
)
def test_the_configured_keys_win_where_they_open_the_bucket(
    tmp_path, listener, version, credentials, bucket, used
):
    host = f"127.0.0.1:{listener.port}"
    store = make_store(tmp_path, s3_store_host=host, s3_store_signature_version=version)
    sent = authorization(listener, store, f"s3://{credentials}{host}/{bucket}/1")
    assert (sent is None) == (used is None)
    assert used is None or f"{'=' if version == '4' else ' '}{used}" in sent


def test_the_keys_of_one_location_are_not_used_for_another(tmp_path, listener):
    host = f"127.0.0.1:{listener.port}"
    store = make_store(
        tmp_path, s3_store_host=host, s3_store_access_key=None, s3_store_secret_key=None
    )
    for credentials, used in (("ONE:1@", "ONE"), ("TWO:2@", "TWO"), ("", None)):
        sent = authorization(listener, store, f"s3://{credentials}{host}/pail/1")
        assert (sent is None) == (used is None)
        assert used is None or f"={used}/" in sent


def test_nothing_made_with_the_configured_keys_goes_to_another_host(tmp_path, listener):
    store = make_store(tmp_path)
    host = f"127.0.0.1:{listener.port}"
    assert authorization(listener, store, f"s3://{host}/pail/1") is None
    assert "OLD" in authorization(listener, store, f"s3://OLD:KEY@{host}/pail/1")
    assert "AKEY" not in "".join(listener.heads)


def test_a_redirect_is_not_followed(tmp_path, listener):
    with contextlib.closing(Listener()) as elsewhere:
        listener.answer = f"307 Elsewhere\r\nLocation: http://127.0.0.1:{elsewhere.port}/pail/1"
        host = f"127.0.0.1:{listener.port}"
        with pytest.raises(exception.BackendUnavailable):
            make_store(tmp_path, s3_store_host=host).get(
                get_location_from_uri(f"s3://{host}/pail/1")
            )
        assert (len(listener.heads), elsewhere.heads) == (1, [])


BOTO_FILE = """\
[Credentials]
aws_access_key_id = FILEKEY
aws_secret_access_key = FILESECRET
s3_host = 192.0.2.1
[Boto]
is_secure = True
debug = nonsense
proxy = 192.0.2.1
proxy_port = 1
num_retries = nonsense
https_validate_certificates = False
[s3]
host = 192.0.2.1
use-sigv4 = True
"""


def test_nothing_of_botos_own_settings_counts(tmp_path, listener):
    (tmp_path / ".boto").write_text(BOTO_FILE)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = FILEKEY\naws_secret_access_key = FILESECRET\n"
    )
    host = f"127.0.0.1:{listener.port}"
    code = f"""
import logging, os, sys
logging.basicConfig(level=logging.DEBUG)
from glance.common.config import Conf
from glance.common import exception
from glance import store
stores = store.create_stores(Conf({{
    "enabled_stores": "s3", "s3_store_host": "{host}", "s3_store_bucket": "pail",
    "s3_store_access_key": "AKEY", "s3_store_secret_key": "SKEY-canary",
    "s3_store_retries": "0", "s3_store_signature_version": "2"}}))
for location in ("s3://{host}/pail/1", "s3://{host}/other/1"):
    try:
        stores.get(location)
    except exception.StoreObjectNotFound as err:
        logging.error("as it should be", exc_info=True)
assert os.environ["BOTO_CONFIG"] == {str(tmp_path / ".boto")!r}
assert os.environ["AWS_SECRET_ACCESS_KEY"] == "ENVSECRET"
"""
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "BOTO_CONFIG": str(tmp_path / ".boto"),
        "AWS_ACCESS_KEY_ID": "ENVKEY",
        "AWS_SECRET_ACCESS_KEY": "ENVSECRET",
        "AWS_SECURITY_TOKEN": "ENVTOKEN",
        "AWS_PROFILE": "nosuch",
        "AWS_CREDENTIAL_FILE": str(tmp_path / ".boto"),
        "S3_USE_SIGV4": "1",
        "http_proxy": "http://192.0.2.1:1",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    first, second = listener.heads
    assert "Authorization: AWS AKEY:" in first
    assert "Authorization" not in second
    said = "".join(listener.heads) + done.stdout + done.stderr
    for secret in ("FILEKEY", "FILESECRET", "ENVKEY", "ENVSECRET", "ENVTOKEN", "canary"):
        assert secret not in said
    assert "AKEY:" not in done.stderr, "boto's debug lines show signatures"


def test_boto_says_nothing_at_debug_level_whatever_the_loggers_say(tmp_path, listener, caplog):
    host = f"127.0.0.1:{listener.port}"
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "boto"):
        authorization(listener, make_store(tmp_path, s3_store_host=host), f"s3://{host}/pail/1")
    assert not [record for record in caplog.records if record.name.startswith("boto")]
    assert "Signature" in listener.heads[-1]
    assert "Signature" not in caplog.text


def test_the_texts_of_stores_and_clients_show_no_keys(tmp_path):
    store = make_store(tmp_path)
    location = get_location_from_uri("s3://A:canary-2@s3.example.net/pail/1")
    client = store.client_for(location.store_location)
    texts = [
        repr(store),
        repr(client),
        repr(client._connection),
        repr(vars(client)),
        str(location),
    ]
    assert "canary" not in "".join([*texts, str(location), repr(location)])


# -- the check --


@pytest.mark.parametrize(
    ("answer", "options", "error"),
    [
        ("200 OK", {}, None),
        ("404 Not Found", {"s3_store_create_bucket_on_put": "True"}, None),
        ("404 Not Found", {}, exception.StoreError),
        ("403 Forbidden", {}, exception.StoreForbidden),
        ("503 Slow Down", {"s3_store_retries": "5"}, exception.BackendUnavailable),
    ],
)
def test_the_check_asks_for_the_bucket_once_and_writes_nothing(
    tmp_path, listener, caplog, answer, options, error
):
    store = make_store(tmp_path, s3_store_host=f"127.0.0.1:{listener.port}", **options)
    listener.answer = answer
    with pytest.raises(error) if error else contextlib.nullcontext():
        store.check()
    (head,) = listener.heads
    assert head.startswith("HEAD /pail/ HTTP/1.1")
    assert not caplog.records


def test_the_check_fails_without_the_service(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        host = f"127.0.0.1:{gone.getsockname()[1]}"
    with pytest.raises(exception.BackendUnavailable):
        make_store(tmp_path, s3_store_host=host).check()
