"""Which program reads which options: the table, and the warnings that are made from it."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from glance.cli.daemon import readers
from glance.common import config, exception

readers.load_options()
DAEMONS = ("glance-api", "glance-registry")


def own_names(program: str) -> list[str]:
    groups = readers.GROUPS[program]
    return [option.name for group in groups for option in config.GROUPS[group]]


@pytest.mark.parametrize("program", readers.GROUPS)
def test_each_option_of_another_program_is_named(program: str) -> None:
    own = set(own_names(program))
    stem = readers.STEMS.get(program, program)
    others = set(config.TABLE) - own
    found = readers.misplaced(program, f"/etc/glance/{stem}.conf", [*own, *others, "x", "keys"])
    assert found.keys() == others
    for name, reader in found.items():
        assert name in own_names(reader), name


@pytest.mark.parametrize(
    "program,name,reader",
    [
        ("glance-api", "user_storage_quota", "glance-registry"),
        ("glance-api", "sql_timeout", "glance-registry"),
        ("glance-api", "wakeup_time", "glance-scrubber"),
        ("glance-registry", "registry_port", "glance-api"),
        ("glance-registry", "default_store", "glance-api"),
        ("glance-scrubber", "bind_port", "glance-api"),
        ("glance-cache-pruner", "registry_host", "glance-api"),
    ],
)
def test_well_known_mistakes(program: str, name: str, reader: str) -> None:
    stem = readers.STEMS.get(program, program)
    if config.group_of(name) is None:
        pytest.fail(f"{name} is no option")
    assert readers.misplaced(program, f"/x/{stem}.conf", [name]) == {name: reader}


@pytest.mark.parametrize("path", ["/etc/glance/glance-api.conf", "/etc/glance/cache.conf"])
def test_a_program_that_shares_a_file_names_nothing(path: str) -> None:
    assert readers.misplaced("glance-cache-pruner", path, ["registry_host", "bind_port"]) == {}


def test_a_daemon_reads_its_own_file_whatever_its_name() -> None:
    found = readers.misplaced("glance-api", "/tmp/any.conf", ["sql_connection"])
    assert found == {"sql_connection": "glance-registry"}


def test_a_program_is_known_by_the_name_of_its_application() -> None:
    found = readers.misplaced("glance-pruner", "/x/glance-pruner.conf", ["registry_host"])
    assert found == {"registry_host": "glance-api"}


def test_a_program_that_is_not_in_the_table_names_nothing() -> None:
    assert readers.misplaced("other", "/x/other.conf", ["sql_connection"]) == {}


@pytest.mark.parametrize("daemon", DAEMONS)
def test_nothing_is_imported_for_a_file_without_foreign_names(daemon: str) -> None:
    module = {"glance-api": "glance.api.v1", "glance-registry": "glance.registry.server"}[daemon]
    code = (
        f"import sys, {module}, glance.http.server.options; from glance.cli.daemon import readers;"
        "before = set(sys.modules);"
        f"assert readers.misplaced({daemon!r}, 'x', ['bind_port', 'policy_class']) == {{}};"
        "print(sorted(set(sys.modules) - before))"
    )
    root = pathlib.Path(readers.__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        cwd=root,
        check=True,
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "program,name,expected",
    [
        ("glance-api", "rabbit_port", True),
        ("glance-registry", "rabbit_port", False),
        ("glance-cache-reaper", "rabbit_port", False),
        ("glance-cache-reaper", "image_cache_dir", True),
        ("glance-pruner", "rabbit_port", False),
        ("glance-registry", "sql_timeout", True),
        ("glance-registry", "unknown_name", True),
        ("another-program", "rabbit_port", True),
    ],
)
def test_a_program_reads_its_own_groups_and_what_nobody_else_does(
    program: str, name: str, expected: bool
) -> None:
    assert readers.reads(program, name) is expected


def test_a_wrong_value_that_is_not_read_is_no_error() -> None:
    conf = config.Conf({"rabbit_port": "x", "bind_port": "y"}, source="/f")
    with pytest.raises(exception.ConfigError) as caught:
        conf.check(lambda name: readers.reads("glance-registry", name))
    (problem,) = caught.value.problems
    assert "bind_port" in problem
