"""Reading odd values: what other programs and old releases have left in the database.

A column that glance writes holds one form of a value. SQLite takes any other into any column,
MySQL and MariaDB take dates that do not exist, PostgreSQL takes times beyond those of Python. One
such value must not make a list fail: what can be read is read, and the rest is None.
"""

from __future__ import annotations

import datetime
import functools
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from glance.image import fields
from glance.registry.db import lookups

T = TypeVar("T")

_DECODE = json.JSONDecoder().raw_decode
_EPOCH = datetime.datetime(1970, 1, 1)
#: The Julian day number of `_EPOCH`.
_JULIAN_EPOCH = 2440587.5
_LOOSE = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})"
    r"(?:[T ]+(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:[.,](\d*))?)?)?"
    r" *(?:Z|UTC|GMT|([+-])(\d{1,2}):?(\d{2})?)?",
    re.ASCII | re.IGNORECASE,
)


def time(value: Any) -> datetime.datetime | None:
    """Return a time of the database as naive UTC; None for one that cannot be read.

    Text may have any form of ISO 8601: without seconds, with a zone, with any number of digits
    after the seconds. Numbers are, as in SQLite's documentation, seconds since 1970 or, if
    they are small, Julian days; whole numbers of 8 or 14 digits are dates.
    """
    if value is None:
        return None
    try:
        # PERF: faster than what SQLAlchemy does for SQLite, which reads one form only.
        found = datetime.datetime.fromisoformat(value)
        return found if found.tzinfo is None else _utc(found)
    except (TypeError, ValueError, OverflowError):
        pass
    try:
        return _time(value)
    except (ValueError, OverflowError):
        return None


# PERF: a page of a list has three times for each image, most of them the same as in the last page.
_time_again = functools.lru_cache(maxsize=4096, typed=True)(time)


def _utc(value: datetime.datetime) -> datetime.datetime:
    return value.astimezone(datetime.UTC).replace(tzinfo=None)


def _time(value: Any) -> datetime.datetime | None:
    if isinstance(value, bytes):
        return time(value.decode("utf-8", "replace"))
    if isinstance(value, str):
        return _loose_time(value)
    if isinstance(value, datetime.datetime):
        return value
    if isinstance(value, datetime.date):
        return datetime.datetime(value.year, value.month, value.day)
    if not isinstance(value, int | float):
        return None
    digits = str(value)
    if len(digits) in (8, 14) and digits.isdecimal():
        return datetime.datetime.strptime(digits.ljust(14, "0"), "%Y%m%d%H%M%S")
    if value < 10_000_000:
        return _EPOCH + datetime.timedelta(days=value - _JULIAN_EPOCH)
    return _EPOCH + datetime.timedelta(seconds=value)


def _loose_time(text: str) -> datetime.datetime | None:
    found = _LOOSE.fullmatch(text.strip())
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = found.groups()
    east = datetime.timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    # NOTE: hour 24 and second 60 exist.
    if int(hour or 0) > 24 or int(minute or 0) > 59 or int(second or 0) > 60:
        return None
    return (
        datetime.datetime(int(year), int(month), int(day))
        + datetime.timedelta(
            hours=int(hour or 0),
            minutes=int(minute or 0),
            seconds=int(second or 0),
            microseconds=int((fraction or "")[:6].ljust(6, "0")),
        )
        + (east if sign == "-" else -east)
    )


def whole_number(value: Any) -> int | None:
    """Return a number of the database from 0 to MAX_BIGINT; None for any other value."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number <= fields.MAX_BIGINT else None


def text(value: Any) -> Any:
    """Return the text in bytes; every other value as it is. Also for `json.dumps`."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def read_json(document: str) -> Any:
    """Return the value of a JSON document that a database has written.

    PERF: each row of a list has one, and `json.loads` takes twice as long for it, because it looks
    for white space around the document.
    """
    return _DECODE(document)[0] if document[:1] == "{" else json.loads(document)


