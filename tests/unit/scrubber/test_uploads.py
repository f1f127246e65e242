"""What the scrubber makes of the records that a dead process has noted."""

import os

import pytest

from glance.common import exception
from glance.registry import unfinished
from glance.registry.unfinished import Note
from glance.scrubber import uploads

FIRST, SECOND = Note("1" * 32), Note("2" * 32)


@pytest.fixture
def settle(tmp_path, monkeypatch):
    """Settle two notes of long ago, given what becomes of each; return what is left."""

    def run(*outcomes):
        process = unfinished.Unfinished(str(tmp_path))
        process.keep(FIRST)
        process.keep(SECOND)
        process._file.close()
        (path,) = tmp_path.iterdir()
        os.utime(path, (0, 0))
        coming = iter(outcomes)

        def withdraw(db, context, attempt):
            if (outcome := next(coming)) is not None:
                raise outcome

        monkeypatch.setattr(uploads.api, "image_withdraw", withdraw)
        (left,) = unfinished.take(str(tmp_path), 0)
        assert uploads._settle_notes(None, left) == []
        return list(tmp_path.iterdir())

    return run


def test_what_is_settled_is_forgotten(settle):
    assert settle(None, exception.NotFound()) == []


@pytest.mark.parametrize("other", [None, exception.NotFound()], ids=["settled", "never there"])
@pytest.mark.parametrize("order", [1, -1])
def test_what_fails_is_looked_at_again(settle, other, order):
    assert len(settle(*[exception.ServiceUnavailable(), other][::order])) == 1
