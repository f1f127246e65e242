"""The sample files: whole, true to the table, and without secrets. (Fresh: see test_project.)"""

import configparser
import pathlib
import re

import pytest

from glance.cli.daemon import paste, readers
from glance.cli.docs import options as options_page
from glance.common import config

ROOT = pathlib.Path(__file__).resolve().parents[4]

readers.load_options()
PROGRAMS = {program.name: program for program in options_page.PROGRAMS}


@pytest.fixture(params=sorted(PROGRAMS))
def program(request):
    return PROGRAMS[request.param]


@pytest.fixture
def text(program):
    return (ROOT / program.sample).read_text("utf-8")


def defaults(text):
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    return dict(parser.defaults())


def options_of(program):
    return [
        option for group in program.groups for option in config.GROUPS[group] if option.in_files
    ]


def uncommented(text):
    """Return a sample with all options set; other pipelines in comments stay there."""
    options, pipeline, rest = text.partition("[pipeline:")
    return re.sub(r"^# (\w+ =)", r"\1", options, flags=re.MULTILINE) + pipeline + rest


def test_every_group_of_options_is_in_some_sample():
    shown = {group for program in PROGRAMS.values() for group in program.groups}
    assert set(config.GROUPS) == shown


def test_every_option_stands_there_once(program, text):
    names = re.findall(r"^(?:# )?(\w+) =", text.partition("[pipeline:")[0], re.MULTILINE)
    assert sorted(names) == sorted(option.name for option in options_of(program))


def test_what_is_set_is_what_the_declaration_says(program, text):
    assert defaults(text) == dict(program.settings)


def test_what_is_commented_out_is_the_default(program, text, tmp_path):
    path = tmp_path / "sample.conf"
    path.write_text(uncommented(text))
    conf = paste.load_conf(program.file, str(path))
    conf.check()
    told = {"auth_mode": "noauth"}
    for option in options_of(program):
        if option.name not in program.settings:
            assert conf[option.name] == told.get(option.name, option.default), option.name


def test_secrets_are_empty(program, text):
    conf = config.Conf(defaults(uncommented(text)))
    assert [name for name in conf.secrets() if conf.is_set(name)] == []


def test_lines_fit_into_a_terminal(text):
    assert max(map(len, text.splitlines())) <= 99


def test_the_registry_of_the_sample_listens_on_loopback():
    assert PROGRAMS["glance-registry"].settings["bind_host"] == "127.0.0.1"


@pytest.mark.parametrize(
    "option, expected",
    [
        (config.Option("a", config.integer, 5, unit="seconds", minimum=1, help="Wait."),
         "# Wait. (whole number, in seconds; at least 1)\n# a = 5\n"),
        (config.Option("a", default="x", choices=("x", "y"), help="Do `it`."),
         "# Do it. (text; one of x, y)\n# a = x\n"),
        (config.Option("a_key", secret=True, default="guest", help="Key."),
         "# Key. (text; never logged)\n# a_key =\n"),
        (config.Option("a", config.words, ("x", "y"), help="Some."),
         "# Some. (list of words)\n# a = x y\n"),
    ],
    ids=["number", "choice", "secret", "list"],
)  # fmt: skip
def test_how_an_option_is_shown(option, expected):
    program = options_page.SampleFile("x", (), {})
    assert options_page._setting(program, option) == expected
