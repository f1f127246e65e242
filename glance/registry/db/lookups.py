"""Single statements on SQLite without SQLAlchemy's connections, for what requests read most.

SQLAlchemy compiles a statement, knows the types of its parameters and columns, and makes rows. It
does part of that for every run: 110 us, of which SQLite itself needs 30. A `StatementPlan` is the
part that stays the same, made once; the rest is two loops. What comes out is equal, value by
value, and a test compares the two.

Anything out of the ordinary (a failure, a list of values as a parameter, a log of all statements)
takes the way through SQLAlchemy, which has all the rules about it. So there is none of them here.
"""

from __future__ import annotations

import functools
import logging
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.streaming import hub

SQL_LOG = logging.getLogger("sqlalchemy.engine.Engine")
_Processors = tuple[tuple[Any, Callable[[Any], Any]], ...]


class StatementPlan:
    """One statement in SQLite's words, and how its parameters and columns are converted."""

    __slots__ = ("_converted", "_known", "_names", "_parameters", "columns", "text")

    def __init__(self, compiled: Any):
        dialect = compiled.dialect
        self.text: str = compiled.string
        self._names: tuple[str, ...] = tuple(compiled.positiontup)
        # Values that stand in the statement; those of the caller's parameters are required.
        self._known: dict[str, Any] = {
            name: bind.effective_value
            for bind, name in compiled.bind_names.items()
            if not bind.required
        }
        self._parameters: _Processors = tuple(
            (name, convert)
            for name, convert in compiled._bind_processors.items()
            if name in self._names
        )
        # NOTE: sometimes these are tuples without names.
        columns = compiled._result_columns or ()
        self.columns: tuple[str, ...] = tuple(str(column[0]) for column in columns)
        kinds = [column[3] for column in columns]
        converts = [kind.dialect_impl(dialect).result_processor(dialect, None) for kind in kinds]
        self._converted: _Processors = tuple(
            (number, convert) for number, convert in enumerate(converts) if convert is not None
        )

    def bound(self, params: Mapping[str, Any]) -> list[Any]:
        """Return the values of a run in the order of the statement. Raises KeyError."""
        values = {**self._known, **params}
        for name, convert in self._parameters:
            values[name] = convert(values[name])
        return [values[name] for name in self._names]

    def run(self, cursor: sqlite3.Cursor, params: Mapping[str, Any]) -> list[Any]:
        """Return the rows of the statement, each a tuple. Raises sqlite3.Error and KeyError."""
        cursor.execute(self.text, self.bound(params))
        found: list[Any] = cursor.fetchall()
        if len(found) == 1:
            row = list(found[0])
            for place, convert in self._converted:
                row[place] = convert(row[place])
            return [tuple(row)]
        if found and self._converted:
            # PERF: column by column, and not value by value.
            columns: list[Any] = list(zip(*found, strict=True))
            for place, convert in self._converted:
                columns[place] = map(convert, columns[place])
            return list(zip(*columns, strict=True))
        return found


@functools.lru_cache(maxsize=1024)
def plan(
    statement: Any, dialect: Any, names: tuple[str, ...] | None = None
) -> StatementPlan | None:
    """Return the plan of a statement, None for one whose text depends on its parameters.

    For a statement that writes, `names` are those of the parameters of its run.
    """
    compiled = statement.compile(dialect=dialect, column_keys=names)
    if compiled.post_compile_params or compiled.literal_execute_params:
        return None
    if compiled.insert_prefetch or compiled.update_prefetch:
        # Values that SQLAlchemy works out for each run.
        return None
    return StatementPlan(compiled)


class Looker:
    """A connection to a SQLite database that lasts, for statements that only read.

    A statement is a transaction of its own. It is opened at the first one.
    """

    def __init__(self, engine: sa.engine.Engine):
        self._engine = engine
        self._lock = hub.native_lock()
        self._opened: Any = None

    def fetch(self, statement: Any, params: Mapping[str, Any]) -> list[Any] | None:
        """Return the rows of a statement, None if it has to be run by SQLAlchemy."""
        found = plan(statement, self._engine.dialect)
        if found is None or SQL_LOG.isEnabledFor(logging.INFO):
            return None
        # NOTE: two statements at a time would see one state of the database, an old one for the
        # second; nobody waits for the hub in here.
        with self._lock:
            try:
                if self._opened is None:
                    self._opened = self._engine.raw_connection()
                    # The pool counts, and limits, those that are lent.
                    self._opened.detach()
                return found.run(self._opened.dbapi_connection.cursor(), params)
            except (sqlite3.Error, sa.exc.SQLAlchemyError, KeyError):
                return None

    def close(self) -> None:
        """Close the connection; the next statement opens another one."""
        with self._lock:
            opened, self._opened = self._opened, None
            if opened is not None:
                opened.close()


class Reading:
    """What a block of `Database.look_up` has: as a connection, which is opened when it is used.

    `fetch` needs none for most statements.
    """

    __slots__ = ("_connect", "_connection", "_looker")

    def __init__(self, looker: Looker, connect: Callable[[], Connection]):
        self._looker = looker
        self._connect = connect
        self._connection: Connection | None = None

    def fetch(self, statement: Any, params: Mapping[str, Any]) -> list[Any] | None:
        """Return the rows of a statement, None if it has to be run on the connection."""
        if self._connection is not None:
            # NOTE: its transaction may be a snapshot.
            return None
        return self._looker.fetch(statement, params)

    def __getattr__(self, name: str) -> Any:
        if self._connection is None:
            self._connection = self._connect()
        return getattr(self._connection, name)

    def end(self) -> None:
        """Close the connection if it was opened."""
        if self._connection is not None:
            self._connection.close()
