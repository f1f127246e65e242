"""Which messages stay when there is no room for all."""

import random

import pytest

from glance.notifier import buffer


def kinds(box):
    return [one.priority for one in box.all()]


def test_the_oldest_come_out_first(make):
    box = buffer.Buffer(10, keep_urgent=True)
    sent = make(5)
    assert [box.append(one) for one in sent] == [None] * 5
    assert box.take(3) == sent[:3]
    box.remove(sent[0])
    box.give_back()
    assert box.take(10) == sent[1:]


def test_the_oldest_info_goes_for_a_new_message(make):
    box = buffer.Buffer(3, keep_urgent=True)
    (error,) = make(1, "ERROR")
    first, second, third, fourth = make(4)
    for one in (error, first, second):
        box.append(one)
    assert box.append(third) is first
    assert box.append(fourth) is second
    assert box.all() == [error, third, fourth]


def test_errors_go_only_when_no_info_is_left(make):
    box = buffer.Buffer(2, keep_urgent=True)
    (info,) = make(1)
    warning, late = make(1, "WARN") + make(1, "WARN")
    (error,) = make(1, "ERROR")
    box.append(warning)
    box.append(info)
    assert box.append(error) is info
    (another,) = make(1)
    assert box.append(another) is another
    assert box.append(late) is warning
    assert box.all() == [error, late]


def test_what_is_being_sent_is_not_displaced(make):
    box = buffer.Buffer(2, keep_urgent=True)
    first, second, third, fourth = make(4)
    box.append(first)
    box.append(second)
    box.take(1)
    assert box.append(third) is second
    box.give_back()
    assert box.append(fourth) is first


def test_without_a_preference_the_new_one_is_turned_away(make):
    box = buffer.Buffer(1, keep_urgent=False)
    (info,) = make(1)
    (error,) = make(1, "ERROR")
    box.append(info)
    assert box.append(error) is error
    assert box.all() == [info]


@pytest.mark.parametrize("seed", range(20))
def test_any_course_keeps_the_order_and_the_bound(make, seed):
    """Compare with the plainest model of the rules: a list."""
    chance = random.Random(seed)
    box, model, taken = buffer.Buffer(7, keep_urgent=True), [], []
    for _ in range(400):
        step = chance.choice(["append", "append", "append", "take", "give_back", "remove"])
        if step == "append":
            (new,) = make(1, chance.choice(["INFO", "INFO", "WARN", "ERROR"]))
            gone = None
            if len(model) == 7:
                free = [one for one in model if one not in taken]
                infos = [one for one in free if one.priority == "INFO"]
                if infos:
                    gone = infos[0]
                elif new.priority == "INFO" or not free:
                    gone = new
                else:
                    gone = free[0]
            assert box.append(new) is gone
            model = [one for one in [*model, new] if one is not gone]
        elif step == "take" and not taken:
            count = chance.randrange(1, 5)
            taken = model[:count]
            assert box.take(count) == taken
        elif step == "give_back":
            box.give_back()
            taken = []
        elif step == "remove" and model:
            one = chance.choice(model)
            box.remove(one)
            box.remove(one)
            model.remove(one)
        assert box.all() == model and len(box) == len(model) and box.full == (len(model) == 7)
