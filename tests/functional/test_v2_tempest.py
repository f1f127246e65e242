"""Tempest's own tests of Images API v2: a long run, for those who set GLANCE_TEST_TEMPEST."""

import os

import pytest

from support import identities, keystone, tempest

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(
        not os.environ.get("GLANCE_TEST_TEMPEST"), reason="GLANCE_TEST_TEMPEST is not set"
    ),
]


def test_tempest(tmp_path):
    """The variable may hold a regular expression for the names of the tests."""
    wanted = os.environ["GLANCE_TEST_TEMPEST"]
    with keystone.Keystone(tmp_path / "keystone") as identity:
        site = identities.site(tmp_path / "site", identity, strict=True)
        with site:
            identity.service("image", site.url, "glance")
            tests = tempest.IMAGES if wanted == "1" else wanted
            counts = tempest.run(tmp_path / "tempest", identity, tests)
    print(f"{counts.passed} passed, {counts.skipped} skipped, {len(counts.failed)} failed")
    assert not counts.failed, counts.output[-20000:]
    assert counts.passed
