"""What the base class does for every driver: configuration, transfer, ids."""

import hashlib
import logging

import pytest

from glance.common import exception
from glance.common.config import Conf
from glance.store import base
from glance.store.base import CHUNK, Capability
from glance.testing.store_suite import Boom, ScriptedSource, failing_after, make_data


def unconfigured(self):
    raise exception.BadStoreConfiguration(store_name="fake", reason="no key is set")


class Fake(base.Store):
    name = "fake"
    schemes = ("fake",)
    capabilities = Capability.READ | Capability.WRITE


@pytest.mark.parametrize("step", ["configure", "configure_add"])
def test_a_store_with_half_of_its_options_takes_nothing_and_is_an_error(monkeypatch, caplog, step):
    monkeypatch.setattr(Fake, step, unconfigured)
    fake = Fake(Conf({}))
    assert "no key is set" in fake.add_disabled
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    with pytest.raises(exception.StoreAddDisabled) as caught:
        fake.require_add()
    assert "key" not in str(caught.value)


def test_a_store_with_none_of_its_options_is_nothing_to_worry_about(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(Fake, "configure_add", unconfigured)
    monkeypatch.setattr(Fake, "is_configured", lambda self: False)
    Fake(Conf({}))
    assert [record.levelno for record in caplog.records] == [logging.INFO]


@pytest.mark.parametrize("operation", ["get", "get_size"])
def test_what_a_driver_leaves_out_is_an_error_of_the_program(operation):
    with pytest.raises(NotImplementedError):
        getattr(Fake(Conf({})), operation)(None)


class Recorder(base.StagedWrite):
    """A staged write that keeps everything, and fails where it is told to."""

    def __init__(self, fault=lambda count: None):
        self.fault = fault
        self.data, self.ended = b"", None

    def write(self, data):
        assert self.ended is None
        self.fault(len(self.data))
        self.data += data

    def commit(self):
        self.ended = "committed"
        return "fake://1"

    def abort(self):
        self.ended = self.ended or "aborted"


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 9 * CHUNK + 5])
def test_a_transfer_moves_and_digests_every_byte_in_order(size):
    data = make_data(size)
    staged = Recorder()
    received = base.transfer(ScriptedSource(data), staged)
    assert staged.data == data
    assert staged.ended is None
    assert received[:2] == (size, hashlib.md5(data).hexdigest())


@pytest.mark.parametrize("after", [0, CHUNK, 3 * CHUNK])
def test_an_error_of_writing_ends_the_transfer(after):
    staged = Recorder(failing_after(after, Boom()))
    source = ScriptedSource(make_data(30 * CHUNK))
    with pytest.raises(Boom):
        base.transfer(source, staged)
    assert source.count <= after + (base.IN_FLIGHT + 2) * CHUNK


def test_an_error_of_reading_ends_the_transfer_and_nobody_writes_any_more():
    staged = Recorder()
    with pytest.raises(Boom):
        base.transfer(
            ScriptedSource(make_data(9 * CHUNK), failing_after(5 * CHUNK, Boom())), staged
        )
    staged.abort()
    assert len(staged.data) <= 5 * CHUNK


@pytest.mark.parametrize("text", ["1", "a.b", "A-b_c"])
def test_plain_names_are_ids(text):
    assert base.check_image_id(text) == text
