"""After many creations, failures and deletions the store holds the active images, no byte more.

Over real daemons. The same seed always gives the same run.
"""

import contextlib
import os
import random
import sqlite3
import subprocess
import sys

import pytest

from support import daemons, faults, longer
from support.rawhttp import meta_headers

pytestmark = pytest.mark.full

SCRUBBER = """
[DEFAULT]
sql_connection = sqlite:///{site.database}
filesystem_store_datadir = {site.data_dir}

[app:glance-scrubber]
paste.app_factory = glance.store.scrubber:app_factory
"""


class Crowd:
    """Callers who create, break off, fail and delete at random."""

    def __init__(self, site, seed):
        self.site, self.chance = site, random.Random(seed)
        self.active = {}
        self.failures = 0

    def data(self):
        return self.chance.randbytes(self.chance.choice([1, 100, 5000, 70_000]))

    def create(self):
        data = self.data()
        self.active[faults.store(self.site, data)] = len(data)

    def fill(self):
        image_id, data = faults.reserve(self.site), self.data()
        headers = {"Content-Type": "application/octet-stream"}
        reply = self.site.http.put(f"/v1/images/{image_id}", headers, data)
        assert reply.status == 200, reply
        self.active[image_id] = len(data)

    def promise_another_checksum(self):
        reply = self.site.http.add(self.data(), id=faults.new_id(), checksum="0" * 32)
        assert reply.status == 400
        self.failures += 1

    def promise_another_size(self):
        data = self.data()
        headers = {
            "Content-Type": "application/octet-stream",
            **meta_headers(id=faults.new_id(), size=len(data) + 7),
        }
        assert self.site.http.post("/v1/images", headers, data).status == 400
        self.failures += 1

    def break_off(self):
        image_id = faults.new_id()
        with faults.Upload(self.site, image_id, method="POST", length=100_000) as upload:
            upload.send(self.data()).until_saving()
        self.failures += 1

    def delete_during_the_upload(self):
        image_id = faults.new_id()
        with faults.Upload(self.site, image_id, method="POST", length=8) as upload:
            upload.send(b"1234").until_saving()
            assert self.site.http.delete(f"/v1/images/{image_id}").status == 200
            upload.send(b"5678")
            assert upload.reply().status == 412
        self.failures += 1

    def delete(self):
        if self.active:
            image_id = self.chance.choice(sorted(self.active))
            del self.active[image_id]
            assert self.site.http.delete(f"/v1/images/{image_id}").status == 200

    def act(self):
        self.chance.choices(
            [
                self.create,
                self.fill,
                self.delete,
                self.promise_another_checksum,
                self.promise_another_size,
                self.break_off,
                self.delete_during_the_upload,
            ],
            [35, 10, 25, 10, 10, 5, 5],
        )[0]()


LONGER = [pytest.mark.slow, longer.only]


@pytest.mark.parametrize("delayed", [False, True], ids=["at once", "delayed"])
@pytest.mark.parametrize("count", [100, pytest.param(400, marks=LONGER)])
def test_many_creations_failures_and_deletions_leave_the_active_images(tmp_path, count, delayed):
    with daemons.Site(tmp_path, api={"delayed_delete": delayed}) as site:
        crowd = Crowd(site, seed=5)
        for _ in range(count):
            crowd.act()
        assert crowd.failures > count / 10 and crowd.active
        if delayed:
            assert held(site) > sum(crowd.active.values())
            conf = tmp_path / "glance-scrubber.conf"
            conf.write_text(SCRUBBER.format(site=site))
            command = [sys.executable, str(daemons.BIN / "glance-scrubber"), str(conf)]
            subprocess.run(command, env=daemons.environment(), check=True)
        faults.until(lambda: unsettled(site) == 0, "every upload and every deletion is settled")
        assert held(site) == sum(crowd.active.values())
        assert {path.name for path in site.data_files()} == set(map(str, crowd.active))


def held(site):
    """Return the bytes of all files in the data directory, on their way in or complete."""
    return sum(os.path.getsize(path) for path in site.data_files())


def unsettled(site):
    with contextlib.closing(sqlite3.connect(site.database, timeout=30)) as connection:
        ((count,),) = connection.execute(
            "SELECT count(*) FROM images WHERE status IN ('saving', 'pending_delete')"
        )
        return count
