"""Measure pages of lists among many images: `tests/bench/lists.py --help`.

The yardstick is the same page among few images: what grows with their number shows in the ratio.
Each page is measured as a call of the database layer, in processor time of this process and of the
server (see `effort`), and with `--http` also through both daemons, in time on the wall.

Both pages have the same number of images, because a page costs mostly what its rows cost: if a
filter finds fewer than a page in the one database, the other is asked for no more than that.

Creating an image is measured in the same way; the images are removed again.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import http.client
import json
import pathlib
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import crowd
import effort
import sqlalchemy as sa
import yardsticks
from table import Row, described, table

from glance.image import listing
from glance.registry.context import RequestContext
from glance.registry.db import api, engine, models

from support import daemons, rawhttp

CALLERS = {
    "public": RequestContext(tenant="nobody", user="u"),
    "owner": RequestContext(tenant=crowd.OWNER, user="u"),
    "member": RequestContext(tenant=crowd.MEMBER, user="u"),
    "partner": RequestContext(tenant=crowd.PARTNER, user="u"),
    "admin": RequestContext(is_admin=True, tenant="boss", user="u"),
}
PAGE = 25
#: A public image that is not deleted, in both databases.
KNOWN = 500
ALL = {"is_public": "none"}
#: How many times as long as among few images a page may take, and a creation.
MOST, MOST_OF_CREATION = 1.5, 1.2
#: How many times as many turns as usual a pair has at most.
AGAIN = 4
CREATION = "creation of an image"
#: Creations in a round: they vary more than pages, as some find a full node of an index.
CREATED = 20


class Side:
    """One database, as the layer above it and as a client see it."""

    def __init__(self, url: str, count: int, site: daemons.Site | None):
        self.count, self.site = count, site
        self.database = engine.Database(url)
        # A public image in the middle of the table.
        self.middle = count // 2 // 50 * 50
        images = models.images.c
        with self.database.read() as conn:

            def far(column: sa.Column) -> object:
                live = sa.select(column).where(images.deleted == sa.false(), column.is_not(None))
                return conn.execute(live.order_by(column.desc()).limit(1).offset(20)).scalar()

            size, changed = far(images.size), far(images.updated_at)
        assert isinstance(changed, datetime.datetime)
        self.values = {"LARGE": str(size), "LATE": changed.isoformat()}
        self.reading = effort.Meter(self.database, self.database.read)
        self.writing = effort.Meter(self.database, self.database.write)
        if site is not None:
            self.connection = http.client.HTTPConnection("127.0.0.1", site.port)

    def page(self, caller: str, params: dict[str, str]) -> list[Any]:
        """Return the images of a page from the database layer."""
        context = CALLERS[caller]
        query = listing.parse(params, is_admin=context.is_admin)
        return api.image_list(self.database, context, query)

    def call(self, caller: str, params: dict[str, str]) -> tuple[float, float]:
        """Return the microseconds of such a call, of processors and on the wall."""
        context = CALLERS[caller]
        query = listing.parse(params, is_admin=context.is_admin)
        return self.reading.measured(lambda: api.image_list(self.database, context, query))

    def create(self, turn: int) -> tuple[float, float]:
        """Return the microseconds of the creation of an image, of processors and on the wall."""
        values = new_image(self.count + 1 + turn)
        return self.writing.measured(
            lambda: api.image_create(self.database, CALLERS["owner"], values)
        )

    def clear(self) -> None:
        """Remove the images that were created."""
        with self.database.write() as conn:
            for column in (models.image_properties.c.image_id, models.images.c.id):
                conn.execute(column.table.delete().where(column > self.count))
            crowd.set_counter(conn, self.count)

    def request(self, caller: str, params: dict[str, str]) -> float:
        """Return the microseconds of a page over HTTP."""
        context = CALLERS[caller]
        roles = "admin" if context.is_admin else "member"
        headers = rawhttp.identity(context.tenant or "", roles=roles)
        begin = time.perf_counter()
        path = f"/v1/images/detail?{urllib.parse.urlencode(params)}"
        self.connection.request("GET", path, headers=headers)
        response = self.connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise SystemExit(f"{path}: {response.status} {body!r}")
        return (time.perf_counter() - begin) * 1e6

    def params(self, params: dict[str, str], marked: bool, limit: int = PAGE) -> dict[str, str]:
        found = {name: self.values.get(value, value) for name, value in params.items()}
        marker = {"marker": str(self.middle)} if marked else {}
        return {"limit": str(limit), **found, **marker}


def main() -> int:
    args = parse_args()
    with contextlib.ExitStack() as stack:
        directory = args.dir or stack.enter_context(
            tempfile.TemporaryDirectory(prefix="glance-lists-", dir="/var/tmp")
        )
        home = pathlib.Path(directory)
        url = args.url or f"sqlite:///{home}/{{name}}.sqlite"
        if args.postgresql:
            url = stack.enter_context(yardsticks.postgresql(pathlib.Path("/var/tmp")))
        if args.mariadb:
            url = stack.enter_context(yardsticks.mariadb(pathlib.Path("/var/tmp")))
        many = filled(args, stack, url, "many", args.images)
        few = filled(args, stack, url, "few", args.few)
        found = [measure(args, many, few, *query) for query in queries() if args.only in query[1]]
        created = measure_creation(args, many, few) if args.only in CREATION else []
    if not found and not created:
        raise SystemExit(f"nothing has {args.only!r} in its words")
    found += [created] if created else []
    calls, walls, requests = ([row for rows in found for row in rows[n : n + 1]] for n in range(3))
    lists, creations = (
        [r for r in calls if (r.name == CREATION) is made] for made in (False, True)
    )
    print("\n\n".join(table(rows) for rows in (lists, creations) if rows))
    slow = [f"{row.name}: {row.ratio:.2f}" for row in walls if row.ratio > most(row)]
    print(f"\nToo long on the wall: {'; '.join(slow) or 'none'}")
    if requests:
        print(f"\nOver HTTP, on the wall:\n\n{table(requests)}")
    if args.json:
        args.json.write_text(json.dumps({row.name: row.ratio for row in calls}))
    print(described(f"{args.images} images, {url.partition(':')[0]}"))
    long = [f"{row.name}: {row.ratio:.2f}" for row in calls if row.ratio > most(row)]
    print(f"\nToo long: {'; '.join(long) or 'none'}")
    return bool(long)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000, help="how many (%(default)s)")
    parser.add_argument("--few", type=int, default=1000, help="of the yardstick (%(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each pair (%(default)s)")
    parser.add_argument("--postgresql", action="store_true", help="instead of SQLite")
    parser.add_argument("--mariadb", action="store_true", help="instead of SQLite")
    parser.add_argument("--url", help="of databases that are kept, with {name} for many and few")
    parser.add_argument("--dir", help="where databases are kept and found again")
    parser.add_argument("--analyze", action="store_true", help="gather statistics first")
    parser.add_argument("--http", action="store_true", help="through the daemons, too")
    parser.add_argument("--only", default="", help="lists whose words contain this")
    parser.add_argument(
        "--json", type=pathlib.Path, help="where to write the ratios of processor time"
    )
    return parser.parse_args()


def filled(
    args: argparse.Namespace, stack: contextlib.ExitStack, url: str, name: str, count: int
) -> Side:
    """Return a database with `count` images, and start its daemons."""
    database = url.format(name=name)
    if not crowd.is_filled(database, count):
        crowd.fill(database, count)
    if args.analyze:
        crowd.analyze(database)
    if not args.http:
        return closed_with(stack, Side(database, count, None))
    home = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="glance-lists-")))
    site = daemons.Site(
        home,
        auth_mode="trusted-headers",
        api={"verbose": False},
        registry={"verbose": False, "sql_connection": database},
    )
    return closed_with(stack, Side(database, count, stack.enter_context(site)))


def closed_with(stack: contextlib.ExitStack, side: Side) -> Side:
    # A PostgreSQL that is told to end waits for its clients.
    stack.callback(side.database.dispose)
    return side


def queries() -> Iterator[tuple[str, str, dict[str, str], bool]]:
    """Yield caller, words for the reader, parameters, and whether to begin behind a marker."""
    for caller in CALLERS:
        for marked in (False, True):
            yield caller, "default order" + (", further on" if marked else ""), {}, marked
    for key in listing.SORT_KEYS:
        for marked in (False, True):
            words = f"by {key}" + (", further on" if marked else "")
            yield "owner", words, {"sort_key": key, "sort_dir": "asc"}, marked
        yield "admin", f"all by {key}, further on", {**ALL, "sort_key": key}, True
    name = f"image {KNOWN * 48271 % 1000003}"
    filters = (
        {"name": name},
        {"status": "active"},
        {"status": "queued"},
        {"status": "killed"},
        {"disk_format": "raw"},
        {"disk_format": "vhd"},
        {"container_format": "bare"},
        {"container_format": "none"},
        {"size_min": "LARGE"},
        {"size_min": "1000000", "size_max": "900000000"},
        {"size_min": "LARGE", "sort_key": "name"},
        {"changes-since": "LATE"},
        {"changes-since": "2020-01-01T00:00:00"},
        {"property-os": "linux"},
        {"property-serial": f"serial {KNOWN}"},
        {"property-serial": f"serial {KNOWN}", "sort_key": "name"},
        {"property-os": "linux", "sort_key": "size"},
        {"protected": "false"},
    )
    for one in filters:
        yield "owner", ", ".join(f"{key}={value}" for key, value in one.items()), one, False
    for one in ({"property-os": "linux"}, {"property-serial": f"serial {KNOWN}"}):
        yield "member", ", ".join(f"{key}={value}" for key, value in one.items()), one, False
    yield "admin", "private", {"is_public": "false"}, False
    yield "admin", "private by name", {"is_public": "false", "sort_key": "name"}, False
    for more in ({}, {"sort_key": "name"}):
        yield (
            "admin",
            " ".join(("deleted", *more.values())),
            {**ALL, "deleted": "true", **more},
            False,
        )


def new_image(number: int) -> dict[str, Any]:
    """Return the values of an image that waits for its data, as `crowd` makes the others."""
    return {
        "name": f"image {number * 48271 % 1000003}",
        "disk_format": ("raw", "qcow2", "iso")[number % 3],
        "container_format": "bare",
        "size": number * 2654435761 % 8589934583,
        "status": "queued",
        "is_public": number % 10 != 3,
        "owner": f"tenant{number * 7919 % crowd.TENANTS}",
        "properties": {
            "arch": "x86_64",
            "os": ("linux", "windows", "bsd", "plan9")[number % 4],
            "project": f"project {number * 53 % 10007}",
            "serial": f"serial {number}",
            "vendor": f"vendor {number * 47 % 101}",
        },
    }


def measure(
    args: argparse.Namespace,
    many: Side,
    few: Side,
    caller: str,
    words: str,
    params: dict[str, str],
    marked: bool,
) -> list[Row]:
    """Return the rows of a list: of processors, on the wall, and perhaps over HTTP."""
    count = min(len(side.page(caller, side.params(params, marked))) for side in (many, few))
    name, yardstick = f"{caller}: {words}", f"{args.few} images"
    # NOTE: a filter that finds none in one of them finds none in the other.
    limit = count or PAGE
    words = name if limit == PAGE else f"{name} (limit {limit})"

    def given(side: Side) -> dict[str, str]:
        return side.params(params, marked, limit)

    if any(len(side.page(caller, given(side))) != count for side in (many, few)):
        raise SystemExit(f"{name}: the pages do not have as many images")
    rows = [Row(words, "us", yardstick, typical) for typical in ("lowest", "median")]
    pairs(args.rounds, rows, many, few, lambda side, _: side.call(caller, given(side)))
    for side in (many, few):
        side.reading.check()
    if not args.http:
        return rows
    row = Row(words, "us", yardstick)
    pairs(args.rounds, [row], many, few, lambda side, _: (side.request(caller, given(side)),))
    return [*rows, row]


def measure_creation(args: argparse.Namespace, many: Side, few: Side) -> list[Row]:
    yardstick = f"{args.few} images"
    rows = [Row(CREATION, "us", yardstick, typical) for typical in ("lower quartile", "median")]
    pairs(CREATED * args.rounds, rows, many, few, lambda side, turn: side.create(turn))
    for side in (many, few):
        side.writing.check()
        side.clear()
    return rows


def pairs(
    rounds: int,
    rows: list[Row],
    many: Side,
    few: Side,
    call: Callable[[Side, int], tuple[float, ...]],
) -> None:
    """Call both sides in turns, after one turn that does not count; fill a row for each figure.

    If the first row takes too long, other work may have disturbed all turns: there are more.
    """
    for turn in range(AGAIN * rounds + 1):
        if turn > 1 and turn % rounds == 1 and rows[0].ratio <= most(rows[0]):
            break
        for side in (many, few) if turn % 2 else (few, many):
            for row, figure in zip(rows, call(side, turn), strict=True):
                if turn:
                    (row.ours if side is many else row.theirs).append(figure)


def most(row: Row) -> float:
    """Return how many times as long a row may take among many images."""
    return MOST_OF_CREATION if row.name == CREATION else MOST


if __name__ == "__main__":
    sys.exit(main())
