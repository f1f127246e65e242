"""Lists of images: which index drives a list, and what bounds its time among many images.

A page begins after a row, not after a count (keyset pagination): rows that are added or removed
before it shift nothing. Null sort values are smaller than all others, on every database.

**No statement reads more rows than it is told to.** Planners guess from statistics, which are old
or missing, and do not tell that the few images that match are all at the end of the order. A
planner that guesses wrong reads the whole table. So this module chooses the index, and the
statements of `list_statements` leave a planner no other. There are four ways to make a page:

*whole*
    The list has no filters and is one segment of an index: all images for an administrator, the
    public ones by creation time. The page is the beginning of the segment.

*window*
    The first images in the order, as far as a window of `_FIRST` times the page, of which those
    that match are the page. It is the way for frequent filters, and for what most users see: most
    images match. If the window has too few, the next one goes on where it ended.

*among few*
    At first, the index of each filter is asked whether it has more than `MOST_RARE` images (a
    *probe*), and after a window that does not fill the page whether it has more than `MOST_FEW`.
    If it has not, these few are read and sorted. It is the way for rare names, properties, sizes
    and recent changes, and for users who see few images.

*visible*
    In the default order, a user who sees only a small part of a large table gets a page that is
    merged from the public images, the user's own images and those shared with the user.

Otherwise windows follow one another, each up to four times as large, of `_LARGEST` rows at most
and no larger than it takes if images match as often as before. That takes long if no filter is
rare but their combination is: many images have the one property, and many the other, but none has
both. Between two windows, other requests of the worker have their turn, and after `MOST_EXAMINED`
images the list is given up.

What is not bounded: live images in status `killed`, and hidden ones, at the beginning of a segment
of a *whole* or *visible* list are read one after the other. On SQLite 300,000 take 0.1 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast, overload

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from glance.common import exception
from glance.identity import context as identity_context
from glance.image import fields, listing, types
from glance.registry.db import (
    connecting,
    engine,
    lenient,
    list_statements,
    models,
    page_json,
    probes,
    records,
    visibility,
)
from glance.streaming import hub

properties = models.image_properties

#: Keys of an image in full as everybody may see it.
_PUBLIC_KEYS = tuple(key for key in fields.DETAIL_KEYS if key != "location")
#: How many images count as few: reading and sorting them takes some milliseconds.
MOST_FEW = 1000
#: How many count as so few that they are looked for before the first window.
MOST_RARE = 100
#: How many images that are shared with a user are sorted for each page of what it sees.
MOST_SHARED = 100
#: How many images a list examines before it is given up.
MOST_EXAMINED = 2_000_000
#: How many times the page the first window is: of a list that is filtered, of one that is not, and
#: of private images, which are often a small part of all.
_FIRST, _FIRST_UNFILTERED, _FIRST_PRIVATE = 8, 2, 12
#: How many times as large as it would have to be, if matches went on as before, the next one is.
_MARGIN = 2
#: The rows of the largest window; fewer if each row is looked up in the table of properties.
_LARGEST = 1000
#: How many names with capitals are looked at; more of them count as a match.
_MOST_NAMES = 1000
# PERF: PostgreSQL uses the index, which is almost always empty, for the first rows in its order;
# MySQL, whose index has all names, finds the different ones in it.
_ODD_NAMES = (
    sa.select(properties.c.name)
    .where(models.is_odd_name(properties))
    .order_by(properties.c.name)
    .limit(_MOST_NAMES)
)
_DIFFERENT_ODD_NAMES = _ODD_NAMES.distinct()
_ARE_LIVE = (
    sa.select(properties.c.id)
    .where(properties.c.name.in_(sa.bindparam("names", expanding=True)))
    .where(visibility.live(properties))
    .limit(1)
)


@overload
def image_list(
    db: engine.Database,
    context: identity_context.RequestContext,
    query: listing.ListQuery,
    *,
    detail: Literal[True] = True,
) -> list[types.StoredImage]: ...


@overload
def image_list(
    db: engine.Database,
    context: identity_context.RequestContext,
    query: listing.ListQuery,
    *,
    detail: Literal[False],
) -> list[types.BriefImage]: ...


def image_list(
    db: engine.Database,
    context: identity_context.RequestContext,
    query: listing.ListQuery,
    *,
    detail: bool = True,
) -> list[types.StoredImage] | list[types.BriefImage]:
    """Return one page of the images that the caller may list.

    Records are full with `detail`; otherwise they have the six keys of a short list. Raises
    Invalid if the marker is not an image that the caller can see, and if the page is not full
    after MOST_EXAMINED images.
    """
    columns = fields.DETAIL_KEYS if detail else fields.BRIEF_KEYS
    with db.look_up() as conn:
        page = _Listing(conn, context, query, columns, db.dialect).page()
    found = [dict(zip(columns, row, strict=True)) for row in page]
    if not detail:
        return cast(list[types.BriefImage], found)
    full = cast(list[types.StoredImage], found)
    for record in full:
        record["properties"] = lenient.fold_names(record["properties"] or {})
        records.reveal(db, record)
    return full


def public_page(
    db: engine.Database,
    context: identity_context.RequestContext,
    query: listing.ListQuery,
    *,
    detail: bool,
) -> bytes:
    """Return what `image_list` does as the JSON document of version 1 of the Images API.

    No record has a location. PERF: to decipher one takes longer than all else for an image.
    """
    columns = _PUBLIC_KEYS if detail else fields.BRIEF_KEYS
    with db.look_up() as conn:
        rows = _Listing(conn, context, query, columns, db.dialect, has_text=True).page()
    return page_json.document(columns, rows)


class _Listing:
    """One list on its way: what it asks for, how far it is, and what it has found."""

    def __init__(
        self,
        conn: Connection,
        context: identity_context.RequestContext,
        query: listing.ListQuery,
        columns: tuple[str, ...],
        dialect: str,
        *,
        has_text: bool = False,
    ):
        self.conn, self.context, self.query = conn, context, query
        self.params = _values(context, query)
        odd = _odd_names(conn, query.properties)
        #: Names under which each property that is wanted may be stored; None for any.
        self.names = None if odd is None else {name: [name] for name in query.properties}
        for name in odd or ():
            cast(dict[str, list[str]], self.names)[name.lower()].append(name)
        self.shape = list_statements.Shape(
            columns=columns,
            has_owner=context.owner is not None,
            is_public=query.is_public,
            deleted=True if context.show_deleted else query.deleted,
            include_killed=query.include_killed,
            filters=tuple(query.filters),
            is_saving=query.filters.get("status") == "saving",
            properties=len(query.properties),
            odd_names=odd is None or bool(odd),
            size_min=query.size_min is not None,
            size_max=query.size_max is not None,
            changes_since=query.changes_since is not None,
            sort_key=query.sort_key,
            descending=query.sort_dir == "desc",
            dialect=dialect,
            has_text=has_text,
        )

    def page(self) -> list[Any]:
        """Return the rows of the page; see the module."""
        parts = self._start()
        if self.query.limit == 0:
            return []
        if self._is_whole():
            return self._by_parts(list_statements.whole, parts)
        if self.query.filters.get("status") == "killed" and not self.query.include_killed:
            return []
        ids = self._few(self._drivers(), MOST_RARE)
        if ids is not None:
            return self._among(ids, parts)
        return self._by_windows(parts)

    def _start(self) -> list[str | None]:
        """Return the parts of the order in which the page is, which begins after the marker."""
        if self.query.marker is None:
            return [None]
        place = self.conn.execute(
            list_statements.marker(
                visibility.kind(self.context),
                self.query.sort_key,
                self.shape.deleted is False,
                self.shape.dialect,
            ),
            {**self.params, "marker_id": self.query.marker},
        ).first()
        if place is None:
            raise exception.Invalid("The marker image was not found")
        return self._go_on(self.query.marker, *place)

    def _go_on(self, image_id: int, is_null: bool, value: Any) -> list[str | None]:
        self.params.update(marker_id=image_id, marker_value=value)
        return list_statements.parts(self.shape, is_null)

    def _is_whole(self) -> bool:
        """Return whether nothing has to be left out of a segment but killed images."""
        if self.shape.has_filters:
            return False
        is_default = self.query.sort_key == "created_at"
        return self.query.is_public is None or (is_default and not self._is_users())

    def _is_users(self) -> bool:
        """Return whether the list has images of one user besides public ones."""
        return self.query.is_public is True and self.shape.has_owner

    def _first_window(self) -> int:
        """Return how many times the page the first window is.

        Most often it leaves out no more than images that the user may not see.
        """
        is_default = self.query.sort_key == "created_at"
        if self.query.is_public is False and not is_default:
            return _FIRST_PRIVATE
        if is_default and not self.shape.properties and len(self.shape.filters) == 1:
            is_filtered = self.shape.filters[0] not in self.shape.scopes
        else:
            is_filtered = self.shape.has_filters
        return _FIRST if is_filtered else _FIRST_UNFILTERED

    def _by_parts(self, build: Any, parts: list[str | None]) -> list[Any]:
        page: list[Any] = []
        for part in parts:
            self.params["page_limit"] = self.query.limit - len(page)
            page += lenient.fetch(self.conn, build(self.shape, part), self.params)
            if len(page) >= self.query.limit:
                break
        return page

    def _among(self, ids: list[int], parts: list[str | None]) -> list[Any]:
        if not ids:
            return []
        self.params["ids"] = probes.bound(ids, self.shape.dialect)
        return self._by_parts(list_statements.among, parts)

    def _by_windows(self, parts: list[str | None]) -> list[Any]:
        """Return the page from one window after the other, or in a better way if there is one."""
        begin, beginning = parts, dict(self.params)
        page: dict[int, Any] = {}
        largest = max(_LARGEST // (1 + self.shape.properties), self.query.limit)
        size, examined = min(self._first_window() * self.query.limit, largest), 0
        while parts:
            self.params.update(
                page_limit=self.query.limit - len(page), window=size, window_end=size - 1
            )
            statement = list_statements.window(self.shape, parts[0], not examined)
            # NOTE: between two windows, another transaction may move an image to the second.
            for row in lenient.fetch(self.conn, statement, self.params):
                page.setdefault(row[0], row)
            if len(page) >= self.query.limit:
                break
            if not examined:
                # NOTE: on SQLite the next window looks up the place where this one ends.
                connecting.begin_snapshot(self.conn)
            end = list_statements.end_of_window(self.shape, parts[0])
            last = self.conn.execute(end, self.params).first()
            if last is None:
                parts = parts[1:]
                continue
            missing = self.query.limit - len(page)
            if not examined and len(page) < missing:
                better = self._better(begin, beginning)
                if better is not None:
                    return better
            examined += size
            if examined >= MOST_EXAMINED:
                raise exception.Invalid(
                    f"Too few of the first {examined} images match all filters of the list: "
                    "use a filter that matches fewer images"
                )
            parts = self._go_on(*last)
            rarely = _MARGIN * missing * examined // len(page) if page else 4 * size
            size = min(4 * size, rarely, largest)
            hub.sleep(0)
        return list(page.values())

    # -- the choice of another index than that of the order --------------------------------------

    def _better(self, parts: list[str | None], params: dict[str, Any]) -> list[Any] | None:
        """Return the page by way of few images, or of what is visible; None if both are many."""
        after_window, self.params = self.params, params
        ids = self._few(self._drivers(), MOST_FEW)
        ids = self._visible(MOST_FEW) if ids is None else ids
        if ids is not None:
            return self._among(ids, parts)
        if self._is_users() and not self.shape.has_filters:
            shared = self._ids(probes.SHARED, MOST_SHARED)
            if shared is not None and self.query.sort_key == "created_at":
                self.params["ids"] = probes.bound(shared, self.shape.dialect)
                return self._by_parts(list_statements.visible, parts)
        self.params = after_window
        return None

    def _drivers(self) -> list[str]:
        """Return the filters that an index may find few images for, and that of no order yet."""
        found = [f"property {number}" for number in range(self.shape.properties)]
        if self.shape.size_min or self.shape.size_max:
            found.append("size")
        if self.shape.changes_since:
            found.append("changes_since")
        if self.query.is_public is False:
            found.append("private")
        found += [name for name in listing.TEXT_FILTERS if name in self.query.filters]
        in_order = {self.query.sort_key}
        if self.query.sort_key == "created_at":
            in_order |= {*self.shape.scopes, "private"}
        return [one for one in found if list_statements.RANGES.get(one, one) not in in_order]

    def _few(self, drivers: list[str], most: int) -> list[int] | None:
        """Return the images that the first driver finds of which there are few; None for none."""
        for driver in drivers:
            ids = self._probe(driver, most)
            if ids is not None:
                return ids
        return None

    def _probe(self, driver: str, most: int) -> list[int] | None:
        """Return the ids of the images that an index finds for one filter; None for many."""
        kind, _, number = driver.partition(" ")
        if kind == "property":
            return self._having(int(number), most)
        ids: list[int] = []
        for deleted in self.shape.deleted_values:
            more = self._ids(list_statements.probe(self.shape, driver, deleted), most)
            if more is None:
                return None
            ids += more
        return ids if len(ids) <= most else None

    def _having(self, number: int, most: int) -> list[int] | None:
        if self.names is None:
            return None
        name = list(self.query.properties)[number]
        self.params.update(names=self.names[name], value=self.query.properties[name])
        return self._ids(probes.having(self.shape.dialect), most)

    def _visible(self, most: int) -> list[int] | None:
        """Return the images that a user, or the public, sees; None for many."""
        if self.query.is_public is not True:
            return None
        public = self._probe("public", most)
        if public is None or not self.shape.has_owner:
            return public
        owned = self._probe("owned", most)
        shared = None if owned is None else self._ids(probes.SHARED, most)
        return None if owned is None or shared is None else sorted({*public, *owned, *shared})

    def _ids(self, statement: Any, most: int) -> list[int] | None:
        return probes.few(self.conn, statement, self.params, most)


def _values(context: identity_context.RequestContext, query: listing.ListQuery) -> dict[str, Any]:
    params = {
        **visibility.viewer(context),
        "page_limit": query.limit,
        "size_min": query.size_min,
        "size_max": query.size_max,
        "changes_since": query.changes_since,
    }
    params.update((f"filter_{name}", value) for name, value in query.filters.items())
    for number, (name, value) in enumerate(query.properties.items()):
        params[f"property_name_{number}"] = name
        params[f"property_value_{number}"] = value
    return params


def _odd_names(conn: Connection, wanted: Mapping[str, str]) -> list[str] | None:
    """Return the names with capitals that are stored for names that are wanted; None for many.

    PERF: a statement for such names takes PostgreSQL ten times as long.
    """
    if not wanted:
        return []
    is_mysql = conn.dialect.name == "mysql"
    odd = conn.execute(_DIFFERENT_ODD_NAMES if is_mysql else _ODD_NAMES).scalars().all()
    if len(odd) == _MOST_NAMES:
        return None
    names = sorted({name for name in odd if name.lower() in wanted})
    is_live = bool(names) and conn.execute(_ARE_LIVE, {"names": names}).first() is not None
    return names if is_live else []
