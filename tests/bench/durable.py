"""What durability alone costs: `durable.py DIRECTORY SECONDS COMMITS BYTES`, a loop on the disk.

Each turn commits COMMITS rows to a SQLite database, one after the other, with the journal and the
syncs of the registry, and stores BYTES as a file, if there are any, as the file store does: data,
sync, link, sync of the directory. Prints the turns per second and the microseconds of CPU time of
each.
"""

import os
import pathlib
import sqlite3
import sys
import time


def main() -> None:
    home = pathlib.Path(sys.argv[1])
    seconds, commits, size = float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    connection = sqlite3.connect(home / "bare.sqlite", isolation_level=None)
    # `synchronous` stays what it is by default, as in the registry: FULL.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS bare (id INTEGER PRIMARY KEY, name TEXT)")
    data = os.urandom(size)
    directory = os.open(home, os.O_RDONLY)
    begin, used, turns = time.perf_counter(), time.process_time(), 0
    while (passed := time.perf_counter() - begin) < seconds:
        for _ in range(commits):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO bare (name) VALUES ('bench')")
            connection.execute("COMMIT")
        if data:
            incoming, stored = home / "incoming", home / "stored"
            descriptor = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.write(descriptor, data)
            os.fsync(descriptor)
            os.link(incoming, stored)
            os.fsync(directory)
            os.close(descriptor)
            incoming.unlink()
            stored.unlink()
        turns += 1
    print(turns / passed, (time.process_time() - used) / turns * 1e6)


if __name__ == "__main__":
    main()
