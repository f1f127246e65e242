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


@pytest.fixture
def done(duties, monkeypatch):
    """The duties that are done, by name, in turns at times that the test sets."""
    done = []
    now = [0.0]
    monkeypatch.setattr(cache_maintenance.time, "monotonic", lambda: now[0])
    duties._take_over_due, duties._maintenance_due = 0.0, 3600.0
    for owner, name in (
        (duties.cache, "recover"),
        (duties.cache, "flush"),
        (duties, "_take_over"),
        (duties, "maintain"),
    ):
        monkeypatch.setattr(owner, name, lambda name=name: done.append(name))

    def turn(at):
        done.clear()
        now[0] = at
        duties.turn()
        return list(done)

    return turn


def test_the_first_turn_recovers_and_takes_over(done):
    assert done(0) == ["recover", "_take_over", "flush"]
    assert done(5) == ["flush"]


def test_a_lost_index_is_recovered(done, duties):
    done(0)
    duties.cache.index._database.losses += 1
    assert done(5) == ["recover", "flush"]
    assert done(10) == ["flush"]


def test_an_old_directory_is_looked_at_again_while_the_registry_is_away(done, duties, monkeypatch):
    looks = []

    def away():
        looks.append(True)
        if len(looks) == 1:
            raise exception.RegistryUnavailable("The registry is away")

    monkeypatch.setattr(duties, "_take_over", away)
    for at in (0, 5, 29, 30, 35, 90):
        done(at)
    assert len(looks) == 2


def test_maintenance_comes_round_after_its_interval(done):
    done(0)
    assert [at for at in (3599, 3600, 3605, 7200) if "maintain" in done(at)] == [3600, 7200]


def test_no_maintenance_where_none_is_asked_for(done, duties):
    duties.conf = duties.conf.replace(image_cache_maintenance_interval=0)
    assert done(10**6) == ["recover", "_take_over", "flush"]
