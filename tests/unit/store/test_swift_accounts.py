"""Who the Swift store logs in as, where, and with what; and what it says when it cannot."""

import http.server
import json
import logging
import os
import subprocess
import sys
import threading
import urllib.request

import pytest

from glance.common import exception
from glance.common.config import Conf
from glance.store import swift
from glance.store.location import get_location_from_uri
from glance.store.swift import client
from glance.streaming.retry import Backoff
from glance.testing.faults import FaultProxy
from glance.testing.store_suite import ScriptedSource

from support.swift_node import KEY, USER

pytestmark = pytest.mark.full

OTHER, OTHER_KEY = "test:other", "second"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(client, "BACKOFF", Backoff(0.01, 1))


@pytest.fixture
def make_store(swift_node, tmp_path):
    def make(**options):
        options = {"swift_store_retries": "1", **options}
        return swift.SwiftStore(Conf(swift_node.store_options(tmp_path, **options)))

    return make


@pytest.fixture
def stored(make_store):
    """The location of an image with the bytes `data`."""
    return make_store().add("1", ScriptedSource(b"data"), 4).location


def read(store, uri):
    with store.get(get_location_from_uri(uri)) as body:
        return b"".join(body)


def with_user(uri, user, key):
    return uri.replace("://", f"://{user}:{key}@")


# -- locations -----------------------------------------------------------------------------------


def test_a_location_without_credentials_is_read_with_the_configured_account(make_store, stored):
    assert "@" not in stored
    assert read(make_store(), stored) == b"data"
    assert read(make_store(swift_store_user=OTHER, swift_store_key=OTHER_KEY), stored) == b"data"


def test_an_old_location_of_the_configured_user_is_read_with_the_configured_key(
    make_store, stored
):
    # The key was changed since Diablo wrote this.
    assert read(make_store(), with_user(stored, USER, "an-old-key")) == b"data"


def test_an_old_location_of_another_user_brings_its_own_key(make_store, stored):
    store = make_store()
    assert read(store, with_user(stored, OTHER, OTHER_KEY)) == b"data"
    with pytest.raises(exception.BackendUnavailable):
        read(store, with_user(stored, OTHER, "wrong"))


@pytest.mark.parametrize("scheme", ["swift+http", "swift"])
def test_configured_credentials_go_to_the_configured_address_only(
    make_store, stored, swift_node, scheme
):
    with FaultProxy(swift_node.port) as elsewhere:
        uri = stored.replace(f":{swift_node.port}/", f":{elsewhere.port}/")
        uri = uri.replace("swift+http", scheme)
        # Without credentials: the configured address is asked, not this one.
        assert read(make_store(), uri) == b"data"
        # With the configured user's name: the location's own key is sent, and refused.
        with pytest.raises(exception.BackendUnavailable):
            store = make_store(swift_store_timeout="0.5", swift_store_retries="0")
            read(store, with_user(uri, USER, "an-old-key"))
        assert [line for line in elsewhere.seen if "auth" not in line] == []


def test_without_an_account_only_locations_with_one_can_be_read(make_store, stored, caplog):
    store = make_store(swift_store_key="")
    with pytest.raises(exception.BackendUnavailable):
        read(store, stored)
    assert "no account" in caplog.text
    assert read(store, with_user(stored, USER, KEY)) == b"data"


def test_only_what_lies_where_it_would_write_was_written_by_it(make_store, stored):
    store = make_store()
    assert store.owns(get_location_from_uri(stored), "1")
    for changed in (
        with_user(stored, OTHER, OTHER_KEY),
        stored.replace("/glance/", "/other/"),
        stored.replace("127.0.0.1", "127.0.0.2"),
        stored.replace("swift+http:", "swift:"),
        stored + "0",
    ):
        assert not store.owns(get_location_from_uri(changed), "1"), changed
    assert store.owns(get_location_from_uri(with_user(stored, USER, "x")), "1")


# -- logging in ----------------------------------------------------------------------------------


