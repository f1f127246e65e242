"""Which store serves what: loading drivers, choosing one, refusing."""

import logging
import shutil
import sys
import types

import pytest

from glance import store
from glance.common import exception
from glance.common.config import Conf
from glance.store import base, location
from glance.store.base import Capability
from glance.testing.store_suite import ScriptedSource


def make(tmp_path, **options):
    return store.create_stores(
        Conf({"filesystem_store_datadir": str(tmp_path / "images"), **options})
    )


@pytest.fixture
def stores(tmp_path):
    return make(tmp_path)


@pytest.fixture
def unusable(tmp_path):
    """A place whose data directory cannot be one."""
    path = tmp_path / "unusable"
    path.mkdir()
    (path / "images").write_bytes(b"")
    return path


# -- loading --


def test_the_stores_that_come_along_are_enabled(stores):
    assert {driver.name for driver in stores} >= {"file", "http"}


def test_only_the_enabled_stores_are_loaded(tmp_path):
    stores = make(tmp_path, enabled_stores="http")
    assert [driver.name for driver in stores] == ["http"]
    with pytest.raises(exception.UnknownScheme):
        stores.for_scheme("file")


@pytest.mark.parametrize("option", ["enabled_stores", "known_stores"])
def test_a_name_that_stands_for_no_driver_stops_the_start(tmp_path, option):
    with pytest.raises(exception.ConfigError, match="nosuch"):
        make(tmp_path, **{option: "nosuch"})


def test_a_driver_whose_library_is_missing_is_left_out(tmp_path, caplog):
    stores = make(tmp_path, known_stores="glance_no_such_library.Store")
    assert {driver.name for driver in stores} >= {"file", "http"}
    said = [record for record in caplog.records if "glance_no_such_library" in record.message]
    assert [record.levelno for record in said] == [logging.ERROR]


@pytest.fixture
def outside(monkeypatch):
    """A driver from elsewhere, in a module of its own."""

    class Where(location.StoreLocation):
        schemes = ("mem",)

        @classmethod
        def parse(cls, uri):
            return cls()

        def _format(self, user):
            return "mem://"

    class Driver(base.Store):
        name = "mem"
        schemes = ("mem",)
        location_class = Where
        capabilities = Capability.READ

        def get_size(self, location):
            return 5

    module = types.ModuleType("outside_driver")
    module.Driver = Driver
    monkeypatch.setitem(sys.modules, "outside_driver", module)
    return Driver


def test_a_driver_from_elsewhere_brings_its_scheme_and_grammar(tmp_path, outside):
    stores = make(tmp_path, known_stores="outside_driver:Driver")
    assert stores.get_size("mem://x") == 5


def test_two_drivers_for_one_scheme_stop_the_start(tmp_path, outside):
    outside.schemes = ("mem", "https")
    with pytest.raises(exception.ConfigError, match="https"):
        make(tmp_path, known_stores="outside_driver:Driver")


def test_an_error_of_the_program_in_a_driver_stops_the_start(tmp_path, outside):
    outside.configure = lambda self: 1 / 0
    with pytest.raises(ZeroDivisionError):
        make(tmp_path, known_stores="outside_driver:Driver")


# -- choosing --


@pytest.mark.parametrize(
    ("name", "driver"),
    [
        ("file", "file"),
        ("filesystem", "file"),
        (" FILE ", "file"),
        ("http", "http"),
        ("https", "http"),
    ],
)
def test_a_store_name_is_a_scheme_in_any_case(stores, name, driver):
    assert stores.for_scheme(name).name == driver


@pytest.mark.parametrize("name", ["fil", "swift+h", "nosuch", "", "file://"])
def test_an_unknown_store_name_is_refused(stores, name):
    for choose in (stores.for_scheme, stores.writable):
        with pytest.raises(exception.UnknownScheme):
            choose(name)


def test_uploads_go_to_the_named_or_the_default_store(stores):
    assert stores.writable("filesystem").name == "file"
    assert stores.writable().name == "file"


