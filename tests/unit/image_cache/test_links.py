"""The cache follows no links: not to what it reads, not to what it writes or moves."""

import os

import pytest

from glance.common import exception
from glance.image_cache import layout


@pytest.fixture
def directory(tmp_path):
    made = layout.CacheDirectory(str(tmp_path / "cache"))
    made.make()
    (tmp_path / "etc").mkdir()
    return made


def create(directory, file):
    os.close(directory.create(file))


@pytest.mark.parametrize("act", ["create", "open", "unlink", "from", "to"])
def test_a_directory_of_the_cache_that_is_a_link_is_not_entered(directory, tmp_path, act):
    precious = tmp_path / "etc" / "1"
    precious.write_bytes(b"precious")
    os.symlink(tmp_path / "etc", directory.full("entries/ab"))
    create(directory, "incomplete/1.new")
    with pytest.raises(OSError):
        {
            "create": lambda: directory.create("entries/ab/2"),
            "open": lambda: directory.open("entries/ab/1"),
            "unlink": lambda: directory.unlink("entries/ab/1"),
            "from": lambda: directory.move("entries/ab/1", "entries/cd/1"),
            "to": lambda: directory.move("incomplete/1.new", "entries/ab/1"),
        }[act]()
    assert os.listdir(tmp_path / "etc") == ["1"]
    assert precious.read_bytes() == b"precious"


def test_a_mark_that_is_a_link_is_not_read(directory, tmp_path):
    (tmp_path / "etc" / "mark").write_text(str(layout.VERSION))
    os.symlink(tmp_path / "etc" / "mark", directory.full(".layout"))
    with pytest.raises(OSError):
        directory.layout_version()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_an_index_that_is_a_link_is_not_opened(make, tmp_path, suffix):
    cache = make()
    cache.close()
    path = cache.directory.full(f"cache.db{suffix}")
    if os.path.exists(path):
        os.unlink(path)
    os.symlink(tmp_path / "precious", path)
    with pytest.raises(exception.CacheUnavailable, match="symbolic link"):
        make()
    assert not (tmp_path / "precious").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
def test_a_cache_that_a_link_of_another_user_leads_to_is_not_used(make, tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "etc").mkdir()
    os.symlink(tmp_path / "etc", tmp_path / "theirs" / "cache")
    os.chown(tmp_path / "theirs", 65534, 65534)
    with pytest.raises(exception.CacheUnavailable, match="directory of another user"):
        make(image_cache_dir=str(tmp_path / "theirs" / "cache"))
    assert os.listdir(tmp_path / "etc") == []
