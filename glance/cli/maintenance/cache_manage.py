"""glance-cache-manage: inspect and manage the image cache of a glance-api.

Most commands call the API (`glance.api.cached_images`). `verify` and `rebuild-index` work on the
cache directory that the configuration of this host names. The `cache-*` commands of `glance` do
part of this, with Diablo's names.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from glance.cli import streams
from glance.cli.daemon import startup
from glance.cli.option import ProgramOption
from glance.cli.program import Program, Word
from glance.cli.user import cache, signin
from glance.cli.user.screen import console, tables
from glance.cli.user.screen.tables import Column
from glance.common import exception

if TYPE_CHECKING:
    from glance import client as glance_client

FAILED, WRONG = 1, 2

_ID = Column("ID", "id", tables.WIDE_ID)
_NAME = Column("Name", "name", 30)
_ACCESSED = Column("Last Accessed (UTC)", "last_accessed", 19)
_MODIFIED = Column("Last Modified (UTC)", "last_modified", 19)
_SIZE = Column("Size", "size", 14, ">")
_EXPECTED = Column("Expected Size", "expected_size", 14, ">")
_ERROR = Column("Error", "error", 30)

CACHED = (_ID, _NAME, _ACCESSED, _MODIFIED, _SIZE, Column("Hits", "hits", 10, ">"))
INVALID = (_ID, _NAME, _ERROR, _MODIFIED, _SIZE, _EXPECTED)
INCOMPLETE = (_ID, _NAME, _MODIFIED, _SIZE, _EXPECTED)
QUEUED = (
    _ID,
    _NAME,
    Column("Queued (UTC)", "last_modified", 19),
    Column("Status", "status", 11),
    Column("Attempts", "attempts", 8, ">"),
    _ERROR,
)


class WrongUsage(Exception):
    """The command does not take these arguments."""


class Declined(Exception):
    """The user declined; nothing was done."""


class NotManaged(exception.Error):
    """The server does not manage an image cache."""

    def __init__(self) -> None:
        super().__init__(
            "Management of the image cache is not switched on in this server; add the filter "
            "cachemanage to the pipeline in its glance-api.conf, or name another server (--host, "
            "--port)"
        )


class CacheCommandCall:
    """One run of a command: its options, its arguments, and the client."""

    def __init__(self, args: argparse.Namespace, ids: Sequence[str]):
        self.args = args
        self.ids = list(ids)

    @functools.cached_property
    def client(self) -> glance_client.Client:
        """The client that the options describe. May raise exception.Error."""
        return signin.make_client(self.args)

    @contextlib.contextmanager
    def told_if_unmanaged(self) -> Iterator[None]:
        """Raise NotManaged in place of NotFound if the server does not manage a cache at all.

        Older servers, and those of other kinds, do not say so themselves.
        """
        try:
            yield
        except exception.NotFound as err:
            try:
                self.client.get_cached_images(limit=1)
            except exception.NotFound:
                raise NotManaged from err
            except exception.Error:
                # What the server has said first stays the best explanation.
                pass
            raise

    def one_id(self) -> str:
        if len(self.ids) != 1:
            raise WrongUsage("give the ID of one image")
        return self.ids[0]

    def confirm(self, question: str) -> None:
        """Ask for confirmation, except with --force; raise Declined if the answer is no."""
        if not self.args.force and not console.ask(f"{question} [y/N] ", default=False):
            raise Declined

    def show(self, result: Any, text: str = "") -> None:
        """Print the result as JSON, otherwise the text about it."""
        if self.args.json:
            print(console.json_text(result))
        elif text:
            console.say(text)

    def show_table(
        self, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], what: str
    ) -> None:
        if self.args.json:
            self.show(rows)
        elif not rows:
            print(f"No {what}.")
        else:
            print(f"Found {len(rows)} {what}...")
            tables.print_table(columns, [cache.row(row, columns) for row in rows], header=True)

    def show_count(self, count: int, told: str) -> None:
        """Print the number of removed entries: always as JSON, as text only with --verbose."""
        self.show({"num_deleted": count}, told.format(count) if self.args.verbose else "")


def list_cached(call: CacheCommandCall) -> None:
    """List the images that are complete in the cache."""
    call.show_table(call.client.get_cached_images(), CACHED, "cached images")


def list_invalid(call: CacheCommandCall) -> None:
    """List the invalid entries, with their errors."""
    call.show_table(call.client.get_invalid_cached_images(), INVALID, "invalid cached images")


def list_incomplete(call: CacheCommandCall) -> None:
    """List the entries that are being written."""
    rows = call.client.get_incomplete_cached_images()
    call.show_table(rows, INCOMPLETE, "incomplete cached images")


def list_queued(call: CacheCommandCall) -> None:
    """List the images that the prefetcher is fetching or is to fetch."""
    call.show_table(call.client.get_queued_images(), QUEUED, "queued images")


def queue_image(call: CacheCommandCall) -> None:
    """Queue images (ID ...) for the prefetcher."""
    if not call.ids:
        raise WrongUsage("give the ID of at least one image")
    refused = []
    for image_id in call.ids:
        try:
            with call.told_if_unmanaged():
                call.client.queue_image_for_caching(image_id)
        except (exception.NotFound, exception.Invalid) as err:
            complain(f"Image {image_id}: {err}")
            refused.append(image_id)
    queued = [image_id for image_id in call.ids if image_id not in refused]
    call.show({"queued": queued}, f"Queued {len(queued)} images" if call.args.verbose else "")
    if refused:
        raise exception.Error(f"Not queued: {', '.join(refused)}")


def delete_cached_image(call: CacheCommandCall) -> None:
    """Remove one image (ID) from the cache."""
    image_id = call.one_id()
    call.confirm(f"Delete cached image {image_id}?")
    call.show_count(call.client.delete_cached_image(image_id), "Deleted {} cached images")


def delete_all_cached_images(call: CacheCommandCall) -> None:
    """Remove all images from the cache."""
    call.confirm("Delete all cached images?")
    call.show_count(call.client.clear_cached_images(), "Deleted {} cached images")


def delete_queued_image(call: CacheCommandCall) -> None:
    """Remove one image (ID) from the queue, unless it is being fetched."""
    image_id = call.one_id()
    call.confirm(f"Delete queued image {image_id}?")
    call.show_count(call.client.delete_queued_image(image_id), "Deleted {} queued images")


def delete_all_queued_images(call: CacheCommandCall) -> None:
    """Remove all images from the queue, except those that are being fetched."""
    call.confirm("Delete all queued images?")
    call.show_count(call.client.delete_all_queued_images(), "Deleted {} queued images")


def reap_invalid(call: CacheCommandCall) -> None:
    """Remove the invalid entries at once."""
    call.confirm("Reap all invalid cached images?")
    call.show_count(call.client.reap_invalid_cached_images(), "Reaped {} invalid cached images")


def reap_stalled(call: CacheCommandCall) -> None:
    """Remove the entries whose writing has stalled."""
    call.confirm("Reap all stalled cached images?")
    call.show_count(call.client.reap_stalled_cached_images(), "Reaped {} stalled cached images")


def stats(call: CacheCommandCall) -> None:
    """Print sizes in bytes, numbers of entries, and counters."""
    figures = call.client.get_cache_stats()
    if call.args.json:
        call.show(figures)
        return
    for name in sorted(figures):
        console.say(f"{name:<20} {figures[name]!s:>20}")


def verify(call: CacheCommandCall) -> None:
    """Verify all entries on this host; those that have changed become invalid."""
    from glance.cli.maintenance import cache_local

    done = cache_local.verify(call.args)
    bad = [{"id": entry.image_id, "error": entry.error} for entry in done.bad]
    call.show(
        {"entries": done.entries, "bytes": done.bytes, "invalid": bad},
        f"Read {done.entries} entries of {done.bytes} bytes",
    )
    for row in bad:
        complain(f"Image {row['id']} is now invalid: {row['error']}")
    if bad:
        raise exception.Error(f"{len(bad)} entries have changed")


def rebuild_index(call: CacheCommandCall) -> None:
    """Rebuild the index on this host, from the files that match their records."""
    from glance.cli.maintenance import cache_local

    call.confirm("Rebuild the index of the image cache?")
    done = cache_local.rebuild_index(call.args)
    call.show(
        {"adopted": done.adopted, "removed": done.removed, "entries": done.entries},
        f"{done.entries} entries: {done.adopted} files adopted, {done.removed} removed",
    )


#: Command -> its function, whose docstring is the help text.
COMMANDS: dict[str, Callable[[CacheCommandCall], None]] = {
    run.__name__.replace("_", "-"): run
    for run in (
        list_cached,
        list_invalid,
        list_incomplete,
        list_queued,
        queue_image,
        delete_cached_image,
        delete_all_cached_images,
        delete_queued_image,
        delete_all_queued_images,
        reap_invalid,
        reap_stalled,
        stats,
        verify,
        rebuild_index,
    )
}
#: Those that take IDs.
_WITH_IDS = {queue_image, delete_cached_image, delete_queued_image}

_OWN = (
    ProgramOption(("-v", "--verbose"), "verbose", "Print what was done."),
    ProgramOption(("-d", "--debug"), "debug", "Show errors with a traceback."),
    ProgramOption(("-f", "--force"), "force", "Ask for no confirmation."),
    ProgramOption(("--json",), "json", "Print results as JSON."),
)
_CONNECTION = tuple(
    option._replace(names=("-k", *option.names)) if option.dest == "insecure" else option
    for option in (*signin.SERVER, *signin.IDENTITY)
)
_LOCAL = (
    ProgramOption(
        ("--config-file",),
        "config_file",
        "Configuration file with the options of the image cache and of the registry. Default: "
        "glance-cache.conf or glance-api.conf in the usual places.",
        "PATH",
        "string",
        values="file",
    ),
)

PROGRAM = Program(
    "glance-cache-manage",
    "Inspect and manage an image cache",
    """
