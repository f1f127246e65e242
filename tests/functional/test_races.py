"""A short run of tests/chaos/races.py on each database, and proof that its judge sees faults."""

import importlib.util
import math
import subprocess
import sys

import pytest

from support import daemons

CHAOS = daemons.ROOT / "tests" / "chaos"
_spec = importlib.util.spec_from_file_location("glance_chaos_history", CHAOS / "history.py")
history = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = history
_spec.loader.exec_module(history)

Span = history.Span


@pytest.mark.slow
@pytest.mark.parametrize(
    "database",
    [
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.peers),
        pytest.param("mysql", marks=pytest.mark.peers),
    ],
)
def test_clients_of_two_registries_lose_no_change(database, tmp_path):
    command = [sys.executable, "-W", "ignore", CHAOS / "races.py", "--seconds=20"]
    done = subprocess.run(
        [*command, f"--database={database}", f"--dir={tmp_path}"],
        capture_output=True,
        text=True,
        env=daemons.environment(),
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything that happened is possible." in done.stdout
    assert list(tmp_path.iterdir()) == []


def judged(writes, reads):
    made = history.History()
    for value, begin, end, *doubt in writes:
        made.write("x", value, Span(begin, end), is_certain=not doubt)
    for value, begin, end in reads:
        made.read("x", value, Span(begin, end))
    return made.violations()


@pytest.mark.parametrize(
    ("writes", "reads"),
    [
        ([("a", 0, 1)], [("a", 0.5, 0.6), ("a", 2, 3)]),
        # Two writes at the same time, in either order.
        ([("a", 0, 5), ("b", 0, 5)], [("a", 6, 7)]),
        ([("a", 0, 5), ("b", 0, 5)], [("b", 1, 2), ("a", 3, 4)]),
        # One write may have taken effect before the other, and be seen by nobody.
        ([("a", 0, 1), ("b", 2, 9), ("c", 3, 8)], [("c", 8.5, 9), ("c", 10, 11)]),
        # What failed may have been done, now or later, or not at all.
        ([("a", 0, 1), ("b", 2, 3, "doubt")], [("a", 4, 5)]),
        ([("a", 0, 1), ("b", 2, 3, "doubt")], [("a", 4, 5), ("b", 6, 7)]),
    ],
)
def test_a_history_that_is_possible_passes(writes, reads):
    assert judged(writes, reads) == []


@pytest.mark.parametrize(
    ("writes", "reads"),
    [
        # Nobody wrote it, or not yet.
        ([("a", 0, 1)], [("b", 2, 3)]),
        ([("a", 0, 1), ("b", 5, 6)], [("b", 2, 3)]),
        # A lost update: it is acknowledged, and the old value is there after it.
        ([("a", 0, 1), ("b", 2, 3)], [("a", 4, 5)]),
        ([("a", 0, 1), ("b", 2, 3)], [("b", 4, 5), ("a", 6, 7)]),
        # A read of the past.
        ([("a", 0, 5), ("b", 0, 5)], [("a", 6, 7), ("b", 8, 9)]),
        ([("a", 0, 1), ("b", 2, 3, "doubt")], [("b", 4, 5), ("a", 6, 7)]),
        ([("a", 0, 1), ("a", 2, 3)], []),
    ],
)
def test_a_history_that_is_impossible_is_seen(writes, reads):
    assert judged(writes, reads)


@pytest.mark.parametrize(
    ("shown", "is_possible"),
    [
        (["one", "two"], True),
        # "late" is added while the list is read, and "leaving" removed.
        (["one", "two", "late"], True),
        (["one", "two", "late", "leaving"], True),
        (["one"], False),
        (["one", "two", "two"], False),
        (["one", "two", "gone"], False),
        (["one", "two", "later"], False),
        (["one", "two", "nobody's"], False),
    ],
)
def test_what_a_list_may_show(shown, is_possible):
    made = history.History()
    collection = made.collection("list")
    for name, added, removed in (
        ("one", Span(0, 1), Span(math.inf, math.inf)),
        ("two", Span(0, 1), Span(9, 10)),
        ("late", Span(4, 6), Span(math.inf, math.inf)),
        ("leaving", Span(0, 1), Span(4, 6)),
        ("gone", Span(0, 1), Span(2, 3)),
        ("later", Span(8, 9), Span(math.inf, math.inf)),
    ):
        collection.elements[name] = history.Element(name, added, removed)
    collection.reads.append((shown, Span(4.5, 5.5)))
    assert (made.violations() == []) is is_possible


@pytest.mark.parametrize(
    ("change", "is_possible"),
    [
        (lambda life: None, True),
        (lambda life: life.created.append((409, Span(0, 2))), True),
        (lambda life: life.created.append((201, Span(0, 2))), False),
        (lambda life: life.created.append((500, Span(0, 2))), False),
        (lambda life: life.filled.append((409, Span(2, 3))), True),
        (lambda life: life.filled.append((200, Span(2, 3))), False),
        (lambda life: life.deleted.append((404, Span(5, 6))), True),
        (lambda life: life.deleted.append((200, Span(5, 6))), False),
        (lambda life: life.used.append((404, Span(4, 5.5), "use")), True),
        (lambda life: life.used.append((404, Span(3, 4), "use")), False),
        (lambda life: life.used.append((200, Span(5.5, 7), "use")), True),
        (lambda life: life.used.append((200, Span(7, 8), "use")), False),
    ],
)
def test_what_may_happen_to_an_image(change, is_possible):
    made = history.History()
    life = made.life("1")
    life.created.append((201, Span(0, 1)))
    life.filled.append((200, Span(2, 3)))
    life.deleted.append((200, Span(5, 6)))
    change(life)
    assert (made.violations() == []) is is_possible