def test_administrators_register_what_the_account_opens_or_what_brings_its_own(make_store, stored):
    store, location = make_store(), get_location_from_uri(stored)
    store.check_registerable(location, is_admin=True)
    with pytest.raises(exception.Forbidden):
        store.check_registerable(location, is_admin=False)
    elsewhere = get_location_from_uri("swift://u:k@8.8.8.8/v1.0/a/b")
    store.check_registerable(elsewhere, is_admin=True)
    with pytest.raises(exception.Forbidden):
        store.check_registerable(elsewhere, is_admin=False)
    for elsewhere in ("swift+http://u:k@169.254.169.254/v1.0/a/b", "swift://8.8.8.8/v1.0/a/b"):
        with pytest.raises(exception.BadStoreUri):
            store.check_registerable(get_location_from_uri(elsewhere), is_admin=True)


def test_one_token_serves_many_operations(swift_node, tmp_path):
    with FaultProxy(swift_node.port) as proxy:
        store = swift.SwiftStore(Conf(swift_node.store_options(tmp_path, port=proxy.port)))
        for number in range(3):
            uri = store.add(str(number), ScriptedSource(b"data"), 4).location
            assert read(store, uri) == b"data"
            store.delete(get_location_from_uri(uri))
        assert proxy.count("GET", "/auth/") == 1


def test_the_internal_network_is_used_at_every_login(make_store, swift_node):
    store = make_store(swift_enable_snet="True")
    connection = store.connect()._connection
    for _ in range(2):
        url, token = connection.get_auth()
        assert url.startswith(f"http://snet-127.0.0.1:{swift_node.port}/v1/AUTH_test")
        assert (connection.url, connection.token) == (url, token)
    assert list(store._tokens.values()) == [(url, token)]


