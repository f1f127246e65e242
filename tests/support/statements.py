"""The statements that a database is asked, whichever way they take to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from sqlalchemy import event

from glance.registry.db import direct, engine, lookups


class _Noting:
    """A cursor that notes what it is asked."""

    def __init__(self, cursor: Any, seen: list[tuple[str, Any]]):
        self._cursor, self._seen = cursor, seen

    def execute(self, statement: str, parameters: Any = ()) -> Any:
        self._seen.append((statement, tuple(parameters)))
        return self._cursor.execute(statement, parameters)

    def executemany(self, statement: str, rows: Any) -> Any:
        self._seen.append((statement, tuple(map(tuple, rows))))
        return self._cursor.executemany(statement, rows)

    def fetchall(self) -> list[Any]:
        found: list[Any] = self._cursor.fetchall()
        return found


@contextlib.contextmanager
def noted(database: engine.Database) -> Iterator[list[tuple[str, Any]]]:
    """Yield a list that gets each statement of the block, with its parameters, as it is run."""
    seen: list[tuple[str, Any]] = []

    def note(conn: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        seen.append((statement, parameters))

    def run(plan: lookups.StatementPlan, cursor: Any, params: Any) -> list[Any]:
        noting = cursor if isinstance(cursor, _Noting) else _Noting(cursor, seen)
        return by_plan(plan, noting, params)

    def write(conn: Any, text: str, work: Any) -> Any:
        return by_writer(conn, text, lambda cursor: work(_Noting(cursor, seen)))

    by_plan: Any = lookups.StatementPlan.run
    by_writer: Any = direct._run
    with database.read():
        engines = set(database._engines)
    for each in engines:
        event.listen(each, "before_cursor_execute", note)
    try:
        with (
            mock.patch.object(lookups.StatementPlan, "run", run),
            mock.patch.object(direct, "_run", write),
        ):
            yield seen
    finally:
        for each in engines:
            event.remove(each, "before_cursor_execute", note)
