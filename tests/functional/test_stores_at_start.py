"""What the API says at its start about stores that it cannot use, and when it does not start."""

import pytest

from support import daemons, faults

pytestmark = pytest.mark.full

MODULE = """
import no_such_library
"""


@pytest.fixture
def start(tmp_path):
    """Start daemons with options of the API; the log is read when all workers serve."""
    sites = []

    def run(**options):
        site = daemons.Site(tmp_path / f"site{len(sites)}", workers=3, api=options)
        sites.append(site)
        site.start()
        faults.until(lambda: "with 3 process(es)" in site.api.log(), "all workers serve")
        return site.api.log().splitlines()

    yield run
    for site in sites:
        site.kill()


def about(lines, store):
    """Return level and text of what was said about a store."""
    said = [line for line in lines if f"tore {store} " in line]
    return [(line.split()[2], line.partition("] ")[2]) for line in said]


def test_a_store_without_settings_is_told_once_and_in_passing(start):
    lines = start()
    for store in ("swift", "s3"):
        assert about(lines, store) == [
            ("INFO", f"Store {store} is not configured; it does not accept images")
        ]


def test_a_store_with_half_of_its_settings_is_one_error(start):
    lines = start(swift_store_user="account:user", swift_store_key="canary")
    ((level, text),) = about(lines, "swift")
    assert level == "ERROR"
    assert text == "Store swift does not accept images: set swift_store_auth_address"
    assert "canary" not in "\n".join(lines)


def test_a_store_whose_library_is_missing_is_one_error(start, tmp_path, monkeypatch):
    (tmp_path / "half_a_store.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    lines = start(known_stores="half_a_store.Store")
    ((level, text),) = about(lines, "half_a_store.Store")
    assert level == "ERROR"
    assert text.startswith("Store half_a_store.Store is skipped, because a library is missing: ")
    assert "no_such_library" in text


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"default_store": "swift"}, "does not accept images: set swift_store_auth_address"),
        ({"default_store": "http"}, "does not accept images: the store is read-only"),
        ({"default_store": "floppy"}, "does not accept images: no such store is enabled"),
        ({"default_store": "file", "enabled_stores": "http"}, "no such store is enabled"),
    ],
)
def test_a_default_store_that_takes_nothing_stops_the_start(start, options, reason):
    with pytest.raises(AssertionError, match="ended at start") as caught:
        start(**options)
    (line,) = [line for line in str(caught.value).splitlines() if line.startswith("ERROR")]
    assert line.startswith("ERROR: /")
    assert f"/glance-api.conf: default_store {options['default_store']} " in line
    assert reason in line


def test_a_default_store_that_takes_nothing_may_be_allowed(start):
    lines = start(default_store="http", allow_readonly_default_store=True)
    warned = [line for line in lines if "default_store http does not accept images" in line]
    assert [line.split()[2] for line in warned] == ["WARNING"]


def test_secrets_in_locations_are_warned_of_until_there_is_a_key(start):
    swift = {
        "swift_store_auth_address": "http://127.0.0.1:1/auth/v1.0",
        "swift_store_user": "account:user",
        "swift_store_key": "canary",
    }
    ((level, text),) = [
        (level, text) for level, text in about(start(**swift), "swift") if "may contain" in text
    ]
    assert level == "WARNING" and "metadata_encryption_key" in text
    encrypted = start(**swift, metadata_encryption_key="k" * 16)
    assert [text for _, text in about(encrypted, "swift") if "may contain" in text] == []
