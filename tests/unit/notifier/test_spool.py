"""Messages on the disk: locks, limits, damage, and what the next process finds."""

import errno
import os
import socket
import stat

import pytest

from glance.common import exception
from glance.notifier import spool
from glance.streaming import segment as spool_segment

LIMIT = 10_000_000


def files(directory):
    return sorted(path.name for path in directory.iterdir())


def lines(directory):
    return [
        line
        for path in sorted(directory.iterdir())
        for line in path.read_bytes().splitlines(keepends=True)
    ]


def leave(directory, *batches):
    """Write batches as processes do that end afterwards: their locks go with their files."""
    for batch in batches:
        box = spool.NotificationSpool(str(directory), LIMIT)
        assert box.store(batch) == []
        box.close()


def test_a_file_holds_a_message_a_line_for_the_owner_only(tmp_path, make):
    box = spool.NotificationSpool(str(tmp_path / "spool"), LIMIT)
    sent = make(3)
    assert box.store(sent[:2]) == []
    assert box.store(sent[2:]) == []
    (path,) = (tmp_path / "spool").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.read_bytes() == b"".join(one.data + b"\n" for one in sent)


def test_what_was_stored_is_read_back_and_goes_with_its_last_message(tmp_path, make):
    box = spool.NotificationSpool(str(tmp_path), LIMIT)
    sent = make(3)
    box.store(sent)
    segment = box.next_stored()
    back = box.read(segment)
    assert [(one.id, one.data) for one in back] == [(one.id, one.data) for one in sent]
    box.settle(back[:2])
    assert len(files(tmp_path)) == 1
    box.settle(back[2:])
    box.settle(back)
    assert files(tmp_path) == []


def test_files_of_the_living_are_left_alone_and_those_of_the_dead_are_claimed(tmp_path, make):
    first, second, third = make(1), make(1), make(1)
    leave(tmp_path, first, second)
    living = spool.NotificationSpool(str(tmp_path), LIMIT)
    living.store(third)
    heir, late = (
        spool.NotificationSpool(str(tmp_path), LIMIT),
        spool.NotificationSpool(str(tmp_path), LIMIT),
    )
    claimed = heir.claim()
    assert late.claim() == []
    # The oldest file comes first.
    assert [heir.read(one)[0].id for one in claimed] == [first[0].id, second[0].id]


def test_files_of_other_hosts_and_other_things_are_left_alone(tmp_path, make, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "other.example")
    leave(tmp_path, make(1))
    monkeypatch.setattr(socket, "gethostname", lambda: "other")
    (tmp_path / "readme").write_text("not mine")
    before = files(tmp_path)
    assert spool.NotificationSpool(str(tmp_path), LIMIT).claim() == []
    assert files(tmp_path) == before


def test_damaged_lines_are_skipped_and_counted(tmp_path, make, caplog):
    sent = make(2)
    leave(tmp_path, sent)
    (path,) = tmp_path.iterdir()
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"\x00garbage\n" + second + second[:20])
    box = spool.NotificationSpool(str(tmp_path), LIMIT)
    (segment,) = box.claim()
    assert [one.id for one in box.read(segment)] == [one.id for one in sent]
    assert box.corrupt == 2
    assert "Skipped 2 damaged lines" in caplog.text


def test_a_file_without_any_message_goes_at_once(tmp_path):
    box = spool.NotificationSpool(str(tmp_path), LIMIT)
    path = tmp_path / f"notifications-{box._host}-1-1-1.jsonl"
    path.write_bytes(b"garbage\n")
    (segment,) = box.claim()
    assert box.read(segment) == []
    assert files(tmp_path) == []


def test_a_directory_that_has_gone_leaves_nothing_to_claim(tmp_path, caplog):
    box = spool.NotificationSpool(str(tmp_path / "spool"), LIMIT)
    (tmp_path / "spool").rmdir()
    assert box.claim() == []
    assert "cannot be read" in caplog.text


def test_a_file_that_has_gone_settles_its_messages_all_the_same(tmp_path, make, caplog):
    box = spool.NotificationSpool(str(tmp_path), LIMIT)
    box.store(make(1))
    segment = box.next_stored()
    back = box.read(segment)
    os.unlink(segment.path)
    box.settle(back)
    assert "cannot be removed" in caplog.text
    with pytest.raises(OSError):
        os.fstat(segment.fd)


def test_the_limit_turns_new_messages_away(tmp_path, make):
    sent = make(10)
    room = sum(len(one.data) + 1 for one in sent[:4])
    box = spool.NotificationSpool(str(tmp_path), room + 5)
    assert box.store(sent[:3]) == []
    assert box.store(sent[3:]) == sent[4:]
    assert box.note(sent[9]) is False
    assert len(lines(tmp_path)) == 4
    # Room comes back with what is settled; the files of earlier processes do not count.
    box.settle(box.read(box.next_stored()))
    assert box.store(sent[4:6]) == []


def test_what_others_left_does_not_use_up_the_limit(tmp_path, make):
    leave(tmp_path, make(5))
    (one,) = make(1)
    box = spool.NotificationSpool(str(tmp_path), len(one.data) + 1)
    (segment,) = box.claim()
    box.settle(box.read(segment))
    assert box.store([one]) == []
    assert box.store(make(1)) != []


