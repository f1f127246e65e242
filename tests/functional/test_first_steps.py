"""The first steps show what a new user sees: an ordinary user, on a host of its own."""

import os
import re

import pytest

from support import blocks, checkout, host, images, pages, record, shells

RUNS = {"first-steps": {"": "test_the_screen_says_what_the_page_shows"}}

PAGE = pages.path("first-steps")
COLUMNS = 80


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    """The page with what the screen says now."""
    host.need()
    images.need("curl")
    held = tmp_path_factory.mktemp("held")
    checkout.copy_to(held / "glance")
    host.wheels(held, str(held / "glance"), "setuptools>=65,<81", "wheel>=0.38")
    shell = host.start(tmp_path_factory.mktemp("host"), held, COLUMNS)
    try:
        shell.run("useradd --create-home --home-dir /home/joe --shell /bin/bash joe")
        shell.run("chmod 755 /mnt && cp -r /mnt/glance /home/joe/ && chown -R joe:joe /home/joe")
        rights = ("--reuid=joe", "--regid=joe", "--init-groups")
        shell.become("setpriv", *rights, "env", "HOME=/home/joe", "USER=joe")
        return record.replay(blocks.whole(PAGE), shell)
    finally:
        shell.close()


@pytest.mark.slow
@pytest.mark.peers
def test_the_screen_says_what_the_page_shows(replayed):
    shown = record.masked(PAGE.read_text(encoding="utf-8"))
    if os.environ.get("GLANCE_TEST_RECORD") and record.masked(replayed) != shown:
        PAGE.write_text(replayed, encoding="utf-8")
        shown = record.masked(replayed)
    assert record.masked(replayed) == shown


@pytest.mark.slow
@pytest.mark.peers
def test_nothing_on_the_screen_is_a_traceback_or_leads_elsewhere(replayed):
    assert "Traceback" not in replayed
    assert set(re.findall(r"/(?:home|tmp|root|mnt|work)/\w+", replayed)) <= {"/home/joe"}


#: A page; file.py is what the block after its name holds.
STORY = """
Two commands::

    $ greeting=hello
    $ echo $greeting; echo; echo again

Save this as ``file.py``::

    from here

And read it::

    $ cat file.py
{old}
The end.
"""


@pytest.mark.parametrize("columns", [0, 80], ids=["pipe", "terminal"])
def test_a_replay_writes_what_commands_say_and_drops_what_the_page_said(tmp_path, columns):
    with shells.Shell(cwd=tmp_path, columns=columns) as shell:
        replayed = record.replay(STORY.replace("{old}", "    stale\n\n    more of it\n"), shell)
        assert replayed == record.replay(replayed, shell)
    assert "stale" not in replayed and "more of it" not in replayed
    assert "    $ echo $greeting; echo; echo again\n    hello\n\n    again\n\nSave" in replayed
    assert replayed.endswith("    $ cat file.py\n    from here\n\nThe end.\n")


def test_another_screen_is_another_page():
    page = "    $ date\n    {} a\n"
    now, then = (page.format(f"2026-11-2{day} 10:00:00") for day in "78")
    assert record.masked(now) == record.masked(then) != record.masked(then.replace(" a", " b"))


def test_a_screen_shows_what_was_written_last():
    link = "\x1b]8;;http://x\x1b\\there\x1b]8;;\x1b\\"
    assert record.screen(f"10%\r100%\r\n\x1b[1m{link}\x1b[0m \n") == "100%\nthere\n"
