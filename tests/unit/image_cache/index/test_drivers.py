"""Both index drivers pass the suite, and are found by their names."""

import errno
import os

import pytest

from glance import image_cache
from glance.common.config import Conf
from glance.image_cache.index.sqlite import SqliteDriver
from glance.image_cache.index.xattr import XattrDriver
from glance.testing.cache_suite import CacheDriverSuite


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("sqlite", SqliteDriver),
        ("glance.image_cache.index.sqlite.SqliteDriver", SqliteDriver),
        ("glance.image_cache.index.sqlite:SqliteDriver", SqliteDriver),
        ("xattr", XattrDriver),
        ("glance.image_cache.index.xattr.XattrDriver", XattrDriver),
        ("glance.image_cache.index.xattr:XattrDriver", XattrDriver),
    ],
)
def test_a_driver_is_named_in_short_or_by_the_path_of_its_class(tmp_path, name, made):
    conf = Conf({"image_cache_dir": str(tmp_path), "image_cache_driver": name})
    assert type(image_cache.ImageCache(conf).index) is made


class TestSqlite(CacheDriverSuite):
    driver = "sqlite"


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
    def need_attributes(self, attributes):
        pass
