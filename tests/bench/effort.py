"""Processor time of work on a database, on both sides of its connections.

Time on the wall says little on a machine with other work. The kernel counts the nanoseconds on a
core: those of this process, and those of the server's process (PostgreSQL) or thread (MariaDB) for
the connection. SQLite works in this process. Even they double while other work uses the same
caches, so that the lowest of many turns says what a call costs.

Not counted is what a server does for all connections together, as sweeping old rows.
"""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import Connection

from glance.registry.db import engine

#: What tells which process or thread of the server works for the connection that asks.
_WORKERS = {
    "postgresql": "SELECT pg_backend_pid()",
    "mysql": "SELECT tid FROM information_schema.processlist WHERE id = connection_id()",
}
_Using = Callable[[], contextlib.AbstractContextManager[Connection]]


class Meter:
    """The processor time of calls that use one kind of connection of a database.

    `using` opens such a connection, as `Database.read`. As the calls come one after the other, the
    pool gives each of them the same one. The server must be on this machine.
    """

    def __init__(self, database: engine.Database, using: _Using):
        self._database, self._using = database, using
        self._worker = self._found()

    def measured(self, call: Callable[[], Any]) -> tuple[float, float]:
        """Return the microseconds of a call: of processors, and on the wall."""
        begin, others = time.perf_counter(), self._of_server()
        own = time.process_time()
        call()
        own = time.process_time() - own
        passed = time.perf_counter() - begin
        return (own + self._of_server() - others) * 1e6, passed * 1e6

    def check(self) -> None:
        """Raise SystemExit if calls have used another connection than the one that counts."""
        if self._found() != self._worker:
            raise SystemExit("the connection was replaced while its time was measured")

    def _found(self) -> pathlib.Path | None:
        query = _WORKERS.get(self._database.dialect)
        if query is None:
            return None
        with self._using() as conn:
            worker = conn.exec_driver_sql(query).scalar()
        path = pathlib.Path(f"/proc/{worker}/task/{worker}")
        if not path.exists():
            raise SystemExit("the database server must be on this machine, to measure its time")
        return path

    def _of_server(self) -> float:
        """Return the seconds that the server has worked for the connection so far."""
        if self._worker is None:
            return 0.0
        # NOTE: it sends its response before it has finished, and the kernel counts what a thread
        # has had of a core when it sleeps.
        while (self._worker / "stat").read_text().rpartition(")")[2].split()[0] != "S":
            time.sleep(0)
        return int((self._worker / "schedstat").read_text().split()[0]) / 1e9
