"""How long an upgrade of the schema takes among many images, in SQLite.

    python tests/bench/upgrade.py --images 1000000 --dir /var/tmp

fills a database (see `crowd`), takes it down to the schema version --below, and measures the way
up: wall time, processor time, and the sizes of the file. Nothing is left but for the figures.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import tempfile
import time

import crowd

from glance.registry.db import migration, models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000, help="how many (%(default)s)")
    parser.add_argument("--below", type=int, default=21, help="version to begin at (%(default)s)")
    parser.add_argument("--dir", help="where the database is made")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="glance-upgrade-", dir=args.dir) as directory:
        file = pathlib.Path(directory, "registry.sqlite")
        url = f"sqlite:///{file}"
        crowd.fill(url, args.images)
        migration.downgrade(url, args.below)
        before = file.stat().st_size
        for version in range(args.below + 1, models.SCHEMA_VERSION + 1):
            began, used = time.monotonic(), sum(os.times()[:2])
            migration.upgrade(url, version)
            print(
                f"{version - 1} to {version}: {time.monotonic() - began:.1f} s, "
                f"{sum(os.times()[:2]) - used:.1f} s of processor time",
                flush=True,
            )
        print(f"{before >> 20} MiB before, {file.stat().st_size >> 20} MiB after")


if __name__ == "__main__":
    main()
