"""What the operator reads of data that a store has refused or lost, and how often."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from glance import store
from glance.api import data_log
from glance.common import config, exception, log


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told(tmp_path: Any, clock: Clock) -> data_log.DataLog:
    conf = config.Conf(
        {
            "filesystem_store_datadir": str(tmp_path),
            "s3_store_host": "http://s3.example:9000",
            "s3_store_access_key": "who",
            "s3_store_secret_key": "canary",
            "s3_store_bucket": "images",
        }
    )
    return data_log.DataLog(store.create_stores(conf), clock)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "uri,place",
    [
        ("file:///srv/images/7", "the file store at file:///srv/images/7"),
        ("swift://a:u:canary@h/v1/c/7", "the swift store at swift://***:***@h/v1/c/7"),
        (
            "s3://who:canary@s3.example/images/7",
            "the s3 store at s3://***:***@s3.example/images/7",
        ),
        ("https://u:canary@h/canary?sig=canary", "the http store at https://h"),
        ("rbd://canary/7", "the rbd store at rbd://***"),
        ("canary", "the unknown store at a location that is damaged"),
        ("swift://canary", "the swift store at swift://***"),
        ("", "the unknown store at a location that is damaged"),
    ],
)
def test_lost_data_names_image_store_place_and_cause(
    told: data_log.DataLog, caplog: pytest.LogCaptureFixture, uri: str, place: str
) -> None:
    log.REQUEST_ID.set("req-1")
    err = exception.StoreObjectNotFound().because("status 404").of("s")
    told.lost(7, uri, err)
    log.REQUEST_ID.set(None)
    assert lines(caplog) == [
        f"Image 7: its data in {place} cannot be read, request req-1: StoreObjectNotFound: "
        "The image's data is missing from the s store. (status 404)"
    ]
    assert err.is_logged


def test_only_data_that_this_service_has_stored_is_an_error(
    told: data_log.DataLog, caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    own, registered, unknown = f"file://{tmp_path}/7", "http://h/7", "rbd://7"
    for uri in (own, registered, unknown):
        told.lost(uri, uri, exception.StoreObjectNotFound())
        told.lost(7, uri, exception.StoreForbidden())
        told._told.clear()
    levels = [record.levelname for record in caplog.records]
    assert levels[1::2] == ["ERROR", "WARNING", "ERROR"]


def refusal(during: str, cls: type[exception.StoreError] = exception.StorageFull) -> Any:
    err = cls().because("No space left on device").of("file")
    err.during = during
    return err


@pytest.mark.parametrize("during", ["stage", "write", "commit"])
def test_refused_data_names_the_place(
    told: data_log.DataLog, caplog: pytest.LogCaptureFixture, tmp_path: Any, during: str
) -> None:
    target = told._stores.for_scheme("file")
    told.refused(7, target, refusal(during))
    (line,) = lines(caplog)
    assert line.startswith(f"Image 7: the file store did not take its data at file://{tmp_path}/7")
    assert "(No space left on device)" in line


def test_data_that_another_upload_has_stored_is_no_error(
    told: data_log.DataLog, caplog: pytest.LogCaptureFixture
) -> None:
    target = told._stores.for_scheme("file")
    told.refused(7, target, refusal("commit", exception.StoreObjectExists))
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("scheme,place", [("s3", "/images/7"), ("file", "/7")])
def test_each_store_says_where_it_writes(told: data_log.DataLog, scheme: str, place: str) -> None:
    shown = told._stores.for_scheme(scheme).place_of("7")
    assert shown is not None
    assert shown.endswith(place)
    assert "canary" not in shown


def test_a_store_that_takes_no_data_has_no_place(told: data_log.DataLog) -> None:
    assert told._stores.for_scheme("http").place_of("7") is None


def test_the_source_of_a_copy_is_no_refusal(
    told: data_log.DataLog, caplog: pytest.LogCaptureFixture
) -> None:
    err = refusal("get", exception.StoreForbidden)
    told.refused(7, told._stores.for_scheme("file"), err)
    assert not lines(caplog)
    assert not err.is_logged


def test_a_failure_that_is_repeated_is_told_once_a_minute(
    told: data_log.DataLog, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    for _ in range(5):
        err = exception.StoreObjectNotFound()
        told.lost(7, "file:///7", err)
        assert err.is_logged
    told.lost(8, "file:///8", exception.StoreObjectNotFound())
    told.lost(7, "file:///7", exception.StoreForbidden())
    assert len(lines(caplog)) == 3
    clock.now = data_log.WINDOW
    told.lost(7, "file:///7", exception.StoreObjectNotFound())
    assert len(lines(caplog)) == 5
    assert "4 more failures" in lines(caplog)[3]


def test_many_images_do_not_fill_the_log(
    told: data_log.DataLog, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    for image_id in range(10 * data_log.LINES):
        told.refused(image_id, told._stores.for_scheme("file"), refusal("write"))
    assert len(lines(caplog)) == data_log.LINES
    assert len(told._told) == data_log.LINES
    clock.now = data_log.WINDOW
    told.lost(1, "file:///1", exception.StoreForbidden())
    assert f"{9 * data_log.LINES} more failures" in lines(caplog)[-2]
