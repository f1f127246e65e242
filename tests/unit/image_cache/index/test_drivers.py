"""Both index drivers pass the suite."""

import errno
import os

import pytest

from glance import image_cache
from glance.common.config import Conf
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


def test_a_file_system_without_attributes_is_said_to_be_one(tmp_path, monkeypatch, caplog):
    def setxattr(*arguments, **keywords):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", setxattr)
    options = {
        "image_cache_enabled": True,
        "image_cache_dir": str(tmp_path / "cache"),
        "image_cache_driver": "xattr",
    }
    assert image_cache.open_cache(Conf(options)) is None
    assert "The image cache is disabled" in caplog.text
    assert "no extended attributes" in caplog.text
    assert list((tmp_path / "cache" / "incomplete").iterdir()) == []


class TestXattr(CacheDriverSuite):
    driver = "xattr"

    @pytest.fixture(autouse=True)
    def attributes(self, tmp_path):
        if not supports_attributes(tmp_path):
            pytest.skip("the file system of the temporary directory has no extended attributes")
