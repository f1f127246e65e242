"""The page about the Python client names methods and errors that the client has."""

import re

import pytest

from glance import client
from glance.common import exception, httperror

from support import pages

# Errors of the client that no status of a response stands for, and one for a wrong argument.
OTHERS = {"Invalid", "UnexpectedStatus", "ClientConnectionError", "ChecksumMismatch"}


def section(title):
    text = pages.text("python-client")
    found = re.search(rf"^{title}\n=+\n(.*?)(?=^[^\n]+\n===+\n|\Z)", text, re.M | re.S)
    return found[1]


def test_every_listed_method_exists():
    cells = re.findall(r"^   \* - (.*?)^     - ", section("Methods"), re.M | re.S)
    listed = [name for cell in cells for name in re.findall(r"``(\w+)``", cell)]
    assert len(listed) > 20
    assert [name for name in listed if not callable(getattr(client.Client, name, None))] == []


def test_every_error_of_a_status_is_listed_with_it():
    rows = re.findall(r"^``(\w+)``  +(\d{3})?", section("Errors"), re.M)
    listed = dict(rows)
    wanted = {row.error.__name__: str(row.status) for row in httperror.TABLE if row.client}
    del wanted["BadRequest"], wanted["Forbidden"]
    assert "Forbidden`` is 403" in section("Errors")
    assert {name: listed.get(name) for name in wanted} | {"NotAuthorized": "401"} == wanted
    assert set(listed) == set(wanted) | OTHERS


@pytest.mark.parametrize("name", re.findall(r"^``(\w+)``", section("Errors"), re.M))
def test_listed_errors_exist(name):
    assert issubclass(getattr(exception, name), exception.Error)
