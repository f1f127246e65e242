"""Classes by name."""

import importlib.metadata
import json
import sys

import pytest

from glance.common import plugin

BUILTIN = {"decode": "json:JSONDecoder", "broken": "glance_no_such_module:Thing"}


@pytest.fixture
def entry_points(monkeypatch):
    """Pretend that an installed package has an entry point."""

    def find(*, group, name=None):
        found = [importlib.metadata.EntryPoint("outside", "json:JSONEncoder", "glance.things")]
        return [entry for entry in found if group == entry.group and name in (None, entry.name)]

    monkeypatch.setattr(importlib.metadata, "entry_points", find)


def load(name):
    return plugin.load("glance.things", name, BUILTIN)


def test_the_built_in_table_comes_first():
    assert load("decode") is json.JSONDecoder


def test_entry_points_of_the_group_are_found(entry_points):
    assert load("outside") is json.JSONEncoder
    assert plugin.names("glance.things") == ["outside"]
    assert plugin.names("glance.other") == []


@pytest.mark.parametrize("path", ["json.JSONEncoder", "json:JSONEncoder"])
def test_a_dotted_path_stands_for_itself(path):
    assert load(path) is json.JSONEncoder


def test_an_unknown_name_is_answered_with_the_known_ones(entry_points):
    with pytest.raises(LookupError, match="nothing is not one of: broken, decode, outside"):
        load("nothing")


def test_a_path_without_such_an_attribute_is_unknown():
    with pytest.raises(LookupError, match="module json has no Nothing"):
        load("json.Nothing")


@pytest.mark.parametrize("name", ["broken", "glance_no_such_module.Thing"])
def test_a_missing_module_shows_as_such(name):
    with pytest.raises(ImportError):
        load(name)


def test_only_what_is_asked_for_is_imported(tmp_path, monkeypatch):
    (tmp_path / "glance_lazy.py").write_text("class Thing: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    table = {"lazy": "glance_lazy:Thing", **BUILTIN}
    plugin.load("glance.things", "decode", table)
    assert "glance_lazy" not in sys.modules
    assert plugin.load("glance.things", "lazy", table).__name__ == "Thing"
    del sys.modules["glance_lazy"]
