"""Transactions of SQLite that are committed together: several clients wait for the disk once.

One greenthread at a time works on a database; the others wait for their turn. While the disk
writes a commit, more of them come. They work one after the other in one transaction, a *group*,
each in a savepoint of its own, and each of them returns when the group is committed. So a group
is as durable as a commit for each, and what one of them does wrong is undone for that one alone.
A transaction that nobody waits behind is committed by itself, unless the last ones had company:
then it waits until the event loop has looked once for others, and has them in its group.

A group that is lost as a whole, because the disk is full or a commit fails, has done nothing; each
of its members works again, by itself, and gets an error of its own.

PERF: a commit of one image writes some 25 pages, because of the indexes, and eight clients in a
group write most of them once. A POST without data costs the registry half of what it did.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from sqlalchemy.engine import Connection

from glance.streaming import hub

T = TypeVar("T")

#: Members of a group. Other processes cannot write before it is committed.
MOST = 32

Begin = Callable[[], contextlib.AbstractContextManager[Connection]]


class _GroupLost(Exception):
    """Ends the transaction of a group that is lost."""


class _Member(Generic[T]):
    """The outcome of one piece of work in a group."""

    value: T
    error: BaseException | None = None


class _Group:
    """One open transaction, and those who wait for its end."""

    def __init__(self, begin: Begin):
        self._stack = contextlib.ExitStack()
        self._conn = self._stack.enter_context(begin())
        self._driver = self._conn.connection.dbapi_connection
        #: Its members so far.
        self.count = 0
        #: Nothing of the group was, or will be, committed.
        self.is_lost = False
        self.end = hub.Gate()

    @property
    def is_full(self) -> bool:
        return self.is_lost or self.count >= MOST

    def work(self, work: Callable[[Connection], T]) -> _Member[T]:
        """Do one piece of work in a savepoint; its error is part of the outcome."""
        self.count += 1
        member = _Member[T]()
        self._say("SAVEPOINT member")
        if not self.is_lost:
            try:
                member.value = work(self._conn)
            except BaseException as err:
                member.error = err
                self._say("ROLLBACK TO member")
            self._say("RELEASE member")
        return member

    def _say(self, statement: str) -> None:
        """Run a statement about savepoints; if that fails, the group is lost.

        SQLite itself undoes the whole transaction after some errors, as of a full disk.
        """
        if self.is_lost:
            return
        try:
            # PERF: without SQLAlchemy, which takes ten times as long for it.
            self._driver.execute(statement)
        except self._conn.dialect.dbapi.Error:
            self.is_lost = True

    def finish(self) -> None:
        """Commit, or give the group up, and let its members go on; never raises."""
        try:
            with self._stack:
                if self.is_lost:
                    raise _GroupLost
        except BaseException:
            # Each member finds out by itself what is wrong.
            self.is_lost = True
        finally:
            self.end.open()


class Groups:
    """The one writer of a database at a time, among the greenthreads of a process.

    `begin` yields a connection in a transaction, which is committed at the end of the block.
    """

    def __init__(self, begin: Begin):
        self._begin = begin
        self._turn = hub.lock()
        self._group: _Group | None = None
        # Whether the last group had more than one member.
        self._had_company = False

    @contextlib.contextmanager
    def alone(self) -> Iterator[Connection]:
        """Yield a connection in a transaction that has no other members."""
        while True:
            with self._turn:
                group = self._group
                if group is None:
                    with self._begin() as conn:
                        yield conn
                    return
            group.end.wait()

    def run(self, work: Callable[[Connection], T]) -> T:
        """Return `work(connection)` when it is committed; raise its error if it is undone."""
        while True:
            with self._turn:
                group = self._group
                if group is None and not (self._had_company or hub.is_awaited(self._turn)):
                    with self._begin() as conn:
                        return work(conn)
                if group is None:
                    group = self._group = _Group(self._begin)
                    # It takes its turn after all who wait now, and they are the group.
                    hub.start(functools.partial(self._finish, group))
                member = None if group.is_full else group.work(work)
            group.end.wait()
            if member is not None and not group.is_lost:
                break
            if member is not None:
                with self.alone() as conn:
                    return work(conn)
        if member.error is not None:
            try:
                raise member.error
            finally:
                # NOTE: the traceback of the error holds this frame.
                member.error = None
        return member.value

    def _finish(self, group: _Group) -> None:
        """Commit a group. Only this greenthread does, because nobody kills it meanwhile."""
        with self._turn:
            self._group = None
            self._had_company = group.count > 1
            group.finish()
