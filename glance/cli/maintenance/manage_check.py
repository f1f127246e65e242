"""glance-manage check: whether the records, their rows and the image data fit together.

`glance.registry.db.upkeep.dangling` looks at the tables and `glance.scrubber.orphans` at the
stores; this module counts, prints and repairs. What is found is printed as it is found, so that
the memory does not grow with it. Locations and credentials are never printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from glance import store
from glance.cli.maintenance import manage_data
from glance.cli.option import ProgramOption
from glance.cli.user.screen import console
from glance.common import exception
from glance.registry.db import engine, models, paging
from glance.registry.db.upkeep import dangling
from glance.scrubber import orphans

OPTIONS = (
    "Options of check",
    (
        ProgramOption(
            ("--records-only",),
            "records_only",
            "Check the database only, not the image data.",
        ),
        ProgramOption(
            ("--repair",),
            "repair",
            "Remove rows whose image does not exist, and data without a record. Without this "
            "option, nothing is changed.",
        ),
    ),
)

#: Kind of a finding -> what it is called for people; the order is that of the summary.
KINDS = {
    "property_without_image": "properties without their image",
    "member_without_image": "members without their image",
    "queue_entry_without_image": "entries of the scrub queue without their image",
    "data_without_record": "objects without a record",
    "record_without_data": "active images without their data",
    "size_differs": "active images whose data has another size",
    "not_checked": "active images whose data could not be checked",
}
_ROW_KINDS = {
    models.image_properties.name: "property_without_image",
    models.image_members.name: "member_without_image",
    models.scrub_queue.name: "queue_entry_without_image",
}
_DATA_KINDS = {
    orphans.MISSING: "record_without_data",
    orphans.DIFFERS: "size_differs",
    orphans.UNKNOWN: "not_checked",
}


class Finding(NamedTuple):
    """One thing that does not fit: a line for people, and values for programs.

    `repaired` is None if nothing was tried.
    """

    kind: str
    text: str
    values: dict[str, Any]
    repaired: bool | None = None

    @property
    def document(self) -> dict[str, Any]:
        return {"kind": self.kind, **self.values, "repaired": bool(self.repaired)}


def check(url: str, args: argparse.Namespace) -> int:
    """Compare records, their properties and members, and image data; report what does not fit."""
    if args.delete:
        raise exception.BadInputError("--delete belongs to orphans: use check --repair")
    min_age = manage_data.seconds("--older-than", args.older_than)
    with manage_data.CurrentDatabase(url, args.conf) as db:
        stores = None if args.records_only else _stores(args)
        summary = orphans.OrphanReport()
        report = _Report(summary, as_json=args.format == "json")
        try:
            for finding in _rows(db, repair=args.repair):
                report.add(finding)
            if stores is not None:
                scan = orphans.OrphanScan(db, stores, min_age)
                for finding in _data(scan, summary, repair=args.repair):
                    report.add(finding)
        except BaseException:
            report.end(complete=False)
            raise
        return report.end(complete=True)


def _stores(args: argparse.Namespace) -> store.Stores:
    try:
        return manage_data.stores_of(args)
    except exception.ConfigError as err:
        hint = "--store-config-file names the file of the stores, --records-only does without"
        raise exception.ConfigError([*err.problems, hint]) from err


#: Command word -> function, for the table of `glance.cli.maintenance.manage`.
COMMANDS: dict[str, Callable[[str, argparse.Namespace], int]] = {"check": check}


def _rows(db: engine.Database, *, repair: bool) -> Iterator[Finding]:
    """Yield what does not fit within the database; with `repair`, remove what belongs nowhere."""
    batch: list[dangling.DanglingRow] = []
    for row in dangling.rows(db):
        batch.append(row)
        if len(batch) == paging.BATCH:
            yield from _dangling(db, batch, repair=repair)
            batch = []
    yield from _dangling(db, batch, repair=repair)
    for image_id in dangling.images_without_location(db):
        yield Finding(
            "record_without_data",
            f"image {image_id} is active, and its record names no data",
            {"image_id": image_id, "problem": "names no data"},
        )


def _dangling(
    db: engine.Database, batch: list[dangling.DanglingRow], *, repair: bool
) -> Iterator[Finding]:
    removed = None
    if repair and batch:
        dangling.remove(db, batch)
        removed = True
    for row in batch:
        # The item of a queue entry is a digest; rows of the other tables have numbers.
        key = row.key[-1]
        kind = _ROW_KINDS[row.table]
        yield Finding(
            kind,
            f"{kind.partition('_without')[0].replace('_', ' ')} {key} belongs to image "
            f"{row.image_id}, which does not exist",
            {"image_id": row.image_id, "row": key},
            removed,
        )


def _data(
    scan: orphans.OrphanScan, summary: orphans.OrphanReport, *, repair: bool
) -> Iterator[Finding]:
    """Yield where records and stores differ; with `repair`, remove data without a record."""
    for found in scan.scan(summary):
        if isinstance(found, orphans.MissingData):
            yield Finding(
                _DATA_KINDS[found.kind],
                f"image {found.image_id} in {found.store}, {found.size} bytes: {found.problem}",
                {
                    "image_id": found.image_id,
                    "store": found.store,
                    "size": found.size,
                    "problem": found.problem,
                },
            )
            continue
        size = "unknown size" if found.size is None else f"{found.size} bytes"
        modified = manage_data.shown_time(found.modified)
        yield Finding(
            "data_without_record",
            f"object {found.image_id} in {found.store} has no record: {size}, "
            f"written {modified or 'at an unknown time'}",
            {
                "image_id": found.image_id,
                "store": found.store,
                "size": found.size,
                "modified": modified,
            },
            scan.remove(found) if repair else None,
        )


class _Report:
    """Prints findings, and counts them for the summary and the exit code."""

    def __init__(self, summary: orphans.OrphanReport, *, as_json: bool):
        self.summary, self.as_json = summary, as_json
        self.counts = dict.fromkeys(KINDS, 0)
        self.repaired = self.failed = 0
        if as_json:
            sys.stdout.write('{\n  "findings": [')

    def add(self, finding: Finding) -> None:
        if self.as_json:
            separator = "," if any(self.counts.values()) else ""
            sys.stdout.write(f"{separator}\n    {json.dumps(finding.document)}")
        else:
            mark = {None: "", True: " (removed)", False: " (NOT REMOVED)"}[finding.repaired]
            console.say(finding.text + mark)
        self.counts[finding.kind] += 1
        self.repaired += finding.repaired is True
        self.failed += finding.repaired is False

    def end(self, *, complete: bool) -> int:
        """Print the summary and return the exit code."""
        found = sum(self.counts.values())
        unsure = not complete or bool(self.summary.failed or self.counts["not_checked"])
        if self.as_json:
            closing = {
                "complete": complete,
                "counts": self.counts,
                "repaired": self.repaired,
                "too_young": self.summary.young,
                "stores_that_cannot_list": self.summary.unlisted,
                "stores_that_failed": self.summary.failed,
            }
            end = "\n  ]" if found else "]"
            print(f"{end},\n{json.dumps(closing, indent=2)[2:]}")
        elif complete:
            self._say_summary(found)
        if unsure or self.failed:
            return 1
        return manage_data.FOUND if found > self.repaired else 0

    def _say_summary(self, found: int) -> None:
        if not found and not self.summary.failed:
            print("No mismatch was found")
        for kind, count in self.counts.items():
            if count:
                print(f"{KINDS[kind]}: {count}")
        if self.repaired:
            print(f"removed: {self.repaired}")
        if self.summary.young:
            print(f"objects without a record, too young to tell: {self.summary.young}")
        for name in self.summary.unlisted:
            print(f"Store {name} cannot list its data")
        for name in self.summary.failed:
            print(f"Store {name} could not be checked; the log says why")
        if found > self.repaired and not self.repaired and self._repairable():
            print("Nothing was changed: check --repair removes rows and objects without a record")

    def _repairable(self) -> bool:
        return any(self.counts[kind] for kind in (*_ROW_KINDS.values(), "data_without_record"))
