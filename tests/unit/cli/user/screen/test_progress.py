"""The line on a terminal: what it says, how often, and that it is drawn nowhere else."""

import io
import re

import pytest

from glance.cli.user.screen import progress

MIB = 1024 * 1024


class Terminal(io.StringIO):
    def isatty(self):
        return True

    @property
    def lines(self):
        """What stood on the line, one drawing after the other."""
        return re.findall(r"\r(.*?)\x1b\[K", self.getvalue())


@pytest.fixture
def drawn():
    """A line with a clock that the test moves."""
    now = [0.0]
    line = progress.Line("disk.raw", Terminal(), clock=lambda: now[0])

    def move(seconds, done, total=None):
        now[0] += seconds
        line.moved(done, total)

    line.move = move
    return line


def test_line_tells_share_amount_rate_and_remaining_time(drawn):
    drawn.move(0, 0, 100 * MIB)
    drawn.move(1, 25 * MIB, 100 * MIB)
    assert drawn.stream.lines[-1] == ("disk.raw   25%  25.0 MiB of 100 MiB  25.0 MiB/s  0:03 left")


def test_line_without_a_total_tells_amount_and_rate(drawn):
    drawn.move(0, 0)
    drawn.move(2, MIB)
    assert drawn.stream.lines[-1] == "disk.raw  1.00 MiB  512 KiB/s"


def test_rate_is_that_of_the_last_seconds(drawn):
    for second in range(20):
        drawn.move(1, second * MIB)
    for _ in range(10):
        drawn.move(1, 20 * MIB)
    assert "/s" not in drawn.stream.lines[-1]


def test_line_is_drawn_a_few_times_a_second(drawn):
    for number in range(1000):
        drawn.move(0.001, number)
    assert 4 <= len(drawn.stream.lines) <= 6


def test_transfer_that_goes_on_does_not_count_old_bytes_into_its_rate(drawn):
    drawn.move(0, 90 * MIB, 100 * MIB)
    drawn.move(1, 91 * MIB, 100 * MIB)
    assert "1.00 MiB/s  0:09 left" in drawn.stream.lines[-1]


def test_end_tells_the_average_and_goes_to_the_next_line(drawn):
    drawn.move(0, 0, 4 * MIB)
    drawn.move(2, 4 * MIB, 4 * MIB)
    drawn.end()
    assert drawn.stream.getvalue().endswith("100%  4.00 MiB of 4.00 MiB  2.00 MiB/s\x1b[K\n")


def test_line_that_never_was_needs_no_end(drawn):
    drawn.end()
    assert drawn.stream.getvalue() == ""


def test_long_label_gives_way_to_the_figures():
    line = progress.Line("x" * 200, Terminal(), clock=lambda: 1.0)
    line.moved(5, 10)
    assert len(line.stream.lines[0]) <= 79
    assert line.stream.lines[0].endswith("...   50%  5 bytes of 10 bytes")


def test_nothing_is_shown_where_standard_error_is_no_terminal(monkeypatch):
    monkeypatch.setattr(progress.sys, "stderr", io.StringIO())
    with progress.shown("x") as tell:
        assert tell is None
    assert progress.sys.stderr.getvalue() == ""


def test_label_cannot_steer_the_terminal(monkeypatch):
    monkeypatch.setattr(progress.sys, "stderr", Terminal())
    with progress.shown("a\x1b[2Jb") as tell:
        tell(1, 2)
    assert progress.sys.stderr.lines[0].startswith("a?[2Jb  ")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "0.98 KiB"),
        (15 * 1024, "15.0 KiB"),
        (3 * 1024**3, "3.00 GiB"),
        (5000 * 1024**5, "5000 PiB"),
    ],
)
def test_amount(count, text):
    assert progress.amount(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0:00"), (59.6, "1:00"), (3725, "1:02:05"), (1e12, "99:59:59")]
)
def test_duration(seconds, text):
    assert progress.duration(seconds) == text


def test_upload_shows_its_progress_to_a_person(glance):
    done = glance("add", "name=web", stdin=b"x" * 300_000, watching=True)
    assert done.out == "Added new image with ID: 1\n"
    assert "web  100%  293 KiB of 293 KiB" in done.err


def test_upload_is_silent_elsewhere(glance):
    assert glance("add", "name=web", "is_public=1", stdin=b"x" * 300_000).err == ""
