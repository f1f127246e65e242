"""What an API process does for the image cache in the background."""

import os

import pytest

from glance import image_cache
from glance.api import cache_maintenance
from glance.common import exception
from glance.common.config import Conf
from glance.testing.cache_suite import fetched, ids, make_data, store


@pytest.fixture
def conf(tmp_path):
    return Conf(
        {
            "image_cache_enabled": True,
            "image_cache_dir": str(tmp_path / "cache"),
            "image_cache_min_free_disk": 0,
            "image_cache_maintenance_interval": 3600,
        }
    )


@pytest.fixture
def cache(conf):
    cache = image_cache.open_cache(conf)
    yield cache
    cache.close()


@pytest.fixture
def duties(cache, conf):
    return cache_maintenance.CacheMaintenance(cache, conf)


@pytest.fixture
def records(duties, monkeypatch):
    """The images that the registry calls active; it is away while `away` is among them."""
    records = {}

    def active_image(image_id):
        if "away" in records:
            raise exception.RegistryUnavailable("The registry is away")
        return records.get(image_id)

    monkeypatch.setattr(duties.account, "active_image", active_image)
    return records


def long_ago(cache):
    with cache.directory.lock():
        os.utime(cache.directory.full(".lock"), (0, 0))


def test_maintenance_drops_what_is_not_active(duties, cache, records):
    for image_id in range(3):
        store(cache, make_data(10, image_id), image_id)
    records["1"] = {"id": 1}
    long_ago(cache)
    duties.maintain()
    assert ids(cache) == ["1"]


def test_one_process_of_a_host_does_the_maintenance_for_all(duties, cache, records, conf):
    long_ago(cache)
    duties.maintain()
    store(cache, make_data(10))
    other = cache_maintenance.CacheMaintenance(cache, conf)
    other.maintain()
    assert ids(cache) == ["1"]


def test_a_registry_that_is_away_costs_no_image_and_ends_no_duty(duties, cache, records, caplog):
    image = store(cache, make_data(10))
    records["away"] = True
    long_ago(cache)
    assert duties.attempt(duties.maintain) is False
    assert fetched(cache, image) == make_data(10)
    assert "The registry is away" in caplog.text


def test_half_an_account_stops_the_start(cache, conf):
    with pytest.raises(exception.ConfigError, match="admin_user"):
        cache_maintenance.start(cache, conf.replace(admin_user="glance"))


def test_trouble_is_healed_when_it_is_over(duties, cache, tmp_path):
    (tmp_path / "cache").rename(tmp_path / "elsewhere")
    (tmp_path / "cache").touch()
    cache.open(image_cache.Image("1", 10))
    assert cache.failing
    assert duties.attempt(cache.heal) is False
    (tmp_path / "cache").unlink()
    assert duties.attempt(cache.heal) is True
    assert not cache.failing
    store(cache, make_data(10))