def fold_names(properties: Mapping[str, T]) -> dict[str, T]:
    """Return properties under their names in lower case.

    Of names that differ in case only, the one in lower case counts, or else the last one in the
    order of bytes.
    """
    # PERF: one comparison for all names, which almost always are text in lower case.
    try:
        joined = "".join(properties)
        if joined == joined.lower():
            return dict(properties)
    except TypeError:
        # SQLite has bytes among them.
        pass
    return {text(name).lower(): properties[name] for name in last_first(properties)[::-1]}


def last_first(names: Iterable[str]) -> list[str]:
    """Return names that may differ in case only, those that count before those that do not.

    Bytes, which SQLite may hold, count as the text in them, but after a name that is text.
    """

    def rank(name: Any) -> tuple[bool, bytes, bool]:
        read = text(name)
        return read == read.lower(), read.encode(), isinstance(name, str)

    return sorted(names, key=rank, reverse=True)


def _unless_read(value: Any) -> datetime.datetime | None:
    return value if type(value) is datetime.datetime else time(value)


class Timestamp(sa.types.TypeDecorator):  # type: ignore[misc]  # no stubs, see setup.cfg
    """A UTC time with microseconds, which MySQL drops by default."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        kind = mysql.DATETIME(fsp=6) if dialect.name == "mysql" else sa.DateTime()
        return dialect.type_descriptor(kind)

    def bind_processor(self, dialect: Any) -> Any:
        usual = super().bind_processor(dialect)
        if dialect.name != "sqlite":
            return usual

        def written(value: Any) -> Any:
            # PERF: a third of what SQLAlchemy takes for the same text.
            if type(value) is datetime.datetime and value.tzinfo is None and value.microsecond:
                return value.isoformat(" ")
            return usual(value)

        return written

    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        # NOTE: the driver of PostgreSQL reads times itself, with `read_times`; those of MySQL
        # pass on what they cannot read.
        return {"sqlite": _time_again, "mysql": _unless_read}.get(dialect.name)


class WholeNumber(sa.types.TypeDecorator):  # type: ignore[misc]  # no stubs, see setup.cfg
    """A number that is not negative, of an integer type; `unreadable` stands for other values."""

    impl = sa.Integer
    cache_ok = True

    def __init__(self, kind: type[sa.types.TypeEngine], unreadable: int | None):
        super().__init__()
        self.kind = kind
        self.unreadable = unreadable

    def load_dialect_impl(self, dialect: Any) -> Any:
        return dialect.type_descriptor(self.kind())

    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        if dialect.name != "sqlite":
            return None
        unreadable = self.unreadable

        def read(value: Any) -> int | None:
            if type(value) is int:
                return value
            if value is None:
                # PERF: to raise an error takes longer than all else here.
                return unreadable
            number = whole_number(value)
            return unreadable if number is None else number

        return read


def raw(column: Any, dialect: str) -> ColumnElement[Any]:
    """Return a column without a loss: with what stands there although it cannot be read."""
    if dialect == "sqlite":
        return sa.type_coerce(column, sa.String)
    if isinstance(column.type, Timestamp):
        return sa.cast(column, sa.String)
    return column


def fetch(conn: Connection, statement: Any, params: Mapping[str, Any]) -> list[Any]:
    """Run a statement and return its rows, also if text in SQLite is not UTF-8.

    In a block of `Database.look_up` a row is a tuple of values; otherwise they have names, too.
    """
    if isinstance(conn, lookups.Reading):
        looked_up = conn.fetch(statement, params)
        if looked_up is not None:
            return looked_up
    try:
        # PERF: all rows at once: fetching them one at a time costs 2 us each.
        found: list[Any] = conn.execute(statement, params).all()
        return found
    except exc.OperationalError as err:
        if "decode to UTF-8" not in str(err.orig):
            raise
    connection = conn.connection.dbapi_connection
    connection.text_factory = text
    try:
        found = conn.execute(statement, params).all()
        return found
    finally:
        connection.text_factory = str


def read_times(connection: Any) -> None:
    """Let a psycopg2 connection read times with `time`: it refuses those beyond Python's range."""
    from psycopg2 import extensions

    cast = extensions.new_type((1114, 1184), "TIME", lambda value, cursor: time(value))
    extensions.register_type(cast, connection)