class OldKeystone(http.server.BaseHTTPRequestHandler):
    """An identity service that speaks version 2, which no living one does; Swift's tokens."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body["auth"]))
        login = body["auth"].get("passwordCredentials", {})
        if login != {"username": "ann", "password": KEY}:
            return self.answer(401, {"error": {"code": 401, "message": "no", "title": "no"}})
        request = urllib.request.Request(
            self.server.auth_url, headers={"X-Auth-User": USER, "X-Auth-Key": KEY}
        )
        with urllib.request.urlopen(request) as answer:
            token, url = answer.headers["X-Auth-Token"], answer.headers["X-Storage-Url"]
        endpoints = [
            {"region": "one", "publicURL": url, "internalURL": "http://127.0.0.1:9/internal"},
            {"region": "two", "publicURL": "http://127.0.0.1:9/other"},
        ]
        tenant = {"id": "7", "name": body["auth"]["tenantName"], "enabled": True}
        return self.answer(
            200,
            {
                "access": {
                    "token": {"id": token, "expires": "2099-01-01T00:00:00Z", "tenant": tenant},
                    "user": {"id": "3", "name": "ann", "roles": [{"name": "member"}]},
                    "serviceCatalog": [
                        {"type": "object-store", "name": "swift", "endpoints": endpoints}
                    ],
                }
            },
        )

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


@pytest.fixture
def old_keystone(swift_node):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), OldKeystone) as server:
        server.asked, server.auth_url = [], swift_node.auth_url
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("path", ["/v2.0", "/v2.0/", ""])
def test_version_2_logs_in_with_project_and_user(make_store, old_keystone, path):
    store = make_store(
        swift_store_auth_address=f"http://127.0.0.1:{old_keystone.server_port}{path}",
        swift_store_auth_version="2",
        swift_store_user="warehouse:ann",
        swift_store_region="one",
    )
    uri = store.add("1", ScriptedSource(b"data"), 4).location
    assert uri == f"swift+http://127.0.0.1:{old_keystone.server_port}{path.rstrip('/')}/glance/1"
    assert read(store, uri) == b"data"
    (asked,) = old_keystone.asked
    assert asked[0] == "/v2.0/tokens"
    assert asked[1]["tenantName"] == "warehouse"


@pytest.mark.parametrize(
    "wrong",
    [
        {"swift_store_key": "no-key"},
        {"swift_store_region": "three"},
        {"swift_store_service_type": "volume"},
    ],
)
def test_a_login_that_fails_is_told_without_secrets(make_store, old_keystone, caplog, wrong):
    caplog.set_level(logging.DEBUG)
    options = {
        "swift_store_auth_address": f"http://127.0.0.1:{old_keystone.server_port}/v2.0",
        "swift_store_auth_version": "2",
        "swift_store_user": "warehouse:ann",
        "swift_store_region": "one",
        **wrong,
    }
    with pytest.raises(exception.BackendUnavailable) as caught:
        make_store(**options).add("1", ScriptedSource(b"data"), 4)
    assert "cannot authenticate" in caplog.text
    for secret in (KEY, "no-key"):
        assert secret not in caplog.text
        assert secret not in str(caught.value)


def test_the_wanted_endpoint_is_taken_from_the_catalogue(make_store, old_keystone):
    store = make_store(
        swift_store_auth_address=f"http://127.0.0.1:{old_keystone.server_port}/v2.0",
        swift_store_auth_version="2",
        swift_store_user="warehouse:ann",
        swift_store_region="one",
        swift_store_endpoint_type="internal",
    )
    url, _ = store.connect()._connection.get_auth()
    assert url == "http://127.0.0.1:9/internal"


@pytest.mark.parametrize("version", ["1", "2", "3"])
def test_an_identity_service_that_is_away_makes_the_store_unavailable(
    make_store, tmp_path, version
):
    store = make_store(
        swift_store_auth_address="http://127.0.0.1:9/v3" if version == "3" else "127.0.0.1:9",
        swift_store_auth_version=version,
    )
    with pytest.raises(exception.BackendUnavailable):
        store.add("1", ScriptedSource(b"data"), 4)


# -- configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"swift_store_auth_address": "http://"}, "swift_store_auth_address"),
        ({"swift_store_auth_address": "http://a b/"}, "swift_store_auth_address"),
        ({"swift_store_auth_version": "3", "swift_store_user": "ann"}, "swift_store_user"),
        ({"swift_store_container": "a/b"}, "swift_store_container"),
        ({"swift_store_spool_dir": "/nowhere"}, "swift_store_spool_dir"),
    ],
)
def test_a_setting_that_cannot_work_disables_adding_and_is_named(make_store, options, reason):
    store = make_store(**options)
    assert reason in store.add_disabled
    with pytest.raises(exception.StoreAddDisabled):
        store.add("1", ScriptedSource(b"data"), 4)


def test_a_store_of_which_nothing_is_set_up_is_silent(caplog):
    caplog.set_level(logging.INFO)
    store = swift.SwiftStore(Conf({}))
    assert store.add_disabled
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_a_store_that_is_half_set_up_is_an_error_in_the_log(caplog):
    swift.SwiftStore(Conf({"swift_store_user": USER}))
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "swift_store_auth_address, swift_store_key" in record.getMessage()


@pytest.mark.parametrize("value", ["much", "0", "-1"])
def test_sizes_are_checked_at_start(value):
    with pytest.raises(exception.ConfigError):
        Conf({"swift_store_large_object_size": value}).check()


def test_an_unused_store_loads_no_library_and_a_missing_one_disables_it_alone():
    code = """
import logging, sys
if sys.argv[1] == "missing":
    sys.modules["swiftclient"] = None
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
from glance.common.config import Conf
from glance.store import Stores
more = dict.fromkeys(sys.argv[3:], "x")
stores = Stores(Conf({"filesystem_store_datadir": sys.argv[2], **more}))
print(sorted(store.name for store in stores), "swiftclient.client" in sys.modules)
"""

    def run(*arguments):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        *log, last = done.stdout.splitlines()
        return [line for line in log if "wift" in line], last

    log, last = run("there", os.devnull)
    assert "'swift'" in last
    assert last.endswith("False")
    assert log == ["INFO Store swift is not configured; it does not accept images"]
    log, last = run("missing", os.devnull, "swift_store_user", "swift_store_key")
    assert "'swift'" not in last
    (line,) = log
    assert line.startswith("ERROR Store swift is skipped")
