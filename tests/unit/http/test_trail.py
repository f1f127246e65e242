"""The trail that ends the way of a request back to the image that it came from."""

import pytest

from glance.common import exception, httperror
from glance.http import trail

MARKS = [trail.mark(number, "2026-01-01T00:00:00") for number in range(9)]


def read(header):
    return trail.of({"HTTP_X_GLANCE_TRAIL": header})


def test_a_trail_is_read_as_it_was_sent_on():
    way = ()
    for mark in MARKS[: trail.MAX_LENGTH]:
        way = trail.extended(way, mark)
        assert read(trail.headers(way)["X-Glance-Trail"]) == way
    assert way == tuple(MARKS[: trail.MAX_LENGTH])


def test_what_came_by_no_image_has_no_trail():
    assert trail.of({}) == () and trail.headers(()) == {}
    assert read("") == () and read(" , ,") == ()


@pytest.mark.parametrize("length", range(1, trail.MAX_LENGTH + 1))
def test_no_image_leads_back_to_itself(length):
    for mark in MARKS[:length]:
        with pytest.raises(exception.LocationLoop) as caught:
            trail.extended(tuple(MARKS[:length]), mark)
    assert httperror.status_of(caught.value) == 508


def test_a_way_through_many_images_ends():
    with pytest.raises(exception.LocationLoop):
        trail.extended(tuple(MARKS[: trail.MAX_LENGTH]), MARKS[-1])


@pytest.mark.parametrize(
    "header", ["x," * 20, ",".join(MARKS), "\xff" * 3000 + ",a,b,c,d", MARKS[0] + ",x y,=,-,*"]
)
def test_a_trail_of_any_content_is_counted_and_bounded(header):
    way = read(header)
    assert trail.MAX_LENGTH <= len(way) <= trail.MAX_LENGTH + 2
    assert all(len(mark) <= 16 for mark in way)
    with pytest.raises(exception.LocationLoop):
        trail.extended(way, MARKS[8])


def test_a_sign_in_to_swift_leads_to_no_image():
    with pytest.raises(exception.LocationLoop):
        trail.extended(trail.of({"HTTP_X_AUTH_KEY": "k"}), MARKS[0])


def test_images_are_told_apart_by_each_fact():
    assert len({trail.mark(*facts) for facts in ((1, "a"), (1, "b"), (2, "a"), ("1", "a"))}) == 4
    assert trail.mark("\udcff", None)
