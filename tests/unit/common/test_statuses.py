"""The statuses that glance sends, and their phrases."""

import http

import pytest

from glance.common import httperror, statuses

#: Phrases that Diablo sent; RFC 9110 has others.
OLD = {
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    416: "Requested Range Not Satisfiable",
}


@pytest.mark.parametrize("status", statuses.REASONS)
def test_phrases_are_those_of_the_standard_except_for_old_ones(status):
    phrase = OLD.get(status) or http.HTTPStatus(status).phrase
    assert statuses.status_line(status) == f"{status} {phrase}"


def test_every_error_has_a_status_of_the_table():
    assert {row.status for row in httperror.TABLE} <= set(statuses.REASONS)


def test_a_status_beyond_the_table_is_a_fault_of_the_program():
    with pytest.raises(KeyError):
        statuses.status_line(299)
