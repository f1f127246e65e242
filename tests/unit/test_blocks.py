"""Each block of each page is run by a test, or the page says why it is not."""

import collections
import pathlib

import pytest

from support import blocks, pages

TESTS = pathlib.Path(__file__).resolve().parents[1]
MODULES = sorted(path for path in TESTS.rglob("test_*.py") if blocks.claims(path))
#: Page, section, module and test of all that is said to be run.
CLAIMS = [
    (page, section, module, test)
    for module in MODULES
    for page, sections in blocks.claims(module).items()
    for section, tests in sections.items()
    for test in blocks.each(tests)
]


def runs(block):
    """Return the claims that hold for a block."""
    return [claim for claim in CLAIMS if block in blocks.meant(*claim[:2])]


@pytest.mark.parametrize("page", sorted({block.page for block in blocks.every()}))
def test_each_block_of_a_page_is_run_or_excused(page):
    found = [block for block in blocks.every() if block.page == page]
    neither = [f"{page}:{b.line}" for b in found if not b.excuse and not runs(b)]
    assert not neither, "run them in a test that says so in RUNS, or add `.. not-run: why`"
    counts = collections.Counter("excused" if block.excuse else "run" for block in found)
    print(f"{page}: {counts['run']} run, {counts['excused']} excused")


def test_what_is_said_to_be_run_exists():
    for page, section, module, test in CLAIMS:
        assert test in blocks.tests_of(module), f"{module} has no {test}"
        assert blocks.meant(page, section), (page, section)
        path = pages.ROOT / "README.rst" if page == "README" else pages.path(page)
        assert not pages.is_made(path)


def test_the_counts_of_the_book():
    found = blocks.every()
    excused = sum(block.excuse is not None for block in found)
    print(f"{len(found) - excused} blocks run, {excused} blocks excused")
    assert len(found) > 100 and excused < len(found) / 2


@pytest.fixture
def taken():
    """What this module has taken, as if it had begun now."""
    here = blocks.TAKEN[__file__]
    before = set(here)
    here.clear()
    yield here
    here.clear()
    here.update(before)


def test_what_a_module_takes_from_a_page_is_known(tmp_path, taken):
    story = page(tmp_path, STORY)
    assert [*blocks.read(story, "S3")] == ["five = 5", "six"]
    assert [*blocks.read(story, where=lambda text: "three" in text)] == ["three"]
    assert taken == {("story", 36), ("story", 44), ("story", 20)}
    assert [b for b in blocks.read(story, excused=False) if "three" in b] == []
    assert blocks.whole(story) == STORY
    assert len(taken) == 5


def test_only_what_is_used_is_taken(tmp_path, taken):
    found = blocks.read(page(tmp_path, STORY))
    assert len(found) == 5 and not taken
    assert found[2] == "four" and found[3:] == ["five = 5", "six"]
    assert taken == {("story", line) for line in (24, 36, 44)}


def test_a_claim_without_its_blocks_is_found(taken):
    runs = {"one-host": {"Try it": "test_a", "Remove": "test_b"}}
    (begin,), (end,) = (blocks.meant("one-host", section) for section in runs["one-host"])
    assert blocks.untaken(__file__, runs, ["test_a"]) == [f"one-host:{begin.line} (test_a)"]
    list(blocks.read(pages.path("one-host"), "Try it"))
    assert blocks.untaken(__file__, runs, ["test_a"]) == []
    assert blocks.untaken(__file__, runs, ["test_a", "test_b"]) == [
        f"one-host:{end.line} (test_b)"
    ]


STORY = """\
=====
Title
=====

First
=====

Text::

    $ one
      more

    two

.. not-run: because
   of that

Then::

    three

#. Item::

       four

   Not in it.

S3
==

Deeper
------

.. code-block:: ini

   five = 5

.. list-table::

   * - a cell

::

    six
"""


def page(directory, text):
    path = directory / "story.rst"
    path.write_text(text)
    return path


def test_blocks_are_found_with_their_sections_and_excuses(tmp_path):
    found = [block[1:] for block in blocks.of(page(tmp_path, STORY))]
    assert found == [
        (("First",), "$ one\n  more\n\ntwo", 10, None),
        (("First",), "three", 20, "because of that"),
        (("First",), "four", 24, None),
        (("S3", "Deeper"), "five = 5", 36, None),
        (("S3", "Deeper"), "six", 44, None),
    ]


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("a = 1\n\n[filter:b]\nc.d = e", True),
        ("[composite:x]\n/v1 = y", True),
        ("[Service]\nReadWritePaths=/srv", False),
        ("a = f(\n    1)", False),
        ("$ a\nb = 1", False),
        ("a = 1\nprint(a)", False),
    ],
)
def test_blocks_of_options_are_told_from_others(text, has):
    assert blocks.has_options(text) is has


@pytest.mark.parametrize(
    "text",
    ["Text.\n\n.. not-run: x\n", ".. not-run: x\n\nText.\n\nMore::\n\n    block\n"],
    ids=["at the end", "elsewhere"],
)
def test_an_excuse_for_nothing_is_an_error(tmp_path, text):
    with pytest.raises(AssertionError, match="excuse"):
        blocks.of(page(tmp_path, text))


def test_a_claim_is_read_from_the_text_of_a_module(tmp_path):
    module = tmp_path / "test_it.py"
    module.write_text('import nothing\nRUNS = {"a": {"B": "test_c"}}\ndef test_c(): ...\n')
    assert blocks.claims(module) == {"a": {"B": "test_c"}}
    assert blocks.tests_of(module) == {"test_c"}
