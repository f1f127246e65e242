"""A later release of glance, made of the checkout: two of its tables have a column more.

Its step takes the tables in the other order than a registry that creates an image does.
"""

from __future__ import annotations

import pathlib
import shutil

from glance.registry.db import models

from support import daemons

#: The schema version of the later release.
VERSION = models.SCHEMA_VERSION + 1

_STEP = '''\
"""Add columns that this release alone knows."""

from glance.registry.db.migrate_repo import operations, schema


def upgrade(migrate_engine):
    with operations.begin(migrate_engine) as conn:
        operations.add_columns(conn, schema.image_properties({version}), "hue")
        operations.add_columns(conn, schema.images({version}), "hue")


def downgrade(migrate_engine):
    with operations.begin(migrate_engine) as conn:
        for table in (schema.images, schema.image_properties):
            operations.drop_columns(conn, table({version} - 1), {version} - 1, "hue")
'''
_FILES = {
    "models.py": {
        f"SCHEMA_VERSION = {VERSION - 1}\n": f"SCHEMA_VERSION = {VERSION}\n",
        '    sa.Column("attempt"': '    sa.Column("hue", bytewise_text(32)),\n'
        '    sa.Column("attempt"',
        '    sa.UniqueConstraint("image_id", "name"),\n': ""
        '    sa.Column("hue", bytewise_text(32)),\n'
        '    sa.UniqueConstraint("image_id", "name"),\n',
    },
    "migrate_repo/schema.py": {
        "    if version >= 19:\n": f"    if version >= {VERSION}:\n"
        '        columns.append(sa.Column("hue", _text(version, 32)))\n'
        "    if version >= 19:\n",
        '            sa.UniqueConstraint("image_id", key),\n': "            *(\n"
        f'                [sa.Column("hue", _text(version, 32))] if version >= {VERSION} else []\n'
        "            ),\n"
        '            sa.UniqueConstraint("image_id", key),\n',
    },
}


def later(directory: pathlib.Path, *, breaking: bool = False) -> pathlib.Path:
    """Make the later release in a directory; return the directory of its programs.

    With `breaking` it says that registries of earlier versions cannot work with its tables.
    """
    for name in ("bin", "glance", "etc"):
        shutil.copytree(
            daemons.ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    database = directory / "glance/registry/db"
    for name, changes in _FILES.items():
        _change(database / name, changes)
    if breaking:
        _change(
            database / "migrate_repo/schema.py",
            {"BREAKING = tuple(range(20))": f"BREAKING = (*range(20), {VERSION})"},
        )
    step = database / f"migrate_repo/versions/{VERSION:03}_add_hue.py"
    step.write_text(_STEP.format(version=VERSION))
    return directory / "bin"


def _change(path: pathlib.Path, changes: dict[str, str]) -> None:
    text = path.read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, f"{path.name} has not {old!r} once"
        text = text.replace(old, new)
    path.write_text(text)
