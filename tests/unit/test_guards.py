"""Guards that forbid something in a place: the place is there, or they would guard nothing."""

import ast
import pathlib
import re

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
#: Test modules that name files and modules of the project in texts.
GUARDS = (
    "test_layers.py",
    "test_project.py",
    "test_etc.py",
    "test_public_names.py",
    "cli/user/test_command.py",
)
PATH = re.compile(r"(?:\.ci|bin|doc|etc|glance|tests)(?:/[\w.-]+)+")
MODULE = re.compile(r"glance(?:\.(?!conf$)[a-z]\w*)+")


def named(text):
    """Return the places that the texts of a module name."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if PATH.fullmatch(node.value):
                yield ROOT / node.value
            elif MODULE.fullmatch(node.value):
                yield ROOT / node.value.replace(".", "/")


def is_there(place):
    return place.exists() or place.with_suffix(".py").exists()


def test_places_are_recognised():
    text = "a = {'glance/store', 'glance.store.base', 'etc/glance-api.conf', 'glance is', 'a/b'}"
    found = {str(place.relative_to(ROOT)) for place in named(text)}
    assert found == {"glance/store", "glance/store/base", "etc/glance-api.conf"}
    assert all(map(is_there, named(text)))
    assert not any(map(is_there, named("'glance/nowhere.py', 'glance.nowhere', 'etc/nothing'")))


@pytest.mark.parametrize("guard", GUARDS)
def test_what_a_guard_names_is_there(guard):
    places = list(named((HERE / guard).read_text(encoding="utf-8")))
    assert not [str(place.relative_to(ROOT)) for place in places if not is_there(place)]
