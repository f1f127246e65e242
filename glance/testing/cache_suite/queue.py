"""The queue of images to fetch."""

# The tests take fixtures, whose types pytest knows and a type checker does not.
# mypy: allow-untyped-defs

from __future__ import annotations

import concurrent.futures
import dataclasses
import time

import pytest

from glance.common import exception
from glance.image_cache import (
    COMPLETE,
    IN_PROGRESS,
    INCOMPLETE,
    QUEUED,
    CacheRefused,
    Image,
    QueueItem,
)
from glance.testing.cache_suite.material import (
    DriverFixtures,
    image_of,
    in_child,
    make_data,
    store,
)


class QueueSuite(DriverFixtures):
    """The prefetch queue: order, who takes what, what becomes of it."""

    def test_queued_images_come_in_their_order(self, cache, make):
        for image_id in (3, 1, 2):
            cache.queue_add(Image(str(image_id), 10, name=f"n{image_id}"))
        assert [item.image_id for item in make().queue_list()] == ["3", "1", "2"]
        assert cache.queue_list()[0].name == "n3"
        assert cache.stats()["queued"] == 3
        assert [cache.queue_take().image_id for _ in range(3)] == ["3", "1", "2"]
        assert cache.queue_take() is None

    def test_an_image_is_queued_once(self, cache):
        image = image_of(make_data(10))
        cache.queue_add(image)
        for reason in ("queued", "in-progress"):
            with pytest.raises(CacheRefused) as caught:
                cache.queue_add(image)
            assert caught.value.reason == reason
            cache.queue_take()
        store(cache, make_data(10), 2)
        with pytest.raises(CacheRefused) as caught:
            cache.queue_add(image_of(make_data(10), 2))
        assert caught.value.reason == COMPLETE
        with (
            cache.begin(image_of(make_data(10), 3)),
            pytest.raises(CacheRefused) as caught,
        ):
            cache.queue_add(image_of(make_data(10), 3))
        assert caught.value.reason == INCOMPLETE

    def test_an_image_that_gets_cached_leaves_the_queue(self, cache):
        cache.queue_add(image_of(make_data(10)))
        store(cache, make_data(10))
        assert cache.queue_list() == []

    def test_a_failed_image_waits_longer_each_time_and_is_dropped_in_the_end(self, cache):
        cache.queue_add(image_of(make_data(10)))
        item = cache.queue_take()
        pauses = []
        for _ in range(5):
            assert cache.queue_return(item, exception.BackendUnavailable()) is True
            (item,) = cache.queue_list()
            assert (item.state, item.owner) == ("queued", None)
            assert item.last_error == "BackendUnavailable"
            pauses.append(round(item.not_before - time.time(), -1))
            assert cache.queue_take() is None
        assert pauses == [60, 120, 240, 480, 960]
        assert cache.queue_return(item, exception.BackendUnavailable()) is False
        assert cache.queue_list() == []

    def test_an_image_put_back_without_an_error_comes_again_at_once(self, cache):
        cache.queue_add(image_of(make_data(10)))
        item = cache.queue_take()
        cache.queue_return(item)
        assert cache.queue_take().attempts == 0

    def test_what_a_dead_process_was_fetching_is_queued_again(self, cache):
        cache.queue_add(image_of(make_data(10), 1))
        cache.queue_add(image_of(make_data(10), 2))
        in_child(cache.queue_take)
        mine = cache.queue_take()
        assert cache.clean().requeued == 1
        states = {item.image_id: item.state for item in cache.queue_list()}
        assert states == {"1": "queued", "2": "in-progress"}
        cache.queue_done(mine)
        assert [item.image_id for item in cache.queue_list()] == ["1"]

    def test_only_waiting_images_can_be_taken_off_the_queue(self, cache):
        for image_id in range(3):
            cache.queue_add(Image(str(image_id), 10))
        cache.queue_take()
        assert cache.queue_delete(0) is False
        assert cache.queue_delete(7) is False
        assert cache.queue_delete(1) is True
        assert cache.queue_delete_all() == 1
        assert [item.image_id for item in cache.queue_list()] == ["0"]

    def test_each_of_many_takes_another_image(self, make):
        caches = [make() for _ in range(4)]
        for image_id in range(12):
            caches[0].queue_add(Image(str(image_id), 10))
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            taken = list(pool.map(lambda number: caches[number % 4].queue_take(), range(14)))
        found = [item.image_id for item in taken if item is not None]
        assert sorted(found, key=int) == [str(image_id) for image_id in range(12)]

    def test_an_image_whose_time_has_not_come_is_passed_over(self, cache):
        queue = cache.index.queue
        first, second = QueueItem("1", "x", 1.0, not_before=100.0), QueueItem("2", None, 2.0)
        assert [queue.add(item) for item in (first, second)] == [True, True]
        assert queue.add(dataclasses.replace(first, name="y")) is False
        assert queue.items() == [first, second]
        taken = queue.take("me", 99.0)
        assert taken == dataclasses.replace(second, state=IN_PROGRESS, owner="me")
        assert queue.take("me", 99.0) is None
        assert queue.take("me", 100.0).image_id == "1"

    def test_an_image_that_left_the_queue_is_not_put_back(self, cache):
        queue = cache.index.queue
        queue.add(QueueItem("1", None, 1.0))
        taken = queue.take("me", 2.0)
        assert queue.remove("1", only=QUEUED) is False
        assert queue.remove("1") is True
        queue.put_back(taken)
        assert queue.items() == []
