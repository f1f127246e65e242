"""Measure pages of lists among many images: `tests/bench/lists.py --help`.

The yardstick is the same page among few images: what grows with their number shows in the ratio.
Each page is measured twice: as a call of the database layer, and over HTTP through both daemons.
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

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import crowd
import sqlalchemy as sa
import yardsticks
from table import Row, described, table, turns

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
PAGE = {"limit": "25"}
#: A public image that is not deleted, in both databases.
KNOWN = 500
ALL = {"is_public": "none"}


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
        if site is not None:
            self.connection = http.client.HTTPConnection("127.0.0.1", site.port)

    def call(self, caller: str, params: dict[str, str]) -> float:
        """Return the microseconds of a page from the database layer."""
        context = CALLERS[caller]
        query = listing.parse(params, is_admin=context.is_admin)
        # NOTE: SQLite works in this process; processor time does not depend on other work.
        clock = time.process_time if self.database.dialect == "sqlite" else time.perf_counter
        begin = clock()
        api.image_list(self.database, context, query)
        return (clock() - begin) * 1e6

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

    def params(self, params: dict[str, str], marked: bool) -> dict[str, str]:
        found = {name: self.values.get(value, value) for name, value in params.items()}
        return {**PAGE, **found, **({"marker": str(self.middle)} if marked else {})}


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
        calls, requests = ([pair[n] for pair in found] for n in (0, 1))
    print(table(calls))
    if not args.no_http:
        print(f"\nOver HTTP:\n\n{table(requests)}")
    if args.json:
        # NOTE: not medians: other work on the machine changes the times of a server too much.
        ratios = [min(row.ours) / min(row.theirs) for row in calls]
        named = {row.name: ratio for row, ratio in zip(calls, ratios, strict=True)}
        args.json.write_text(json.dumps(named))
    print(described(f"{args.images} images, {url.partition(':')[0]}"))
    return 0


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
    parser.add_argument("--no-http", action="store_true", help="the database layer only")
    parser.add_argument("--only", default="", help="lists whose words contain this")
    parser.add_argument(
        "--json", type=pathlib.Path, help="where to write the ratios of lower quartiles"
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
    if args.no_http:
        return Side(database, count, None)
    home = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="glance-lists-")))
    site = daemons.Site(
        home,
        auth_mode="trusted-headers",
        api={"verbose": False},
        registry={"verbose": False, "sql_connection": database},
    )
    return Side(database, count, stack.enter_context(site))


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


def measure(
    args: argparse.Namespace,
    many: Side,
    few: Side,
    caller: str,
    words: str,
    params: dict[str, str],
    marked: bool,
) -> tuple[Row, Row]:
    def turn(call: Callable[[Side], Callable[[str, dict[str, str]], float]]) -> Row:
        row = Row(f"{caller}: {words}", "us", f"{args.few} images")

        def take(side: Side) -> float:
            return call(side)(caller, side.params(params, marked))

        take(many), take(few)
        turns(
            args.rounds,
            lambda: row.ours.append(take(many)),
            lambda: row.theirs.append(take(few)),
        )
        return row

    called = turn(lambda side: side.call)
    return called, called if args.no_http else turn(lambda side: side.request)


if __name__ == "__main__":
    sys.exit(main())