def test_files_stay_small(tmp_path, make, monkeypatch):
    monkeypatch.setattr(spool_segment, "SEGMENT_MESSAGES", 3)
    box = spool.NotificationSpool(str(tmp_path), LIMIT)
    sent = make(8)
    assert box.store(sent) == []
    assert len(files(tmp_path)) == 3
    monkeypatch.setattr(spool_segment, "SEGMENT_BYTES", 2 * len(sent[0].data))
    more = make(4)
    assert box.store(more) == []
    back = []
    while (segment := box.next_stored()) is not None:
        back += box.read(segment)
    assert [one.id for one in back] == [one.id for one in [*sent, *more]]
    box.settle(back)
    assert files(tmp_path) == []


def test_notes_of_messages_in_memory_go_when_all_are_settled(tmp_path, make):
    box = spool.NotificationSpool(str(tmp_path), LIMIT)
    first, second = make(2)
    assert box.note(first) and box.note(second)
    assert lines(tmp_path) == [first.data + b"\n", second.data + b"\n"]
    box.settle([first])
    assert len(lines(tmp_path)) == 2
    box.settle([second])
    assert lines(tmp_path) == []
    third, settled = make(2)
    settled.settled = True
    assert box.note(third) and box.note(settled)
    assert lines(tmp_path) == [third.data + b"\n"]
    box.settle([third])
    box.close()
    assert files(tmp_path) == []


def test_full_notes_are_followed_by_new_ones(tmp_path, make, monkeypatch):
    monkeypatch.setattr(spool_segment, "SEGMENT_MESSAGES", 2)
    box = spool.NotificationSpool(str(tmp_path), LIMIT)
    sent = make(5)
    assert all(map(box.note, sent))
    assert len(files(tmp_path)) == 3
    box.settle(sent[:2])
    assert len(files(tmp_path)) == 2
    box.settle(sent[2:])
    box.close()
    assert files(tmp_path) == []


@pytest.mark.parametrize("sync", [False, True])
def test_a_disk_that_fails_keeps_nothing_of_what_it_refused(
    tmp_path, make, monkeypatch, caplog, sync
):
    box = spool.NotificationSpool(str(tmp_path), LIMIT, sync=sync)
    kept, lost = make(1), make(3)
    box.store(kept)
    real = os.pwrite

    def fill_up(fd, data, offset):
        if len(data) > 100:
            return real(fd, data[:100], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", fill_up)
    assert box.store(lost) == lost
    assert box.note(lost[0]) is False
    assert caplog.text.count("No space left on device") == 1
    monkeypatch.setattr(os, "pwrite", real)
    assert lines(tmp_path) == [kept[0].data + b"\n"]
    assert box.store(lost) == []
    assert len(lines(tmp_path)) == 4


def test_with_sync_nothing_is_acknowledged_before_it_is_on_the_disk(tmp_path, make, monkeypatch):
    synced = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (synced.append(fd), real(fd)))
    box = spool.NotificationSpool(str(tmp_path), LIMIT, sync=True)
    box.store(make(2))
    (one,) = make(1)
    box.note(one)
    assert len(synced) == 2
    plain = spool.NotificationSpool(str(tmp_path), LIMIT)
    plain.store(make(1))
    assert len(synced) == 2


@pytest.mark.parametrize("kind", ["file", "below a file"])
def test_a_directory_that_cannot_be_used_is_a_config_error(tmp_path, kind):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" if kind == "file" else tmp_path / "file" / "spool"
    with pytest.raises(exception.ConfigError, match="notification_spool_dir: .* cannot be used"):
        spool.NotificationSpool(str(path), LIMIT)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written_to_is_a_config_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(exception.ConfigError, match="is not writable"):
        spool.NotificationSpool(str(tmp_path), LIMIT)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
def test_a_directory_that_a_link_of_another_user_leads_to_is_a_config_error(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "etc").mkdir()
    os.symlink(tmp_path / "etc", tmp_path / "theirs" / "spool")
    os.chown(tmp_path / "theirs", 65534, 65534)
    with pytest.raises(exception.ConfigError, match="directory of another user"):
        spool.NotificationSpool(str(tmp_path / "theirs" / "spool"), LIMIT)


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
def test_what_others_could_have_put_into_a_spool_is_not_taken(tmp_path, make, caplog, kind):
    directory, precious = tmp_path / "spool", tmp_path / "precious"
    leave(directory, make(1))
    (left,) = directory.iterdir()
    left.rename(precious)
    {"link": os.symlink, "hard link": os.link, "pipe": lambda _, name: os.mkfifo(name)}[kind](
        precious, left
    )
    assert spool.NotificationSpool(str(directory), LIMIT).claim() == []
    assert "cannot be read: it is " in caplog.text
    assert precious.stat().st_size


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
def test_a_file_of_another_user_in_a_spool_is_not_sent(tmp_path, make, caplog):
    leave(tmp_path, make(1))
    (left,) = tmp_path.iterdir()
    os.chown(left, 65534, 65534)
    assert spool.NotificationSpool(str(tmp_path), LIMIT).claim() == []
    assert "another user" in caplog.text
