"""What the scrubber makes of the records that a dead process has noted."""

import os

import pytest

from glance.common import exception
from glance.registry import unfinished
from glance.registry.context import RequestContext
from glance.registry.db import api, engine, migration
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


def test_an_upload_that_has_not_begun_leaves_the_image_queued_with_its_size(tmp_path):
    url = f"sqlite:///{tmp_path}/x.sqlite"
    migration.db_sync(url)
    database = engine.Database(url)
    context = RequestContext(is_admin=True)
    values = {"name": "x", "status": "queued", "size": 7, "is_public": False}
    number = api.image_create(database, context, values)["id"]
    note = Note("1" * 32, number, queued_size=7)
    assert not uploads._kill_unbegun(database, number, note)
    image = api.image_get(database, context, number)
    assert (image["status"], image["size"], image["upload_via"]) == ("queued", 7, None)
    # The call that would have begun it comes late.
    late = {"status": "saving", "upload_via": "v2"}
    with pytest.raises(exception.Conflict):
        api.image_update(
            database, context, number, late, from_state="queued", attempt=note.attempt
        )
    database.dispose()
