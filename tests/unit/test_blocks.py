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
    for section, test in sections.items()
]


def runs(block):
    """Return the claims that hold for a block."""
    return [
        claim
        for claim in CLAIMS
        if claim[0] == block.page and (not claim[1] or claim[1] in block.sections)
    ]


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
        meant = [b for b in blocks.every() if b.page == page and not b.excuse]
        assert [b for b in meant if not section or section in b.sections], (page, section)
        path = pages.ROOT / "README.rst" if page == "README" else pages.path(page)
        assert not blocks.is_made(path)


def test_the_counts_of_the_book():
    found = blocks.every()
    excused = sum(block.excuse is not None for block in found)
    print(f"{len(found) - excused} blocks run, {excused} blocks excused")
    assert len(found) > 100 and excused < len(found) / 2


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
