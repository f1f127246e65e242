"""Images as the acceptance tests see them: over HTTP, in the database, in the data directory."""

from __future__ import annotations

import re
import time

PATIENCE = 30


def reserve(site):
    reply = site.http.post("/v1/images", {"x-image-meta-is-public": "true"})
    assert reply.status == 201, reply
    return reply.json()["image"]["id"]


def status_of(site, image_id):
    reply = site.http.head(f"/v1/images/{image_id}")
    return reply.meta()["status"] if reply.status == 200 else reply.status


def files_of(site, image_id):
    """Return the files of an image, those of an upload under way included."""
    names = [path.name for path in site.data_files()]
    return [name for name in names if re.split("[.-]", name)[0] == str(image_id)]


def eventually(wanted, function, *args):
    """Wait until the function returns what is wanted: some clean-ups run after the answer."""
    deadline = time.monotonic() + PATIENCE
    while (value := function(*args)) != wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    assert value == wanted


def row(site, image_id):
    """Return (status, deleted) of an image as the database has it, deleted or not."""
    query = "SELECT status, deleted FROM images WHERE id = :id"
    return next(iter(site.sql(query, id=image_id)), None)
