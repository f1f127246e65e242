"""What must be true when the load has ended and both daemons are back."""

from __future__ import annotations

import time

import clients
import sqlalchemy as sa
from clients import Image, Load, check_read

from glance.registry.db import models

from support import operators

#: Seconds within which uploads and deletions that were cut off must be settled.
SETTLED_WITHIN = 150
#: Seconds after which the last look at what a dead process may still have begun is over.
LATE = 40


def settle(load: Load, url: str) -> float:
    """Wait until no upload and no deletion is under way; return the seconds that it took.

    The scrubber runs beside, as it does at every site: the data of a deletion whose API was killed
    is left to it when the API's lease has ended.
    """
    engine = sa.create_engine(url, future=True)
    begin = time.monotonic()
    while time.monotonic() < begin + SETTLED_WITHIN:
        done = operators.run(
            "glance-scrubber",
            f"--config-file={load.site.api.conf.parent / 'scrubber.conf'}",
            cwd=load.site.directory,
        )
        if done.returncode:
            load.violated(f"glance-scrubber: {done.stderr}")
            break
        if time.monotonic() > begin + LATE and not _unsettled(engine):
            break
        time.sleep(1)
    else:
        for line in _unsettled(engine):
            load.violated(f"not settled within {SETTLED_WITHIN} seconds: {line}")
    engine.dispose()
    return time.monotonic() - begin


def _unsettled(engine: sa.engine.Engine) -> list[str]:
    images, queue = models.images, models.scrub_queue
    under_way = sa.select(images.c.id, images.c.name, images.c.status).where(
        images.c.status.in_(("saving", "pending_delete"))
    )
    with engine.connect() as connection:
        found = [
            f"image {row.id} {row.name!r} {row.status}" for row in connection.execute(under_way)
        ]
        waiting = connection.execute(sa.select(queue)).mappings()
        return found + [f"to be removed: {row['image_id']}" for row in waiting]


def check(load: Load, images: list[Image], url: str) -> None:
    """Compare what the clients know with the records, the bytes and the files."""
    engine = sa.create_engine(url, future=True)
    table = models.images
    with engine.connect() as connection:
        rows = [
            row._asdict()
            for row in connection.execute(
                sa.select(table.c.id, table.c.name, table.c.status).where(
                    table.c.status != "deleted"
                )
            )
        ]
    engine.dispose()
    by_token = {image.token: image for image in images}
    present: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        token = str(row["name"]).split()[0]
        present.setdefault(token, []).append(row)
        if token not in by_token:
            load.violated(f"a record that nobody made: {row}")
    for image in images:
        _check_image(load, image, present.get(image.token, []))
    _check_files(load, {str(row["id"]) for row in rows if row["status"] == "active"})
    for program, text in load.site.logs():
        if "Traceback" in text:
            load.violated(f"a traceback in the log of {program}")


def _check_image(load: Load, image: Image, rows: list[dict[str, object]]) -> None:
    if len(rows) > 1:
        load.violated(f"{image.token} has several records: {rows}")
        return
    state = str(rows[0]["status"]) if rows else "absent"
    if state not in image.states:
        load.violated(f"{image.token} ({image.id}) is {state}, possible: {sorted(image.states)}")
        return
    if not rows:
        return
    row = rows[0]
    if image.id is not None and str(row["id"]) != image.id:
        load.violated(f"{image.token} has the id {row['id']} instead of {image.id}")
        return
    image.id = str(row["id"])
    if row["name"] not in image.names:
        load.violated(f"{image.token} is named {row['name']!r}, possible: {sorted(image.names)}")
    if state == "active":
        check_read(load, image, load.site.http.get(image.path), (200,))
    _check_members(load, image)


def _check_members(load: Load, image: Image) -> None:
    reply = load.site.http.get(f"{image.path}/members")
    found = [entry["member_id"] for entry in reply.json()["members"]]
    if len(set(found)) != len(found):
        load.violated(f"{image.token} has a member twice: {found}")
    for member in clients.MEMBERS:
        known = image.members.get(member, False)
        if known is not None and known is not (member in found):
            load.violated(f"{image.token} is shared with {found}; {member} should be {known}")


def _check_files(load: Load, active: set[str]) -> None:
    held = {path.name for path in load.site.data_files()}
    for name in sorted(held - active):
        load.violated(f"a file without an active image: {name}")
    for name in sorted(active - held):
        load.violated(f"an active image without a file: {name}")
