"""Both index drivers pass the suite."""

import os

import pytest

from glance.testing.cache_suite import CacheDriverSuite


class TestSqlite(CacheDriverSuite):
    driver = "sqlite"


def supports_attributes(directory):
    path = directory / "probe"
    path.touch()
    try:
        os.setxattr(path, "user.probe", b"1")
    except OSError:
        return False
    return True


class TestXattr(CacheDriverSuite):
    driver = "xattr"

    @pytest.fixture(autouse=True)
    def attributes(self, tmp_path):
        if not supports_attributes(tmp_path):
            pytest.skip("the file system of the temporary directory has no extended attributes")
