"""Measure pages of lists among many images: `tests/bench/lists.py --help`.

The yardstick is the same page among few: what grows with the number of images shows in the ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import pathlib
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import crowd
import yardsticks
from table import Row, described, table, turns

from glance.image import listing
from glance.registry.db import migration

from support import daemons, rawhttp

CALLERS = {
    "tenant": rawhttp.identity(crowd.TENANTS[0]),
    "admin": rawhttp.identity(crowd.TENANTS[0], roles="admin"),
}
PAGE = {"limit": "25"}
FILTERS: tuple[dict[str, str], ...] = (
    {"name": "image 500"},
    {"status": "active"},
    {"status": "queued"},
    {"disk_format": "raw"},
    {"size_min": str((1 << 33) - 100)},
    {"changes-since": "2020-01-05T00:00:00"},
    {"property-os": "linux"},
    {"property-serial": "00000500"},
)


def main() -> int:
    args = parse_args()
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="glance-lists-"))
        home = pathlib.Path(directory)
        url = f"sqlite:///{home}/{{name}}.sqlite"
        if args.postgresql:
            url = stack.enter_context(yardsticks.postgresql(pathlib.Path("/var/tmp")))
        many = stack.enter_context(filled(home, url, "many", args.images))
        few = stack.enter_context(filled(home, url, "few", args.few))
        rows = [measure(args, many, few, *query) for query in queries()]
    print(table(rows))
    print(described(f"{args.images} images, {'PostgreSQL' if args.postgresql else 'SQLite'}"))
    return 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000, help="how many (%(default)s)")
    parser.add_argument("--few", type=int, default=1000, help="of the yardstick (%(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each pair (%(default)s)")
    parser.add_argument("--postgresql", action="store_true", help="instead of SQLite")
    return parser.parse_args()


@contextlib.contextmanager
def filled(home: pathlib.Path, url: str, name: str, count: int) -> Iterator[daemons.Site]:
    """Run a site whose registry has `count` images; `url` has a place for a name."""
    database = url.format(name=name)
    migration.db_sync(database)
    crowd.fill(database, count)
    site = daemons.Site(
        home / name,
        auth_mode="trusted-headers",
        api={"verbose": False},
        registry={"verbose": False, "sql_connection": database},
    )
    with site:
        yield site


def queries() -> Iterator[tuple[str, str, dict[str, str], bool]]:
    """Yield caller, words for the reader, parameters, and whether to begin behind a marker."""
    for key in listing.SORT_KEYS:
        for marked in (False, True):
            words = f"by {key}" + (", further on" if marked else "")
            yield "tenant", words, {"sort_key": key}, marked
    yield "admin", "everything, further on", {"is_public": "none"}, True
    for filters in FILTERS:
        words = ", ".join(f"{name}={value}" for name, value in filters.items())
        yield "tenant", words, filters, False
    yield "admin", "deleted=true", {"is_public": "none", "deleted": "true"}, False


def measure(
    args: argparse.Namespace,
    many: daemons.Site,
    few: daemons.Site,
    caller: str,
    words: str,
    params: dict[str, str],
    marked: bool,
) -> Row:
    row = Row(f"{caller}: {words}", "us", f"{args.few} images")
    with contextlib.ExitStack() as stack:

        def speed(site: daemons.Site, count: int) -> float:
            # Every fifth image is public.
            marker = {"marker": str(count // 2 // 5 * 5)} if marked else {}
            query = urllib.parse.urlencode({**PAGE, **params, **marker})
            begin = time.perf_counter()
            connections[site].request("GET", f"/v1/images/detail?{query}", headers=CALLERS[caller])
            answer = connections[site].getresponse()
            body = answer.read()
            if answer.status != 200:
                raise SystemExit(f"{query}: {answer.status} {body!r}")
            return (time.perf_counter() - begin) * 1e6

        connections = {
            site: stack.enter_context(
                contextlib.closing(http.client.HTTPConnection("127.0.0.1", site.port))
            )
            for site in (many, few)
        }
        speed(many, args.images), speed(few, args.few)
        turns(
            args.rounds,
            lambda: row.ours.append(speed(many, args.images)),
            lambda: row.theirs.append(speed(few, args.few)),
        )
    return row


if __name__ == "__main__":
    sys.exit(main())