The glance-cache-manage program inspects and changes the image cache of a host through its
glance-api. The pipeline of the API must contain the filter cachemanage, and the caller must pass
the rule policy_manage_image_cache, as administrators do.

Two commands work on the cache directory of this host instead: verify and rebuild-index. Run them
as the user of glance-api. Both may run while the API is running.

Before it removes anything, the program asks for confirmation, unless --force is given.
""",
    (
        Word(
            "<command>",
            "The command to execute.",
            {word: (run.__doc__ or "").rstrip(".") for word, run in COMMANDS.items()},
        ),
        Word("[<ID> ...]", "The images that the command applies to."),
    ),
    (
        ("Options", _OWN),
        ("Server and authentication", _CONNECTION),
        ("Options of verify and rebuild-index", _LOCAL),
    ),
    (
        (0, "The command succeeded."),
        (1, "The command failed, at least in part, or was declined."),
        (2, "The arguments are not valid."),
    ),
)


def complain(text: str) -> None:
    """Print one line about an error on standard error."""
    console.say(f"{PROGRAM.name}: {' '.join(text.split())}", to=sys.stderr)


@streams.program(PROGRAM.name)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with `argv` (without its name) and return the exit code."""
    parser = PROGRAM.parser(os.environ)
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_intermixed_args(argv)
    if not args.words:
        parser.error("a command is required")
    word, *ids = args.words
    run = COMMANDS.get(word)
    if run is None:
        parser.error(f"unknown command {console.printable(word)}")
    if ids and run not in _WITH_IDS:
        parser.error(f"{word} takes no ID")
    call = CacheCommandCall(args, ids)
    try:
        with call.told_if_unmanaged():
            run(call)
    except WrongUsage as err:
        parser.error(f"{word}: {err}")
    except Declined:
        print("Nothing was done.")
        return FAILED
    except exception.ConfigError as err:
        startup.report(err)
        return FAILED
    except Exception as err:  # top level: print every failure in one line
        if args.debug:
            raise
        if isinstance(err, exception.NotAuthorized):
            complain(f"You are not allowed to do that ({err})")
        else:
            complain(str(err) or type(err).__name__)
        return FAILED
    return 0
