"""Numbers: what is one, and what Python alone takes for one."""

import pytest

from glance.common import config, numbers

WHOLE = ["0", "7", "007", "9" * 19]
ONLY_PYTHONS = ["1_0", " 7", "7 ", "7\n", "٧", "７", "\xa07", "0x7", "--7", "+ 7", "", "²", "7a"]


@pytest.mark.parametrize("text", WHOLE)
def test_digits_are_a_number(text):
    assert numbers.whole(text) == numbers.signed(text) == int(text)
    assert numbers.real(text) == float(text)


@pytest.mark.parametrize("text", ONLY_PYTHONS)
def test_anything_else_is_none(text):
    assert numbers.whole(text) is None
    assert numbers.signed(text) is None
    assert numbers.real(text) is None


def test_the_number_of_digits_is_bounded():
    assert numbers.whole("1" * 20) is None
    assert numbers.whole("12", 1) is None
    assert numbers.signed("-" + "1" * 20) is None
    assert numbers.real("1" * 101) is None


def test_signs_are_for_signed_numbers():
    assert numbers.whole("-7") is None and numbers.whole("+7") is None
    assert numbers.signed("-7") == -7 and numbers.signed("+7") == 7
    assert numbers.real("-7.5e1") == -75 and numbers.real(".5") == 0.5 and numbers.real("1.") == 1


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e", ".", "1.e1.", "0x1p3"])
def test_no_number_is_infinite_or_missing(text):
    assert numbers.real(text) is None


@pytest.mark.parametrize("kind", [config.integer, config.port, config.real])
@pytest.mark.parametrize("text", ["1_0", "٧", "7x", "nan", ""])
def test_options_take_numbers_of_this_kind_only(kind, text):
    with pytest.raises(ValueError, match="number"):
        kind(text)
