"""URLs of databases in `sql_connection`: today's names, those of Diablo, missing drivers."""

from __future__ import annotations

import contextlib
import importlib

import sqlalchemy as sa
from sqlalchemy import exc

from glance.common import exception

#: Names by which other programs call a kind of database; only one of them has ever worked here.
_OTHER_NAMES = {"sqlite3": "sqlite", "mysqldb": "mysql"}
_OLD_NAMES = {"postgres": "postgresql"}
#: Kind -> the driver in the extra, and the extra of setup.cfg.
_EXTRAS = {
    "postgresql": ("psycopg2", "postgresql"),
    "mysql": ("pymysql", "mysql"),
    "mariadb": ("pymysql", "mysql"),
}
#: Packages of drivers that have another name than the driver.
_PACKAGES = {"mysqldb": "mysqlclient"}
#: What `engine` knows how to use, whatever else SQLAlchemy can connect to.
_KINDS = frozenset({"sqlite", *_EXTRAS})
_USE = "use sqlite, postgresql or mysql"


def parse(url: str) -> sa.engine.URL:
    """Return the parts of the URL of a database. Raises ConfigError, which says what is wrong.

    WIRE: files of Diablo have mysql:// and postgres://. Where no driver is named, PyMySQL is used
    for MySQL and MariaDB if it is installed, as the event loop goes on beside it; otherwise
    mysqlclient, which SQLAlchemy would choose.

    A connection transfers all of Unicode, whatever character set an old URL names: two values that
    another one cannot represent would be the same value.

    SECURITY: the error neither shows the URL nor has a cause that does, because it is not known
    which part of a mistyped URL is the password.
    """
    try:
        parsed = sa.engine.make_url(url)
    except (exc.ArgumentError, ValueError):
        raise exception.ConfigError(
            "option sql_connection is not a SQLAlchemy URL, such as "
            "sqlite:////var/lib/glance/glance.sqlite"
        ) from None
    kind, _, driver = parsed.drivername.partition("+")
    named = _OTHER_NAMES.get(kind)
    if named is not None:
        raise exception.ConfigError(
            f"option sql_connection begins with {kind}: SQLAlchemy calls this kind of database "
            f"{named}, so write {named}://"
        )
    if kind in _OLD_NAMES:
        kind = _OLD_NAMES[kind]
        parsed = parsed.set(drivername=f"{kind}+{driver}" if driver else kind)
    if not driver and kind in ("mysql", "mariadb") and not _has_only("MySQLdb"):
        driver = "pymysql"
        parsed = parsed.set(drivername=f"{kind}+{driver}")
    try:
        dialect = parsed.get_dialect()
        if kind not in _KINDS or dialect.is_async:
            raise exception.ConfigError(
                f"option sql_connection: glance does not work with {parsed.drivername}; {_USE}"
            )
        dialect.dbapi()
    except exc.NoSuchModuleError:
        what = f"the driver {driver} for {kind}" if driver else f"the kind of database {kind}"
        raise exception.ConfigError(
            f"option sql_connection: SQLAlchemy does not know {what}; {_USE}"
        ) from None
    except ImportError as err:
        usual, extra = _EXTRAS.get(kind, ("", ""))
        command = f"pip install {_PACKAGES.get(driver, driver)}"
        if driver in ("", usual):
            command = f"pip install 'glance[{extra}]'"
        raise exception.ConfigError(
            f"option sql_connection: the driver for {parsed.drivername} is not installed "
            f"({err.name or 'its module'} is missing): run {command}"
        ) from None
    if parsed.get_backend_name() == "mariadb":
        parsed = parsed.set(drivername=f"mysql+{driver}" if driver else "mysql")
    if parsed.get_backend_name() == "mysql":
        parsed = parsed.update_query_dict({"charset": "utf8mb4"})
    elif dialect.driver == "psycopg2":
        # NOTE: otherwise the environment or the encoding of the database decides.
        parsed = parsed.update_query_dict({"client_encoding": "utf8"})
    try:
        dialect().create_connect_args(parsed)
    except (TypeError, ValueError):
        raise exception.ConfigError(
            "option sql_connection has a parameter, after its question mark, that is not valid"
        ) from None
    return parsed


def _has_only(other: str) -> bool:
    """Return whether PyMySQL is not installed, but another driver is."""
    for name in ("pymysql", other):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
            return name == other
    return False
