"""Kill workers and daemons under load and look for what is lost, wrong or left over.

    python tests/chaos/kills.py --kills 1000 --database postgresql

Six clients create, fill, change, share, read, list and delete images, by both versions of the API,
while workers and whole daemons are killed with SIGKILL. At the end everything that was
acknowledged must be there, byte by byte, and nothing else: no record, no file. Prints what
happened; exits with 1, and keeps the directory with the logs, if something is not as it must be.
A run repeats its choices by --seed (not its timing).
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import pathlib
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import checks
import sqlalchemy as sa
from clients import Client, Load
from killer import Killer

from support import daemons, databases, warm

SCRUBBER = """
[app:glance-scrubber]
paste.app_factory = glance.scrubber:app_factory
"""
DATABASES = ("sqlite", "postgresql", "mysql")


def main(words: Sequence[str] | None = None) -> int:
    args = parse_args(words)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="glance-kills-", dir=args.dir))
    with contextlib.ExitStack() as stack:
        stack.callback(warm.stop)
        url = stack.enter_context(database(args.database, directory))
        load = run(args, directory, url)
    if not load.violations:
        shutil.rmtree(directory)
        print("\nNothing was lost, wrong or left over.")
        return 0
    print(f"\n{len(load.violations)} violations (logs: {directory}):")
    for line in load.violations[:50]:
        print(f"  {line}")
    return 1


def parse_args(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="how many (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3000, help="at most (%(default)s)")
    parser.add_argument("--clients", type=int, default=6, help="how many (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="of each daemon (%(default)s)")
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--seed", type=int, default=1, help="of all choices (%(default)s)")
    parser.add_argument("--dir", help="where data is put (default: the temporary directory)")
    return parser.parse_args(words)


@contextlib.contextmanager
def database(kind: str, directory: pathlib.Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{directory / 'glance.sqlite'}"
        return
    with getattr(databases, kind)() as url:
        if kind == "mysql":
            # The schema that the server comes with has tables of its own.
            engine = sa.create_engine(url)
            with engine.begin() as connection:
                connection.exec_driver_sql("CREATE DATABASE glance")
            engine.dispose()
            url = url.replace("/mysql?", "/glance?")
        yield url


def run(args: argparse.Namespace, directory: pathlib.Path, url: str) -> Load:
    """Run load and kills, wait until everything is settled, check, and print what happened."""
    site = daemons.Site(
        directory,
        workers=args.workers,
        # The scrubber may take over a deletion soon after the API that began it was killed.
        api={"delete_timeout": 2},
        registry={"sql_connection": url, "db_auto_create": True},
        api_pipeline="versionnegotiation context rootapp",
    )
    load = Load(site)
    with site:
        write_scrubber_file(site, url)
        crowd = [Client(load, number, args.seed) for number in range(args.clients)]
        begin = time.monotonic()
        for client in crowd:
            client.start()
        killer = Killer(site, args.seed)
        stop = threading.Event()
        killer.run(args.kills, args.seconds, stop)
        seconds = time.monotonic() - begin
        load.ended.set()
        for client in crowd:
            client.join()
        waited = checks.settle(load, url)
        checks.check(load, [image for client in crowd for image in client.images], url)
        logs = dict(site.logs())
    report(args, load, killer, seconds, waited, logs)
    return load


def write_scrubber_file(site: daemons.Site, url: str) -> None:
    options = {
        **site.api_options,
        "sql_connection": url,
        "daemon": False,
        "scrub_time": 0,
    }
    del options["bind_port"], options["workers"]
    lines = "".join(f"{name} = {value}\n" for name, value in options.items())
    (site.directory / "scrubber.conf").write_text(
        f"[DEFAULT]\n{lines}{SCRUBBER}", encoding="utf-8"
    )


def report(
    args: argparse.Namespace,
    load: Load,
    killer: Killer,
    seconds: float,
    waited: float,
    logs: dict[str, str],
) -> None:
    print(f"{args.database}, seed {args.seed}: {killer.kills.total()} kills in {seconds:.0f} s,")
    print(f"settled {waited:.0f} s after the last request")
    for kind, count in killer.kills.most_common():
        print(f"  {count:6} {kind}")
    operations: dict[str, collections.Counter[str]] = {}
    for (operation, outcome), count in load.seen.items():
        operations.setdefault(operation, collections.Counter())[outcome] += count
    print(f"{load.seen.total()} requests of {args.clients} clients:")
    for operation in sorted(operations):
        shown = ", ".join(
            f"{count} {outcome}" for outcome, count in operations[operation].most_common()
        )
        print(f"  {operation:18} {shown}")
    for program, text in logs.items():
        print(f"{program}: {text.count(' ERROR ')} errors in the log")


if __name__ == "__main__":
    sys.exit(main())
