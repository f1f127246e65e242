"""Lists of images of version 2: which index drives a list, and what bounds its time.

It works as `image_list` does, whose module describes windows and why no statement may read more
rows than it is told to. What differs is the order, which may have several keys and keys that no
index has. There are three ways to make a page:

*among few*
    The index of a filter finds few images, or the caller sees few: these are read and sorted.

*in order*
    One key that an index has: windows follow one another in this order until the page is full.

*best of all*
    Several keys, or one without an index. Images are examined in the order of the first key, or
    in that of their ids if no index has it, and the first ones in the order of the list are kept.
    With an index this ends when the page is full and the first key of what follows comes later
    than that of all that was found, which is soon for names, sizes and times. Otherwise all
    images are examined, at most MOST_EXAMINED.

A page is one statement if its first window fills it; another one finds the marker. How many
statements there are does not depend on how many images the page has.
"""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy.engine import Connection

from glance.common import exception
from glance.identity import context as identity_context
from glance.image import entity, search, types
from glance.registry.db import (
    connecting,
    engine,
    image_list,
    lenient,
    probes,
    records,
    search_statements,
    visibility,
)
from glance.registry.db.search_statements import Scan
from glance.streaming import hub

#: The bounds of `image_list`, so that both kinds of list cost the same.
MOST_FEW, MOST_RARE = image_list.MOST_FEW, image_list.MOST_RARE
MOST_EXAMINED = image_list.MOST_EXAMINED
#: How many times the page the first window is: of a list that is filtered, and of one that is not.
_FIRST, _FIRST_UNFILTERED = 8, 2
#: The rows of the largest window; fewer if each is looked up in the tables of properties or tags.
_LARGEST = 1000
#: Filters by one column, in the order in which their indexes are asked for few images.
_COLUMNS = ("uuid", "size", "updated_at", "created_at", "name", "owner")
_GROUPS = ("status", "disk_format", "container_format")


def find(
    db: engine.Database,
    context: identity_context.RequestContext,
    query: search.SearchQuery,
    *,
    default_limit: int = 25,
    max_limit: int = 1000,
) -> tuple[list[types.StoredRecord], bool]:
    """Return one page of the images that a query finds and the caller may list, in order.

    The second value says whether others follow. Raises Invalid if the marker is not an image that
    the caller can see, and if the page is not full after MOST_EXAMINED images.
    """
    limit = min(default_limit if query.limit is None else query.limit, max_limit)
    with db.look_up() as conn:
        found = _Search(conn, context, query, limit, db.dialect).page()
    page = [_record(records.FULL_KEYS, row) for row in found[:limit]]
    for record in page:
        records.reveal(db, record)
    return page, len(found) > limit > 0


def find_shown(
    db: engine.Database,
    context: identity_context.RequestContext,
    query: search.SearchQuery,
    *,
    default_limit: int = 25,
    max_limit: int = 1000,
) -> tuple[list[dict[str, Any]], bool]:
    """Do as `find` does, but return the images as `entity.to_json` does.

    PERF: half of the columns are not read, and no location is deciphered.
    """
    limit = min(default_limit if query.limit is None else query.limit, max_limit)
    with db.look_up() as conn:
        found = _Search(conn, context, query, limit, db.dialect, shown_only=True).page()
    page = [entity.to_json(_record(records.SHOWN_KEYS, row)) for row in found[:limit]]
    return page, len(found) > limit > 0


def _record(keys: tuple[str, ...], row: Any) -> types.StoredRecord:
    """Return the record of a row, its location in the stored form if it has one."""
    # NOTE: the last column of a row may be the size of its window.
    record: dict[str, Any] = records.agreed(dict(zip(keys, row, strict=False)))
    # What is shown of an image depends on it.
    record["status"] = lenient.text(record["status"])
    record["properties"] = record["properties"] or {}
    tags = record["tags"]
    if isinstance(tags, str):
        tags = lenient.read_json(tags)
    record["tags"] = sorted(tags) if tags else []
    return cast(types.StoredRecord, record)


