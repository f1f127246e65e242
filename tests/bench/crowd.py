"""Fill a registry's database with many images, the same ones each time."""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from glance.registry.db import models

#: Owners of the images; the first one is the tenant whose lists are measured.
TENANTS = [f"tenant{number}" for number in range(1000)]
SYSTEMS = ("linux", "windows", "bsd", "plan9")
_BEGIN = datetime.datetime(2020, 1, 1)
_BATCH = 5000


def fill(url: str, count: int, seed: int = 1) -> None:
    """Insert `count` images into an empty database at the target version.

    A fifth is public; each has four properties (of which `serial` is its own) and two members. One
    in fifty is deleted, one in a hundred has no size yet.
    """
    chooser = random.Random(seed)
    engine = sa.create_engine(url, future=True)
    tables = (models.images, models.image_properties, models.image_members)
    for begin in range(1, count + 1, _BATCH):
        rows: tuple[list[dict[str, Any]], ...] = ([], [], [])
        for number in range(begin, min(begin + _BATCH, count + 1)):
            _add(rows, number, chooser)
        with engine.begin() as conn:
            for table, found in zip(tables, rows, strict=True):
                conn.execute(table.insert(), found)
    if engine.dialect.name == "postgresql":
        with engine.begin() as conn:
            conn.execute(sa.text("SELECT setval('images_id_seq', :last)"), {"last": count})
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as conn:
            # What PostgreSQL does by itself within minutes.
            conn.execute(sa.text("VACUUM ANALYZE"))
    engine.dispose()


def _add(rows: tuple[list[dict[str, Any]], ...], number: int, chooser: random.Random) -> None:
    images, properties, members = rows
    created = _BEGIN + datetime.timedelta(seconds=600 * number + chooser.random())
    deleted = number % 50 == 7
    common = {
        "created_at": created,
        "updated_at": created + datetime.timedelta(seconds=chooser.randrange(10**6)),
        "deleted_at": created if deleted else None,
        "deleted": deleted,
    }
    images.append(
        {
            "id": number,
            "name": f"image {chooser.randrange(10**6)}",
            "disk_format": chooser.choice(("raw", "qcow2", "vmdk", "iso")),
            "container_format": chooser.choice(("bare", "ovf")),
            "size": None if number % 100 == 3 else chooser.randrange(1 << 33),
            "status": "deleted" if deleted else "active" if number % 100 != 3 else "queued",
            "is_public": number % 5 == 0,
            "location": f"file:///var/lib/glance/images/{number}",
            "checksum": f"{chooser.getrandbits(128):032x}",
            "owner": chooser.choice(TENANTS),
            **common,
        }
    )
    for name, value in _properties(number, chooser):
        properties.append({"image_id": number, "name": name, "value": value, **common})
    for member in chooser.sample(TENANTS, 2):
        members.append({"image_id": number, "member": member, "can_share": False, **common})


def _properties(number: int, chooser: random.Random) -> Iterator[tuple[str, str]]:
    yield "arch", chooser.choice(("x86_64", "aarch64"))
    yield "os", chooser.choice(SYSTEMS)
    yield "serial", f"{number:08}"
    yield "vendor", f"vendor {chooser.randrange(100)}"
