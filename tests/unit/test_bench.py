"""What the benchmarks print and draw: goals, tables, results, and the picture of the manual."""

import json
import pathlib
import subprocess
import sys
from xml.etree import ElementTree

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests" / "bench"
RESULTS = sorted((BENCH / "results").glob("*.json"))
PICTURE = ROOT / "doc" / "source" / "explanation" / "performance.svg"

sys.path.insert(0, str(BENCH))

import goals  # noqa: E402
import plot  # noqa: E402
import table  # noqa: E402


def made(name, unit, yardstick, ours, theirs):
    row = table.Row(name, unit, yardstick)
    row.ours, row.theirs = list(ours), list(theirs)
    return row


@pytest.fixture
def rows():
    return [
        made("HEAD of one image", "/s", "bare eventlet", [900, 1100], [2000]),
        made("... CPU time", "us", "bare eventlet", [450], [150]),
        made("upload of 256 MiB", "MiB/s", "md5sum", [500], [400]),
        made("start to first response", "ms", "bare eventlet", [600], [0]),
        made("of <nothing>", "ms", "nothing", [1], [1]),
    ]


def test_the_picture_of_the_manual_is_made_of_the_results():
    script = [sys.executable, BENCH / "plot.py", *RESULTS, PICTURE]
    assert subprocess.run([*script, "--check"], check=False).returncode == 0
    assert "performance.svg" in PICTURE.with_suffix(".rst").read_text(encoding="utf-8")


def test_another_picture_is_noticed(tmp_path):
    other = tmp_path / "other.svg"
    other.write_text(PICTURE.read_text(encoding="utf-8").replace("goal", "gaol", 1))
    assert plot.main([*map(str, RESULTS), str(other), "--check"]) == 1
    assert plot.main([*map(str, RESULTS), str(other)]) == 0
    assert other.read_bytes() == PICTURE.read_bytes()


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"rows": [1]}', "\xff"])
def test_what_is_no_results_is_refused_in_one_line(tmp_path, capsys, text):
    results = tmp_path / "results.json"
    if text is not None:
        results.write_bytes(text.encode("latin-1"))
    with pytest.raises(SystemExit) as leaving:
        plot.main([str(results), str(tmp_path / "p.svg")])
    assert leaving.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert ": error: these are not results of a benchmark: " in last
    assert not (tmp_path / "p.svg").exists()


def test_the_table_shows_the_goals(rows):
    lines = table.table(rows).splitlines()
    ends = [" ".join(line.split()[-3:]) for line in lines[3:-1]]
    assert ends == [
        "(bare eventlet) 0.50",
        "at most 2.3",
        "at least 1",
        "most 1200 ms",
        "ms (nothing) 1.00",
    ]
    assert len({len(rule) for rule in (lines[0], lines[2], lines[-1])}) == 1
    assert "goal" not in table.table([rows[-1]])


def test_results_name_each_row_in_full(rows):
    found = json.loads(table.results(rows, "a setting"))
    assert [row["name"] for row in found["rows"]] == [
        "HEAD of one image",
        "HEAD of one image, CPU time",
        "upload of 256 MiB",
        "start to first response",
        "of <nothing>",
    ]
    assert [row["ratio"] for row in found["rows"]] == [0.5, 3.0, 1.25, None, 1.0]
    assert [row["figure"] for row in found["rows"]] == [1000, 450, 500, 600, 1]
    assert found["rows"][0]["glance"] == [900, 1100]


def test_a_bar_is_drawn_for_each_row_with_a_goal(rows):
    drawn = plot.picture([json.loads(table.results(rows, "a setting"))])
    svg = ElementTree.fromstring(drawn.encode())
    space = "{http://www.w3.org/2000/svg}"
    # The first three are the background and the legend.
    boxes = svg.findall(f"{space}rect")[3:]
    widths = [int(box.get("width")) for box in boxes]
    whole = plot.WIDTH - 2 * plot.MARGIN
    assert widths == [round(whole * share / plot.MOST) for share in (2.3 / 3, 1.25, 2)]
    assert [box.get("stroke") for box in boxes] == [
        plot.MISSED[1],
        plot.MET[1],
        plot.MET[1],
    ]
    texts = [text.text for text in svg.findall(f"{space}text")]
    assert "HEAD of one image, CPU time" in texts
    assert "3.00, at most 2.3 (bare eventlet)" in texts
    assert "600 ms, at most 1200 ms (bare eventlet)" in texts
    assert "of <nothing>" not in texts


@pytest.mark.parametrize(
    ("name", "yardstick", "bound"),
    [
        ("upload of 1024 MiB", "md5sum", 1.0),
        ("upload of 1 MiB", "md5sum", 1.0),
        ("upload of 1 MiB", "nothing", None),
        ("upload of MiB", "md5sum", None),
    ],
)
def test_a_goal_is_found_whatever_the_size(name, yardstick, bound):
    goal = goals.goal_of(name, yardstick)
    assert (goal and goal.bound) == bound


def test_more_is_better_of_rates_only():
    assert goals.Goal(0.5).share("/s", 0, 1.0) == 2
    assert goals.Goal(0.5).share("us", 0, 1.0) == 0.5
    assert goals.Goal(250, absolute=True).share("MiB", 125, 99) == 2


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--all", "--json", "/tmp/x.json"], "--all"),
        (["--json", "x", "--rounds", "3", "--dir", "y"], "--rounds 3"),
        ([], ""),
    ],
)
def test_the_command_of_a_run_names_no_places(monkeypatch, words, shown):
    monkeypatch.setattr(sys, "argv", [str(BENCH / "run.py"), *words])
    assert table.command() == f"tests/bench/run.py {shown}".strip()


def test_the_names_are_no_wider_than_the_picture():
    # At 11 pixels, sixty characters are some 350 wide.
    assert max(len(name) for name, _ in goals.GOALS) + len("1024") <= 62