class _Search:
    """One list on its way: what it asks for, how far it is, and what it has found."""

    def __init__(
        self,
        conn: Connection,
        context: identity_context.RequestContext,
        query: search.SearchQuery,
        limit: int,
        dialect: str,
        *,
        shown_only: bool = False,
    ):
        self.conn, self.context, self.query = conn, context, query
        #: One image more than the page has tells whether others follow.
        self.wanted = limit + 1 if limit else 0
        sort = _decisive(query.sort)
        self.shape = search_statements.SearchShape(
            kind=visibility.kind(context),
            has_owner=context.owner is not None,
            visibility=query.visibility,
            member_status=query.member_status,
            os_hidden=query.os_hidden,
            equal=tuple(query.equal),
            among=tuple(query.among),
            size_min=query.size_min is not None,
            size_max=query.size_max is not None,
            spans=tuple(
                (name, span.since is not None, span.until is not None)
                for name, span in query.spans.items()
            ),
            outside=tuple(name for name, _ in query.outside),
            tags=len(query.tags),
            properties=tuple(not value for value in query.properties.values()),
            sort=sort,
            marked=query.marker is not None,
            dialect=dialect,
            shown_only=shown_only,
        )
        self.params = {**_values(query), **visibility.viewer(context), "page_limit": self.wanted}
        key, descending = search_statements.column_of(sort[0][0]), sort[0][1]
        #: Whether the order of the scan is that of the list.
        self.in_order = len(sort) == 1 and (key in search_statements.INDEXED or key == "uuid")
        if not self.in_order and key not in search_statements.INDEXED:
            key, descending = "id", False
        self.scan = Scan(key, descending, self._scope() if key == "created_at" else "")

    def page(self) -> list[Any]:
        """Return the rows of the page, and of one image more; see the module."""
        parts = self._start()
        if not self.wanted or not all(self.query.among.values()):
            return []
        ids = self._few(MOST_RARE)
        if ids is not None:
            return self._among(ids)
        return self._by_windows(parts)

    def _start(self) -> list[str | None]:
        """Return the parts of the scan in which the page is, which begins after the marker."""
        if self.query.marker is None:
            return [None]
        dialect = self.shape.dialect
        found = self.conn.execute(
            search_statements.marker(self.shape.kind, self.scan.key, dialect),
            {**self.params, "marker_uuid": self.query.marker},
        ).first()
        if found is None:
            raise exception.Invalid("The marker image was not found")
        self.params["marker_row"] = found[0]
        if self.in_order:
            return self._go_on(*found)
        if self.scan.key == "id":
            return [None]
        if found[1]:
            return ["nulls"] if self.scan.descending else [None]
        before = search_statements.before_group(self.scan, dialect)
        last = self.conn.execute(before, self.params).first()
        if last is not None:
            return self._go_on(*last)
        return [None] if self.scan.descending else self._without_nulls()

    def _without_nulls(self) -> list[str | None]:
        return search_statements.parts(self.scan, self.shape.dialect, True)[1:]

    def _go_on(self, image_id: int, is_null: bool, value: Any) -> list[str | None]:
        self.params.update(marker_id=image_id, marker_value=value)
        return search_statements.parts(self.scan, self.shape.dialect, is_null)

    def _scope(self) -> str:
        """Return what of the query an index has before the time of creation."""
        for name in _GROUPS:
            if name in self.query.equal:
                self.params[f"filter_{name}"] = self.query.equal[name]
                return name
        wanted, is_admin = self.query.visibility, self.shape.kind == visibility.ADMIN
        owned = self.query.equal.get("owner")
        if self.shape.has_owner and (
            owned == self.context.owner or (wanted == "private" and not is_admin)
        ):
            return "owner"
        if wanted == "public" or (wanted is None and self.shape.kind == visibility.ANONYMOUS):
            return "is_public"
        if wanted == "community" or (wanted == "private" and is_admin):
            self.params["filter_visibility"] = wanted
            return "visibility"
        return ""

    # -- windows ---------------------------------------------------------------------------------

    def _by_windows(self, parts: list[str | None]) -> list[Any]:
        found = _Found(self)
        lookups = self.shape.tags + len(self.shape.properties)
        largest = max(_LARGEST // (1 + lookups), self.wanted)
        filtered = self.shape.has_filters
        times = _FIRST if filtered else _FIRST_UNFILTERED
        size, examined = min(times * self.wanted, largest), 0
        while parts:
            self.params.update(window=size, window_end=size - 1)
            # PERF: SQLite reads a short window twice sooner than it runs two statements.
            counts = not examined and self.shape.dialect == "sqlite" and not filtered
            count = found.examine(parts[0], counts=counts and self.in_order)
            if self.in_order and found.is_full:
                break
            if found.window is not None and found.window < size and len(parts) == 1:
                break
            if not examined:
                # NOTE: on SQLite the next window looks up the place where this one ends.
                connecting.begin_snapshot(self.conn)
            end = search_statements.end_of_window(self.shape, self.scan, parts[0])
            last = self.conn.execute(end, self.params).first()
            if found.is_full and self._is_settled(found.ids[-1], last):
                break
            if last is None:
                parts = parts[1:]
                continue
            if not examined and count < self.wanted // 2:
                ids = self._few(MOST_FEW)
                ids = self._seen() if ids is None else ids
                if ids is not None:
                    return self._among(ids)
            examined += size
            if examined >= MOST_EXAMINED:
                raise exception.Invalid(
                    f"The first {examined} images do not decide the page: use a filter that "
                    "matches fewer images, or sort by a name, a size or a time first"
                )
            parts = self._go_on(*last)
            size = min(4 * size, largest)
            hub.sleep(0)
        return found.rows()

    def _is_settled(self, worst: int, last: Any) -> bool:
        """Return whether no image that the scan has not reached comes before the worst one found.

        `last` is the last row of the window, None if it is the end of a part: the next one has
        other values of the first key.
        """
        if self.scan.key == "id":
            return False
        if last is None:
            return True
        behind = {"worst": worst, "last": last[0]}
        return (
            self.conn.execute(search_statements.is_behind(self.scan), behind).first() is not None
        )

    # -- few images ------------------------------------------------------------------------------

    def _among(self, ids: list[int]) -> list[Any]:
        if not ids:
            return []
        self.params["ids"] = probes.bound(ids, self.shape.dialect)
        return lenient.fetch(self.conn, search_statements.among(self.shape), self.params)

    def _few(self, most: int) -> list[int] | None:
        """Return the images that the first filter finds of which there are few; None for none."""
        for name, value in self.query.properties.items():
            if value:
                self.params.update(names=[name], value=value)
                ids = self._ids(probes.having(self.shape.dialect), most)
                if ids is not None:
                    return ids
        for number in range(self.shape.tags):
            ids = self._ids(search_statements.tagged(number), most)
            if ids is not None:
                return ids
        filtered = {search_statements.column_of(name) for name in self.shape.equal}
        filtered |= {search_statements.column_of(name) for name in self.shape.among}
        filtered |= {name for name, *_ in self.shape.spans}
        if self.shape.size_min or self.shape.size_max:
            filtered.add("size")
        for column in (*_COLUMNS, *_GROUPS):
            if column in filtered and column not in (self.scan.key, self.scan.scope):
                ids = self._ids(search_statements.probe(self.shape, column), most)
                if ids is not None:
                    return ids
        if self.query.visibility in ("private", "community") and not self.scan.scope:
            self.params["filter_visibility"] = self.query.visibility
            return self._ids(search_statements.seen("visibility"), most)
        return None

    def _seen(self) -> list[int] | None:
        """Return the images that the caller may have in this list; None for many, or all."""
        if self.shape.kind == visibility.ADMIN:
            return None
        wanted = self.query.visibility
        scopes = {"public": ("is_public",), "private": ("owner",), "shared": ("owner",)}.get(
            wanted or "", ("is_public", "owner")
        )
        if wanted == "community":
            scopes = ("visibility",)
        elif wanted == "all":
            scopes = (*scopes, "visibility")
        self.params.setdefault("filter_visibility", "community")
        found: set[int] = set()
        for scope in scopes:
            if scope == "owner" and not self.shape.has_owner:
                continue
            ids = self._ids(search_statements.seen(scope), MOST_FEW)
            if ids is None:
                return None
            found.update(ids)
        if self.shape.has_owner and wanted in (None, "shared", "all"):
            shared = search_statements.shared(self.query.member_status)
            ids = self._ids(shared, MOST_FEW)
            if ids is None:
                return None
            found.update(ids)
        return sorted(found)

    def _ids(self, statement: Any, most: int) -> list[int] | None:
        return probes.few(self.conn, statement, self.params, most)


class _Found:
    """What the windows of a list have found so far."""

    def __init__(self, search: _Search):
        self.search = search
        self.ids: list[int] = []
        self._rows: dict[int, Any] = {}
        #: How many rows the last window has; None if that is not known.
        self.window: int | None = None

    @property
    def is_full(self) -> bool:
        return len(self.ids) >= self.search.wanted

    def examine(self, part: str | None, *, counts: bool = False) -> int:
        """Add what one window has; return how many images match there.

        With `counts` the number of its rows is noted, if any image matches.
        """
        search = self.search
        shape, scan, conn, params = search.shape, search.scan, search.conn, search.params
        params["page_limit"] = search.wanted
        if search.in_order:
            params["page_limit"] -= len(self.ids)
            page = search_statements.page(shape, scan, part, counts)
            fetched = lenient.fetch(conn, page, params)
            self.window = fetched[0][-1] if counts and fetched else None
            # NOTE: between two windows, another transaction may move an image to the second.
            for row in fetched:
                self._rows.setdefault(row[_ID], row)
            count = len(self._rows) - len(self.ids)
            self.ids = list(self._rows)
            return count
        best = search_statements.best(shape, scan, part)
        more = conn.execute(best, params).scalars().all()
        if self.ids and more:
            params["ids"] = probes.bound([*{*self.ids, *more}], shape.dialect)
            ranked = search_statements.ranked(shape.sort, shape.dialect)
            self.ids = list(conn.execute(ranked, params).scalars())
        else:
            self.ids = self.ids or list(more)
        return len(more)

    def rows(self) -> list[Any]:
        """Return the rows of the page."""
        if self.search.in_order:
            return list(self._rows.values())
        self.search.params["page_limit"] = self.search.wanted
        return self.search._among(self.ids)


_ID = records.COLUMNS.index("id")


def _decisive(sort: tuple[tuple[str, bool], ...]) -> tuple[tuple[str, bool], ...]:
    """Return the keys of an order up to the first that no two images have in common."""
    for number, (key, _) in enumerate(sort):
        if key == "id":
            return sort[: number + 1]
    return sort


def _values(query: search.SearchQuery) -> dict[str, Any]:
    found: dict[str, Any] = {"size_min": query.size_min, "size_max": query.size_max}
    found.update((f"equal_{name}", value) for name, value in query.equal.items())
    found.update((f"among_{name}", values) for name, values in query.among.items())
    for name, span in query.spans.items():
        found.update({f"since_{name}": span.since, f"until_{name}": span.until})
    for number, (_, span) in enumerate(query.outside):
        found.update(
            {f"outside_since_{number}": span.since, f"outside_until_{number}": span.until}
        )
    found.update((f"tag_{number}", tag) for number, tag in enumerate(query.tags))
    for number, (name, value) in enumerate(query.properties.items()):
        found.update({f"property_name_{number}": name, f"property_value_{number}": value})
    return found