def test_a_named_store_that_takes_nothing_is_the_callers_fault(stores, unusable):
    with pytest.raises(exception.StoreAddDisabled):
        stores.writable("http")
    with pytest.raises(exception.StoreAddDisabled):
        make(unusable).writable("file")


@pytest.mark.parametrize("default", ["file", "http", "nosuch"])
def test_a_default_store_that_takes_nothing_is_the_services_fault(unusable, default):
    with pytest.raises(exception.StorageWriteDenied):
        make(unusable, default_store=default).writable()


@pytest.mark.parametrize("default", ["file", "http", "nosuch"])
def test_a_program_that_takes_uploads_refuses_to_start_without_a_store_for_them(
    unusable, default, caplog
):
    with pytest.raises(exception.ConfigError, match=f"default_store {default}"):
        make(unusable, default_store=default).check_default()
    allowed = make(unusable, default_store=default, allow_readonly_default_store="True")
    allowed.check_default()
    assert f"default_store {default}" in caplog.text


def test_a_default_store_that_works_passes(stores):
    stores.check_default()


# -- data --


def test_the_check_is_about_the_default_store(tmp_path, unusable):
    stores = make(tmp_path)
    stores.check()
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(exception.BackendUnavailable) as caught:
        stores.check()
    assert caught.value.store == "file"
    # One that takes nothing has been permitted by the settings.
    make(unusable).check()
    make(tmp_path, default_store="http").check()


def test_data_is_found_read_and_deleted_by_its_location(stores):
    uri = stores.writable().add("1", ScriptedSource(b"data"), 4).location
    assert stores.get_size(uri) == 4
    with store.get_from_backend(stores, uri, 1, 2) as body:
        assert b"".join(body) == b"at"
    assert stores.owns(uri, "1")
    assert not stores.owns(uri, "2")
    store.delete_from_backend(stores, uri)
    with pytest.raises(exception.StoreObjectNotFound):
        stores.get(uri)


@pytest.mark.parametrize("uri", ["nosuch://host/x", "http://", "file://relative", "junk"])
def test_a_stored_location_that_nobody_can_read_is_not_the_callers_fault(stores, uri):
    for operation in (stores.get, stores.get_size):
        with pytest.raises(exception.UnsupportedBackend) as caught:
            operation(uri)
        assert not isinstance(caught.value, exception.Invalid)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("nosuch://host/x", exception.UnknownScheme),
        ("junk", exception.BadStoreUri),
        ("http://", exception.BadStoreUri),
        ("http://host/x", exception.StoreDeleteNotSupported),
    ],
)
def test_deleting_tells_why_it_can_never_succeed(stores, uri, expected):
    with pytest.raises(expected):
        stores.delete(uri)


def test_registered_locations_were_not_written_by_us(stores):
    assert not stores.owns("http://host/x", "1")
    assert not stores.owns("file:///etc/passwd", "passwd")
    with pytest.raises(exception.UnknownScheme):
        stores.owns("nosuch://host/x", "1")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("nosuch://host/x", exception.UnknownScheme),
        ("junk", exception.BadStoreUri),
        ("http://ann@host/x", exception.BadStoreUri),
        ("http://127.0.0.1/x", exception.BadStoreUri),
        ("https://ann:pw@8.8.8.8/x", exception.Forbidden),
        ("file:///etc/passwd", exception.BadStoreUri),
        ("filesystem:///etc/passwd", exception.BadStoreUri),
    ],
)
def test_locations_that_nobody_may_register(stores, uri, expected):
    with pytest.raises(expected):
        stores.check_registerable(uri, is_admin=False)


def test_a_web_address_may_be_registered(stores):
    stores.check_registerable("http://8.8.8.8/x", is_admin=False)
    stores.check_registerable("https://ann:pw@8.8.8.8/x", is_admin=True)


def test_sweeping_asks_every_store(stores):
    assert stores.sweep() == []


def test_stale_uploads_are_dropped_in_all_stores_that_know_of_such(tmp_path, outside):
    outside.drop_stale_uploads = lambda self: 3
    assert make(tmp_path, known_stores="outside_driver:Driver").drop_stale_uploads() == 3
